"""What the relay and the load use during a measurement, and latencies as percentiles."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.machine import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hailer.tools.bench.results import Curve

__all__ = ["PERCENTS", "Meter", "Outcome", "curve_of", "percentiles_of"]

PERCENTS: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0)
_NAMED: Final = {50.0: "p50_us", 90.0: "p90_us", 99.0: "p99_us", 99.9: "p999_us", 100.0: "max_us"}


@dataclass
class Outcome:
    """What one measurement came to.

    Attributes:
        figures: by their names, see `hailer.tools.bench.figures`.
        curve: its latencies, if it has any.
        part: which part of the load it is about, for a load that has parts.
    """

    figures: dict[str, float]
    curve: Curve = field(default_factory=list)
    part: str = ""


class Meter:
    """What the relay and the load use from now on.

    Args:
        pid: the relay's process, measured with all that it started; None leaves it out.
    """

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._relay = None if pid is None else Usage.of(pid)
        self._load = time.process_time()

    def read(self, delivered: int, took: float) -> dict[str, float]:
        """The figures of a load that delivered so many messages in so many seconds."""
        load = time.process_time() - self._load
        figures = {"messages_per_s": round(delivered / took, 1), "load_busy": round(load / took, 2)}
        if self._pid is not None and self._relay is not None:
            figures |= Usage.of(self._pid).since(self._relay).figures(delivered)
        return figures


def curve_of(latencies: Iterable[tuple[float, float]]) -> Curve:
    """Percentages and the latencies within which so many messages were.

    Args:
        latencies: seconds, and how many messages they stand for.

    Returns:
        Points with microseconds; none if there are no latencies.
    """
    ordered = sorted(latencies)
    if not ordered:
        return []
    total = sum(weight for _, weight in ordered)
    points: Curve = []
    seen, at = ordered[0][1], 0
    for percent in PERCENTS:
        while seen < total * percent / 100 and at < len(ordered) - 1:
            at += 1
            seen += ordered[at][1]
        points.append((percent, round(ordered[at if percent < 100 else -1][0] * 1e6, 1)))
    return points


def percentiles_of(curve: Curve) -> dict[str, float]:
    """Those points of a curve that are figures of their own."""
    return {_NAMED[percent]: latency for percent, latency in curve if percent in _NAMED}
