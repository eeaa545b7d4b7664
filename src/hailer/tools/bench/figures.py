"""Every figure that a measurement can have: its title, its unit, which way is better, how it is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FIGURES", "Figure", "Scale", "figure", "number", "ratio", "short"]


@dataclass(frozen=True)
class Scale:
    """A unit, and what a value is divided by to be given in it."""

    divisor: float
    unit: str


@dataclass(frozen=True)
class Figure:
    """What one name in `Row.figures` means.

    Attributes:
        name: that name; it ends with its unit.
        title: for the heading of a table or plot.
        better: ``more``, ``less``, or ``neither`` where it only explains others.
        scales: the units in which it may be given, the smallest first; the first is that of its values.
        shown: whether it gets a table and a plot of its own.
    """

    name: str
    title: str
    better: Literal["more", "less", "neither"]
    scales: tuple[Scale, ...]
    shown: bool = True

    def scale(self, values: Iterable[float]) -> Scale:
        """The unit for these values: the largest in which the smallest of them is still 10 or more."""
        least = min((abs(value) for value in values if value), default=0.0)
        fitting = [scale for scale in self.scales if least >= 10 * scale.divisor]
        return fitting[-1] if fitting else self.scales[0]


_RATE: Final = (Scale(1, "a second"), Scale(1e3, "thousand a second"), Scale(1e6, "million a second"))
_BYTES: Final = (Scale(1, "B/s"), Scale(2.0**10, "KiB/s"), Scale(2.0**20, "MiB/s"), Scale(2.0**30, "GiB/s"))
_TIME: Final = (Scale(1, "µs"), Scale(1e3, "ms"), Scale(1e6, "s"))
_EACH: Final = (Scale(1, "µs a message"),)
_A_MESSAGE: Final = (Scale(1, "a message"),)
_KIB: Final = (Scale(1, "KiB"), Scale(1024, "MiB"))
_SHARE: Final = (Scale(1, "of a core"),)
_COUNT: Final = (Scale(1, ""),)

_ALL: Final = (
    Figure("kept_up", "Messages delivered of those that were due", "more", (Scale(0.01, "%"),), shown=False),
    Figure("messages_per_s", "Messages delivered", "more", _RATE),
    Figure("bytes_per_s", "Bytes delivered", "more", _BYTES),
    Figure("up_per_s", "Bytes to the server", "more", _BYTES),
    Figure("down_per_s", "Bytes from the server", "more", _BYTES),
    Figure("stored_per_s", "Messages stored", "more", _RATE),
    Figure("cpu_us", "Processor time", "less", _EACH),
    Figure("cpu_user_us", "Processor time in the program", "less", _EACH, shown=False),
    Figure("cpu_system_us", "Processor time in the kernel", "less", _EACH, shown=False),
    Figure("p50_us", "Latency, median", "less", _TIME),
    Figure("p90_us", "Latency, 90 % within", "less", _TIME, shown=False),
    Figure("p99_us", "Latency, 99 % within", "less", _TIME),
    Figure("p999_us", "Latency, 99.9 % within", "less", _TIME),
    Figure("max_us", "Latency, longest", "less", _TIME, shown=False),
    Figure("offered_per_s", "Messages due", "neither", _RATE),
    Figure("late_us", "The load's own lateness, 99 % within", "neither", _TIME),
    Figure("jitter_us", "Jitter", "less", _TIME),
    Figure("connect_p50_us", "Time to connect, median", "less", _TIME),
    Figure("connect_p99_us", "Time to connect, 99 % within", "less", _TIME),
    Figure("offered_per_s", "Messages due", "neither", _RATE),
    Figure("late_us", "Left late, at worst", "neither", _TIME, shown=False),
    Figure("kib_per_connection", "Memory of a connection", "less", (Scale(1, "KiB"),)),
    Figure("rss_kib", "Memory of all processes", "less", _KIB),
    Figure("memory_kib", "Memory of all processes together", "less", _KIB),
    Figure("context_switches", "Context switches", "less", _A_MESSAGE),
    Figure("voluntary_switches", "Context switches to wait", "less", _A_MESSAGE, shown=False),
    Figure("involuntary_switches", "Context switches for others' turns", "less", _A_MESSAGE, shown=False),
    Figure("accepts_per_s", "Connections accepted", "more", _RATE),
    Figure("logins_per_s", "Logins, one after the other", "more", _RATE),
    Figure("start_ms", "Time to start", "less", (Scale(1, "ms"),)),
    Figure("load_busy", "Busy: the load", "neither", _SHARE, shown=False),
    Figure("subject_busy", "Busy: what is measured", "neither", _SHARE, shown=False),
    Figure("others", "Busy: other programs", "neither", (Scale(0.01, "% of all cores"),), shown=False),
    Figure("lost", "Messages lost", "less", _COUNT),
    Figure("sent_again", "TCP segments sent again", "less", _COUNT, shown=False),
    Figure("doubled", "Messages answered twice", "less", _COUNT, shown=False),
    Figure("reordered", "Messages overtaken", "less", _COUNT, shown=False),
    Figure("clients", "Connected at the end", "more", _COUNT),
    Figure("errors", "Errors", "less", _COUNT),
)

FIGURES: Final = {each.name: each for each in _ALL}
"""Each figure by its name, in the order in which tables show them."""


def figure(name: str) -> Figure:
    """What is known of a figure; one of a newer version is shown under its own name."""
    return FIGURES.get(name) or Figure(name, name.replace("_", " "), "neither", _COUNT)


def number(value: float) -> str:
    """The digits that count, or all of a whole part: ``12,345``, ``12.3``, ``0.12``, ``0.00042``."""
    size = abs(value)
    if (value == int(value) and size < 10) or size >= 99.95:
        return f"{value:,.0f}"
    if size >= 0.0995:
        return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"
    return f"{value:.{min(9, 1 - math.floor(math.log10(size)))}f}"


def ratio(value: float) -> str:
    """A ratio with two decimals, and as many more as a small one takes."""
    return f"{value:.2f}" if 0.0995 <= abs(value) < 9.995 else number(value)


def short(value: float) -> str:
    """A number for an axis: ``200``, ``1.5 k``, ``20 M``."""
    for divisor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= divisor:
            return f"{value / divisor:.3g}{letter}"
    return f"{value:.3g}"
