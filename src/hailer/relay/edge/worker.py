"""A worker: a process that reads and writes some of the relay's sockets, and knows nothing of what is said.

The relay's process starts it with two socket pairs: one for batches of orders and of news (`channel`), one on
which the sockets of clients come. `hailer.relay.edge.far` is the other side. It ends when that side does.

What a socket does not take waits here, and is told of: the relay's process then gives this link no more until
it is written. TLS and WebSocket are done here whole; what goes between the processes is plain.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from hailer.endpoint import from_sockaddr
from hailer.errors import HailerError
from hailer.net.options import unanswered
from hailer.relay.core.groups import Balance, Told, group, pack
from hailer.relay.edge import channel as c
from hailer.relay.edge.allocator import keep_memory
from hailer.relay.edge.gate import make_gate
from hailer.relay.edge.link import LAYERED, Gate, encode_piece, remove
from hailer.relay.edge.poller import READ, WRITE, make_poller

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.core.session import Chunk
    from hailer.relay.edge.layers import Layers

_READ = 65536
_BULK = 1 << 20
_SPACE = 1 << 20

_MOST_BACKLOG = 2 << 20
"""Bytes that wait for the relay's process before no client is read any more."""

_MOST_WIRE = 1 << 20
"""Wire bytes that wait for a client before it is not read: who has us answer pings and does not read."""

SCHEME = 8
"""Bytes that come with a socket: the kind of its endpoint, filled up with spaces."""

_LAST_WORDS = 1.0
"""Seconds in which what clients were to get is still written when the relay's process has ended."""

_LOOK = 5.0
_UNANSWERED = 60.0
"""Seconds between two looks at who leaves bytes unacknowledged, and after which the peer counts as gone."""


class _Client:
    """A connection.

    Attributes:
        number: what both sides call it.
        taken: bytes that its socket took; those of its layers are counted as what they were made of.
        told: of these the relay's process knows.
        rest: what the socket did not take yet, in front of which is `wire`, made of `encoded` bytes.
        blocked: the relay's process knows that something waits.
        finishing: the goodbye is to follow what waits.
        ending: it is to be closed then; the relay's process knows it no more.
        reads: it is to be read.
        split: the last read ended within a line.
        wire_waits: at the last look only what its layers say of their own waited.
        routes: by which its lines are grouped.
    """

    __slots__ = (
        "blocked",
        "bulk",
        "encoded",
        "ending",
        "fd",
        "finishing",
        "generation",
        "heard",
        "interest",
        "layers",
        "mute_since",
        "number",
        "partial",
        "reads",
        "rest",
        "routes",
        "send",
        "sock",
        "split",
        "taken",
        "told",
        "wire",
        "wire_waits",
    )

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.sock = sock
        self.fd = sock.fileno()
        self.send = sock.send
        self.taken = self.told = 0
        self.rest: list[Chunk] = []
        self.wire: Chunk = b""
        self.encoded = 0
        self.blocked = False
        self.interest = 0
        self.reads = self.bulk = self.split = self.heard = False
        self.finishing = self.ending = self.wire_waits = False
        self.mute_since = 0.0
        self.routes: dict[bytes, Told] = {}
        self.generation = 0
        self.layers: Layers | None = None
        self.partial = False


class Worker:
    """All of it: one loop over the channel and the clients.

    Args:
        stream: for the batches.
        handover: for the sockets.
        every: bytes that a link's socket took after which that is told.
    """

    def __init__(self, stream: socket.socket, handover: socket.socket, every: int) -> None:
        self._channel = c.Channel(stream, _SPACE)
        self._handover = handover
        self._every = every
        self._fd = stream.fileno()
        self._clients: dict[int, _Client] = {}
        self._by_fd: dict[int, _Client] = {}
        self._poller = make_poller()
        self._poller.set(self._fd, 0, READ)
        self._waits = False
        self._gate = Gate()
        self._next_look = time.monotonic() + _LOOK
        self._balance = Balance(c.PLACE)

    def run(self) -> None:
        """Serve until the relay's process ends."""
        self._channel.put_with(0, c.UP)
        self._channel.flush()
        try:
            while True:
                self._round()
        except (EOFError, ConnectionError):
            self._last_words()

    def _last_words(self) -> None:
        """Write what clients that are ending were still to get, for a moment."""
        for client in list(self._clients.values()):
            if not client.ending:
                self._forget(client)
        self._poller.set(self._fd, READ | WRITE if self._waits else READ, 0)
        deadline = time.monotonic() + _LAST_WORDS
        while self._clients and time.monotonic() < deadline:
            for fd, _ in self._poller.poll(_LAST_WORDS / 10):
                self._write(self._by_fd[fd])

    def _round(self) -> None:
        channel, poller = self._channel, self._poller
        if channel.backlog > _MOST_BACKLOG:
            # Orders are taken even now, or both processes could wait for each other.
            if channel.wait(both=True):
                self._take_orders()
            channel.flush()
            return
        for fd, event in poller.poll(_LOOK):
            if fd == self._fd:
                if event & READ:
                    self._take_orders()
                continue
            client = self._by_fd.get(fd)
            if client is None:
                continue
            if event & WRITE:
                self._guarded(self._write, client.number, client)
            if event & READ and self._by_fd.get(fd) is client:
                self._guarded(self._read, client.number, client)
        waits = not channel.flush()
        if waits != self._waits:
            self._waits = waits
            both = READ | WRITE
            poller.set(self._fd, READ if waits else both, both if waits else READ)
        if time.monotonic() >= self._next_look:
            self._look_round()

    def _guarded(self, do: Callable[..., object], number: int, *arguments: object) -> None:
        """Do something about a client; a fault of ours costs it its connection, and nobody else anything."""
        try:
            do(*arguments)
        except Exception as error:
            client = self._clients.get(number)
            if client is not None:
                self._lost(client, repr(error), c.FAULT)

    # what the relay's process wants

    def _take_orders(self) -> None:
        try:
            for links, sizes, data in self._channel.receive():
                self._carry_out(links.tolist(), sizes.tolist(), data)
        except (BlockingIOError, InterruptedError):
            pass

    def _carry_out(self, links: list[int], sizes: list[int], data: memoryview) -> None:
        clients = self._clients
        start = end = what = 0
        client: _Client | None = None
        for number, size in zip(links, sizes, strict=True):
            if what:
                start, end = end, end + size
                if what == c.GATE:
                    self._take_gate(bytes(data[start:end]))
                elif client is not None:
                    _take_routes(client, number, bytes(data[start:end]))
                what = 0
                continue
            if size >= c.ORDERS:
                if size != c.SAME:
                    if size in (c.GATE, c.ROUTES):
                        what, client = size, clients.get(number)
                    else:
                        self._guarded(self._order, number, number, size)
                    continue
            else:
                start, end = end, end + size
            client = clients.get(number)
            if client is None:
                continue
            if client.blocked or client.layers is not None:
                client.rest.append(bytes(data[start:end]))
                if not client.blocked:
                    self._guarded(self._write, number, client)
                continue
            try:
                took = client.send(data[start:end])
            except (BlockingIOError, InterruptedError):
                took = 0
            except OSError as error:
                self._lost(client, error.strerror or "lost")
                continue
            client.taken += took
            if took < end - start:
                client.rest.append(bytes(data[start + took : end]))
                self._tell(client)
            elif client.taken - client.told >= self._every:
                self._tell(client)

    def _order(self, number: int, what: int) -> None:
        if what == c.ADOPT:
            self._adopt(number)
            return
        if what == c.LOAD:
            self._balance.compare(time.thread_time_ns() // 1000, number)
            return
        if what == c.ASK:
            self._channel.put_with(0, c.UP)
            return
        client = self._clients.get(number)
        if client is None:
            return
        if what == c.CLOSE:
            self._forget(client)
        elif what == c.END:
            client.finishing = client.ending = True
            client.heard = True  # and until the look after the next it has time
            client.reads = False
            self._update(client)
            self._finish(client)
        elif what == c.FINISH:
            client.finishing = True
            self._finish(client)
        else:
            client.reads = what == c.READ
            self._update(client)

    def _adopt(self, number: int) -> None:
        scheme, descriptors, _, _ = socket.recv_fds(self._handover, SCHEME, 1)
        if not descriptors:
            self._channel.put_with(number, c.LOST, 0, b"a worker may open no more files")
            return
        sock = socket.socket(fileno=descriptors[0])
        sock.setblocking(False)
        client = _Client(number, sock)
        self._clients[number] = self._by_fd[client.fd] = client
        kind = scheme.decode().strip()
        if kind in LAYERED:
            from hailer.relay.edge.layers import Layers  # noqa: PLC0415 (for those who use it: some MiB)

            try:
                local = from_sockaddr(kind, sock.getsockname())
                client.layers = Layers(local, from_sockaddr(kind, sock.getpeername()), self._gate)
            except OSError as error:
                self._lost(client, error.strerror or "lost")

    def _take_gate(self, data: bytes) -> None:
        try:
            self._gate = make_gate(data)
        except (HailerError, OSError) as error:
            self._channel.put_with(0, c.TROUBLE, 0, str(error).encode())

    # writing

    def _write(self, client: _Client) -> None:
        """Write what waits for a client, as much of it as its socket takes, and tell of it."""
        try:
            if client.layers is None:
                while client.rest:
                    took = client.sock.sendmsg(client.rest[:64])
                    client.taken += took
                    remove(client.rest, took)
            else:
                self._write_layers(client, client.layers)
        except (BlockingIOError, InterruptedError):
            pass
        except (OSError, HailerError) as error:
            self._lost(client, getattr(error, "strerror", None) or str(error))
            return
        self._tell(client)
        if client.finishing:
            self._finish(client)

    def _write_layers(self, client: _Client, layers: Layers) -> None:
        while True:
            while client.wire:
                took = client.send(client.wire)
                client.wire = memoryview(client.wire)[took:] if took < len(client.wire) else b""
            client.taken += client.encoded
            client.encoded = 0
            if not client.rest:
                return
            if not layers.opened:
                raise ConnectionAbortedError(errno.ECONNABORTED, "nothing can be said to it")
            client.wire, client.encoded = encode_piece(client.rest, layers)

    def _put_wire(self, client: _Client, raw: bytes) -> None:
        """Have wire bytes of the layers' own written, behind those that wait already."""
        client.wire = b"".join((client.wire, raw))
        if not client.blocked:
            self._write(client)

    def _tell(self, client: _Client) -> None:
        """Tell what its socket took, and whether something waits."""
        waits = bool(client.rest or client.wire)
        if waits != client.blocked:
            client.blocked = waits
            what = c.BLOCKED if waits else c.DRAINED
        elif client.taken - client.told >= (self._every if not waits else 1):
            what = c.TOOK
        else:
            return
        client.told = client.taken
        self._channel.put_with(client.number, what, client.taken & c.PLACE)
        self._update(client)

    def _finish(self, client: _Client) -> None:
        if client.blocked:
            return  # it comes here again when all is written
        if client.layers is not None and client.layers.opened:
            self._put_wire(client, client.layers.finish())
            return
        if client.ending:
            self._forget(client)
            return
        try:
            client.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lost(client, error.strerror or "lost")

    def _lost(self, client: _Client, why: str, how: int = c.GONE) -> None:
        self._channel.put_with(client.number, c.LOST, how, why.encode())
        self._forget(client)

    def _forget(self, client: _Client) -> None:
        if self._clients.get(client.number) is not client:
            return
        if client.interest:
            self._poller.set(client.fd, client.interest, 0)
        if client.layers is not None:
            client.layers.close()
        del self._clients[client.number]
        del self._by_fd[client.fd]
        client.sock.close()

    def _update(self, client: _Client) -> None:
        reads = client.reads and len(client.wire) < _MOST_WIRE
        interest = (READ if reads else 0) | (WRITE if client.blocked else 0)
        if interest != client.interest and self._clients.get(client.number) is client:
            self._poller.set(client.fd, client.interest, interest)
            client.interest = interest

    def _look_round(self) -> None:
        """Give up on peers whose systems have not acknowledged for long what they were sent; see `Edge`."""
        now = time.monotonic()
        self._next_look = now + _LOOK
        for client in list(self._clients.values()):
            waited, client.wire_waits = (
                client.wire_waits,
                client.blocked and not (client.rest or client.encoded),
            )
            if waited and client.wire_waits:  # the relay's process minds only what is its own
                self._lost(client, "it does not read the answers to what it asks for", c.MUTE)
                continue
            heard, client.heard = client.heard, False
            if heard:
                continue
            if client.ending:
                self._forget(client)
                continue
            try:
                state = unanswered(client.sock)
            except OSError:
                continue  # it has gone, and reading says so
            if state is None or state.silence < now - client.mute_since:
                client.mute_since = 0.0 if state is None else now
            elif now - client.mute_since >= _UNANSWERED:
                why = f"it did not acknowledge what it was sent for {_UNANSWERED:g} seconds"
                self._lost(client, why, c.MUTE)

    # reading

    def _read(self, client: _Client) -> None:
        try:
            if client.bulk:
                # who writes to many is read as much as can be; what goes to few is to stay in the cache
                data = client.sock.recv(_BULK if client.routes else 2 * _READ)
                client.bulk = len(data) >= _READ
            else:
                data = client.sock.recv(_READ)
                client.bulk = len(data) == _READ
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(client, error.strerror or "lost")
            return
        client.heard = True
        if client.layers is not None and not client.finishing:
            self._feed(client, client.layers, data)
        elif not data:
            self._ended(client, both=False)
        else:
            self._pass_on(client, data)

    def _ended(self, client: _Client, *, both: bool) -> None:
        client.reads = False
        self._update(client)
        self._channel.put_with(client.number, c.ENDED, int(both))

    def _feed(self, client: _Client, layers: Layers, raw: bytes) -> None:
        channel, number = self._channel, client.number
        agreeing = not layers.opened
        data = layers.feed(raw)
        if answer := layers.output():
            self._put_wire(client, answer)
            if self._clients.get(number) is not client:
                return
        if agreeing and layers.opened:
            channel.put_with(number, c.OPENED, 0, layers.certified)
        if data:
            self._pass_on(client, data)
        if layers.partial != client.partial:
            client.partial = layers.partial
            channel.put_with(number, c.PARTIAL, int(client.partial))
        if layers.failure is not None:
            how = (
                (0 if raw else c.OVER)
                | (c.SPEAKS if layers.speaks else 0)
                | (c.WAS_OPEN if layers.opened else 0)
            )
            client.reads = bool(raw)
            self._update(client)
            channel.put_with(number, c.FAILED, how, str(layers.failure).encode())
        elif layers.ended:
            self._ended(client, both=layers.ends_both)

    def _pass_on(self, client: _Client, data: bytes) -> None:
        """Pass on what a client said, in groups if that is for this process to do."""
        channel, number = self._channel, client.number
        split, client.split = client.split, not data.endswith(b"\n")
        if client.routes and client.bulk and self._balance.is_turn():
            # The end of a line that began in the last read goes as it is, and so does one's beginning.
            begin = data.find(b"\n") + 1 if split else 0
            end = data.rfind(b"\n") + 1
            block = data[begin:end]
            groups = group(block, client.routes) if end > begin else None
            if groups is not None:
                if begin:
                    channel.put_bytes(number, data[:begin])
                channel.put_with(number, c.GROUPED, client.generation, *pack(groups, block))
                if end < len(data):
                    channel.put_bytes(number, data[end:])
                channel.flush()
                return
        channel.put_bytes(number, data)
        if client.bulk:
            channel.flush()


def _take_routes(client: _Client, generation: int, data: bytes) -> None:
    if generation != client.generation:
        client.routes = {}
        client.generation = generation
    fields = data.split(b"\n")
    for head, prefix in zip(fields[::2], fields[1::2], strict=True):
        client.routes[head] = Told(len(client.routes), prefix)


def main() -> None:
    """Run as a worker; the arguments are the descriptors of its two sockets, and `Worker`'s `every`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(
            number, signal.SIG_IGN
        )  # they come to all in a terminal; the relay's process says what to do
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        pass  # macOS refuses more than its kernel's limit
    logging.getLogger("hailer").addHandler(
        logging.NullHandler()
    )  # the relay's process says what there is to say
    keep_memory()
    stream, handover = (socket.socket(fileno=int(argument)) for argument in sys.argv[1:3])
    worker = Worker(stream, handover, int(sys.argv[3]))
    gc.freeze()
    worker.run()
    os._exit(0)  # nothing is left to be said to anybody


if __name__ == "__main__":
    main()
