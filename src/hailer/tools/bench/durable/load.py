"""The durable load: senders that keep so many messages in flight and count what is acknowledged as stored.

    python -m hailer.tools.bench.durable.load DIALECT PORT [--senders N] [--window N]
        [--every S] [--size BYTES] [--seconds S] [--pid PID] [--receive]

prints one JSON object. Each sender keeps `--window` messages unacknowledged all the time; with a window of
1, or with `--every` (seconds from one window to the next), there is one sender, and what it waits is
measured. With `--receive` each mailbox has a receiver, and what reaches it counts. After the last
acknowledgement the mailboxes are asked what they hold, where the store tells that: it has to be what was
acknowledged.
"""

from __future__ import annotations

import argparse
import select
import time
from dataclasses import dataclass, field
from typing import Final

from hailer.tools.bench.durable.dialects import DURABLE, DurableDialect
from hailer.tools.bench.durable.party import Receiver, Sender
from hailer.tools.bench.relay.load import tell
from hailer.tools.bench.relay.meter import Meter, Outcome, curve_of, percentiles_of
from hailer.tools.bench.relay.party import LoadError, converse

__all__ = ["measure"]

BOXES: Final = 10
"""Mailboxes at most; senders share them."""


@dataclass
class Span:
    """The time whose messages count: all of it, without its beginning and its end."""

    seconds: float
    pid: int | None
    least: int  # a slow store may answer in lumps: so many have to come before, and so many within
    meter: Meter | None = None
    begin: float = field(default_factory=time.perf_counter)
    total: int = 0
    figures: dict[str, float] = field(default_factory=dict)

    def look(self, total: int) -> None:
        """Begin or end when it is time."""
        now = time.perf_counter()
        if self.meter is None:
            if now >= self.begin + self.seconds / 4 and total >= self.least:
                self.meter, self.begin, self.total = Meter(self.pid), now, total
        elif not self.figures and now >= self.begin + self.seconds and total >= self.total + self.least:
            self.figures = self.meter.read(total - self.total, now - self.begin)


def flood(senders: list[Sender], receivers: list[Receiver], window: int, span: Span, stall: float) -> None:
    """Keep a window of each sender in flight until the time is over, then wait for what is missing.

    What counts is what is acknowledged as stored, or with receivers what they have.
    """
    talkers: list[Sender | Receiver] = [*senders, *receivers]
    by_fd = {each.sock.fileno(): each for each in talkers}
    stored = taken = 0
    posted = span.least
    with select.epoll() as poller:

        def say(fd: int, talker: Sender | Receiver, data: bytes | memoryview) -> None:
            if not talker.say(data):
                poller.modify(fd, select.EPOLLIN | select.EPOLLOUT)

        for fd, each in by_fd.items():
            poller.register(fd, select.EPOLLIN)
            say(fd, each, each.post(window) if isinstance(each, Sender) else each.taker.begin)
        while not span.figures or stored < posted or (receivers and taken < stored):
            events = poller.poll(stall)
            if not events:
                raise LoadError(
                    f"nothing for {stall:g} s: of {posted} messages {stored} were stored and {taken} taken"
                )
            span.look(taken if receivers else stored)
            for fd, event in events:
                each = by_fd[fd]
                if event & select.EPOLLOUT and each.flush():
                    poller.modify(fd, select.EPOLLIN)
                if not event & ~select.EPOLLOUT:
                    continue
                if isinstance(each, Receiver):
                    count, answer = each.hear()
                    taken += count
                    say(fd, each, answer)
                    continue
                count = each.hear()
                stored += count
                if count and not span.figures:
                    posted += count
                    say(fd, each, each.post(count))


def one_by_one(
    sender: Sender, window: int, every: float, seconds: float, stall: float, pid: int | None
) -> Outcome:
    """Send a window, wait until it is stored, then the next; not before `every` seconds are over."""
    waits: list[float] = []
    clock = time.perf_counter
    sender.sock.settimeout(stall)
    meter, begin = None, clock()
    end = begin + 1.25 * seconds
    while (start := clock()) < end:
        if meter is None and start - begin >= seconds / 4:
            meter, begin = Meter(pid), start
            waits.clear()
        sender.sock.sendall(sender.post(window))
        missing = window
        while missing:
            try:
                missing -= sender.hear()
            except TimeoutError:
                raise LoadError(f"no acknowledgement for {stall:g} s, {missing} are missing") from None
        now = clock()
        waits.append(now - start)
        if now - start < every:
            time.sleep(every - (now - start))
    assert meter is not None
    figures = meter.read(len(waits) * window, clock() - begin)
    # Its rate says nothing that its latencies do not.
    del figures["messages_per_s"]
    curve = curve_of((wait, 1) for wait in waits)
    return Outcome(figures | percentiles_of(curve), curve)


def measure(
    dialect: DurableDialect,
    port: int,
    *,
    senders: int,
    window: int = 100,
    size: int = 64,
    every: float = 0.0,
    receive: bool = False,
    seconds: float = 2.0,
    pid: int | None = None,
    stall: float = 60.0,
) -> Outcome:
    """Put one durable load on the store at a port of loopback and say what it did.

    Args:
        dialect: what the store speaks.
        port: where it listens, on 127.0.0.1.
        senders: connections; they share up to `BOXES` mailboxes.
        window: messages in flight of each.
        size: bytes of each message's text.
        every: seconds from the start of one window to that of the next, for one sender; 0: none waits.
        receive: whether a receiver for each mailbox takes what comes; what has reached them is what counts.
        seconds: how long to measure, after a quarter of that which does not count.
        pid: the store's process, for its processor time; None leaves it out.
        stall: seconds without an acknowledgement after which the store has failed.

    Returns:
        Among its figures `stored_per_s`, or with receivers `messages_per_s`; where each window is waited for,
        latencies instead.

    Raises:
        LoadError: the store refused something, stopped, or holds something else than it acknowledged.
    """
    boxes = [f"r{n:02d}" for n in range(min(senders, BOXES))]
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    posters: list[Sender] = []
    takers: list[Receiver] = []
    try:
        for box in boxes:
            converse(port, box, dialect.create(box))[0].close()
        if receive:
            takers += (Receiver(dialect, port, box, body) for box in boxes)
        for n in range(senders):
            poster = Sender(dialect, port, f"s{n:03d}", boxes[n % len(boxes)], body, window)
            posters.append(poster)
        if every or (senders == 1 and window == 1):
            outcome = one_by_one(posters[0], window, every, seconds, stall, pid)
        else:
            span = Span(seconds, pid, senders * window)
            flood(posters, takers, window, span, stall)
            outcome = Outcome(span.figures)
            if not receive:
                outcome.figures["stored_per_s"] = outcome.figures.pop("messages_per_s")
        check(dialect, port, boxes, posters, takers)
    except OSError as error:
        raise LoadError(f"the store, or a connection to it, is gone: {error}") from None
    finally:
        for talker in (*posters, *takers):
            talker.sock.close()
    return outcome


def check(
    dialect: DurableDialect, port: int, boxes: list[str], senders: list[Sender], receivers: list[Receiver]
) -> None:
    """What was acknowledged has to be in the mailboxes, or with their receivers.

    Raises:
        LoadError: it is not.
    """
    taken = {receiver.name: receiver.taken for receiver in receivers}
    for box in boxes:
        stored = sum(sender.stored for sender in senders if sender.box == box)
        if receivers:
            held = taken[box]
        elif steps := dialect.held(box):
            sock, answer = converse(port, box, steps)
            sock.close()
            held = int(answer)
        else:
            continue
        if held != stored:
            raise LoadError(f"{stored} messages to {box} were acknowledged, and it holds {held}")


def main() -> None:
    """Measure once, as told on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hailer.tools.bench.durable.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dialect", choices=DURABLE)
    parser.add_argument("port", type=int)
    parser.add_argument("--senders", type=int, default=1, help="connections that send (default 1)")
    parser.add_argument("--window", type=int, default=100, help="messages in flight of each (default 100)")
    parser.add_argument(
        "--every", type=float, default=0.0, help="seconds from a window to the next (default 0)"
    )
    parser.add_argument("--receive", action="store_true", help="with a receiver for each mailbox")
    parser.add_argument("--size", type=int, default=64, help="bytes of text in a message (default 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure (default 2)")
    parser.add_argument("--pid", type=int, help="the store's process: adds its processor time")
    options = parser.parse_args()
    if not 1 <= options.senders <= 999 or not 1 <= options.window <= 10_000 or options.size < 1:
        parser.error("--senders is 1 to 999, --window 1 to 10000, --size at least 1")
    if options.every and (options.senders > 1 or options.receive):
        parser.error("--every is for one sender without receivers")
    tell(
        lambda: [
            measure(
                DURABLE[options.dialect],
                options.port,
                senders=options.senders,
                window=options.window,
                size=options.size,
                every=options.every,
                receive=options.receive,
                seconds=options.seconds,
                pid=options.pid,
            )
        ]
    )


if __name__ == "__main__":
    main()
