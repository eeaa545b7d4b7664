"""A load for message relays that costs the same whatever it talks to.

Every message is made before the clock starts, goes out over plain sockets and is compared, byte for byte,
with what must come back: numbered messages in runs of 16 that repeat, so that the comparison is one `memcmp`
for each read, and a message that is lost, doubled, out of order or damaged ends the measurement.

    python -m bench.load LOAD DIALECT PORT [--count N] [--size BYTES] [--seconds S] [--pid PID]

prints one JSON object. The loads, each with `count` receivers:

    pipeline   as many senders, each streaming to its own receiver as fast as the relay takes it
    scatter    one sender; its messages go to the receivers in a shuffled order
    fanout     one sender; every message goes to all receivers, by a room
    pingpong   as many senders; the next message leaves when the last one has arrived
    idle       logged-in connections that say nothing: the relay's memory for each
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import resource
import select
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bench.dialects import DIALECTS, Dialect
from bench.party import RECEIVE_SIZE, SEND_SIZE, Lane, LoadError, Party, hear, make_window, polling

__all__ = ["LOADS", "Figures", "LoadError", "measure", "raise_descriptor_limit"]

LOADS = ("pipeline", "scatter", "fanout", "pingpong", "idle")
RUN = 16  # messages after which a stream repeats itself

Figures = dict[str, str | int | float]


def raise_descriptor_limit() -> int:
    """Raise the limit of open files to the most that is allowed; what is started later inherits it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


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
                    try:
                        size = lane.sock.recv_into(space)
                    except ConnectionError:
                        size = 0
                    if not size:
                        raise LoadError(
                            f"the relay closed the connection of {lane.name} with {lane.left} bytes to come"
                        )
                    lane.check(space[:size])
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
        random.Random(20).shuffle(deck)
        left = {receiver.name: iter(bodies) for receiver in party.receivers}
        first.carry(b"".join(dialect.sent(name, next(left[name])) for name in deck))
    return RUN * len(party.receivers)


@dataclass(frozen=True)
class Usage:
    """What a process has used: seconds of processor time, KiB of memory."""

    user: float
    system: float
    resident: int

    @classmethod
    def of(cls, pid: int | None) -> Usage:
        if pid is None:
            return cls(0.0, 0.0, 0)
        # proc(5): utime and stime are fields 14 and 15; the second field ends at the last parenthesis.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return cls(int(fields[11]) / tick, int(fields[12]) / tick, int(fields[21]) * page // 1024)


class Meter:
    """What the relay and the load use from now on."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self.relay = Usage.of(pid)
        self.load = time.process_time()

    def read(self, delivered: int, took: float) -> Figures:
        """The figures of a load that delivered so many messages in so many seconds."""
        load = time.process_time() - self.load
        figures: Figures = {
            "delivered": delivered,
            "seconds": round(took, 3),
            "messages_per_s": round(delivered / took),
            "load_busy": round(load / took, 2),
        }
        if self.pid is not None:
            now = Usage.of(self.pid)
            user, system = now.user - self.relay.user, now.system - self.relay.system
            figures |= {
                "cpu_us": round((user + system) / delivered * 1e6, 4),
                "cpu_user_us": round(user / delivered * 1e6, 4),
                "cpu_system_us": round(system / delivered * 1e6, 4),
                "relay_busy": round((user + system) / took, 2),
            }
        return figures


def measure(
    load: str,
    dialect: Dialect,
    port: int,
    *,
    count: int,
    size: int = 64,
    seconds: float = 2.0,
    pid: int | None = None,
    stall: float = 10.0,
) -> Figures:
    """Put one load on the relay at a port of loopback and say what it did.

    Args:
        load: one of `LOADS`.
        dialect: what the relay speaks.
        port: where it listens, on 127.0.0.1.
        count: receivers, or for idle connections.
        size: bytes of each message's text, 2 at least.
        seconds: about how long to measure; the number of messages is chosen for it in a trial first.
        pid: the relay's process, for its processor time and memory; None leaves them out.
        stall: seconds without a byte after which the relay has failed.

    Returns:
        Figures by name: `messages_per_s`, `cpu_us` (microseconds a delivered message), `p50_us`, `p99_us`,
        `kib_per_connection`, `load_busy` (the share of a core that the load itself used) and so on.

    Raises:
        LoadError: the relay refused, lost, doubled, reordered or damaged something, or stopped.
    """
    party = Party(dialect, port, stall)
    figures: Figures = {"load": load, "count": count, "size": size}
    try:
        empty = Usage.of(pid)
        start = time.perf_counter()
        for n in range(count):
            name = f"r{n:05d}"
            party.receivers.append(party.log_in(name, dialect.room if load == "fanout" else name))
        took = time.perf_counter() - start
        hears = dialect.room if load == "fanout" and dialect.sender_joins else None
        for n in range({"pipeline": count, "pingpong": count, "idle": 0}.get(load, 1)):
            party.senders.append(party.log_in(f"s{n:05d}", hears))
        party.settle()
        if load == "idle":
            figures["logins_per_s"] = round(count / took)
            if pid is not None:
                figures["kib_per_connection"] = round((Usage.of(pid).resident - empty.resident) / count, 2)
        elif load == "pingpong":
            figures |= measure_passages(party, size, seconds, pid)
        else:
            figures |= measure_stream(party, load, size, seconds, pid)
        party.expect_silence()
    except OSError as error:
        raise LoadError(f"the relay, or a connection to it, is gone: {error}") from None
    finally:
        party.close()
    return figures


def measure_stream(party: Party, load: str, size: int, seconds: float, pid: int | None) -> Figures:
    """Find out how fast the relay is, then measure for about `seconds`."""
    per_run = assign(party, load, size)
    runs = 1
    while (took := stream(party, runs)) < seconds / 8:
        runs *= 4
    runs = max(1, round(runs * seconds / took))
    meter = Meter(pid)
    took = stream(party, runs)
    return meter.read(runs * per_run, took)


def measure_passages(party: Party, size: int, seconds: float, pid: int | None) -> Figures:
    """Warm up, then measure for `seconds`."""
    assign(party, "pingpong", size)
    exchange(party, seconds / 8)
    meter = Meter(pid)
    passages, took = exchange(party, seconds)
    figures = meter.read(len(passages), took)
    passages.sort()
    for percent in (50, 99):
        figures[f"p{percent}_us"] = round(passages[len(passages) * percent // 100] * 1e6)
    return figures


def main() -> None:
    """Measure once, as told on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("dialect", choices=DIALECTS)
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=10, help="receivers (default 10)")
    parser.add_argument("--size", type=int, default=64, help="bytes of text in a message (default 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long to measure (default 2)")
    parser.add_argument("--pid", type=int, help="the relay's process: adds its processor time and memory")
    options = parser.parse_args()
    if options.count < 1 or options.count > 99_999 or options.size < 2 or options.seconds <= 0:
        parser.error("--count is 1 to 99999, --size at least 2, --seconds more than 0")
    if not hasattr(select, "epoll"):
        sys.exit("the load waits with epoll, which only Linux has: run it there")
    raise_descriptor_limit()
    gc.disable()  # a collection in the middle would be taken for the relay's delay
    try:
        figures = measure(
            options.load,
            DIALECTS[options.dialect],
            options.port,
            count=options.count,
            size=options.size,
            seconds=options.seconds,
            pid=options.pid,
        )
    except LoadError as error:
        sys.exit(f"{options.load}: {error}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
