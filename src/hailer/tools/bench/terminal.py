"""Plots in a terminal: bars, and curves by plotext where that is installed (the extra ``bench``)."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from hailer.text import printable
from hailer.tools.bench.drawing import cut
from hailer.tools.bench.figures import FIGURES, number
from hailer.tools.bench.pictures import apart, key_cases, latencies
from hailer.tools.bench.tables import STAR, shown_figures, star

if TYPE_CHECKING:
    from hailer.tools.bench.drawing import Line
    from hailer.tools.bench.figures import Figure, Scale
    from hailer.tools.bench.results import Results

__all__ = ["HOW_TO_GET_CURVES", "bars", "curves"]

HOW_TO_GET_CURVES: Final = "to see the latencies as curves here install plotext: pip install 'hailer[bench]'"

_MOST_CURVES: Final = 2
_HEIGHT: Final = 18
_NINES: Final = (0.0, 90.0, 99.0, 99.9, 99.99, 99.999)
_NARROWEST: Final = 40
_WIDEST: Final = 100
_NAME: Final = 30
_PARTS: Final = " ▏▎▍▌▋▊▉"
"""A character's width in eighths."""


def bars(results: Results, width: int) -> str:
    """The most important figure as bars, each case on a scale of its own; safe to print.

    Args:
        results: what was measured.
        width: columns of the terminal.
    """
    figures = [each for each in shown_figures(results) if each.better != "neither"]
    if not figures:
        return ""
    figure, names = figures[0], [each.name for each in results.subjects]
    groups = [(case.title, [(name, case.title, name) for name in names]) for case in key_cases(results)]
    if len(names) == 1:
        titles = [case.title for case in results.cases]
        groups = [("", [(name, title, names[0]) for name, title in zip(apart(titles), titles, strict=True)])]
    medians = (results.median(*key[1:], figure.name) for _, row in groups for key in row)
    scale = figure.scale(value for value in medians if value is not None)
    lines: list[str] = []
    for title, row in groups:
        drawn = _group(results, figure, scale, row, max(_NARROWEST, min(width, _WIDEST)))
        if drawn:
            lines += [*([printable(title)] if title else []), *drawn, ""]
    if not lines:
        return ""
    own = "; each load has its own scale" if len(names) > 1 else ""
    stars = [STAR] if any(line.endswith("*") for line in lines) else []
    unit = f", {scale.unit}" if scale.unit else ""
    heading = f"{figure.title}{unit} ({figure.better} is better{own})"
    return "\n".join([heading, "", *lines[:-1], *stars]) + "\n"


def _group(
    results: Results, figure: Figure, scale: Scale, row: list[tuple[str, str, str]], width: int
) -> list[str]:
    """Lines of bars: of each its name, the case and the subject."""
    values = {key: results.median(*key[1:], figure.name) for key in row}
    measured = {key: value for key, value in values.items() if value is not None}
    highest = max(measured.values(), default=0.0)
    if highest <= 0:
        return []
    names = {key: cut(printable(key[0]), _NAME) for key in measured}
    longest = max(map(len, names.values()))
    texts = {
        key: number(value / scale.divisor) + star(results, key[1], key[2], figure)
        for key, value in measured.items()
    }
    room = max(5, width - longest - 2 - max(map(len, texts.values())))
    return [
        f"{name:<{longest}} {_bar(measured[key] / highest * room)} {text}"
        for (key, text), name in zip(texts.items(), names.values(), strict=True)
    ]


def _bar(length: float) -> str:
    eighths = max(1, round(length * 8))
    return "█" * (eighths // 8) + _PARTS[eighths % 8].strip()


def curves(results: Results, width: int, *, colour: bool = True) -> str | None:
    """Percentiles as curves, those of the first cases; safe to print.

    Args:
        results: what was measured.
        width: columns of the terminal.
        colour: whether to use colours; without them each curve has a character of its own all the same.

    Returns:
        Text of several lines, empty if there is nothing to show; None if plotext is not installed.
    """
    plots = latencies(results, key_cases(results))
    if not plots:
        return ""
    try:
        plotext: Any = import_module("plotext")
    except ImportError:
        return None
    width = max(_NARROWEST, min(width, _WIDEST))
    text = "\n".join(_curve(plotext, title, lines, width) for title, lines in plots[:_MOST_CURVES])
    return text if colour else str(plotext.uncolorize(text))


def _curve(plotext: Any, title: str, lines: list[Line], width: int) -> str:
    """Percentages across, each step ten times rarer; latencies on a logarithmic scale."""
    scale = FIGURES["max_us"].scale(y for each in lines for _, y in each.points)
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, _HEIGHT)
    last = 1.0
    for each, marker in zip(lines, "ox+*#@%&=~", strict=False):
        points = [(-math.log10(max(1e-5, 1 - x / 100)), y / scale.divisor) for x, y in each.points if y > 0]
        last = max([last, *(x for x, _ in points)])
        if points:
            xs, ys = zip(*points, strict=True)
            plotext.plot(xs, ys, label=cut(printable(each.name), _NAME), marker=marker)
    ticks = [percent for percent in _NINES if -math.log10(1 - percent / 100) <= last + 1e-9]
    plotext.xticks([-math.log10(1 - percent / 100) for percent in ticks], [f"{each:g}" for each in ticks])
    plotext.yscale("log")
    plotext.title(f"{printable(title)}: {scale.unit} (logarithmic) within which so many % came")
    text = str(plotext.build())
    plotext.clear_figure()
    return text + "\n"
