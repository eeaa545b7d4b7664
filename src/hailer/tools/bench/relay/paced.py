"""The open loop: messages leave when they are due, whatever became of those before.

In a closed loop a relay that stops for a moment is asked nothing meanwhile, and one long wait is all that is
seen of it ("coordinated omission"). Here every message has an instant at which it is due to leave, and its
latency counts from then: one that had to wait because the sender's buffer was full, or because the load
itself was late, is that much later. How late the load was is measured, too (`late_us`), and what it does to
the latencies can be seen in those of the floor.

The rates are shares of what this relay does in a closed loop, found out at the beginning: of its pingpong,
where nearly every message is a packet of its own, and of its pipeline, where many travel together; and some
that are the same for all.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.relay.meter import Meter, Outcome, curve_of, percentiles_of
from hailer.tools.bench.relay.party import (
    RECEIVE_SIZE,
    SEND_SIZE,
    Lane,
    LoadError,
    Party,
    hear,
    polling,
)
from hailer.tools.bench.relay.streams import RUN, assign, exchange, runs_a_second

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COMMON", "PARTS", "SHARES", "measure", "pace"]

SHARES: Final = (25, 50, 75, 90)
"""Percent of what the relay does in a closed loop."""
COMMON: Final = (10_000, 40_000)
"""Messages a second that are the same for all."""
PARTS: Final = (
    *(f"pingpong-{share}" for share in SHARES),
    *(f"pipeline-{share}" for share in SHARES),
    *(f"rate-{rate}" for rate in COMMON),
)
FEW: Final = 10
"""Pairs of the parts that are about a pipeline; the others have all."""
_TRIAL: Final = 0.3  # seconds of each closed loop at the beginning
_POINTS: Final = 16  # that stand for the latencies of all that one read brought
_UNHEARD: Final = 64  # messages after which a sender listens to their confirmations


def measure(party: Party, size: int, seconds: float, pid: int | None) -> list[Outcome]:
    """Find out what the relay can do, then measure each of `PARTS` for `seconds`."""
    few = Party(party.dialect, party.port, party.stall)
    few.senders, few.receivers = party.senders[:FEW], party.receivers[:FEW]
    assign(party, "pipeline", size)
    passages, took = exchange(party, _TRIAL)
    most = {
        "pingpong": len(passages) / took,
        "pipeline": runs_a_second(few, _TRIAL) * RUN * len(few.receivers),
    }
    outcomes, spin = [], has_core_of_its_own(pid)
    for part in PARTS:
        of, _, number = part.partition("-")
        rate = float(number) if of == "rate" else most[of] * float(number) / 100
        meter = Meter(pid)
        pacing = pace(few if of == "pipeline" else party, rate, seconds, spin=spin)
        figures = meter.read(pacing.delivered, pacing.took)
        # What was offered says nothing about the relay, unless it does not keep up with it.
        kept_up = figures.pop("messages_per_s") / rate
        curve = curve_of(spread(pacing.arrivals, pacing.interval))
        late = percentiles_of(curve_of(spread(pacing.departures, pacing.interval)))
        figures |= percentiles_of(curve)
        figures |= {"offered_per_s": round(rate, 1), "kept_up": round(kept_up, 4), "late_us": late["p99_us"]}
        outcomes.append(Outcome(figures, curve, part))
    return outcomes


@dataclass
class Pacing:
    """What was seen while messages left at a fixed rate.

    Attributes:
        delivered: how many.
        took: seconds from the first that was due until the last arrived.
        interval: seconds between two messages of one pair.
        arrivals: for what each read brought, how many seconds after it was due the first of it came, and how
            many messages it was.
        departures: the same for what left together.
    """

    delivered: int
    took: float
    interval: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    departures: list[tuple[float, int]] = field(default_factory=list)


class Path:
    """A pair, and how far its messages are."""

    __slots__ = ("arrived", "due", "gone", "got", "number", "receiver", "sender", "unheard")

    def __init__(self, sender: Lane, receiver: Lane, number: int, each: int) -> None:
        self.sender = sender
        self.receiver = receiver
        self.number = number  # its place among the pairs
        self.due = self.arrived = self.unheard = 0  # messages
        self.gone = self.got = 0  # bytes
        sender.left = each * (sender.period // RUN)
        receiver.left = each * (receiver.period // RUN)

    def push(self) -> bool:
        """Send of what is due what the socket takes; returns whether that was all."""
        lane = self.sender
        owed = self.due * (lane.period // RUN) - self.gone
        while owed:
            try:
                gone = lane.sock.send(lane.window[lane.place : lane.place + min(SEND_SIZE, owed)])
            except BlockingIOError:
                return False
            lane.place = (lane.place + gone) % lane.period
            lane.left -= gone
            self.gone += gone
            owed -= gone
        return True

    def pull(self, space: memoryview) -> int:
        """Read once and compare; returns how many messages that completed.

        Raises:
            LoadError: it was not what had to come.
        """
        lane = self.receiver
        size = lane.read_into(space)
        lane.check(space[:size])
        self.got += size
        return self.got // (lane.period // RUN) - self.arrived


def pace(party: Party, rate: float, seconds: float, *, spin: bool) -> Pacing:
    """Send messages when they are due, see all of them arrive, and how late.

    Args:
        party: pairs with runs of their own.
        rate: messages a second, of all pairs together, which take turns.
        seconds: how long messages are due.
        spin: look at the clock all the time instead of sleeping for a millisecond at least; only for a load
            that does not share its core with the relay.

    Raises:
        LoadError: something was lost, damaged or refused.
    """
    clock = time.perf_counter
    count = len(party.senders)
    each = max(1, round(rate * seconds / count))
    total, interval = each * count, count / rate
    pairs = zip(party.senders, party.receivers, strict=True)
    paths = [Path(sender, receiver, n, each) for n, (sender, receiver) in enumerate(pairs)]
    pacing = Pacing(total, 0.0, interval)
    ring = paths * 2
    by_fd = {path.receiver.sock.fileno(): path for path in paths}
    space = memoryview(bytearray(RECEIVE_SIZE))
    behind: list[Path] = []
    due = arrived = 0
    with polling(by_fd, select.EPOLLIN) as poller:
        start = active = clock()
        while arrived < total:
            now = clock()
            if behind:
                behind = [path for path in behind if not path.push()]
            now_due = min(total, int((now - start) * rate) + 1)
            if now_due > due:
                active = now
                # One message at least of each of these, in turn; all of them, and more of some.
                for path in ring[due % count : due % count + min(count, now_due - due)]:
                    before = path.due
                    path.due = (now_due - 1 - path.number) // count + 1
                    late = clock() - start - path.number / rate - before * interval
                    pacing.departures.append((late, path.due - before))
                    if path not in behind and not path.push():
                        behind.append(path)
                    if party.dialect.confirms:
                        path.unheard += path.due - before
                        if path.unheard >= _UNHEARD:
                            path.unheard = 0
                            listen(party, path.sender)
                due = now_due
            wait = 0.0 if spin or behind else min(party.stall, max(0.0, start + due / rate - clock()))
            events = poller.poll(wait if due < total or spin or behind else party.stall)
            for fd, _ in events:
                path = by_fd[fd]
                new = path.pull(space)
                if new:
                    now = clock()
                    late = now - start - path.number / rate - path.arrived * interval
                    pacing.arrivals.append((late, new))
                    path.arrived += new
                    arrived += new
                    active = now
            if now - active > party.stall:
                raise party.stalled()
        pacing.took = clock() - start
    for sender in party.senders:
        listen(party, sender)
    return pacing


def listen(party: Party, sender: Lane) -> None:
    """Take what a sender is told.

    Raises:
        LoadError: it is neither a confirmation nor a question for life.
    """
    with contextlib.suppress(BlockingIOError):
        told = hear(sender)
        if answer := party.dialect.reply(told):
            sender.sock.send(answer)
        elif not party.dialect.is_confirmation(told):
            raise LoadError(f"{sender.name} was told {told[:200]!r} while it was sending")


def spread(ramps: list[tuple[float, int]], interval: float) -> Iterator[tuple[float, float]]:
    """Latencies and how many messages each stands for.

    Args:
        ramps: how late the first of some messages of one pair was, and how many they are.
        interval: seconds by which each of them was due after the one before.
    """
    for late, count in ramps:
        points = min(count, _POINTS)
        for n in range(points):
            yield late - n * (count / points) * interval, count / points


def has_core_of_its_own(pid: int | None) -> bool:
    """Whether this process may run where the relay may not."""
    if pid is None or not hasattr(os, "sched_getaffinity"):
        return (os.cpu_count() or 1) > 1
    return bool(os.sched_getaffinity(0) - os.sched_getaffinity(pid))
