"""Plots in a terminal, by plotext where that is installed (the extra ``bench``)."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from hailer.text import printable
from hailer.tools.bench.drawing import cut
from hailer.tools.bench.figures import FIGURES
from hailer.tools.bench.pictures import latencies
from hailer.tools.bench.tables import shown_figures

if TYPE_CHECKING:
    from hailer.tools.bench.drawing import Line
    from hailer.tools.bench.figures import Figure
    from hailer.tools.bench.results import Results

__all__ = ["HOW_TO_GET_THEM", "as_plots"]

HOW_TO_GET_THEM: Final = "for plots in the terminal install plotext: pip install 'hailer[bench]'"

_MOST_CURVES: Final = 2
_HEIGHT: Final = 18
_NINES: Final = (0.0, 90.0, 99.0, 99.9, 99.99, 99.999)


def as_plots(results: Results, width: int, *, colour: bool = True) -> str | None:
    """The most important figure as bars, and percentiles as curves; safe to print.

    Args:
        results: what was measured.
        width: columns of the terminal.
        colour: whether to use colours; without them everything has its name beside it all the same.

    Returns:
        Text of several lines, empty if there is nothing to show; None if plotext is not installed.
    """
    try:
        plotext: Any = import_module("plotext")
    except ImportError:
        return None
    width = max(40, min(width, 120))
    parts = []
    for figure in [each for each in shown_figures(results) if each.better != "neither"][:1]:
        parts += _bars(plotext, results, figure, width)
    for title, curves in latencies(results)[:_MOST_CURVES]:
        parts.append(_curve(plotext, title, curves, width))
    text = "\n".join(parts)
    return text if colour else str(plotext.uncolorize(text))


def _bars(plotext: Any, results: Results, figure: Figure, width: int) -> list[str]:
    """A group for each case on a scale of its own; one group of the cases if there is one subject."""
    names = [each.name for each in results.subjects]
    rows = {
        case.title: [(name, results.median(case.title, name, figure.name)) for name in names]
        for case in results.cases
    }
    if len(names) == 1:
        rows = {"": [(title, row[0][1]) for title, row in rows.items()]}
    scale = figure.scale(value for row in rows.values() for _, value in row if value is not None)
    groups = []
    for title, row in rows.items():
        measured = [
            (cut(printable(name), 30), value / scale.divisor) for name, value in row if value is not None
        ]
        # plotext divides by the largest.
        if any(value > 0 for _, value in measured):
            groups.append((printable(title), measured))
    if not groups:
        return []
    longest = max(len(name) for _, row in groups for name, _ in row)
    unit = f", {scale.unit}" if scale.unit else ""
    parts = [f"{figure.title}{unit} ({figure.better} is better; each group has its own scale)", ""]
    for title, group in groups:
        plotext.clear_figure()
        plotext.simple_bar(
            [name.ljust(longest) for name, _ in group],
            [round(value, 2) for _, value in group],
            width=width,
        )
        parts += [*([title] if title else []), str(plotext.build()).rstrip("\n"), ""]
    plotext.clear_figure()
    return parts


def _curve(plotext: Any, title: str, curves: list[Line], width: int) -> str:
    """Percentages across, each step ten times rarer; latencies on a logarithmic scale."""
    scale = FIGURES["max_us"].scale(y for each in curves for _, y in each.points)
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, _HEIGHT)
    last = 1.0
    for each, marker in zip(curves, "ox+*#@%&=~", strict=False):
        points = [(-math.log10(max(1e-5, 1 - x / 100)), y / scale.divisor) for x, y in each.points if y > 0]
        last = max([last, *(x for x, _ in points)])
        if points:
            xs, ys = zip(*points, strict=True)
            plotext.plot(xs, ys, label=cut(printable(each.name), 30), marker=marker)
    ticks = [percent for percent in _NINES if -math.log10(1 - percent / 100) <= last + 1e-9]
    plotext.xticks([-math.log10(1 - percent / 100) for percent in ticks], [f"{each:g}" for each in ticks])
    plotext.yscale("log")
    plotext.title(f"{printable(title)} (% of the messages within {scale.unit}; logarithmic)")
    text = str(plotext.build())
    plotext.clear_figure()
    return text + "\n"
