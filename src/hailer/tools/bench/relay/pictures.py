"""The plots that show at a glance how the relay does beside others: few, chosen, each one question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hailer.tools.bench.pictures import Picture, bars_of, pictures
from hailer.tools.bench.tables import FLOOR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.tools.bench.results import Case, Results

__all__ = ["answers"]

_STREAMING: Final = ("hailer", "nats", "redis", FLOOR)
"""Without mosquitto: its figures of streams are so much smaller that those of the others would look alike."""
_PEERS: Final = ("hailer", "nats", "redis", "mosquitto", FLOOR)
_STORES: Final = ("hailer", "nats", "nats-always", "redis", "mosquitto", "sqlite-1000")
_SHORT: Final = 64
_PACE: Final = 75
"""Percent of what a relay can do, at which its latencies are compared."""


def answers(results: Results) -> list[Picture]:
    """The plots, of what was measured; a question without figures has none."""

    def bars(
        name: str, title: str, figure: str, subjects: Sequence[str], wanted: Callable[[Case], bool]
    ) -> Picture | None:
        svg = bars_of(results.part(wanted, subjects), figure, title)
        return Picture(name, figure, svg) if svg else None

    drawn = [
        bars(
            "relay-short",
            f"Messages of {_SHORT} bytes, one core",
            "messages_per_s",
            _STREAMING,
            _is_short_stream,
        ),
        bars("relay-pingpong", "Processor time, one message under way", "cpu_us", _PEERS, _is_pingpong),
        _latency(results),
        bars("relay-large", "Larger messages, and mixed ones", "messages_per_s", _PEERS, _is_large),
        bars(
            "relay-cores",
            "One core and two (hailer-2)",
            "messages_per_s",
            ("hailer", "hailer-2", "nats"),
            _is_scatter,
        )
        if "hailer-2" in {each.name for each in results.subjects}
        else None,
        bars("durable", "Messages stored", "stored_per_s", _STORES, _is_stored),
    ]
    return [each for each in drawn if each is not None]


def _latency(results: Results) -> Picture | None:
    """Latencies at a rate, which tell more than those of a closed loop."""
    part = results.part(_is_paced, _PEERS)
    drawn = [each for each in pictures(part) if each.figure == "percentiles"]
    return Picture("relay-latency", "percentiles", drawn[0].svg) if drawn else None


def _is_short_stream(case: Case) -> bool:
    return case.load in {"pipeline", "scatter", "fanout"} and case.values.get("size") == _SHORT


def _is_pingpong(case: Case) -> bool:
    return case.load == "pingpong"


def _is_paced(case: Case) -> bool:
    return case.load == "paced" and (case.values.get("of"), case.values.get("percent")) == ("pingpong", _PACE)


def _is_large(case: Case) -> bool:
    return case.load.startswith("mixed") or (case.load == "pipeline" and case.values.get("size") != _SHORT)


def _is_scatter(case: Case) -> bool:
    return case.load == "scatter"


def _is_stored(case: Case) -> bool:
    return case.load == "post" and not case.title.endswith("any core")
