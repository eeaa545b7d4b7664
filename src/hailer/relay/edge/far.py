"""The relay's side of a worker: its process, and what stands in the place of the sockets that it has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hailer
from hailer.relay.edge import channel as c
from hailer.relay.edge.gate import pack_gate
from hailer.relay.edge.worker import SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.core.session import Chunk, Route
    from hailer.relay.edge.link import Gate, Link

FIRST_NUMBER = 1 << 24
"""The numbers of far links begin here: above all descriptors, for an edge finds both in one table."""

_SPACE = 1 << 20

_BATCH = 256 << 10
"""Bytes of a batch that are sent at once: the worker begins while this process makes the next."""

_MOST_BACKLOG = 2 << 20
"""Bytes that wait for a worker before this process waits for it."""

_STUCK = 10.0
_STUCK_LOOKS = 5
"""Seconds without an answer until a worker counts as stuck and is killed, and how often this process has to
have looked meanwhile: if all were stopped and went on, no worker is."""

_WINDOW = 1 << 20
"""Bytes of one link that are on their way to its socket, at most: then the worker is to tell first that it
took some. Never more than `Limits.waiting`, so that what turns out to wait is no more than a full outbox."""

LEAST = 16
"""Bytes for which there is to be room before a part of something is given."""

_LOAD_EVERY = 0.02
"""Seconds between two times that a worker is told how much this process works."""

_KERNEL = 1 << 20
"""Bytes that the system is asked to hold between the two processes, each way."""


class FarSocket:
    """The socket of a link that a worker has: what an edge does with a socket, put into batches.

    Attributes:
        number: what both sides call the link.
        worker: who has it.
        given: bytes that the worker was given for it.
        taken: of these its socket took so many, as far as this side was told.
        stuck: its socket took no more, and what was given and not taken is counted as waiting.
        mail: how many of the last bytes that were given are mail (see `Session.live`).
        routes: those that the worker groups its lines by, in the order of their numbers.
        heads: their lines' heads.
        generation: of these routes; groups by others are not taken.
    """

    __slots__ = (
        "generation",
        "given",
        "heads",
        "link",
        "mail",
        "number",
        "routes",
        "stuck",
        "taken",
        "worker",
    )

    family = -1  # of no kind that the system could be asked about

    def __init__(self, number: int, link: Link, worker: WorkerProcess) -> None:
        self.number = number
        self.link: Link | None = link
        self.worker = worker
        self.given = self.taken = self.mail = 0
        self.stuck = False
        self.heads: dict[bytes, None] = {}  # a set would take four times as much
        self.routes: list[Route] = []
        self.generation = 0

    @property
    def room(self) -> int:
        """Bytes that it takes now."""
        return 0 if self.stuck else self.worker.window - self.given + self.taken

    def send(self, data: Chunk, _flags: int = 0) -> int:
        """Give the worker bytes to write; gives how many it takes.

        Raises:
            BlockingIOError: its socket takes no more for now, or so much is on its way that nobody knows.
        """
        size, link, room = len(data), self.link, self.room
        if room < LEAST:
            raise BlockingIOError
        if size > room:
            end = room
            while end > max(0, room - 4) and data[end] & 0xC0 == 0x80:  # not within a character
                end -= 1
            data, size = memoryview(data)[:end], end
        if link is None or not link.careful:
            self.mail = 0
        elif link.live:
            self.mail = max(0, size - link.live)
        else:
            self.mail += size
        self.given += size
        self.worker.give(self.number, data)
        return size

    def sendmsg(self, chunks: list[Chunk], _ancillary: object = (), _flags: int = 0) -> int:
        """See `send`."""
        return self.send(b"".join(chunks))

    def shutdown(self, _how: int) -> None:
        """Have the sending side end once all is written."""
        self.worker.order(self.number, c.FINISH)

    def close(self) -> None:
        """Have it closed: now, or if all was said that was to be, once the worker has written that."""
        link, self.link = self.link, None
        if self.worker.links.pop(self.number, None) is not None:
            self.worker.order(self.number, c.END if link is not None and link.finished else c.CLOSE)

    def waits(self, place: int) -> int:
        """Bytes that were given beyond a place that the worker named."""
        return (self.given - place) & c.PLACE


class WorkerProcess:
    """A worker.

    Args:
        waiting: bytes that may wait for one link.
        soon: called with each first entry of a batch; `flush` is to be called soon after.

    Attributes:
        channel: what it is told and tells.
        links: those that it has.
        window: bytes of one link that may be on their way.
        up: it takes sockets.
        looks: how often it was looked at since it was asked whether it is there, and has not answered.
        broken: it does not take orders any more.
        waits: something is left that its socket did not take; the edge writes on as soon as it does.
    """

    def __init__(self, waiting: int, soon: Callable[[], None]) -> None:
        self.window = min(_WINDOW, waiting)
        ours, theirs = socket.socketpair()
        self._handover, handover = socket.socketpair()
        with theirs, handover:
            for sock in (ours, theirs):
                for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                    sock.setsockopt(socket.SOL_SOCKET, option, _KERNEL)  # the system gives less if it wants
            self._handover.setblocking(False)
            numbers = (theirs.fileno(), handover.fileno())
            path = os.pathsep.join(
                filter(None, (str(Path(hailer.__file__).parents[1]), os.environ.get("PYTHONPATH")))
            )
            self.process = subprocess.Popen(  # noqa: S603 (it is ourselves)
                [
                    sys.executable,
                    "-m",
                    "hailer.relay.edge.worker",
                    *map(str, numbers),
                    str(max(1, self.window // 4)),
                ],
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C in a terminal is for the relay's process, which ends it
                env=os.environ | {"PYTHONPATH": path},
            )
        self.channel = c.Channel(ours, _SPACE)
        self.links: dict[int, Link] = {}
        self.up = self.broken = self.waits = False
        self.looks = 0
        self._asked = time.monotonic()
        self._soon = soon
        self._last: Chunk | None = None
        self._gate: Gate | None = None
        self._next_load = 0.0

    def fileno(self) -> int:
        """The descriptor of the channel."""
        return self.channel.sock.fileno()

    def adopt(self, number: int, sock: socket.socket, scheme: str) -> bool:
        """Give it a socket; False if that is not possible now."""
        try:
            socket.send_fds(self._handover, [scheme.ljust(SCHEME).encode()], [sock.fileno()])
        except OSError:  # too many are on their way
            return False
        self.order(number, c.ADOPT)
        return True

    def order(self, number: int, what: int) -> None:
        """Say something without bytes."""
        channel = self.channel
        if not channel.links:
            self._soon()
        channel.put(number, what)

    def _tell(self, number: int, what: int, value: int, data: bytes) -> None:
        self.order(number, what)
        self.channel.put_bytes(value, data)
        self._last = None  # these are no bytes that another link could want, too

    def give(self, number: int, data: Chunk) -> None:
        """Give it bytes to write."""
        channel = self.channel
        if not channel.links:
            self._soon()
        if data is self._last:  # a room's message
            channel.put(number, c.SAME)
            return
        self._last = data
        channel.links.append(number)
        channel.sizes.append(len(data))
        channel.parts.append(data)
        channel.size += len(data)
        if channel.size >= _BATCH:
            self.flush()

    def teach(self, link: Link, far: FarSocket) -> None:
        """Tell it of the routes that a link has, for it to group the lines of its sender."""
        if len(far.heads) > len(link.routes):
            self.unlearn(far)
        fields: list[bytes] = []
        targets = {route.target for route in far.routes}
        for head, route in link.routes.items():
            # One head for each receiver: else the order of what it gets could change.
            if head not in far.heads:
                far.heads[head] = None
                if route.target not in targets:
                    targets.add(route.target)
                    far.routes.append(route)
                    fields += (head, route.prefix)
        if fields:
            self._tell(far.number, c.ROUTES, far.generation, b"\n".join(fields))

    @staticmethod
    def unlearn(far: FarSocket) -> None:
        """Begin anew with the routes of a link."""
        far.generation += 1
        far.routes = []
        far.heads = {}

    def set_gate(self, gate: Gate | None) -> None:
        """Have it make new connections' layers by this, if it does not yet."""
        if gate is None or gate is self._gate:
            return
        self._gate = gate
        self._tell(0, c.GATE, 0, pack_gate(gate))

    def look(self) -> None:
        """Ask it whether it is there; kill it if it has not answered for long."""
        now = time.monotonic()
        if not self.looks:
            self._asked = now
            self.order(0, c.ASK)
        elif self.looks >= _STUCK_LOOKS and now - self._asked > _STUCK:
            self._kill()
        self.looks += 1

    def _kill(self) -> None:
        self.process.kill()
        self.broken = True  # reading from it tells the rest

    def flush(self) -> None:
        """Send it what there is; wait for it if too much is left."""
        channel = self.channel
        self._last = None
        if self.broken:
            channel.drop()
            return
        now = time.monotonic()
        if now >= self._next_load and channel.links:
            self._next_load = now + _LOAD_EVERY
            channel.put((time.thread_time_ns() // 1000) & c.PLACE, c.LOAD)
        try:
            if channel.flush() or channel.backlog < _MOST_BACKLOG:
                return
            # It takes orders whatever else there is, so this ends; no peer is at fault, so none is held.
            while not channel.flush() and channel.backlog > _MOST_BACKLOG // 2:
                if not channel.wait(_STUCK):
                    self._kill()
                    return
        except OSError:
            self._kill()

    def close(self, seconds: float) -> int:
        """End it; gives its exit status."""
        deadline = time.monotonic() + seconds
        try:
            while not (self.broken or self.channel.flush()):
                if not self.channel.wait(max(0.0, deadline - time.monotonic())):
                    break
        except OSError:
            pass
        self.channel.sock.close()
        self._handover.close()
        try:
            return self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
