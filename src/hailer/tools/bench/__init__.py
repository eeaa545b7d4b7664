"""Measurements: what is measured, under which conditions, how it is shown and compared.

results     the model of all measurements, and its JSON
figures     what each figure is called, its unit, and which way is better
conditions  what the figures depend on: the machine, the versions, who else used it
machine     cores, pinning, limits, and what a tree of processes uses
compare     two results side by side, and what differs in their conditions
tables      results as tables, for terminals and as Markdown
plots       results as SVG
page        results as one HTML page
terminal    results as plots in a terminal
progress    how far it is, on standard error
"""

from __future__ import annotations

__all__: list[str] = []
