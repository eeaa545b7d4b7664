"""``hailer bench show``: results that ``--json`` wrote, shown again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hailer.cli.bench import Wanted, bench, publish

if TYPE_CHECKING:
    from hailer.cli.notes import Notes

__all__ = ["command"]


@bench(
    "show",
    measures=False,
    example="""
hailer bench show relay.json --html relay.html
hailer bench show new.json --compare old.json
""",
)
@click.argument("results", metavar="RESULTS.json")
def command(wanted: Wanted, notes: Notes, results: str) -> None:
    """Show results again: in another form, or beside older ones."""
    from hailer.cli.publishing import check  # noqa: PLC0415 (these are not for --help)
    from hailer.tools.bench.results import load  # noqa: PLC0415

    found = load(results)
    check(wanted, found.kind)
    publish(found, wanted, notes)
