"""The durable load: senders that keep so many messages in flight, and count what is acknowledged as stored.

    python -m bench.durable_load DIALECT PORT [--senders N] [--window N] [--every S] [--size BYTES]

prints one JSON object. Each sender keeps `--window` messages unacknowledged all the time; with a window of
1, or with `--every` (seconds from one window to the next), there is one sender, and what it waits is
measured. After the last acknowledgement the mailboxes are asked what they hold, where the store tells that:
it has to be what was acknowledged.
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import socket
import sys
import time
from typing import TYPE_CHECKING

from bench.durable_dialects import DURABLE, DurableDialect, Refused
from bench.load import Figures, Meter, raise_descriptor_limit
from bench.party import LoadError

if TYPE_CHECKING:
    from bench.dialects import Step

__all__ = ["measure"]

LOGIN_TIMEOUT = 20.0  # seconds for one answer
READ_SIZE = 256 * 1024
BOXES = 10  # mailboxes at most; senders share them


class Sender:
    """One connection, what goes out on it and what has come back."""

    def __init__(
        self, dialect: DurableDialect, port: int, name: str, box: str, body: bytes, window: int
    ) -> None:
        self.name, self.box = name, box
        self.sock = converse(port, dialect.login(name))[0]
        self.posts, self.acks = dialect.posts(name, box, body, window), dialect.acks(window)
        self.posted = self.stored = 0
        self.rest = memoryview(b"")

    def post(self, count: int) -> bool:
        """Send so many messages more; returns whether all has left."""
        self.posted += count
        data = self.posts.take(count)
        if self.rest:
            self.rest = memoryview(bytes(self.rest) + data)
            return self.flush()
        try:
            gone = self.sock.send(data)
        except BlockingIOError:
            gone = 0
        self.rest = memoryview(data)[gone:]
        return not self.rest

    def flush(self) -> bool:
        try:
            self.rest = self.rest[self.sock.send(self.rest) :]
        except BlockingIOError:
            pass
        return not self.rest

    def hear(self) -> int:
        """Read once; returns how many messages more are stored.

        Raises:
            LoadError: something was refused, or the connection closed.
        """
        try:
            data = self.sock.recv(READ_SIZE)
            count = self.acks.count(data)
        except (ConnectionError, Refused) as error:
            raise LoadError(f"{self.name} posted {self.posted}, {self.stored} were stored: {error}") from None
        if not data:
            raise LoadError(
                f"{self.name} posted {self.posted}, {self.stored} were stored, and it was cut off"
            )
        self.stored += count
        if self.stored > self.posted:
            raise LoadError(f"{self.name} posted {self.posted}, and heard that {self.stored} were stored")
        return count


def converse(port: int, steps: list[Step]) -> tuple[socket.socket, bytes]:
    """Connect, say every step and wait for its answer; returns the connection and the last answer's group.

    Raises:
        LoadError: it refused or did not answer.
    """
    heard, group = b"", b""
    sock = socket.create_connection(("127.0.0.1", port), timeout=LOGIN_TIMEOUT)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for step in steps:
            heard = b""
            sock.sendall(step.say)
            while not (answer := step.answer.search(heard)):
                data = sock.recv(65536)
                if not data:
                    raise ConnectionError("it closed the connection")
                heard += data
            group = answer.group(1) if answer.re.groups else b""
    except OSError as error:
        sock.close()
        raise LoadError(f"no login: {error}; the last that was heard is {heard[-300:]!r}") from None
    sock.setblocking(False)
    return sock, group


def flood(senders: list[Sender], window: int, seconds: float, stall: float, pid: int | None) -> Figures:
    """Keep a window of each sender in flight; what is acknowledged in the middle of that time counts."""
    by_fd = {sender.sock.fileno(): sender for sender in senders}
    total, meter, figures = 0, None, Figures()
    in_flight = len(senders) * window
    with select.epoll() as poller:
        for fd, sender in by_fd.items():
            poller.register(fd, select.EPOLLIN if sender.post(window) else select.EPOLLIN | select.EPOLLOUT)
        begin, begin_total = time.perf_counter() + seconds / 4, 0
        while in_flight:
            events = poller.poll(stall)
            if not events:
                raise LoadError(f"no acknowledgement for {stall:g} s, {in_flight} are missing")
            now = time.perf_counter()
            # A slow store may answer in lumps: all that is in flight has to come once before, and once again.
            if meter is None and now >= begin and total >= in_flight:
                meter, begin, begin_total = Meter(pid), now, total
            elif (
                meter is not None
                and not figures
                and now >= begin + seconds
                and total >= begin_total + in_flight
            ):
                figures = meter.read(total - begin_total, now - begin)
            for fd, event in events:
                sender = by_fd[fd]
                if event & select.EPOLLOUT and sender.flush():
                    poller.modify(fd, select.EPOLLIN)
                if not event & ~select.EPOLLOUT:
                    continue
                count = sender.hear()
                total += count
                if figures:
                    in_flight -= count
                elif count and not sender.post(count):
                    poller.modify(fd, select.EPOLLIN | select.EPOLLOUT)
    return figures


def one_by_one(
    sender: Sender, window: int, every: float, seconds: float, stall: float, pid: int | None
) -> Figures:
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
        sender.post(window)
        while sender.rest:
            sender.flush()
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
    waits.sort()
    for percent in (50, 99):
        figures[f"p{percent}_us"] = round(waits[len(waits) * percent // 100] * 1e6)
    return figures


def measure(
    dialect: DurableDialect,
    port: int,
    *,
    senders: int,
    window: int = 100,
    size: int = 64,
    every: float = 0.0,
    seconds: float = 2.0,
    pid: int | None = None,
    stall: float = 60.0,
) -> Figures:
    """Put one durable load on the store at a port of loopback and say what it did.

    Args:
        dialect: what the store speaks.
        port: where it listens, on 127.0.0.1.
        senders: connections; they share up to `BOXES` mailboxes.
        window: messages in flight of each.
        size: bytes of each message's text.
        every: seconds from the start of one window to that of the next, for one sender; 0: none waits.
        seconds: how long to measure, after a quarter of that which does not count.
        pid: the store's process, for its processor time; None leaves it out.
        stall: seconds without an acknowledgement after which the store has failed.

    Returns:
        Figures by name: `messages_per_s`, `cpu_us`, `load_busy`; `p50_us` and `p99_us` where each window is
        waited for.

    Raises:
        LoadError: the store refused something, stopped, or holds something else than it acknowledged.
    """
    boxes = [f"r{n:02d}" for n in range(min(senders, BOXES))]
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    figures: Figures = {"senders": senders, "window": window, "size": size}
    posters: list[Sender] = []
    try:
        for box in boxes:
            converse(port, dialect.create(box))[0].close()
        for n in range(senders):
            poster = Sender(dialect, port, f"s{n:03d}", boxes[n % len(boxes)], body, window)
            posters.append(poster)
        if every or (senders == 1 and window == 1):
            figures |= one_by_one(posters[0], window, every, seconds, stall, pid)
        else:
            figures |= flood(posters, window, seconds, stall, pid)
        for box in boxes:
            if steps := dialect.held(box):
                sock, held = converse(port, steps)
                sock.close()
                stored = sum(poster.stored for poster in posters if poster.box == box)
                if int(held) != stored:
                    raise LoadError(f"{stored} messages to {box} were acknowledged, and it holds {int(held)}")
    except OSError as error:
        raise LoadError(f"the store, or a connection to it, is gone: {error}") from None
    finally:
        for poster in posters:
            poster.sock.close()
    return figures


def main() -> None:
    """Measure once, as told on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.durable_load",
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
    parser.add_argument("--size", type=int, default=64, help="bytes of text in a message (default 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure (default 2)")
    parser.add_argument("--pid", type=int, help="the store's process: adds its processor time")
    options = parser.parse_args()
    if not 1 <= options.senders <= 999 or not 1 <= options.window <= 10_000 or options.size < 1:
        parser.error("--senders is 1 to 999, --window 1 to 10000, --size at least 1")
    if options.every and options.senders > 1:
        parser.error("--every is for one sender")
    if not hasattr(select, "epoll"):
        sys.exit("the load waits with epoll, which only Linux has: run it there")
    raise_descriptor_limit()
    gc.disable()  # a collection in the middle would be taken for the store's delay
    try:
        figures = measure(
            DURABLE[options.dialect],
            options.port,
            senders=options.senders,
            window=options.window,
            size=options.size,
            every=options.every,
            seconds=options.seconds,
            pid=options.pid,
        )
    except LoadError as error:
        sys.exit(f"{options.dialect}: {error}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
