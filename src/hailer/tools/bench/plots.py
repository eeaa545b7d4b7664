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

from hailer.tools.bench.drawing import CHARACTER, MARGIN, WIDTH, Drawing, Line, Plane, cut, decades
from hailer.tools.bench.figures import number, short

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Group", "Line", "bars", "lines", "percentile_curve"]

Better = Literal["more", "less", "neither"]

_LINE: Final = 18
_APART: Final = 50.0
"""The ratio of the largest to the smallest value from which on they do not fit on one scale."""


@dataclass(frozen=True)
class Group:
    """Bars that belong together: a case, with one bar for each subject.

    Attributes:
        title: stands above them.
        bars: the name and the value of each, None for what was not measured; the place counts for the colour.
        marks: what stands behind the value of some, such as a star, by name.
    """

    title: str
    bars: Sequence[tuple[str, float | None]]
    marks: dict[str, str]


def bars(
    title: str, unit: str, groups: Sequence[Group], *, better: Literal["more", "less", "neither"]
) -> str:
    """Horizontal bars in groups.

    On one scale for all where that shows something; else each group has a scale of its own; where the values
    of most groups lie far apart themselves, dots on a logarithmic scale take the place of bars. The
    caption says which.
    """
    scale = _scale_of(groups)
    values = [value for group in groups for _, value in group.bars if value is not None]
    names = [cut(name, 20) for group in groups for name, value in group.bars if value is not None]
    left = MARGIN + round(max((len(name) for name in names), default=0) * CHARACTER) + 8
    room = max((len(number(value)) + 2 for value in values), default=0)
    right = WIDTH - MARGIN - round(room * CHARACTER)
    drawing = Drawing(title, _caption(unit, scale, better))
    low, high = decades(values) if scale == "log" else (0.0, max(values, default=1.0))
    top = drawing.height
    for group in groups:
        measured = [(at, name, value) for at, (name, value) in enumerate(group.bars) if value is not None]
        if not measured:
            continue
        if group.title:
            drawing.text(
                MARGIN, drawing.height + 14, cut(group.title, 60), "hb-text hb-head", full=group.title
            )
            drawing.height += 22
        if scale == "own":
            high = max(value for _, _, value in measured)
        for at, name, value in measured:
            y = drawing.height
            drawing.text(left - 8, y + 13, cut(name, 20), "hb-text", anchor="end", full=name)
            if scale == "log":
                share = (math.log10(value) - low) / (high - low) if value > 0 else 0.0
                end = left + share * (right - left)
                drawing.line("hb-grid", (left, y + 9), (right, y + 9))
                drawing.add(f'<circle class="hb-f{at % 10}" cx="{end:.1f}" cy="{y + 9}" r="5"/>')
                end = right
            else:
                share = value / high if high else 0.0
                end = left + max(1.0, share * (right - left))
                drawing.add(
                    f'<rect class="hb-f{at % 10}" x="{left}" y="{y + 2}" width="{end - left:.1f}"'
                    f' height="14" rx="2"/>'
                )
            drawing.text(end + 6, y + 13, number(value) + group.marks.get(name, ""), "hb-text")
            drawing.describe(
                f"{group.title}: {name} {number(value)}" if group.title else f"{name} {number(value)}"
            )
            drawing.height += _LINE
        drawing.height += 8
    if scale == "log":
        for decade in range(math.floor(low), math.ceil(high) + 1):
            x = left + (decade - low) / (high - low) * (right - left)
            drawing.line("hb-grid", (x, top), (x, drawing.height))
            drawing.text(x, drawing.height + 12, short(10.0**decade), "hb-faint hb-small", anchor="middle")
        drawing.height += 20
    return drawing.svg()


def _scale_of(groups: Sequence[Group]) -> Literal["one", "own", "log"]:
    """How values of these groups can be told apart by eye."""
    rows = [[value for _, value in group.bars if value] for group in groups]
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


def lines(title: str, unit: str, across: str, curves: Sequence[Line], *, better: Better) -> str:
    """Lines over a number, such as the connections; both scales are logarithmic where that pays."""
    xs = sorted({x for each in curves for x, _ in each.points})
    ys = [y for each in curves for _, y in each.points]
    log_x = len(xs) > 1 and xs[0] > 0 and xs[-1] >= 10 * xs[0]
    log_y = min(ys, default=1.0) > 0 and max(ys, default=1.0) >= _APART * min(ys, default=1.0)
    plane = Plane(title, _caption(unit, "log" if log_y else "one", better), curves)
    plane.scale_y(ys, logarithmic=log_y)
    plane.scale_x(xs[0], xs[-1], logarithmic=log_x)
    plane.ticks_x(xs, short)
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
    plane.axis("% of the messages came within; each step to the right is ten times rarer")
    plane.draw(dots=False)
    return plane.drawing.svg()
