"""Plots as SVG: bars, lines and curves of percentiles.

Every plot can be read without colour (bars have their names and values beside them, lines have dashes and
their names at the end), in light and in dark surroundings, and by a screen reader (a title and a description
with the values). Nothing outside of the file is needed. Widths are those of a narrow column, so that the text
stays legible on a telephone; heights grow with what is shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from hailer.tools.bench.drawing import CHARACTER, COLOURS, MARGIN, WIDTH, Drawing, Line, Plane, cut, decades
from hailer.tools.bench.figures import number, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Bar", "Group", "Line", "bars", "lines", "percentile_curve"]

Better = Literal["more", "less", "neither"]

_LINE: Final = 18
_NAME: Final = 20
"""Characters of a bar's name that are shown."""
_APART: Final = 50.0
"""The ratio of the largest to the smallest value from which on they do not fit on one scale."""


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: stands before it.
        value: its length.
        colour: which of the colours.
        mark: what stands behind the value, such as a star.
    """

    name: str
    value: float
    colour: int
    mark: str = ""


@dataclass(frozen=True)
class Group:
    """Bars that belong together: a case, with one bar for each subject.

    Attributes:
        title: stands above them.
        bars: those that were measured; one of its own needs no name.
    """

    title: str
    bars: Sequence[Bar]


def bars(
    title: str, unit: str, groups: Sequence[Group], *, better: Literal["more", "less", "neither"]
) -> str:
    """Horizontal bars in groups.

    On one scale for all where that shows something; else each group has a scale of its own; where the values
    of most groups lie far apart themselves, dots on a logarithmic scale take the place of bars. The
    caption says which.
    """
    groups = [group for group in groups if group.bars]
    scale = _scale_of(groups)
    every = [bar for group in groups for bar in group.bars]
    values = [bar.value for bar in every]
    longest = max((len(cut(bar.name, _NAME)) for bar in every), default=0)
    left = MARGIN + (round(longest * CHARACTER) + 8 if longest else 0)
    room = max((len(number(value)) + 2 for value in values), default=0)
    right = WIDTH - MARGIN - round(room * CHARACTER)
    drawing = Drawing(title, _caption(unit, scale, better))
    low, high = decades(values) if scale == "log" else (0.0, max(values, default=1.0))
    top = drawing.height
    for group in groups:
        if group.title:
            short_title = cut(group.title, 60)
            kind = "hb-text hb-head hb-halo"
            drawing.text(MARGIN, drawing.height + 14, short_title, kind, full=group.title)
            drawing.height += 22
        if scale == "own":
            high = max(bar.value for bar in group.bars)
        for bar in group.bars:
            y = drawing.height
            colour = f"hb-f{bar.colour % COLOURS}"
            drawing.text(left - 8, y + 13, cut(bar.name, _NAME), "hb-text", anchor="end", full=bar.name)
            if scale == "log":
                share = (math.log10(bar.value) - low) / (high - low) if bar.value > 0 else 0.0
                drawing.line("hb-grid", (left, y + 9), (right, y + 9))
                at = left + share * (right - left)
                drawing.add(f'<circle class="{colour}" cx="{at:.1f}" cy="{y + 9}" r="5"/>')
                end: float = right
            else:
                length = max(1.0, (bar.value / high if high else 0.0) * (right - left))
                drawing.add(
                    f'<rect class="{colour}" x="{left}" y="{y + 2}" width="{length:.1f}" height="14" rx="2"/>'
                )
                end = left + length
            drawing.text(end + 6, y + 13, number(bar.value) + bar.mark, "hb-text")
            drawing.describe(f"{group.title} {bar.name}: {number(bar.value)}".strip())
            drawing.height += _LINE
        drawing.height += 8
    if scale == "log":
        for decade in range(math.floor(low), math.ceil(high) + 1):
            x = left + (decade - low) / (high - low) * (right - left)
            drawing.line("hb-grid", (x, top), (x, drawing.height))
            drawing.text(x, drawing.height + 12, short(10.0**decade), "hb-faint hb-small", anchor="middle")
        drawing.height += 20
    for mark in sorted({bar.mark for bar in every if bar.mark}):
        drawing.text(MARGIN, drawing.height + 12, f"{mark} the load was the limit", "hb-faint hb-small")
        drawing.height += _LINE
    return drawing.svg()


def _scale_of(groups: Sequence[Group]) -> Literal["one", "own", "log"]:
    """How values of these groups can be told apart by eye."""
    rows = [[bar.value for bar in group.bars if bar.value] for group in groups]
    rows = [row for row in rows if row]
    if not rows or max(map(max, rows)) < _APART * min(map(min, rows)):
        return "one"
    wide = sum(max(row) >= _APART * min(row) for row in rows)
    return "log" if wide * 2 > len(rows) else "own" if any(len(row) > 1 for row in rows) else "log"


def _caption(unit: str, scale: str, better: str) -> str:
    parts = [unit] if unit else []
    if better != "neither":
        parts.append(f"{better} is better")
    if scale == "own":
        parts.append("each group has its own scale")
    if scale == "log":
        parts.append("logarithmic scale")
    return "; ".join(parts)


def lines(
    title: str,
    unit: str,
    across: str,
    curves: Sequence[Line],
    *,
    better: Better,
    tick: Callable[[float], str] = short,
) -> str:
    """Lines over a number; both scales are logarithmic where that pays.

    Args:
        title: of the plot.
        unit: of what goes up.
        across: what goes across, such as connections.
        curves: the lines.
        better: which way is better.
        tick: writes a number of what goes across.
    """
    xs = sorted({x for each in curves for x, _ in each.points}) or [0.0]
    ys = [y for each in curves for _, y in each.points]
    log_x = len(xs) > 1 and xs[0] > 0 and xs[-1] >= 10 * xs[0]
    log_y = min(ys, default=1.0) > 0 and max(ys, default=1.0) >= _APART * min(ys, default=1.0)
    plane = Plane(title, _caption(unit, "log" if log_y else "one", better), curves)
    plane.scale_y(ys, logarithmic=log_y)
    plane.scale_x(xs[0], xs[-1], logarithmic=log_x)
    plane.ticks_x(xs, tick)
    plane.axis(across + (", logarithmic scale" if log_x else ""))
    plane.draw(dots=True)
    return plane.drawing.svg()


_NINES: Final = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)


def percentile_curve(title: str, unit: str, curves: Sequence[Line]) -> str:
    """How many messages came within which time: percentages across, each step ten times rarer.

    Args:
        title: of the plot.
        unit: of the latencies.
        curves: points are a percentage (0 to 100) and a latency.
    """
    least_rare = 1e-5
    turned = [
        Line(each.name, [(-math.log10(max(least_rare, 1 - x / 100)), y) for x, y in each.points], each.colour)
        for each in curves
    ]
    ys = [y for each in turned for _, y in each.points]
    log_y = min(ys, default=1.0) > 0 and max(ys, default=1.0) >= 10 * min(ys, default=1.0)
    plane = Plane(title, _caption(unit, "log" if log_y else "one", "less"), turned)
    last = max((x for each in turned for x, _ in each.points), default=1.0)
    plane.scale_y(ys, logarithmic=log_y)
    plane.scale_x(0.0, max(last, 1.0), logarithmic=False)
    places = [(-math.log10(1 - percent / 100), percent) for percent in _NINES]
    plane.ticks_x([x for x, _ in places if x <= max(last, 1.0) + 1e-9], lambda x: f"{100 - 100 * 10**-x:.6g}")
    plane.axis("% of the messages within; each step is ten times rarer")
    plane.draw(dots=False)
    return plane.drawing.svg()
