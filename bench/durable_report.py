"""The results of `python -m bench durable` as a page and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bench.report import cost, installed, processor, rate, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.load import Figures
    from bench.peers import Cores, Peer

__all__ = ["DurableCell", "DurableResults", "render"]

LEGEND = (
    "How to read it: only what was acknowledged as stored counts, but stored is not the same everywhere:"
    " hailer, nats-always, redis and sqlite flush to the disk before they say so; nats, mosquitto and"
    " hailer-memory do not, and lose what they acknowledged when the power fails. Sink and redis-memory store"
    " nothing: what they reach, the load can do. Trust the ratios within a run more than its figures, and"
    " neither if other programs used much of the machine: each flush and each switch of threads waits then."
)
BUSY = 0.95  # the share of its core from which on the load counts as the limit


@dataclass(frozen=True)
class DurableCell:
    """One measurement.

    Attributes:
        part: ``post`` (senders that keep a window in flight), ``receive`` (the same with receivers),
            ``alone`` (one message at a time), ``beside`` (live messages while others are stored) or
            ``opening`` (a store with many messages that wait).
        senders: connections that post; in ``beside`` pairs of live ones, in ``opening`` messages.
        size: bytes of a message.
        apart: whether store and load are kept to a core of their own.
        live: in ``beside``: the load that is measured.
        commits: in ``beside``: ``none``, ``fast`` or ``slow`` (flushes of the disk that take longer).
    """

    part: str
    senders: int = 1
    size: int = 64
    apart: bool = True
    live: str = ""
    commits: str = ""

    def __str__(self) -> str:
        size = f"{self.size // 1024} KiB" if self.size >= 1024 else f"{self.size} B"
        if self.part == "beside":
            others = {"none": "alone", "fast": "commits beside", "slow": "commits on a slow disk beside"}
            return f"{self.live}, {self.senders} pairs, {others[self.commits]}"
        if self.part == "opening":
            return f"{self.senders:,} waiting messages"
        return f"{self.senders:,} × {size}" + ("" if self.apart else ", any core")


@dataclass
class DurableResults:
    """What was measured, in order; a list for each cell and store has one entry a round."""

    cells: Sequence[DurableCell]
    peers: Sequence[Peer]
    cores: Cores
    rounds: int
    seconds: float
    disk: str
    tries: int = 1
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    figures: dict[tuple[DurableCell, str], list[Figures]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def median(self, cell: DurableCell, peer: str, figure: str) -> float | None:
        """The median of a figure over the rounds, or None where it was not measured."""
        values = [float(row[figure]) for row in self.figures.get((cell, peer), []) if figure in row]
        return statistics.median(values) if values else None

    def of(self, part: str) -> list[DurableCell]:
        return [cell for cell in self.cells if cell.part == part]

    def conditions(self) -> dict[str, str]:
        """Everything about the machine and the run that the figures depend on."""
        disturbed = "unknown"
        if self.others:
            middle, worst = statistics.median(self.others), max(self.others)
            disturbed = f"used {middle:.0%} of all cores (median over the measurements; {worst:.0%} at worst)"
        return {
            "date": f"{self.started:%Y-%m-%d %H:%M} UTC",
            "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
            "processor": processor(),
            "disk": self.disk,
            "cores": str(self.cores).replace("relay", "store"),
            "scheduling": scheduling(),
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "uvloop": installed("uvloop"),
            "rounds": f"{self.rounds}, of which the median counts; stores in turn, one alive at a time",
            "length": f"about {self.seconds:g} s a measurement, after a quarter of it that is not counted",
            "tries": f"{self.tries} at most of each, of which the one counts that others disturbed least",
            "other programs": disturbed,
        }

    def as_json(self) -> dict[str, Any]:
        """All rounds, not the medians alone."""
        return {
            "conditions": self.conditions(),
            "stores": {
                peer.name: {"version": peer.version, "settings": peer.settings} for peer in self.peers
            },
            "measurements": [
                {"store": peer, "cell": str(cell), "part": cell.part, "round": number, **row}
                for (cell, peer), rows in self.figures.items()
                for number, row in enumerate(rows, 1)
            ],
            "notes": self.notes,
        }


def scheduling() -> str:
    """Whether store and load go before other programs, as ``chrt`` makes them."""
    if not hasattr(os, "sched_getscheduler"):
        return "as usual"
    first = os.sched_getscheduler(0) in {os.SCHED_FIFO, os.SCHED_RR}
    return "real time: store and load go before other programs" if first else "as usual"


def render(results: DurableResults) -> str:
    """The whole page, in Markdown."""
    lines = ["# Messages that are stored", ""]
    lines += [f"- {key}: {text}" for key, text in results.conditions().items()]
    lines += [f"- {peer.name}: {peer.version}; {peer.settings}" for peer in results.peers]
    lines += ["", LEGEND, ""]
    lines += table(
        results,
        "Thousand messages stored a second",
        "A column: how many senders × the size of a message; each sender keeps 100 messages in flight, to one"
        " of up to 10 mailboxes. “Any core”: store and load are not kept to one core each.",
        results.of("post"),
        lambda cell, name: speed(results, cell, name),
    )
    lines += ratios(results)
    lines += table(
        results,
        "Thousand messages stored and taken a second",
        "The same with a receiver on each mailbox, that acknowledges (or drops) once for all that a read"
        " brought; with MQTT each message. What has reached the receivers counts.",
        results.of("receive"),
        lambda cell, name: speed(results, cell, name),
    )
    lines += table(
        results,
        "Processor time of the store, µs a message",
        "",
        results.of("post"),
        lambda cell, name: shown(results.median(cell, name, "cpu_us"), cost),
    )
    alone = results.of("alone")
    for percent, words in ((50, "median"), (99, "99 % within")):
        lines += table(
            results,
            f"One message alone, {words}, µs until it is stored",
            "One sender that waits for each; for SQLite the time of one commit.",
            alone,
            passage(results, percent),
        )
    lines += live(results)
    lines += opening(results)
    if results.notes:
        lines += ["## Notes", "", *(f"- {note}" for note in results.notes), ""]
    return "\n".join(lines)


def table(
    results: DurableResults,
    title: str,
    legend: str,
    cells: Sequence[DurableCell],
    show: Callable[[DurableCell, str], str],
) -> list[str]:
    """A row for each store, a column for each cell; nothing where there is nothing."""
    rows = [(peer.name, [show(cell, peer.name) for cell in cells]) for peer in results.peers]
    rows = [(name, row) for name, row in rows if any(text != "—" for text in row)]
    if not rows:
        return []
    lines = [f"## {title}", ""]
    if legend:
        lines += [legend, ""]
    lines += ["| store | " + " | ".join(map(str, cells)) + " |", "| --- " + "| ---: " * len(cells) + "|"]
    lines += [f"| {name} | " + " | ".join(row) + " |" for name, row in rows]
    return [*lines, ""]


def passage(results: DurableResults, percent: int) -> Callable[[DurableCell, str], str]:
    return lambda cell, name: shown(results.median(cell, name, f"p{percent}_us"), whole)


def speed(results: DurableResults, cell: DurableCell, name: str) -> str:
    load = results.median(cell, name, "load_busy")
    store = results.median(cell, name, "relay_busy")
    limited = load is not None and store is not None and load >= BUSY > store
    return shown(results.median(cell, name, "messages_per_s"), rate) + (r" \*" if limited else "")


def ratios(results: DurableResults) -> list[str]:
    """hailer's rate divided by that of each of the others, by the medians."""

    def ratio(cell: DurableCell, name: str) -> str:
        own = results.median(cell, "hailer", "messages_per_s")
        other = results.median(cell, name, "messages_per_s")
        return "—" if own is None or not other or name == "hailer" else cost(own / other)

    cells = results.of("post")
    lines = []
    if any(speed(results, cell, peer.name).endswith("*") for cell in cells for peer in results.peers):
        lines += ["\\* the load was the limit here: its core was busy, the store's was not.", ""]
    return lines + table(results, "How many times as many messages hailer stores", "", cells, ratio)


def live(results: DurableResults) -> list[str]:
    """What live messages are like with and without commits beside: a row for each of both."""
    lines = []
    for cell in results.of("beside"):
        for peer in results.peers:
            figures = [
                shown(results.median(cell, peer.name, figure), show)
                for figure, show in (
                    ("messages_per_s", rate),
                    ("p50_us", whole),
                    ("p99_us", whole),
                    ("stored_p50_us", whole),
                    ("stored_p99_us", whole),
                )
            ]
            if figures[0] != "—":
                lines.append(f"| {cell} | {peer.name} | " + " | ".join(figures) + " |")
    if not lines:
        return []
    head = ["load", "store", "thousand/s", "passage, median", "99 %", "commit acknowledged, median", "99 %"]
    return [
        "## Live messages while others are stored",
        "",
        "Live messages are at most once (SEND, core NATS, PUBLISH). Beside them another client has 100",
        "messages stored every 10 ms; on a slow disk each flush takes 20 ms more. Times in µs.",
        "",
        "| " + " | ".join(head) + " |",
        "| --- | --- " + "| ---: " * (len(head) - 2) + "|",
        *lines,
        "",
    ]


def opening(results: DurableResults) -> list[str]:
    """How long a relay takes to start, by what waits in its store."""
    lines = []
    for cell in results.of("opening"):
        row = [
            shown(results.median(cell, "hailer", figure), "{:.2f}".format)
            for figure in ("empty_s", "listening_s", "first_s")
        ]
        if row[1] != "—":
            lines.append(f"| {cell} | " + " | ".join(row) + " |")
    if not lines:
        return []
    return [
        "## Starting a relay on a store where messages wait, seconds",
        "",
        "From the start of the process. Each message is a row of its own, the worst case, in 100 mailboxes;",
        "the store was left as a killed relay leaves it.",
        "",
        "| store | empty: listening | full: listening | full: somebody has the first message |",
        "| --- | ---: | ---: | ---: |",
        *lines,
        "",
    ]


def shown(value: float | None, show: Callable[[float], str]) -> str:
    return "—" if value is None else show(value)
