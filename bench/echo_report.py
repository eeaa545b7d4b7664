"""The results of `python -m bench echo` as a page and as JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hailer.tools.bench.conditions import conditions
from hailer.tools.bench.figures import number
from hailer.tools.bench.results import BUSY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.tools.bench.machine import Cores

__all__ = ["EchoCell", "EchoResults", "Slice", "render"]


@dataclass(frozen=True)
class EchoCell:
    """A size of messages in bytes, a number of connections, and the messages that each sends at once."""

    size: int
    connections: int
    pipeline: int = 1

    def __str__(self) -> str:
        size = f"{self.size // 1024} KiB" if self.size >= 1024 else f"{self.size} B"
        at_once = f" × {self.pipeline}" if self.pipeline > 1 else ""
        return f"{size}{at_once}, {self.connections:,}"


@dataclass(frozen=True)
class Slice:
    """One measurement.

    Attributes:
        messages_per_s: messages that came back.
        cpu_us: processor time of the server for each, in microseconds.
        server_busy: the share of a core that the server took.
        load_busy: that of the load.
    """

    messages_per_s: float
    cpu_us: float
    server_busy: float
    load_busy: float


@dataclass
class EchoResults:
    """What was measured: the slices of each server in a model's group, for each cell."""

    cells: Sequence[EchoCell]
    models: Sequence[str]
    cores: Cores
    rounds: int
    seconds: float
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    slices: dict[tuple[str, EchoCell, str], list[Slice]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def median(self, model: str, cell: EchoCell, name: str, figure: str) -> float | None:
        """The median of a figure over the slices, or None where it was not measured."""
        slices = self.slices.get((model, cell, name), [])
        values = [getattr(one, figure) for one in slices]
        return statistics.median(values) if values else None

    def ratio(
        self, model: str, cell: EchoCell, names: tuple[str, str], figure: str = "messages_per_s"
    ) -> float | None:
        """The median of the ratios of two servers, round by round: each pair was measured side by side."""
        pairs = zip(*(self.slices.get((model, cell, name), []) for name in names), strict=False)
        ratios = [
            ours / theirs
            for one, other in pairs
            if (ours := getattr(one, figure)) and (theirs := getattr(other, figure))
        ]
        return statistics.median(ratios) if ratios else None

    def names(self, model: str) -> list[str]:
        """The servers of a model that were measured."""
        return list(dict.fromkeys(name for key, _, name in self.slices if key == model))

    def summary(self, model: str, cell: EchoCell) -> str:
        """One line for the terminal."""
        parts = []
        floor = f"floor:{model}"
        for name in self.names(model):
            figure, cpu = (self.median(model, cell, name, what) for what in ("messages_per_s", "cpu_us"))
            if figure is not None:
                beside = self.ratio(model, cell, (name, floor)) or 0
                parts.append(f"{name} {number(figure / 1000)}k/s {cpu or 0:.1f} µs ({beside:.2f})")
        return "; ".join(parts)

    def conditions(self) -> dict[str, str]:
        """Everything about the machine and the run that the figures depend on."""
        told = conditions(self.cores, libraries=("uvloop", "gevent", "twisted", "trio"))
        kept = (
            "hailer",
            "python",
            "uvloop",
            "gevent",
            "twisted",
            "trio",
            "kernel",
            "processor",
            "cores",
            "tuning",
        )
        return {
            "date": f"{self.started:%Y-%m-%d %H:%M} UTC",
            **{name: told[name] for name in kept},
            "rounds": f"{self.rounds} slices of {self.seconds:g} s for each, in turn with its floor; medians",
        }

    def as_json(self) -> dict[str, Any]:
        """All slices, not the medians alone."""
        return {
            "conditions": self.conditions(),
            "slices": [
                {"model": model, **asdict(cell), "server": name, **asdict(one)}
                for (model, cell, name), slices in self.slices.items()
                for one in slices
            ],
            "notes": self.notes,
        }


def render(results: EchoResults) -> str:
    """The whole page, in Markdown."""
    lines = ["# Echo of lines", ""]
    lines += [f"- {key}: {text}" for key, text in results.conditions().items()]
    lines += [
        "",
        "A column: the size of a message, × how many a connection sends at once, the number of connections.",
        "Trust the ratios within this run more than the figures.",
        "",
        "## hailer beside the hand-written loop of the same model: messages a second",
        "",
    ]
    lines += table(
        results,
        [(model, model, f"hailer:{model}") for model in results.models],
        lambda model, cell, name: ratio(results.ratio(model, cell, (name, f"floor:{model}"))),
    )
    rows = [(f"{name} ({model})", model, name) for model in results.models for name in results.names(model)]
    lines += ["## Thousand messages a second", ""]
    lines += table(results, rows, lambda model, cell, name: speed(results, model, cell, name))
    lines += ["\\* the load was the limit here: its core was busy, the server's was not.", ""]
    lines += ["## Processor time of the server, µs a message", ""]
    lines += table(
        results,
        rows,
        lambda model, cell, name: shown(results.median(model, cell, name, "cpu_us"), number),
    )
    lines += ["## The same beside the floor of the model: its time divided by the server's", ""]
    lines += table(
        results,
        rows,
        lambda model, cell, name: ratio(results.ratio(model, cell, (f"floor:{model}", name), "cpu_us")),
    )
    if results.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in results.notes), ""]
    return "\n".join(lines)


def table(
    results: EchoResults,
    rows: Sequence[tuple[str, str, str]],
    show: Callable[[str, EchoCell, str], str],
) -> list[str]:
    """A row for each server (its title, model and name), a column for each cell."""
    lines = [
        "| server | " + " | ".join(map(str, results.cells)) + " |",
        "| --- " + "| ---: " * len(results.cells) + "|",
    ]
    for title, model, name in rows:
        row = [show(model, cell, name) for cell in results.cells]
        if any(text != "—" for text in row):
            lines.append(f"| {title} | " + " | ".join(row) + " |")
    return [*lines, ""]


def speed(results: EchoResults, model: str, cell: EchoCell, name: str) -> str:
    value = results.median(model, cell, name, "messages_per_s")
    load = results.median(model, cell, name, "load_busy")
    server = results.median(model, cell, name, "server_busy")
    limited = load is not None and server is not None and load >= BUSY > server
    return shown(value, lambda found: number(found / 1000)) + (r" \*" if limited else "")


def ratio(value: float | None) -> str:
    return shown(value, "{:.2f}".format)


def shown(value: float | None, show: Callable[[float], str]) -> str:
    return "—" if value is None else show(value)
