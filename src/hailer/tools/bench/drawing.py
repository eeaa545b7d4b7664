"""What plots are drawn with: colours in light and dark, an SVG document that grows, a plane with axes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hailer.text import printable
from hailer.tools.bench.figures import number, short

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "CHARACTER",
    "COLOURS",
    "MARGIN",
    "STYLE",
    "WIDTH",
    "Drawing",
    "Line",
    "Plane",
    "cut",
    "decades",
    "escape",
    "slug",
]

WIDTH: Final = 460
MARGIN: Final = 12
CHARACTER: Final = 7.0
"""Pixels that a character of the text takes, on average, in the fonts of most systems; a little more."""

_LIGHT: Final = (
    "#0b62a8", "#c25a00", "#00795a", "#a8457f", "#6b5b00",
    "#3d3d99", "#008aa0", "#9a2a2a", "#4f7a1f", "#666666",
)  # fmt: skip
_DARK: Final = (
    "#6db6f2", "#f0a04b", "#43c79c", "#e79bc8", "#d8c64a",
    "#a9a9f5", "#55cfe3", "#f28b82", "#a5d46a", "#b8b8b8",
)  # fmt: skip
COLOURS: Final = len(_LIGHT)
_DASHES: Final = ("", "7 3", "2 3", "8 3 2 3", "12 4", "4 4", "1 2", "10 3 2 3 2 3", "14 2", "3 6")


def _style() -> str:
    """The classes of all plots, once for light and once for dark surroundings."""

    def rules(ground: str, text: str, faint: str, grid: str, colours: Sequence[str]) -> str:
        parts = [f".hb-ground{{fill:{ground}}}.hb-text{{fill:{text}}}.hb-faint{{fill:{faint}}}"]
        parts.append(f".hb-grid{{stroke:{grid}}}.hb-axis{{stroke:{faint}}}.hb-halo{{stroke:{ground}}}")
        parts += [f".hb-f{at}{{fill:{each}}}.hb-s{at}{{stroke:{each}}}" for at, each in enumerate(colours)]
        return "".join(parts)

    return (
        ".hb-plot text{font:13px system-ui,-apple-system,'Segoe UI',sans-serif}"
        ".hb-plot .hb-head{font-weight:600}.hb-plot .hb-small{font-size:12px}"
        ".hb-line{fill:none;stroke-width:2}.hb-halo{paint-order:stroke;stroke-width:3px}"
        + rules("#ffffff", "#1a1a1a", "#595959", "#dddddd", _LIGHT)
        + "@media (prefers-color-scheme:dark){"
        + rules("#16181c", "#ececec", "#a8a8a8", "#3a3d44", _DARK)
        + "}"
    )


STYLE: Final = _style()


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Attributes:
        name: stands at its end.
        points: pairs of x and y, x rising.
        colour: which of the colours and dashes.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int


def escape(text: str) -> str:
    """Text as it may stand in HTML and SVG, between tags and in quotes."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


def slug(text: str) -> str:
    """Text as a part of a file's name or an identifier."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:80] or "plot"


def cut(text: str, most: int) -> str:
    """The text, or its beginning with a mark."""
    return text if len(text) <= most else text[: most - 1] + "…"


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten between which positive values lie, one apart at least."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return low, max(high, low + 1)


class Drawing:
    """An SVG document that grows downwards."""

    def __init__(self, title: str, caption: str) -> None:
        self.height = 62 if caption else 42
        self._title = title
        self._caption = caption
        self._values: list[str] = []
        self._behind: list[str] = []
        self._parts: list[str] = []

    def add(self, element: str) -> None:
        self._parts.append(element)

    def line(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a line behind everything else."""
        ends = zip("xy", start, end, strict=True)
        places = " ".join(f'{axis}1="{one:.1f}" {axis}2="{other:.1f}"' for axis, one, other in ends)
        self._behind.append(f'<line class="{kind}" {places}/>')

    def text(
        self, x: float, y: float, text: str, classes: str, *, anchor: str = "start", full: str = ""
    ) -> None:
        whole = f"<title>{escape(full)}</title>" if full and full != text else ""
        start = f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        self.add(f"{start}{whole}{escape(text)}</text>")

    def describe(self, value: str) -> None:
        self._values.append(value)

    def svg(self) -> str:
        name = slug(self._title)
        height = round(self.height + MARGIN)
        heading = f'<text class="hb-text hb-head" x="{MARGIN}" y="26">{escape(cut(self._title, 62))}</text>'
        if self._caption:
            heading += f'<text class="hb-faint" x="{MARGIN}" y="46">{escape(self._caption)}</text>'
        description = ". ".join([self._caption, *self._values][:200])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="hb-plot" viewBox="0 0 {WIDTH} {height}"'
            f' width="{WIDTH}" height="{height}" role="img" aria-labelledby="{name}-t {name}-d">'
            f'<title id="{name}-t">{escape(self._title)}</title>'
            f'<desc id="{name}-d">{escape(description)}</desc><style>{STYLE}</style>'
            f'<rect class="hb-ground" width="{WIDTH}" height="{height}"/>'
            f"{heading}{''.join(self._behind)}{''.join(self._parts)}</svg>\n"
        )


_PLANE_HEIGHT: Final = 230
_LEFT: Final = 62
_NAME: Final = 20
"""Characters of a line's name that are shown."""

_APART: Final = 15
"""Pixels between the names at the ends of lines."""


class Plane:
    """Axes and the lines on them.

    Args:
        title: of the plot.
        caption: below it.
        curves: the lines; only those with a point are drawn.
    """

    def __init__(self, title: str, caption: str, curves: Sequence[Line]) -> None:
        self.drawing = Drawing(title, caption)
        self._curves = [each for each in curves if each.points]
        longest = max((len(cut(each.name, _NAME)) for each in self._curves), default=0)
        self._top = self.drawing.height + 4
        self._bottom = self._top + _PLANE_HEIGHT
        self._right = WIDTH - MARGIN - round(longest * CHARACTER) - 14
        self._x: Callable[[float], float] = float
        self._y: Callable[[float], float] = float

    def scale_x(self, low: float, high: float, *, logarithmic: bool) -> None:
        """Which values lie at both ends."""
        self._x = _scale(low, high, _LEFT + 8, self._right - 8, logarithmic=logarithmic)

    def scale_y(self, values: Sequence[float], *, logarithmic: bool) -> None:
        """Draw the scale for these values, from 0 or the power of ten below them."""
        if logarithmic:
            low, high = decades(values)
            ticks = [10.0**power for power in range(low, high + 1)]
            bottom, top = ticks[0], ticks[-1]
            if high - low <= 2:
                ticks = [tick * by for tick in ticks for by in (1, 2, 5) if tick * by <= top]
        else:
            step = _step(max(values, default=1.0))
            ticks = [step * at for at in range(math.ceil(max(values, default=1.0) / step - 1e-9) + 1)]
            bottom, top = 0.0, ticks[-1]
        self._y = _scale(bottom, top, self._bottom, self._top, logarithmic=logarithmic)
        for tick in ticks:
            y = self._y(tick)
            self.drawing.line("hb-grid", (_LEFT, y), (self._right, y))
            self.drawing.text(_LEFT - 6, y + 4, short(tick), "hb-faint hb-small", anchor="end")

    def ticks_x(self, places: Sequence[float], show: Callable[[float], str]) -> None:
        """Name these places across, those for which there is room."""
        last = -math.inf
        for place in places:
            x, text = self._x(place), show(place)
            half = len(text) * CHARACTER / 2
            self.drawing.line("hb-grid", (x, self._top), (x, self._bottom))
            if x - half > last + 6:
                self.drawing.text(x, self._bottom + 16, text, "hb-faint hb-small", anchor="middle")
                last = x + half

    def axis(self, text: str) -> None:
        """Say what goes across."""
        self.drawing.text(_LEFT, self._bottom + 36, text, "hb-faint hb-small")
        self.drawing.height = self._bottom + 40

    def draw(self, *, dots: bool) -> None:
        """Draw the lines, and their names at their ends, apart from each other."""
        ends = []
        for each in self._curves:
            points = [(self._x(x), self._y(y)) for x, y in each.points]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            colour, dash = each.colour % COLOURS, _DASHES[each.colour % COLOURS]
            self.drawing.add(
                f'<polyline class="hb-line hb-s{colour}" points="{path}"'
                + (f' stroke-dasharray="{dash}"' if dash else "")
                + "/>"
            )
            if dots or len(points) == 1:
                for x, y in points:
                    self.drawing.add(f'<circle class="hb-f{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>')
            ends.append((points[-1][1], points[-1][0], each, colour))
            values = ", ".join(f"{number(x)}: {number(y)}" for x, y in each.points[:20])
            self.drawing.describe(f"{each.name} {values}")
        ends.sort(key=lambda end: end[0])
        early = [end for end in ends if end[1] < self._right - 12]
        for y, x, each, colour in early:
            name = cut(each.name, _NAME)
            self.drawing.text(x + 6, y - 6, name, f"hb-f{colour} hb-small hb-halo", full=each.name)
        ends = [end for end in ends if end not in early]
        places = _spread([end[0] for end in ends], self._top, self._bottom)
        for place, (y, x, each, colour) in zip(places, ends, strict=True):
            if abs(place - y) > 2:
                self.drawing.line("hb-axis", (x + 4, y), (self._right + 2, place))
            name = cut(each.name, _NAME)
            self.drawing.text(self._right + 6, place + 4, name, f"hb-f{colour} hb-small", full=each.name)


def _scale(
    low: float, high: float, start: float, end: float, *, logarithmic: bool
) -> Callable[[float], float]:
    """From values to pixels; a value that has no place on a logarithmic scale lies at its start."""
    if logarithmic:
        lowest, highest = math.log10(low), math.log10(high)
        width = highest - lowest or 1.0
        return lambda value: start + (end - start) * (math.log10(max(value, low)) - lowest) / width
    return lambda value: start + (end - start) * (value - low) / ((high - low) or 1.0)


def _step(highest: float) -> float:
    """A round number that goes about four times into the highest value."""
    if highest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest / 4))
    return next(power * by for by in (1, 2, 2.5, 5, 10) if highest / (power * by) <= 5)


def _spread(places: Sequence[float], top: float, bottom: float) -> list[float]:
    """Rising places moved apart as little as it takes, within bounds."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + _APART if moved else top))
    lowest = bottom
    for at in range(len(moved) - 1, -1, -1):
        moved[at] = min(moved[at], lowest)
        lowest = moved[at] - _APART
    return moved
