"""The relay on several cores: the core in this process, sockets also in workers.

Theory of operation. The core stays what it is, one and in one process, and so do all decisions of an edge.
What is spread over processes is what costs: reading and writing sockets, TLS and WebSocket, and taking apart
what senders to many names say. All connections are accepted here. A link whose socket was given to a worker
is a link like any other, with a `FarSocket` in the place of its socket: a write to it succeeds, until the
worker says that its socket took less.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, cast

from hailer.logs import log_event
from hailer.net.backoff import delays
from hailer.relay.core.groups import deliver_groups, unpack
from hailer.relay.core.session import BLOCK
from hailer.relay.edge import channel as c
from hailer.relay.edge.base import log
from hailer.relay.edge.far import FIRST_NUMBER, LEAST, FarSocket, WorkerProcess
from hailer.relay.edge.link import who
from hailer.relay.edge.loop import LoopEdge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hailer.net.listener import Accepted, Listener
    from hailer.relay.core.limits import Limits
    from hailer.relay.edge.link import Link
    from hailer.runtime.aio import Loop

_START = 10.0
"""Seconds that workers get to start before this process goes on without them."""

_GATHERING = 0.01
"""Seconds for which news of one worker are read before what came of them is written."""

_LAST_ORDERS = 2.0
"""Seconds that workers get to close what is left once all is over."""

_SETTLED = 10.0
"""Seconds after which the back-off of a worker that was lost begins anew."""


class WorkersEdge(LoopEdge):
    """All of the core in one thread, sockets in several processes.

    Args:
        limits: of the relay.
        version: of the software.
        loop: which event loop `serve` makes.
        processes: how many there are with this one, 2 at least.
    """

    def __init__(self, limits: Limits, version: str, loop: Loop, processes: int) -> None:
        super().__init__(limits, version, loop)
        self._processes = processes
        self._workers: list[WorkerProcess] = []
        self._number = FIRST_NUMBER
        self._turn = 0
        self._flushing = False
        self._delays: Iterator[float] = delays(0.1, most=5.0)
        self._last_start = 0.0

    async def serve_async(self, listeners: list[Listener], ready: Callable[[], None], drain: float) -> None:
        """See `LoopEdge.serve_async`."""
        loop = self._loop = asyncio.get_running_loop()
        try:
            for _ in range(self._processes - 1):
                self._start()
            # Nobody is accepted before, but peers can connect: the kernel has them wait.
            await self._until_up(loop.time() + _START)
            await super().serve_async(listeners, ready, drain)
        finally:
            for worker in self._workers:
                loop.remove_reader(worker.fileno())
                loop.remove_writer(worker.fileno())
            while self._workers:
                self._workers.pop().close(_LAST_ORDERS)

    async def _until_up(self, deadline: float) -> None:
        while not all(worker.up for worker in self._workers) and not self._stops:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _start(self) -> None:
        if self._loop is None or self._stops:
            return
        self._last_start = time.monotonic()
        try:
            worker = WorkerProcess(self.relay.limits.waiting, self._flush_soon)
        except OSError as error:  # the system gives no more processes, or descriptors
            log_event(log, logging.ERROR, "worker-lost", why=str(error), advice="it is tried again")
            self._loop.call_later(next(self._delays), self._start)
            return
        worker.set_gate(self.gate)
        self._workers.append(worker)
        self._loop.add_reader(worker.fileno(), self._news, worker)

    def _lose(self, worker: WorkerProcess) -> None:
        """A worker has ended, which none does: its connections are gone, and another one is started."""
        assert self._loop is not None
        self._loop.remove_reader(worker.fileno())
        self._loop.remove_writer(worker.fileno())
        self._workers.remove(worker)
        worker.broken = True
        links = list(worker.links.values())
        status = worker.close(0.1)
        log_event(
            log, logging.ERROR, "worker-lost", pid=worker.process.pid, status=status, connections=len(links)
        )
        for link in links:
            self._drop(link, "its worker ended")
        self._settle()
        if time.monotonic() - self._last_start > _SETTLED:
            self._delays = delays(0.1, most=5.0)
        self._loop.call_later(next(self._delays), self._start)

    # who has which connection

    def _accept(self, accepted: Accepted) -> float:
        accepted.socket.setblocking(False)
        link = self._adopt(accepted.socket, accepted.scheme, accepted.address)
        if link is not None:
            # With two processes this one keeps half of them; with more it has enough to do.
            self._turn += 1
            if not link.closing and (self._processes > 2 or self._turn % 2):
                self._give_away(link, accepted.scheme)
            self._update(link)
        self._settle()
        return 0.0

    def _give_away(self, link: Link, scheme: str) -> None:
        """Have the worker that has the fewest links take one of this process, if that is possible."""
        up = [worker for worker in self._workers if worker.up and not worker.broken]
        if not up:
            return
        worker = min(up, key=lambda worker: len(worker.links))
        worker.set_gate(self.gate)
        if not worker.adopt(self._number, link.sock, scheme):
            return
        number, self._number = self._number, self._number + 1
        if link.interest:
            self._poller.set(link.fd, link.interest, 0)
            link.interest = 0
        del self.links[link.fd]
        link.sock.close()
        if link.layers is not None:
            link.layers.close()
            link.layers = None
        link.sock = FarSocket(number, link, worker)  # type: ignore[assignment]  # all that an edge wants of one
        link.fd = number
        self.links[number] = worker.links[number] = link

    def _read(self, link: Link, now: float) -> None:
        super()._read(link, now)
        # Who sends that much to many names is taken apart in a worker.
        if not (link.block > BLOCK and link.bulk) or self.links.get(link.fd) is not link:
            return
        if not (link.chunks or link.careful or link.layers or link.closing):
            self._give_away(link, "tcp")
            self._update(link)

    def _write(self, link: Link) -> None:
        """See `Edge._write`; nobody says that a far socket takes more, so it is given all that it takes."""
        super()._write(link)
        if link.fd >= FIRST_NUMBER:
            while link.chunks and _far(link).room >= LEAST and self.links.get(link.fd) is link:
                super()._write(link)

    def _update(self, link: Link) -> None:
        """See `Edge._update`."""
        if link.fd < FIRST_NUMBER:
            super()._update(link)
            return
        reads = int(self._reads(link))
        if reads != link.interest:
            link.interest = reads
            _far(link).worker.order(link.fd, c.READ if reads else c.HOLD)

    def _discard(self, link: Link) -> None:
        """See `Edge._discard`."""
        if link.fd >= FIRST_NUMBER:
            link.interest = 0
        super()._discard(link)

    # what is said to workers

    def _flush_soon(self) -> None:
        if not self._flushing and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        loop = self._loop
        for worker in self._workers:
            worker.flush()
            # What is left goes when there is room: a worker that has a part of a batch has no news to tell.
            waits = worker.channel.backlog > 0
            if waits != worker.waits and loop is not None:
                worker.waits = waits
                if waits:
                    loop.add_writer(worker.fileno(), self._flush)
                else:
                    loop.remove_writer(worker.fileno())

    def _look_round(self) -> None:
        """See `Edge._look_round`."""
        super()._look_round()
        for worker in self._workers:
            worker.set_gate(self.gate)
            worker.look()

    # what workers say

    def _news(self, worker: WorkerProcess) -> None:
        relay = self.relay
        write_by = time.monotonic() + _GATHERING
        try:
            # as in `LoopEdge._events`: what more has come is read before what came of it is written
            while True:
                for links, sizes, data in worker.channel.receive():
                    self._take_news(worker, links.tolist(), sizes.tolist(), data)
                if relay.held or relay.closing or relay.mail.stirred or time.monotonic() >= write_by:
                    break
        except BlockingIOError:
            pass
        except (EOFError, ConnectionError):
            self._lose(worker)
        self._settle()
        if self._store_thread is None:
            return  # nobody is served yet
        if self.relay.mail.stirred:
            self._give_work()
        self._flush()
        if self.relay.deadline < self._timer_at:
            self._set_timer()

    def _take_news(self, worker: WorkerProcess, links: list[int], sizes: list[int], data: memoryview) -> None:
        now = time.monotonic()
        start = end = what = 0
        link: Link | None = None
        for number, size in zip(links, sizes, strict=True):
            if size >= c.ORDERS:
                what, link = size, worker.links.get(number)
                continue
            start, end = end, end + size
            if not what:
                link = worker.links.get(number)
            if link is not None:
                try:
                    if what:
                        self._take_one(link, what, number, data[start:end], now)
                    elif not link.closing:
                        self._hear(link, bytes(data[start:end]), now)
                    if self.relay.held or self.relay.closing or not (what == c.GROUPED or link.block > BLOCK):
                        self._settle()
                except Exception as error:
                    self._fault(link, error)
                    self._settle()
            elif what == c.UP:
                worker.looks = 0
                if not worker.up:
                    worker.up = True
                    self._changed.set()
            elif what == c.TROUBLE:
                advice = "connections of one worker keep to what was before: mend it and reload again"
                log_event(
                    log, logging.ERROR, "certificate", error=bytes(data[start:end]).decode(), advice=advice
                )
            what = 0

    def _hear(self, link: Link, data: bytes, now: float) -> None:
        self.relay.receive(link, data, now)
        if link.block > BLOCK and link.online:
            far = _far(link)
            if len(far.heads) != len(link.routes):
                far.worker.teach(link, far)

    def _take_one(self, link: Link, what: int, number: int, data: memoryview, now: float) -> None:
        far = _far(link)
        if what == c.GROUPED:
            groups, block = unpack(data)
            if number == far.generation and deliver_groups(self.relay, link, far.routes, groups, now):
                return
            far.worker.unlearn(far)
            if not link.closing:
                self._hear(link, bytes(block), now)
        elif what in (c.BLOCKED, c.TOOK, c.DRAINED):
            self._written(link, far, what, number, now)
        elif what == c.LOST:
            why = bytes(data).decode("utf-8", "replace")
            if number == c.MUTE:
                self.relay.counters.cut_other += 1
            elif number == c.FAULT:
                log_event(log, logging.ERROR, "fault", **who(link), error=why, trace="in a worker")
                why = "a fault in hailer"
            self._drop(link, why)
        elif what == c.ENDED:
            self._ended(link, now)
            if number and not (link.closing or link.backlog):
                self.relay.close(link, b"end of input")
        elif what == c.OPENED:
            link.certified = bytes(data)
            self.relay.connect(link, now)
        elif what == c.PARTIAL:
            if number and not (link.partial or link.input):
                link.input_since = now
            link.partial = bool(number)
        elif what == c.FAILED:
            self._failed(link, number, bytes(data).decode("utf-8", "replace"), now)

    def _written(self, link: Link, far: FarSocket, what: int, place: int, now: float) -> None:
        """Take note of what a far socket took, and write on.

        While it is stuck, all that it was given and did not take counts as waiting, in front of the chunks.
        """
        left, before = far.waits(place), far.given - far.taken
        far.taken = far.given - left
        if far.stuck:
            if what == c.DRAINED:
                far.stuck = False
                self.relay.written(link, before, now)
            else:
                self.relay.written(link, before - left, now)
        elif what == c.BLOCKED:
            far.stuck = True
            link.waiting += left
            link.live += max(0, left - far.mail)
            self.relay.written(link, 0, now)
        if link.chunks and not far.stuck:
            self._write(link)
        self._update(link)

    def _failed(self, link: Link, how: int, why: str, now: float) -> None:
        """End a connection whose layers did not come to be, or broke; as `LayeredEdge` does."""
        if how & c.OVER and how & c.WAS_OPEN:
            self._drop(link, why)
            return
        if link.closing:
            return
        log_event(log, logging.INFO, "cut", **who(link), why=why)
        self.relay.counters.cut_other += 1
        if how & c.SPEAKS:
            self.relay.close(link, b"what came was no WebSocket message that a relay takes")
            return
        link.ended = bool(how & c.OVER)
        self.relay.give_up(link, now)
        link.chunks.clear()
        link.waiting = 0
        self._finish(link)


def _far(link: Link) -> FarSocket:
    return cast("FarSocket", link.sock)
