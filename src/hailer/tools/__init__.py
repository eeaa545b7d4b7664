"""What the command's larger verbs are made of, as library functions; nothing of the library imports it."""

from __future__ import annotations

__all__: list[str] = []
