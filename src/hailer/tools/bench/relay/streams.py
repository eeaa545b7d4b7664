"""The loads whose next message leaves as soon as it can: streams, and messages that wait for another."""

from __future__ import annotations

import contextlib
import random
import select
import time
from typing import Final

from hailer.tools.bench.relay.meter import Meter, Outcome, curve_of, percentiles_of
from hailer.tools.bench.relay.party import (
    RECEIVE_SIZE,
    SEND_SIZE,
    Lane,
    LoadError,
    Party,
    hear,
    make_window,
    polling,
)

__all__ = [
    "RUN",
    "TRIES",
    "assign",
    "exchange",
    "measure_passages",
    "measure_stream",
    "runs_a_second",
    "stream",
]

RUN: Final = 16
"""Messages after which a stream repeats itself."""
TRIES: Final = 3
"""Of a measurement that turns out too short because its trial was held up."""


def make_bodies(size: int) -> list[bytes]:
    """`RUN` numbered bodies of `size` bytes, printable and without a line's end."""
    return [(b"%02d" % n).ljust(size, b"abcdefghijklmnop"[n : n + 1])[:size] for n in range(RUN)]


def stream(party: Party, runs: int) -> float:
    """Pass `runs` runs over every lane and see all of it arrive; returns the seconds that it took."""
    dialect = party.dialect
    for lane in party.everybody():
        lane.left = runs * lane.period
    receivers = {lane.sock.fileno(): lane for lane in party.receivers}
    senders = {lane.sock.fileno(): lane for lane in party.senders}
    space = memoryview(bytearray(RECEIVE_SIZE))
    unfinished = len(receivers)
    with polling(receivers, select.EPOLLIN) as poller:
        for fd in senders:
            poller.register(fd, select.EPOLLIN | select.EPOLLOUT)
        start = time.perf_counter()
        while unfinished:
            events = poller.poll(party.stall)
            if not events:
                raise party.stalled()
            for fd, event in events:
                if fd in receivers:
                    lane = receivers[fd]
                    lane.check(space[: lane.read_into(space)])
                    if not lane.left:
                        unfinished -= 1
                    continue
                lane = senders[fd]
                if event & ~select.EPOLLOUT:
                    told = hear(lane)
                    if answer := dialect.reply(told):
                        lane.sock.send(answer)
                    elif not dialect.is_confirmation(told):
                        raise LoadError(f"{lane.name} was told {told[:200]!r} while it was sending")
                elif event & select.EPOLLOUT:
                    place = lane.place
                    gone = lane.sock.send(lane.window[place : place + min(SEND_SIZE, lane.left)])
                    lane.place = (place + gone) % lane.period
                    lane.left -= gone
                    if not lane.left:
                        poller.modify(fd, select.EPOLLIN)
        return time.perf_counter() - start


def exchange(party: Party, seconds: float) -> tuple[list[float], float]:
    """Keep one message of each pair in flight for `seconds`; returns each passage's time and the whole."""
    dialect = party.dialect
    pairs = {}
    for sender, receiver in zip(party.senders, party.receivers, strict=True):
        bodies = range(RUN)
        out, back = sender.period // RUN, receiver.period // RUN
        said = [bytes(sender.window[n * out : (n + 1) * out]) for n in bodies]
        due = [bytes(receiver.window[n * back : (n + 1) * back]) for n in bodies]
        pairs[receiver.sock.fileno()] = Pair(sender, receiver, said, due)
    passages: list[float] = []
    clock = time.perf_counter
    with polling(pairs, select.EPOLLIN) as poller:
        start = clock()
        end, in_flight = start + seconds, len(pairs)
        for pair in pairs.values():
            pair.left_at = clock()
            pair.sender.sock.send(pair.said[0])
        while in_flight:
            events = poller.poll(party.stall)
            if not events:
                raise party.stalled()
            for fd, _ in events:
                pair = pairs[fd]
                data = pair.partial + hear(pair.receiver)
                turn = pair.turn
                if data != pair.due[turn]:
                    if not pair.due[turn].startswith(data):
                        raise LoadError(
                            f"the relay garbled, lost or reordered a message to {pair.receiver.name}: "
                            f"it sent {data[:100]!r} where {pair.due[turn][:100]!r} was due"
                        )
                    pair.partial = data
                    continue
                now = clock()
                passages.append(now - pair.left_at)
                pair.partial = b""
                pair.turn = turn = (turn + 1) % RUN
                if not turn and dialect.confirms:
                    with contextlib.suppress(BlockingIOError):
                        hear(pair.sender)
                if now < end:
                    pair.left_at = now
                    pair.sender.sock.send(pair.said[turn])
                else:
                    in_flight -= 1
                    pair.receiver.left = 0
        return passages, clock() - start


class Pair:
    """A sender and its receiver, with one message between them."""

    __slots__ = ("due", "left_at", "partial", "receiver", "said", "sender", "turn")

    def __init__(self, sender: Lane, receiver: Lane, said: list[bytes], due: list[bytes]) -> None:
        self.sender = sender
        self.receiver = receiver
        self.said = said
        self.due = due
        self.turn = 0
        self.partial = b""
        self.left_at = 0.0
        receiver.left = len(due[0])


def assign(party: Party, load: str, size: int) -> int:
    """Give every lane its run; returns the messages that one run of all lanes delivers."""
    dialect, bodies = party.dialect, make_bodies(size)
    first = party.senders[0]
    if load == "fanout":
        heard = b"".join(dialect.received(first.name, dialect.room, body) for body in bodies)
        shared = make_window(heard)
        for receiver in party.receivers:
            receiver.carry(heard, shared)
        first.carry(b"".join(dialect.sent(dialect.room, body) for body in bodies))
    else:
        senders = party.senders if len(party.senders) > 1 else party.senders * len(party.receivers)
        for sender, receiver in zip(senders, party.receivers, strict=True):
            receiver.carry(b"".join(dialect.received(sender.name, receiver.name, body) for body in bodies))
            sender.carry(b"".join(dialect.sent(receiver.name, body) for body in bodies))
    if load == "scatter":
        # One deck for all: a receiver gets its bodies in order, but when is chance (the same each time).
        deck = [receiver.name for receiver in party.receivers for _ in bodies]
        random.Random(20).shuffle(deck)  # noqa: S311 (nothing is secret here)
        left = {receiver.name: iter(bodies) for receiver in party.receivers}
        first.carry(b"".join(dialect.sent(name, next(left[name])) for name in deck))
    return RUN * len(party.receivers)


def measure_stream(party: Party, load: str, size: int, seconds: float, pid: int | None) -> Outcome:
    """Find out how fast the relay is, then measure for about `seconds`."""
    per_run = assign(party, load, size)
    runs = max(1, round(runs_a_second(party, seconds / 8) * seconds))
    for _ in range(TRIES):
        meter = Meter(pid)
        took = stream(party, runs)
        figures = meter.read(runs * per_run, took)
        if took >= seconds / 2:
            break
        runs = round(runs * min(100.0, seconds / took))  # something held the trial up
    return Outcome(figures | {"bytes_per_s": round(figures["messages_per_s"] * size)})


def measure_passages(party: Party, size: int, seconds: float, pid: int | None) -> Outcome:
    """Warm up, then measure for `seconds`."""
    assign(party, "pingpong", size)
    exchange(party, seconds / 8)
    meter = Meter(pid)
    passages, took = exchange(party, seconds)
    figures = meter.read(len(passages), took)
    curve = curve_of((passage, 1) for passage in passages)
    return Outcome(figures | percentiles_of(curve), curve)


def runs_a_second(party: Party, seconds: float) -> float:
    """How many runs the relay passes in a second, from a trial of at least `seconds`."""
    runs = 1
    while (took := stream(party, runs)) < seconds:
        runs *= 4
    return runs / took
