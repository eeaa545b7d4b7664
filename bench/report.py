"""The results as a page: conditions, one table for each question, and everything that went wrong."""

from __future__ import annotations

import platform
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.load import Figures
    from bench.peers import Cores, Peer

__all__ = ["Cell", "Results", "render"]

BUSY = 0.95  # the share of its core from which on a process counts as the limit


@dataclass(frozen=True)
class Cell:
    """One load at one size."""

    load: str
    count: int
    size: int = 64

    def __str__(self) -> str:
        number = f"{self.count:,}"
        size = f", {self.size // 1024} KiB" if self.size >= 1024 else ""
        unit = {
            "pipeline": f"pipeline, {number} pairs",
            "pingpong": f"pingpong, {number} pairs",
            "scatter": f"scatter over {number}",
            "fanout": f"fanout to {number}",
            "idle": f"idle, {number} connections",
        }
        return unit[self.load] + size


@dataclass
class Results:
    """What was measured, in order; a list for each cell and peer has one entry a round.

    Attributes:
        others: for each measurement the share of all cores that other programs used meanwhile.
        notes: what the reader must know: failures, relays that are missing, an early end.
    """

    cells: Sequence[Cell]
    peers: Sequence[Peer]
    cores: Cores
    rounds: int
    seconds: float
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    figures: dict[tuple[Cell, str], list[Figures]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def median(self, cell: Cell, peer: str, figure: str) -> float | None:
        """The median of a figure over the rounds, or None where it was not measured."""
        values = [float(row[figure]) for row in self.figures.get((cell, peer), []) if figure in row]
        return statistics.median(values) if values else None

    def conditions(self) -> dict[str, str]:
        """Everything about the machine and the run that the figures depend on."""
        return {
            "date": f"{self.started:%Y-%m-%d %H:%M} UTC",
            "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
            "processor": processor(),
            "cores": str(self.cores),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "uvloop": installed("uvloop"),
            "rounds": f"{self.rounds}, of which the median counts; relays in turn, one alive at a time",
            "length": f"about {self.seconds:g} s a measurement, after a trial that is not counted",
            "other programs": self.disturbance(),
        }

    def disturbance(self) -> str:
        if not self.others:
            return "unknown"
        middle, worst = statistics.median(self.others), max(self.others)
        return f"used {middle:.0%} of all cores (median over the measurements; {worst:.0%} at worst)"

    def as_json(self) -> dict[str, Any]:
        """All rounds, not the medians alone."""
        return {
            "conditions": self.conditions(),
            "peers": {peer.name: {"version": peer.version, "settings": peer.settings} for peer in self.peers},
            "measurements": [
                {"peer": peer, "round": number, **row}
                for (_, peer), rows in self.figures.items()
                for number, row in enumerate(rows, 1)
            ],
            "notes": self.notes,
        }


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or "unknown"


def installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def render(results: Results) -> str:
    """The whole page, in Markdown."""
    parts = [
        "# The relay beside its peers",
        "",
        *(f"- {key}: {text}" for key, text in results.conditions().items()),
    ]
    parts += [f"- {peer.name}: {peer.version}; {peer.settings}" for peer in results.peers]
    parts += ["", "All talk on 127.0.0.1. Trust the ratios within this run more than the figures.", ""]
    busy = [cell for cell in results.cells if cell.load != "idle"]
    paired = [cell for cell in results.cells if cell.load == "pingpong"]
    idle = [cell for cell in results.cells if cell.load == "idle"]
    parts += section(
        results, busy, "Thousand messages delivered a second", "messages_per_s", rate, "nats redis"
    )
    if any(mark(results, cell, peer.name) for cell in busy for peer in results.peers):
        parts += ["\\* the load was the limit here: its core was busy, the relay's was not.", ""]
    parts += section(results, busy, "Processor time of the relay, µs a message", "cpu_us", cost, "floor nats")
    parts += section(results, paired, "Passage of one message, median, µs", "p50_us", whole, "nats redis")
    parts += section(
        results, paired, "Passage of one message, 99 % within, µs", "p99_us", whole, "nats redis"
    )
    parts += section(
        results, idle, "Memory of the relay, KiB a connection", "kib_per_connection", cost, "nats"
    )
    parts += section(results, idle, "Logins a second, one after the other", "logins_per_s", whole, "nats")
    if results.notes:
        parts += ["## Notes", "", *(f"- {note}" for note in results.notes), ""]
    return "\n".join(parts)


def section(
    results: Results,
    cells: Sequence[Cell],
    title: str,
    figure: str,
    show: Callable[[float], str],
    against: str,
) -> list[str]:
    """One table: a row for each cell, a column for each peer, then hailer's ratios to some of them."""
    names = [peer.name for peer in results.peers]
    cells = [cell for cell in cells if any(results.median(cell, name, figure) is not None for name in names)]
    if not cells:
        return []
    ratios = [name for name in against.split() if name in names and "hailer" in names]
    head = ["load", *names, *(f"hailer/{name}" for name in ratios)]
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    for cell in cells:
        row = [str(cell)]
        for name in names:
            value = results.median(cell, name, figure)
            star = mark(results, cell, name) if figure == "messages_per_s" else ""
            row.append("—" if value is None else show(value) + star)
        own = results.median(cell, "hailer", figure)
        for name in ratios:
            other = results.median(cell, name, figure)
            row.append("—" if own is None or not other else f"{own / other:.2f}")
        lines.append("| " + " | ".join(row) + " |")
    return [*lines, ""]


def mark(results: Results, cell: Cell, peer: str) -> str:
    """A star where not the relay but the load was the limit."""
    load = results.median(cell, peer, "load_busy")
    relay = results.median(cell, peer, "relay_busy")
    return r" \*" if load is not None and relay is not None and load >= BUSY > relay else ""


def rate(value: float) -> str:
    return f"{value / 1000:,.0f}" if value >= 100_000 else f"{value / 1000:.1f}"


def cost(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def whole(value: float) -> str:
    return f"{value:,.0f}"
