"""The asyncio model: a task for each connection, on uvloop or the stock loop."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from hailer.connection import sleeper
from hailer.errors import HailerError
from hailer.net.listener import Accepted
from hailer.runtime.acceptor import LoopAcceptor
from hailer.runtime.aio import AioTransport, Loop, loop_factory
from hailer.runtime.driven import Driven
from hailer.runtime.flag import Flag
from hailer.runtime.model import ABORT_GRACE, AcceptTrouble, serve_connection
from hailer.runtime.records import SocketRecords
from hailer.runtime.waiting import AioWaiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.net.listener import Listener
    from hailer.runtime.model import Policy
    from hailer.transport import RecordTransport, Transport

__all__ = ["AsyncioModel", "open_leaf"]

log = logging.getLogger("hailer.server")

_FOR_A_LOOP = 12
"""Descriptors, at the most, that an event loop opens for itself."""


async def open_leaf(accepted: Accepted) -> Transport | RecordTransport:
    """Make the transport of what a listener has accepted, in the running loop.

    Raises:
        OSError: the connection has gone already.
        ConnectionLost: the same.
    """
    if accepted.kind == "record":
        return SocketRecords.of(accepted, AioWaiter(accepted.socket))
    return await AioTransport.adopt(accepted.socket, accepted.scheme, accepted.address)


class AsyncioModel:
    """The driver of asyncio's loops.

    Args:
        policy: what to do with each connection.
        loop: which event loop `serve` makes; `serve_async` takes the running one.
    """

    def __init__(self, policy: Policy, loop: Loop = "auto") -> None:
        self._policy = policy
        self._factory = loop_factory(loop)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._draining = False
        self._stopping = False
        self._acceptor: LoopAcceptor | None = None
        self._trouble = AcceptTrouble(policy.counters)
        self._failure: HailerError | None = None
        self._tasks: dict[asyncio.Task[None], Transport | RecordTransport | Accepted] = {}

    def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """See `hailer.runtime.model.Model`."""
        _check_descriptors()
        with asyncio.Runner(loop_factory=self._factory) as runner:
            try:
                runner.run(self._serve_woken(listeners, ready))
            finally:
                for task in self._tasks:  # they would be waited for, and do not end
                    asyncio._unregister_task(task)

    async def _serve_woken(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """Serve in a loop of our own, which signals wake; uvloop sees to that itself."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.SelectorEventLoop):
            await self.serve_async(listeners, ready)
            return
        with closing(Flag()) as flag, flag.set_by_signals():
            loop.add_reader(flag, flag.clear)
            try:
                await self.serve_async(listeners, ready)
            finally:
                loop.remove_reader(flag)

    async def serve_async(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """Serve in the running loop; to cancel this is to stop.

        Raises:
            ListenError: accepting failed for a reason that does not pass.
        """
        self._loop = asyncio.get_running_loop()
        sleeper.set(asyncio.sleep)  # the tasks of the connections inherit it
        acceptor = self._acceptor = LoopAcceptor(
            self._loop,
            listeners,
            self._trouble,
            self._serve_one,
            self._fail,
            most=self._policy.max_connections,
            active=lambda: len(self._tasks),
            once=self._policy.once,
        )
        try:
            acceptor.resume()
            ready()
            while not (self._draining or self._stopping or (acceptor.over and not self._tasks)):
                await self._next_change()
            acceptor.close()
            await self._finish_tasks(self._policy.drain)
        finally:
            acceptor.close()
            await self._abort()
            self._loop = None
        if self._failure is not None:
            raise self._failure

    def drain(self) -> None:
        """See `hailer.runtime.model.Model`."""
        self._draining = True
        self._wake()

    def stop(self) -> None:
        """See `hailer.runtime.model.Model`."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._changed.set)
            except RuntimeError:
                pass  # the loop has just closed: there is nothing left to stop

    async def _next_change(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    # One connection.

    def _serve_one(self, accepted: Accepted) -> float:
        assert self._loop is not None
        self._policy.counters.accepted += 1
        self._policy.counters.active += 1
        task = self._loop.create_task(Driven(self._run(accepted), self._loop))
        self._tasks[task] = accepted
        task.add_done_callback(self._ended)
        return 0.0

    def _ended(self, task: asyncio.Task[None]) -> None:
        leaf = self._tasks.pop(task)
        if isinstance(leaf, Accepted):  # it went, or was cancelled, before it was served
            leaf.close()
        self._policy.counters.active -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            # SystemExit and KeyboardInterrupt of a handler go through the loop; nothing else comes here.
            log.error("a connection ended with %r", error)
        assert self._acceptor is not None
        self._acceptor.resume()
        if not self._tasks:
            self._changed.set()

    async def _run(self, accepted: Accepted) -> None:
        try:
            leaf = await open_leaf(accepted)
        except (HailerError, OSError) as error:
            log.debug("a connection was gone before it was served: %s", error)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = leaf
        await serve_connection(leaf, self._policy)

    def _fail(self, error: HailerError) -> None:
        self._failure = error
        self.stop()

    # Ending.

    async def _finish_tasks(self, seconds: float) -> None:
        """Wait for the handlers until the deadline, or until `stop`."""
        try:
            async with asyncio.timeout(seconds):
                while self._tasks and not self._stopping:
                    await self._next_change()
        except TimeoutError:
            log.warning("the time to drain is over: %d connections are aborted", len(self._tasks))

    async def _abort(self) -> None:
        """Break what is left; a handler that does not end even then is named in the log."""
        for task, leaf in list(self._tasks.items()):
            if isinstance(leaf, Accepted):
                task.cancel()
            else:
                leaf.abort()
        if self._tasks:
            # Those that wait for their connection end by its error; the others are cancelled.
            await asyncio.wait(self._tasks, timeout=ABORT_GRACE / 10)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ABORT_GRACE)
        if self._tasks:
            log.error("%d handlers do not end: they catch their cancellation", len(self._tasks))


def _check_descriptors() -> None:
    """See that there are enough for a loop: one that fails halfway cannot even be closed (uvloop).

    Raises:
        OSError: there are not.
    """
    with ExitStack() as stack:
        for _ in range(_FOR_A_LOOP):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
