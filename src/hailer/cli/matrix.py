"""What ``hailer serve --list`` prints: services, models, transports, and what goes with what."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hailer.framing import as_framing
from hailer.matrix import FRAMINGS, MODELS, TRANSPORTS, why_not
from hailer.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["matrix_as_markdown", "tables"]

_EXAMPLES = {"delimiter:TEXT": "delimiter:END", "short-read[:SIZE]": "short-read:4"}
"""Framings that can be made, for names with a part to fill in."""


def tables(*, as_json: bool = False) -> str:
    """All of it as text, or as JSON with one object a line."""
    if as_json:
        return "\n".join(json.dumps(row) for row in _rows())
    services = [
        (
            each.name,
            each.summary + "".join(f"; --set {key}=…: {text}" for key, text in each.parameters.items()),
        )
        for each in SERVICES.values()
    ]
    models = [(each.name, each.summary) for each in MODELS.values()]
    transports = [(each.name, each.summary) for each in TRANSPORTS.values()]
    notes: list[str] = []
    model_grid = _grid(list(TRANSPORTS), list(MODELS), lambda row, column: why_not(column, row), notes)
    framing_grid = _grid(
        list(TRANSPORTS), list(FRAMINGS), lambda row, column: why_not("asyncio", row, _example(column)), notes
    )
    parts = [
        ("Services", _columns(services)),
        ("Models", _columns(models)),
        ("Transports", _columns(transports)),
        ("Which model serves which transport", _columns(model_grid)),
        ("Which framing goes with which transport", _columns(framing_grid)),
        ("Where a number stands", [f"  {at}  {text}" for at, text in enumerate(notes, 1)]),
    ]
    return "\n\n".join("\n".join((f"{title}:", *lines)) for title, lines in parts if lines)


def matrix_as_markdown() -> str:
    """The two grids as tables of Markdown, with the reasons as a numbered list."""
    notes: list[str] = []
    lines: list[str] = []
    for title, columns, reason in (
        ("transport \\ model", list(MODELS), lambda row, column: why_not(column, row)),
        (
            "transport \\ framing",
            list(FRAMINGS),
            lambda row, column: why_not("asyncio", row, _example(column)),
        ),
    ):
        grid = _grid(list(TRANSPORTS), columns, reason, notes)
        lines += [f"| {title} | {' | '.join(grid[0][1:])} |", "| --- " * len(grid[0]) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in grid[1:]]
        lines.append("")
    return "\n".join([*lines, *(f"{at}. {text}" for at, text in enumerate(notes, 1))]) + "\n"


def _rows() -> Iterable[dict[str, object]]:
    for service in SERVICES.values():
        yield {"service": service.name, "summary": service.summary, "settings": dict(service.parameters)}
    for model in MODELS:
        for transport in TRANSPORTS:
            reason = why_not(model, transport)
            yield {"model": model, "transport": transport, "possible": reason is None, "reason": reason}
    for transport in TRANSPORTS:
        for framing in FRAMINGS:
            reason = why_not("asyncio", transport, _example(framing))
            yield {"framing": framing, "transport": transport, "possible": reason is None, "reason": reason}


def _example(framing: str) -> str:
    name = _EXAMPLES.get(framing, framing)
    as_framing(name)  # a name that is not known here is to be noticed
    return name


def _grid(
    rows: Sequence[str], columns: Sequence[str], reason: object, notes: list[str]
) -> list[tuple[str, ...]]:
    """Yes, or the number of the reason; reasons that are new are appended to the notes."""
    assert callable(reason)
    grid = [("", *columns)]
    for row in rows:
        cells = []
        for column in columns:
            why = reason(row, column)
            if why is None:
                cells.append("yes")
                continue
            if why not in notes:
                notes.append(why)
            cells.append(str(notes.index(why) + 1))
        grid.append((row, *cells))
    return grid


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
