"""Which durable loads are put on the stores, at which sizes, how often, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final, Literal

from hailer.tools.bench.relay.plan import in_bytes
from hailer.tools.bench.results import Case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.tools.bench.relay.peers import Peer

__all__ = ["PARTS", "READING", "Load", "Plan", "make_plan"]

PARTS: Final = ("post", "receive", "alone", "beside", "opening")
"""What may be measured."""
READING: Final = (
    (
        "Only what was acknowledged as stored counts, but stored is not the same everywhere: hailer,"
        " nats-always, redis and sqlite flush to the disk before they say so; nats, redis-everysec, mosquitto"
        " and hailer-memory do not, and lose what they acknowledged when the power fails. The sink and"
        " redis-memory keep nothing on disk: what they reach, the load can do."
    ),
    (
        "Each sender keeps 100 messages in flight, to one of up to 10 mailboxes; where messages are taken,"
        " too, a receiver on each mailbox acknowledges once for all that a read brought (with MQTT each), and"
        " what has reached it counts. Beside live messages 100 others are stored every 10 ms; on a slow disk"
        " each flush takes 20 ms more."
    ),
)
"""What the results do not say by themselves."""

_PAIRS: Final = 10  # of live senders and receivers
_WAITING: Final = 1_000_000  # messages in the store that is opened
_BESIDE: Final = ("hailer", "nats-always", "redis")  # whose live messages are measured


@dataclass(frozen=True)
class Load:
    """One measurement.

    Attributes:
        part: ``post`` (senders that keep a window in flight), ``receive`` (the same with receivers),
            ``alone`` (one message at a time), ``beside`` (live messages while others are stored) or
            ``opening`` (a store with many messages that wait).
        count: connections that post; in ``beside`` pairs of live ones, in ``opening`` messages.
        size: bytes of a message.
        apart: whether store and load are kept to a core of their own.
        live: in ``beside``: the load that is measured.
        commits: in ``beside``: ``none``, ``fast`` or ``slow`` (flushes of the disk that take longer).
    """

    part: str
    count: int = 1
    size: int = 64
    apart: bool = True
    live: str = ""
    commits: str = ""

    def title(self) -> str:
        """It in words."""
        size = "" if self.size == 64 else f", {in_bytes(self.size)}"
        if self.part == "beside":
            beside = {"none": "", "fast": ", commits beside", "slow": ", commits on a slow disk beside"}
            return f"{self.live}, {self.count} pairs{beside[self.commits]}"
        if self.part == "opening":
            return f"start, {self.count:,} messages wait"
        if self.part == "alone":
            return f"one message alone{size}"
        senders = f"{self.count} sender{'s' * (self.count > 1)}"
        taken = "stored and taken" if self.part == "receive" else "stored"
        return f"{taken}, {senders}{size}" + ("" if self.apart else ", any core")

    def cases(self) -> dict[str, Case]:
        """The cases that it measures, by the names of its parts; the first, without a name, is the whole."""
        title = self.title()
        values: dict[str, str | int | float] = {"count": self.count, "size": self.size}
        if self.part == "opening":
            titles = {"empty": "start on an empty store", "full": title, "first": f"{title}, one is sent"}
        elif self.part == "beside" and self.commits != "none":
            slow = " on a slow disk" * (self.commits == "slow")
            titles = {"": title, "commits": f"commit{slow} beside {self.live}"}
        else:
            titles = {"": title}
        return {part: Case(self.part, words, values) for part, words in titles.items()}

    def wants(self, store: Peer) -> bool:
        """Whether a store is measured under it at all."""
        if self.part == "opening":
            return store.name == "hailer"
        if self.part == "beside":
            # nats-server is linked statically: its flushes cannot be made slow.
            return store.name in _BESIDE and not (self.commits == "slow" and store.dialect.startswith("nats"))
        if store.name.startswith("sqlite-"):
            return (
                self.part != "receive" and self.apart and (self.part == "alone") == (store.name == "sqlite-1")
            )
        return self.part != "receive" or store.name != "sink"


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        loads: in this order.
        rounds: so often each.
        seconds: about so long each time, after a quarter of it that does not count.
    """

    loads: tuple[Load, ...]
    rounds: int
    seconds: float

    def steps(self, stores: Sequence[Peer]) -> list[tuple[int, Load, Peer]]:
        """Every measurement, with its round, in order: the stores by turns."""
        rounds = range(1, self.rounds + 1)
        return [step for step in product(rounds, self.loads, stores) if step[1].wants(step[2])]

    def estimate(self, stores: Sequence[Peer]) -> float:
        """Seconds that all of it takes."""
        return sum(self._seconds_of(load) for _, load, _ in self.steps(stores))

    def _seconds_of(self, load: Load) -> float:
        if load.part == "opening":
            return 2 + load.count / 150_000
        return 1.5 + self.seconds * (2.5 if load.part == "beside" else 1.4)


def make_plan(
    length: Literal["short", "normal", "long"],
    parts: Sequence[str] = PARTS,
    *,
    seconds: float | None = None,
    rounds: int | None = None,
) -> Plan:
    """The plan of a length.

    Args:
        length: how thorough.
        parts: some of `PARTS`.
        seconds: of a measurement, instead of the usual.
        rounds: instead of the usual.
    """
    short = length == "short"
    sizes = (64,) if short else (64, 1024)
    loads = {
        "post": [Load("post", *each) for each in product((10, 100) if short else (1, 10, 100), sizes)]
        + [Load("post", 100, apart=False)] * (not short),
        "receive": [
            Load("receive", *each) for each in (((1, 64), (100, 64), (100, 1024))[short : 2 if short else 3])
        ],
        "alone": [Load("alone", size=size) for size in sizes],
        "beside": [
            Load("beside", _PAIRS, live=live, commits=commits)
            for live, commits in product(("pingpong", "pipeline"), ("none", "fast", "slow"))
        ],
        "opening": [Load("opening", _WAITING // 10 if short else _WAITING)],
    }
    return Plan(
        tuple(load for part in PARTS if part in parts for load in loads[part]),
        rounds if rounds is not None else {"short": 1, "normal": 1, "long": 3}[length],
        seconds if seconds is not None else {"short": 0.6, "normal": 1.0, "long": 2.0}[length],
    )
