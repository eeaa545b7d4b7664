"""Results as tables: for a terminal and as Markdown."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hailer.text import printable
from hailer.tools.bench.figures import FIGURES, Figure, figure, number, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.tools.bench.compare import Comparison
    from hailer.tools.bench.results import Results

__all__ = [
    "FLOOR",
    "STAR",
    "Table",
    "as_markdown",
    "as_text",
    "markdown_of",
    "plain",
    "shown_figures",
    "star",
    "subjects_of",
    "tables",
    "text_of",
    "title_of",
]

_READABLE: Final = 100
"""Columns of running text at most."""

NOTHING: Final = "—"

FLOOR: Final = "floor"
"""The subject that shows what the machine can do at best; it is nobody's rival."""

STAR: Final = "* The load was the limit here: its core was busy, that of what is measured was not."

_COMPARED_WITH: Final = ("nats", FLOOR, "redis")
"""Subjects beside which hailer gets a column of ratios: the first two that are there."""

_PERCENTS: Final = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 100)

_NOISY: Final = 0.2
"""How far apart the rounds may lie before the reader is warned."""

_FEW: Final = 4
"""So many cases of a single subject stand side by side, with a row for each figure."""


@dataclass
class Table:
    """A table of texts.

    Attributes:
        title: what it shows, with the unit.
        head: the heads of the columns; the first is that of the rows' names.
        rows: as many texts in each.
        best: the places of the best figures of their rows, as pairs of a row and a column.
        notes: what belongs below.
        figure: the name of the figure that it shows; empty if there are several.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    figure: str = ""


def shown_figures(results: Results) -> list[Figure]:
    """The figures that were measured and have a table of their own, in the order in which they stand."""
    measured = results.figures()
    known = [each for name, each in FIGURES.items() if name in measured and each.shown]
    return known + [figure(name) for name in measured if name not in FIGURES]


def tables(results: Results) -> list[Table]:
    """One table for each figure; one for all of them where a single subject had a few cases."""
    if len(results.subjects) == 1 and len(results.cases) <= _FEW:
        found = [_of_all_figures(results)] if results.rows else []
    else:
        found = [_of_figure(results, each) for each in shown_figures(results)]
    return found + _of_percentiles(results) + _of_goals(results)


def _of_figure(results: Results, shown: Figure) -> Table:
    names = [each.name for each in results.subjects]
    medians = {
        case.title: [results.median(case.title, name, shown.name) for name in names] for case in results.cases
    }
    medians = {title: row for title, row in medians.items() if any(value is not None for value in row)}
    columns = [at for at in range(len(names)) if any(medians[title][at] is not None for title in medians)]
    scale = shown.scale(value for row in medians.values() for value in row if value is not None)
    ratios = [at for at in columns if names[at] in _COMPARED_WITH]
    ratios = sorted(ratios, key=lambda at: _COMPARED_WITH.index(names[at]))[:2]
    own = names.index("hailer") if "hailer" in names else None
    if own is None or own not in columns:
        ratios = []
    unit = f", {scale.unit}" if scale.unit else ""
    table = Table(
        shown.title + unit,
        ["load", *(names[at] for at in columns), *(f"hailer/{names[at]}" for at in ratios)],
        [],
        figure=shown.name,
    )
    for title, row in medians.items():
        cells = [title]
        for at in columns:
            value = row[at]
            mark = star(results, title, names[at], shown)
            cells.append(NOTHING if value is None else number(value / scale.divisor) + mark)
        _mark_best(table, [row[at] for at in columns], shown)
        for at in ratios:
            ours, theirs = row[own] if own is not None else None, row[at]
            cells.append(NOTHING if ours is None or not theirs else ratio(ours / theirs))
        table.rows.append(cells)
    if any("*" in cell for row in table.rows for cell in row[1:]):
        table.notes.append(STAR)
    noise = _noise(results, shown.name)
    if noise:
        table.notes.append(noise)
    return table


def _of_all_figures(results: Results) -> Table:
    subject = results.subjects[0].name
    table = Table("All figures", [subject, *(case.title for case in results.cases)], [])
    for each in (figure(name) for name in dict.fromkeys((*FIGURES, *results.figures()))):
        medians = [results.median(case.title, subject, each.name) for case in results.cases]
        measured = [value for value in medians if value is not None]
        if not measured:
            continue
        scale = each.scale(measured)
        unit = f", {scale.unit}" if scale.unit else ""
        stars = [star(results, case.title, subject, each) for case in results.cases]
        table.rows.append(
            [each.title + unit]
            + [
                NOTHING if value is None else number(value / scale.divisor) + mark
                for value, mark in zip(medians, stars, strict=True)
            ]
        )
        if any(stars) and STAR not in table.notes:
            table.notes.append(STAR)
    return table


def _of_goals(results: Results) -> list[Table]:
    """What the relay ought to reach, beside what it did, if any of that was measured."""
    if results.kind != "relay":
        return []
    from hailer.tools.bench.relay.goals import verdicts  # noqa: PLC0415 (for this kind alone)

    found = verdicts(results)
    if not found:
        return []
    head = ["goal for hailer", "figure", "to reach", "measured", ""]
    table = Table("Goals", head, [each.texts() for each in found])
    if any(each.load_was_limit for each in found):
        table.notes.append(STAR)
    return [table]


def _of_percentiles(results: Results) -> list[Table]:
    """Within which time how many were answered; of one subject, as of several the plots tell more."""
    curves = {case: dict(points) for (case, _), points in results.percentiles.items() if points}
    if len(results.subjects) != 1 or not curves:
        return []
    scale = FIGURES["p50_us"].scale(min(points.values()) for points in curves.values())
    table = Table(f"Latency, so many of a hundred within, {scale.unit}", ["", *curves], [])
    for percent in _PERCENTS:
        row = [points.get(percent) for points in curves.values()]
        if any(value is not None for value in row):
            cells = [NOTHING if value is None else number(value / scale.divisor) for value in row]
            table.rows.append([f"{percent:g}" if percent < 100 else "all", *cells])
    return [table]


def star(results: Results, case_title: str, subject_name: str, shown: Figure) -> str:
    """A star where a busy load makes a figure less than what the subject can do."""
    return "*" if shown.better == "more" and results.load_was_limit(case_title, subject_name) else ""


def _mark_best(table: Table, values: Sequence[float | None], shown: Figure) -> None:
    rivals = [at for at, value in enumerate(values) if value is not None and table.head[at + 1] != FLOOR]
    if len(rivals) < 2 or shown.better == "neither":
        return
    best = (max if shown.better == "more" else min)(values[at] or 0.0 for at in rivals)
    table.best |= {(len(table.rows), at + 1) for at in rivals if values[at] == best}


def _noise(results: Results, name: str) -> str:
    """How far the rounds lay apart."""
    spreads = []
    for case in results.cases:
        for subject in results.subjects:
            values = results.values(case.title, subject.name, name)
            middle = results.median(case.title, subject.name, name)
            if len(values) > 1 and middle:
                spreads.append((max(values) - min(values)) / middle)
    if not spreads:
        return ""
    spreads.sort()
    middle = spreads[len(spreads) // 2]
    apart = f"Medians of {results.rounds()} rounds, which lay {middle:.0%} apart ({spreads[-1]:.0%} at worst)"
    return f"{apart}: smaller differences say nothing here." if middle >= _NOISY else f"{apart}."


def as_text(results: Results, width: int | None = None) -> str:
    """All of it for a terminal: conditions, tables, notes, and at the end what they say; safe to print.

    Args:
        width: columns of the terminal; wider tables go on below. None for no limit.
    """
    lines = [f"{printable(key)}: {printable(text)}" for key, text in results.conditions.items()]
    lines += [_subject_line(*each) for each in subjects_of(results)]
    for table in tables(results):
        lines += ["", text_of(table, width).rstrip("\n")]
    if results.notes:
        lines += ["", *(f"note: {printable(note)}" for note in results.notes)]
    for text in results.reading:
        lines += ["", *textwrap.wrap(printable(text), min(width or _READABLE, _READABLE))]
    return "\n".join(lines) + "\n"


def text_of(table: Table, width: int | None = None) -> str:
    """One table for a terminal, with its title and notes; safe to print."""
    lines = [table.title, "", *_text_table(table, width), *table.notes]
    return "\n".join(printable(line) for line in lines) + "\n"


def subjects_of(results: Results) -> list[tuple[str, str, str]]:
    """Name, version and settings of each subject."""
    return [
        (printable(each.name), printable(each.version), printable(each.settings)) for each in results.subjects
    ]


def _subject_line(name: str, version: str, settings: str) -> str:
    about = "; ".join(text for text in (version, settings) if text)
    return f"{name}: {about}" if about else name


def _text_table(table: Table, width: int | None) -> list[str]:
    cells = [[printable(text) for text in row] for row in (table.head, *table.rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(table.head))]
    blocks: list[list[int]] = [[]]
    room = 0
    for at in range(1, len(widths)):
        if blocks[-1] and width is not None and room + 2 + widths[at] > width:
            blocks.append([])
        if not blocks[-1]:
            room = widths[0]
        blocks[-1].append(at)
        room += 2 + widths[at]
    lines: list[str] = []
    for block in blocks:
        if lines:
            lines.append("")
        for place, row in enumerate(cells):
            texts = [row[0].ljust(widths[0]), *(row[at].rjust(widths[at]) for at in block)]
            lines.append("  ".join(texts).rstrip())
            if not place:
                lines.append("-" * (widths[0] + sum(2 + widths[at] for at in block)))
    return lines


def as_markdown(results: Results, comparison: Comparison | None = None) -> str:
    """All of it as Markdown.

    Args:
        results: what was measured.
        comparison: with older results; it stands before the others.
    """
    parts = [f"# {plain(title_of(results))}", ""]
    parts += [f"{plain(text)}\n" for text in results.reading]
    parts += [f"- {plain(key)}: {plain(text)}" for key, text in results.conditions.items()]
    parts += [f"- {plain(_subject_line(*each))}" for each in subjects_of(results)]
    parts += ["", "To repeat it:", "", f"    {printable(results.command)}", ""]
    if comparison is not None:
        about = [*comparison.warnings, *comparison.unchanged()]
        parts += ["Beside the older results:", "", *(f"- {plain(each)}" for each in about), ""]
    for table in (*(comparison.tables() if comparison is not None else ()), *tables(results)):
        parts += [f"## {plain(table.title)}", "", f"{markdown_of(table)}\n"]
    if results.notes:
        parts += ["## Notes", "", *(f"- {plain(note)}" for note in results.notes), ""]
    return "\n".join(parts)


def title_of(results: Results) -> str:
    """What the results are about."""
    return {
        "relay": "Relays side by side",
        "models": "The models of concurrency",
        "endpoint": "An endpoint under load",
    }.get(results.kind, results.kind)


def markdown_of(table: Table) -> str:
    """One table with its notes as Markdown, without its title."""
    lines = [
        "| " + " | ".join(map(plain, table.head)) + " |",
        "| --- " + "| ---: " * (len(table.head) - 1) + "|",
    ]
    for place, row in enumerate(table.rows):
        cells = [
            f"**{plain(text)}**" if (place, at) in table.best else plain(text) for at, text in enumerate(row)
        ]
        lines.append("| " + " | ".join(cells) + " |")
    for note in table.notes:
        lines += ["", plain(note)]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text that means nothing else in Markdown."""
    return re.sub(r"([\\`*_|<>\[\]#~])", r"\\\1", printable(text))
