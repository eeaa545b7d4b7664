"""Which loads are put on the relays, at which sizes, how often, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Final, Literal

from hailer.tools.bench.relay.dialects import DIALECTS
from hailer.tools.bench.relay.load import PAIRED
from hailer.tools.bench.relay.mixed import LARGEST, POSTED
from hailer.tools.bench.relay.paced import FEW, PARTS
from hailer.tools.bench.results import Case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.tools.bench.relay.peers import Peer

__all__ = ["LOADS", "Load", "Plan", "make_plan", "reason_against"]

LOADS: Final = (
    *("pipeline", "scatter", "fanout", "pingpong"),
    *("mixed", "mixed-post", "paced", "idle", "start"),
)
"""What may be measured; all but the last are told in `hailer.tools.bench.relay.load`."""
STARTS: Final = 5
"""So often is a relay started to see how long that takes."""
SPARE: Final = 100
"""Open files that the load and a relay have beside those of the clients."""


@dataclass(frozen=True)
class Load:
    """One load at one size.

    Attributes:
        name: one of `LOADS`.
        count: receivers, or connections.
        size: bytes of a message, where it has one size.
    """

    name: str
    count: int = 0
    size: int = 64

    def cases(self) -> dict[str, Case]:
        """The cases that it measures, by the names of its parts; without parts under an empty name."""
        if self.name == "paced":
            return {part: self._paced(part) for part in PARTS}
        many = f"{self.count:,}"
        size = "" if self.size == 64 else f", {in_bytes(self.size)}"
        title = {
            "pipeline": f"pipeline, {many} pairs{size}",
            "pingpong": f"pingpong, {many} pairs{size}",
            "scatter": f"scatter over {many}{size}",
            "fanout": f"fanout to {many}{size}",
            "mixed": f"mixed sizes to {many}",
            "mixed-post": f"mixed sizes to {many}, {POSTED * 100:g} % stored",
            "idle": f"idle, {many} connections",
            "start": "start",
        }[self.name]
        values: dict[str, str | int | float] = {} if self.name == "start" else {"count": self.count}
        if self.name in {"pipeline", "pingpong", "scatter", "fanout"}:
            values["size"] = self.size
        return {"": Case(self.name, title, values)}

    def _paced(self, part: str) -> Case:
        of, _, number = part.partition("-")
        pairs = min(self.count, FEW) if of == "pipeline" else self.count
        size = "" if self.size == 64 else f", {in_bytes(self.size)}"
        rate = f"{int(number):,} a second" if of == "rate" else f"at {number} % of its {of}"
        values: dict[str, str | int | float] = {"of": of, "pairs": pairs, "size": self.size}
        values["rate" if of == "rate" else "percent"] = int(number)
        return Case("paced", f"paced {rate}, {pairs:,} pairs{size}", values)


def in_bytes(size: int) -> str:
    """A number of bytes for a reader."""
    return f"{size // 1024} KiB" if size >= 1024 and size % 1024 == 0 else f"{size} B"


SHORT: Final = (
    *(Load("pipeline", 10), Load("scatter", 100), Load("fanout", 100), Load("pingpong", 100)),
    *(Load("mixed-post", 1000), Load("idle", 1000), Load("start")),
)
NORMAL: Final = (
    *(Load("pipeline", 10), Load("pipeline", 10, 1024), Load("pipeline", 10, 16 * 1024)),
    *(Load("scatter", 100), Load("scatter", 1000), Load("fanout", 100), Load("fanout", 1000)),
    *(Load("pingpong", 10), Load("pingpong", 100), Load("pingpong", 1000)),
    *(Load("mixed", 1000), Load("mixed-post", 1000), Load("paced", 100), Load("idle", 10_000), Load("start")),
)


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        loads: in this order.
        rounds: so often each.
        seconds: about so long each time; each part of `paced` half of that.
    """

    loads: tuple[Load, ...]
    rounds: int
    seconds: float

    def steps(self, peers: Sequence[Peer], files: int | None = None) -> list[tuple[int, Load, Peer]]:
        """Every measurement, with its round, in order: the relays by turns.

        Args:
            peers: the relays.
            files: how many files a process may have open.
        """
        rounds = range(1, self.rounds + 1)
        return [
            (number, load, peer)
            for number, load, peer in product(rounds, self.loads, peers)
            if reason_against(peer, load, files) is None
        ]

    def estimate(self, peers: Sequence[Peer]) -> float:
        """Seconds that all of it takes."""
        return sum(self._seconds_of(load, peer) for _, load, peer in self.steps(peers))

    def _seconds_of(self, load: Load, peer: Peer) -> float:
        if load.name == "start":
            return STARTS * 0.5
        logins = load.count * (2 if load.name in PAIRED else 1) / 3000
        around = 1.2 + DIALECTS[peer.dialect].quiet + logins  # start, settle, the load's own start, stop
        if load.name == "idle":
            return around + load.count / 5000
        if load.name == "paced":
            return around + 1 + len(PARTS) * self.seconds / 2
        return around + 1.3 * self.seconds


def make_plan(
    length: Literal["short", "normal", "long"],
    names: Sequence[str] = (),
    *,
    count: int | None = None,
    size: int | None = None,
    seconds: float | None = None,
    rounds: int | None = None,
) -> Plan:
    """The plan of a length.

    Args:
        length: how thorough.
        names: the loads; all of that length if there are none.
        count: receivers or connections of each, instead of the usual ones.
        size: bytes of a message, instead of the usual ones.
        seconds: of a measurement, instead of the usual.
        rounds: instead of the usual.
    """
    usual = SHORT if length == "short" else NORMAL
    loads = [load for load in usual if not names or load.name in names]
    # What is asked for by name is measured, also where a short look would leave it out.
    loads += [load for load in NORMAL if load.name in set(names) - {load.name for load in usual}]
    if count is not None:
        loads = [load if load.name == "start" else replace(load, count=count) for load in loads]
    if size is not None:
        loads = [replace(load, size=size) for load in loads]
    return Plan(
        tuple(dict.fromkeys(loads)),
        rounds if rounds is not None else {"short": 1, "normal": 2, "long": 5}[length],
        seconds if seconds is not None else {"short": 0.7, "normal": 1.0, "long": 2.0}[length],
    )


def reason_against(peer: Peer, load: Load, files: int | None = None) -> str | None:
    """Why a relay is not measured under a load, or None if it is.

    Args:
        peer: the relay.
        load: the load.
        files: how many files a process may have open.
    """
    longest = DIALECTS[peer.dialect].longest
    if load.name == "mixed-post" and peer.storing is None:
        return "it stores none, or none that this load knows (--durable knows more)"
    if (LARGEST if load.name.startswith("mixed") else load.size) > longest:
        return f"its messages have {longest} bytes at most"
    connections = load.count * (2 if load.name in PAIRED else 1) + SPARE
    if files is not None and connections > files:
        return f"it takes {connections:,} open files, and {files:,} are allowed (ulimit -n)"
    return None
