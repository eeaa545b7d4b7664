"""The relay on an event loop: one thread, asyncio or uvloop."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from hailer.relay.core.session import BLOCK
from hailer.relay.edge.allocator import keep_memory
from hailer.relay.edge.layered import LayeredEdge
from hailer.relay.edge.poller import READ, WRITE, make_poller
from hailer.runtime.acceptor import LoopAcceptor
from hailer.runtime.aio import Loop, loop_factory

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.errors import HailerError, StoreError
    from hailer.net.listener import Accepted, Listener
    from hailer.relay.core.accounts import Accounts
    from hailer.relay.core.limits import Limits
    from hailer.relay.core.work import Work
    from hailer.relay.edge.link import Link

_TURN = 10.0
"""Seconds to wait for the event loop to do something for another thread; never so long, but when it ends."""

_ROUNDS = 4
"""Looks for more ready sockets before the event loop gets its turn: each saves a round through it."""

_READ = 65536
_STREAM = 2 * _READ
_BULK = 1 << 20
"""Bytes of one read; of one from a peer that always has more, as much as stays in the processor's cache
with all its copies; and of one from such a peer that writes to many names: more in one read is fewer writes.
All reads after one look share the last amount, so that nobody waits long."""

_GATHERING = 0.005
_MUCH = 56 * 1024
"""Seconds for which streams may be read before what came of it is written, if that is less than so many bytes
for the last receiver: more in one write is fewer writes. Else it would wait in the senders' sockets."""

_LAST_WORK = 1.0
"""Seconds that the store gets to end its last work once all is over."""


class LoopEdge(LayeredEdge):
    """All connections in one thread.

    Args:
        limits: of the relay.
        version: of the software.
        loop: which event loop `serve` makes.
    """

    def __init__(self, limits: Limits, version: str, loop: Loop = "auto") -> None:
        super().__init__(limits, version)
        self._factory = loop_factory(loop)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stops = 0
        self._changed = asyncio.Event()
        self._failure: HailerError | None = None
        self._acceptor: LoopAcceptor | None = None
        self._poller = make_poller()
        self._share = _BULK
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def serve(self, listeners: list[Listener], ready: Callable[[], None], drain: float) -> None:
        """See `Edge.serve`."""
        with asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(self.serve_async(listeners, ready, drain))

    async def serve_async(self, listeners: list[Listener], ready: Callable[[], None], drain: float) -> None:
        """Serve in the running loop until stopped; see `Edge.serve`.

        Raises:
            ListenError: accepting failed for a reason that does not pass.
        """
        loop = self._loop = asyncio.get_running_loop()
        keep_memory()
        acceptor = self._acceptor = LoopAcceptor(
            loop,
            listeners,
            self.trouble,
            self._accept,
            self._fail,
            most=self.most,
            active=lambda: len(self.links),
            on_full=self._note_full,
        )
        try:
            self._open_store()
            loop.add_reader(self._poller.fileno(), self._events)
            acceptor.resume()
            self._tick()
            ready()
            await self._until(lambda: self._stops > 0)
            acceptor.close()
            self._begin_end()
            self._give_work()
            try:
                async with asyncio.timeout(drain):
                    await self._until(self._is_over)
            except TimeoutError:
                self._tell_late()
        finally:
            acceptor.close()
            for link in list(self.links.values()):
                self._drop(link, "the relay ended")
            if self._timer is not None:
                self._timer.cancel()
            loop.remove_reader(self._poller.fileno())
            self._poller.close()
            self._loop = None
            self._close_store(_LAST_WORK)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """See `Edge.stop`."""
        self._stops += 1
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._stop_accepting)
            except RuntimeError:
                pass  # the loop has just closed: there is nothing left to stop

    def _stop_accepting(self) -> None:
        """Take no more connections at once: until `serve_async` goes on, other events may be handled."""
        if self._acceptor is not None:
            self._acceptor.close()
        self._changed.set()

    def set_accounts(self, accounts: Accounts) -> None:
        """See `Edge.set_accounts`."""
        loop = self._loop
        if loop is None:
            self._set_accounts(accounts)
            return
        done = threading.Event()

        def work() -> None:
            self._set_accounts(accounts)
            done.set()

        try:
            loop.call_soon_threadsafe(work)
        except RuntimeError:
            return  # the loop has just closed: nobody is connected any more
        done.wait(_TURN)

    def _is_over(self) -> bool:
        return self._stops > 1 or (not self.links and self.relay.mail.finished)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            await self._changed.wait()
            self._changed.clear()

    # accepting

    def _accept(self, accepted: Accepted) -> float:
        accepted.socket.setblocking(False)
        link = self._adopt(accepted.socket, accepted.scheme, accepted.address)
        if link is not None:
            self._update(link)
        self._settle()
        return 0.0

    def _fail(self, error: HailerError) -> None:
        self._failure = error
        self.stop()

    # events

    def _events(self) -> None:
        """Handle the sockets that are ready: all reads of one look, then the writes that came of them."""
        links, poll, read, settle = self.links, self._poller.poll, self._read, self._settle
        relay, dirty = self.relay, self.relay.dirty
        rounds, write_by, worked = 0, 0.0, False
        while rounds < _ROUNDS:
            events = poll()
            if not events:
                break
            now = time.monotonic()
            if not write_by:  # not anew with each look: the event loop waits for its turn
                write_by = now + _GATHERING
            self._share = max(_READ, _BULK // len(events))
            streams = False
            for fd, event in events:
                link = links.get(fd)
                if link is None:
                    continue  # dropped by an earlier event of this batch
                try:
                    if event & WRITE and link.chunks:
                        self._write(link)
                    if event & READ:
                        read(link, now)
                        if link.bulk:
                            streams = True
                            if dirty and dirty[-1].waiting >= _MUCH:
                                settle()  # while what is to be written is in the processor's cache
                except Exception as error:
                    self._fault(link, error)
            if relay.mail.stirred:
                self._give_work()
                worked = True
            # who was held meanwhile is not to be read again
            if streams and now < write_by and not (relay.held or relay.closing):
                continue
            settle()
            write_by = 0.0
            if worked:
                break  # the store's thread wants the global lock, which waiting in the event loop gives up
            if self._stops:
                break  # the event loop is to get to it soon
            rounds += 1
        settle()
        if relay.mail.stirred:  # by a write that made room for more mail
            self._give_work()
        if relay.deadline < self._timer_at:
            self._set_timer()

    def _read(self, link: Link, now: float) -> None:
        try:
            if link.bulk:
                data = link.sock.recv(self._share if link.block > BLOCK else min(self._share, _STREAM))
                link.bulk = len(data) >= _READ
            else:
                data = link.sock.recv(_READ)
                link.bulk = len(data) == _READ
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._drop(link, error.strerror or "lost")
            return
        if link.layers is not None:
            self._feed(link, data, now)
        elif not data:
            self._ended(link, now)
        elif not link.closing:
            self.relay.receive(link, data, now)

    def _update(self, link: Link) -> None:
        """See `Edge._update`."""
        interest = (READ if self._reads(link) else 0) | (WRITE if link.blocked else 0)
        if interest != link.interest:
            self._poller.set(link.fd, link.interest, interest)
            link.interest = interest

    def _release(self, link: Link) -> None:
        """See `Edge._release`."""
        if link.backlog:
            self.relay.receive(link, b"", time.monotonic())
        self._update(link)

    def _discard(self, link: Link) -> None:
        """See `Edge._discard`."""
        if link.interest:
            self._poller.set(link.fd, link.interest, 0)
        link.sock.close()
        assert self._acceptor is not None
        self._acceptor.resume()
        if not self.links:
            self._changed.set()

    # time

    def _tick(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self.relay.tick(time.monotonic())
        self._settle()
        self._look_round()
        self._give_work()
        self._set_timer()

    def _work_done(self, work: Work, result: object, error: StoreError | None) -> None:
        """See `Edge._work_done`."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._go_on, work, result, error)
            except RuntimeError:
                pass  # the loop has just closed: nobody is there to be told

    def _go_on(self, work: Work, result: object, error: StoreError | None) -> None:
        self._stored(work, result, error)
        if self.relay.deadline < self._timer_at:
            self._set_timer()
        if self._stops:
            self._changed.set()

    def _set_timer(self) -> None:
        if self._loop is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self.relay.deadline
        self._timer = self._loop.call_later(max(0.0, self._timer_at - time.monotonic()), self._tick)
