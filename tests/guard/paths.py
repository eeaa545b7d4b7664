"""The hot paths, each as a step that can be done again and again, and what runs them under callgrind.

    valgrind --tool=callgrind --dump-before=getppid … python tests/guard/paths.py

`hailer` and `tests` have to be importable. Callgrind begins a new count at each call of getppid(2), which
nothing else calls: one count for each path comes between two of them, in the order of `PATHS`. What the
paths cost in one build of Python and in another differs as `interpreter` and `passes` do, the units.
"""

from __future__ import annotations

import gc
import os
import socket
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from hailer.connection import Connection
from hailer.framing import LineFraming
from hailer.net.listener import Accepted
from hailer.relay import grammar
from hailer.relay.core.batch import Batch, Segment, Sender
from hailer.relay.core.limits import Limits
from hailer.relay.core.relay import Relay
from hailer.relay.core.session import Session
from hailer.relay.edge.loop import LoopEdge
from hailer.relay.store.memory import MemoryStore
from hailer.relay.store.sqlite import _Written
from hailer.runtime.ready import ReadyLoop
from hailer.runtime.ready_transport import ReadyTransport
from hailer.services.echo import echo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WARM_UP = 12
"""Steps that are not counted: the interpreter adapts its code to what passes through it."""

STEPS = 4
"""Steps that are counted."""


class Path(NamedTuple):
    """One hot path.

    Attributes:
        messages: that one step brings from end to end.
        step: does it.
        unit: what it is measured in, one of `UNITS`.
    """

    messages: int
    step: Callable[[], object]
    unit: str = "interpreter"


def text(size: int) -> bytes:
    """A message's text of so many bytes."""
    return (b"It was a bright cold day in April, " * (size // 30 + 1))[:size]


class Core:
    """A relay's core with an edge that takes all output at once, and a store in memory."""

    def __init__(self, receivers: int) -> None:
        ids = count(1)
        self.store = MemoryStore()
        self.relay = Relay(Limits(), new_id=lambda: b"id%d" % next(ids))
        self.relay.mail.load(self.store.load())
        self.sender = self.log_in(b"ann")
        self.names = [b"r%03d" % number for number in range(receivers)]
        self.receivers = [self.log_in(name) for name in self.names]

    def log_in(self, name: bytes, then: bytes = b"") -> Session:
        session = Session("peer", 0.0)
        self.relay.connect(session, 0.0)
        self.relay.receive(session, b"HELLO %s\nJOIN #all\n" % name + then, 0.0)
        self.drain()
        return session

    def drain(self) -> int:
        """Take what waits in all outboxes; gives the bytes of it."""
        relay, size = self.relay, 0
        for session in relay.dirty:
            size += len(b"".join(session.chunks))
            session.chunks.clear()
            if session.careful:
                relay.written(session, session.waiting, 0.0)
            session.waiting = 0
        relay.dirty.clear()
        relay.notices.clear()
        assert not [*relay.held, *relay.closing, *relay.aborted]
        return size

    def work(self) -> None:
        """Have the store do all that there is to do."""
        while work := self.relay.mail.next_work():
            self.relay.stored(work, work.run(self.store), None, 0.0)

    def path(self, block: bytes, messages: int, output: int) -> Path:
        """One read of `block`, after which so many bytes have to come out."""

        def step() -> None:
            self.relay.receive(self.sender, block, 0.0)
            size = self.drain()
            assert size == output, f"{size} bytes came out, and {output} were due"

        return Path(messages, step)

    def sends(self, names: list[bytes], body: bytes, *, counted: bool = False) -> Path:
        """One read of a SEND to each of these."""
        form = b"SEND %%s %d\n%s" % (len(body), body) if counted else b"SEND %%s :%s\n" % body
        block = b"".join([form % name for name in names])
        output = sum(len(b"MSG ann %s :%s\n" % (name, body)) for name in names)
        return self.path(block, len(names), output)


def interpreter() -> Path:
    """What Python costs here, without anything of ours: the unit of what does something for each message."""

    class Box:
        __slots__ = ("parts", "size")

        def __init__(self) -> None:
            self.parts: list[bytes] = []
            self.size = 0

        def put(self, data: bytes) -> None:
            self.parts.append(data)
            self.size += len(data)

    boxes = {b"name%d" % number: Box() for number in range(10)}
    block = b"".join([b"WORD name%d :%s\n" % (number % 10, text(64)) for number in range(200)])
    table = bytes.maketrans(b"\0\1", b"??")

    def step() -> None:
        assert block.translate(table) == block
        for line in block.split(b"\n")[:-1]:
            head, _, body = line.partition(b" :")
            word = head.split(b" ")[1]
            if line.startswith(b"WORD") and body:
                boxes[word].put(b"%s :%s\n" % (word, body))
        for box in boxes.values():
            b"".join(box.parts)
            box.parts.clear()

    return Path(200, step)


def passes() -> Path:
    """What passes over many bytes cost, in C: the unit of what does nothing for each message."""
    block = b"".join([b"WORD name :%s\n" % text(64)] * 800)
    table = bytes.maketrans(b"\0\1", b"??")

    def step() -> None:
        assert block.translate(table) == block
        assert block.isascii()
        assert block.count(b"\nWORD name :") == 799
        block.replace(b"\nWORD name :", b"\nPHRASE name :")

    return Path(800, step, "passes")


def parse() -> Path:
    """A line to a command that does nothing."""
    return Core(0).path(b"PONG token\n" * 200, 200, 0)


def route_one() -> Path:
    """A read with one message of 64 bytes, as in a conversation."""
    core = Core(1)
    read = core.sends(core.names, text(64))

    def step() -> None:
        for _ in range(100):
            read.step()

    return Path(100, step)


def route_block() -> Path:
    """A read full of messages to one receiver."""
    core = Core(1)
    return core.sends(core.names * 800, text(64))._replace(unit="passes")


def route_scatter() -> Path:
    """A read full of messages to a hundred receivers, eight to each."""
    core = Core(100)
    return core.sends(core.names * 8, text(64))


def route_room() -> Path:
    """A read full of messages to a room of a hundred and one, each delivery a message."""
    core = Core(100)
    body = text(64)
    return core.path(b"SEND #all :%s\n" % body * 100, 10_000, 10_000 * len(b"MSG ann #all :%s\n" % body))


def route_1_kib() -> Path:
    """A read full of messages of 1 KiB to one receiver."""
    core = Core(1)
    return core.sends(core.names * 60, text(1024))


def route_counted() -> Path:
    """A read full of messages as counted bytes, which nothing looks into but the relay's own check."""
    core = Core(1)
    return core.sends(core.names * 200, text(64), counted=True)


def make_text() -> Path:
    """Format an event with a text."""
    body = text(64)

    def step() -> None:
        for _ in range(200):
            grammar.message(b"MSG", (b"ann", b"bob"), body)

    return Path(200, step)


def make_counted() -> Path:
    """Format an event with bytes that no line can hold."""
    body = text(63) + b"\0"

    def step() -> None:
        for _ in range(200):
            grammar.message(b"MSG", (b"ann", b"bob"), body)

    return Path(200, step)


def post() -> Path:
    """Posts from the line to STORED, to the receiver's MAIL and its ACK, a hundred together."""
    core = Core(1)
    [receiver] = core.receivers
    reads = blocks(100)

    def step() -> None:
        core.relay.receive(core.sender, next(reads), 0.0)
        core.work()
        core.drain()
        assert receiver.box is not None
        core.relay.receive(receiver, b"ACK %d\n" % receiver.box.sent, 0.0)
        core.work()
        assert core.sender.poster is not None
        assert core.sender.poster.stored == receiver.box.floor == core.relay.counters.posted

    return Path(100, step)


def blocks(size: int) -> Iterator[bytes]:
    """Reads of so many POSTs each, one for each step."""
    body = text(64)
    rounds = range(1, (WARM_UP + STEPS) * size + 1, size)
    reads = [
        b"".join([b"POST %d r000 :%s\n" % (n, body) for n in range(start, start + size)]) for start in rounds
    ]
    return iter(reads)


def store() -> Path:
    """What a commit of posts to a hundred mailboxes, ten to each, is made into for SQLite."""
    data = b"".join([b"MAIL %d ann bob :%s\n" % (number, text(64)) for number in range(1, 11)])
    batch = Batch(
        segments=[Segment(box, 1, 10, 1000, data) for box in range(1, 101)],
        senders=[Sender(box, b"0123456789abcdef", 10, 1000) for box in range(1, 101)],
    )

    def step() -> None:
        assert _Written(batch, {}).posts is not None

    return Path(1000, step)


def edge() -> Path:
    """A message from one socket to another through the edge of the relay."""
    edge = LoopEdge(Limits(), "0")
    clients = []
    for name in (b"ann", b"bob"):
        ours, theirs = socket.socketpair()
        edge._accept(Accepted(theirs, "stream", "unix", ""))
        ours.settimeout(5.0)
        ours.sendall(b"HELLO %s\n" % name)
        edge._events()
        assert b"WELCOME" in ours.recv(65536)
        clients.append(ours)
    ann, bob = clients
    said, due = b"SEND bob :%s\n" % text(64), b"MSG ann bob :%s\n" % text(64)

    def step() -> None:
        for _ in range(50):
            ann.send(said)
            edge._events()
            assert bob.recv(65536) == due

    return Path(50, step)


def echo_path(lines: int) -> Path:
    """Lines from a socket and back, so many in one read, by the echo service under our own event loop."""
    loop = ReadyLoop("epoll")
    ours, theirs = socket.socketpair()
    connection = Connection(ReadyTransport(loop, theirs, "unix", ""), LineFraming())
    loop.spawn(echo(connection), lambda _error: None)
    said = (text(64) + b"\n") * lines
    ours.setblocking(False)
    left = 0

    def turn() -> bool:
        """After each turn of the loop: say the next lines if the last have come back."""
        nonlocal left
        try:
            assert ours.recv(65536) == said
        except BlockingIOError:
            return False
        left -= 1
        if left:
            ours.send(said)
        return not left

    def step() -> None:
        nonlocal left
        left = 50
        ours.send(said)
        loop.run(turn)

    return Path(50 * lines, step)


UNITS: dict[str, Callable[[], Path]] = {"interpreter": interpreter, "passes": passes}

PATHS: dict[str, Callable[[], Path]] = {
    "parse a line": parse,
    "route one message": route_one,
    "route a block to one": route_block,
    "route a block to 100": route_scatter,
    "route to a room of 100": route_room,
    "route a block of 1 KiB": route_1_kib,
    "route counted bytes": route_counted,
    "format a text": make_text,
    "format counted bytes": make_counted,
    "post, store, take": post,
    "encode a commit": store,
    "relay's edge": edge,
    "echo a line": partial(echo_path, 1),
    "echo 32 lines": partial(echo_path, 32),
}


def main() -> None:
    """Do all of them, under callgrind; says the name, the unit and the messages of each."""
    gc.disable()  # when it comes depends on what came before
    for name, make in {**UNITS, **PATHS}.items():
        path = make()
        print(name, path.unit, path.messages, sep="\t", flush=True)
        for _ in range(WARM_UP):
            path.step()
        os.getppid()
        for _ in range(STEPS):
            path.step()
        os.getppid()


if __name__ == "__main__":
    main()
