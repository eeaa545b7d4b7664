"""The asyncio model: a task for each connection, on uvloop or the stock loop."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from hailer.connection import sleeper
from hailer.errors import HailerError
from hailer.net.oserrors import map_os_error
from hailer.runtime.aio import AioTransport, Loop, loop_factory
from hailer.runtime.model import ABORT_GRACE, AcceptTrouble, serve_connection

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from hailer.net.address import RawAddress
    from hailer.net.listener import Listener
    from hailer.runtime.model import Policy

__all__ = ["AsyncioModel"]

log = logging.getLogger("hailer.server")

_ACCEPTS = 64
"""Connections accepted before the others get their turn."""


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
        self._listeners: list[Listener] = []
        self._accepting = False
        self._trouble = AcceptTrouble(policy.counters)
        self._failure: HailerError | None = None
        self._tasks: dict[asyncio.Task[None], AioTransport | None] = {}

    def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """See `hailer.runtime.model.Model`."""
        with asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(self.serve_async(listeners, ready))

    async def serve_async(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """Serve in the running loop; to cancel this is to stop.

        Raises:
            ListenError: accepting failed for a reason that does not pass.
        """
        self._loop = asyncio.get_running_loop()
        sleeper.set(asyncio.sleep)  # the tasks of the connections inherit it
        self._listeners = list(listeners)
        try:
            for listener in listeners:
                listener.socket.setblocking(False)
            self._resume()
            ready()
            while not (self._draining or self._stopping):
                await self._next_change()
            self._close_listeners()
            await self._finish_tasks(self._policy.drain)
        finally:
            self._close_listeners()
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

    # Accepting.

    def _resume(self) -> None:
        if self._loop is not None and not self._accepting and not (self._draining or self._stopping):
            self._accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener.socket, self._accept, listener)

    def _pause(self) -> None:
        if self._loop is not None and self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.socket)

    def _close_listeners(self) -> None:
        self._pause()
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _accept(self, listener: Listener) -> None:
        assert self._loop is not None
        counters = self._policy.counters
        for _ in range(_ACCEPTS):
            if len(self._tasks) >= self._policy.max_connections:
                self._pause()  # the next wait in the backlog until one ends
                return
            try:
                sock, address = listener.socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                try:
                    seconds = self._trouble.pause(error)
                except OSError:
                    where = listener.endpoint.address_text
                    self._failure = map_os_error(error, "accept", where)
                    self.stop()
                    return
                if seconds:
                    self._pause()
                    self._loop.call_later(seconds, self._resume)
                    return
                continue
            counters.accepted += 1
            counters.active += 1
            task = self._loop.create_task(self._run(sock, listener.endpoint.scheme, address))
            self._tasks[task] = None
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._policy.counters.active -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            # SystemExit and KeyboardInterrupt of a handler go through the loop; nothing else comes here.
            log.error("a connection ended with %r", error)
        if not self._accepting:
            self._resume()
        if not self._tasks:
            self._changed.set()

    async def _run(self, sock: socket.socket, scheme: str, address: RawAddress) -> None:
        try:
            transport = await AioTransport.adopt(sock, scheme, address)
        except HailerError as error:
            log.debug("a connection was gone before it was served: %s", error)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = transport
        await serve_connection(transport, self._policy)

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
        for task, transport in list(self._tasks.items()):
            if transport is not None:
                transport.abort()
            else:
                task.cancel()
        if self._tasks:
            # Those that wait for their connection end by its error; the others are cancelled.
            await asyncio.wait(self._tasks, timeout=ABORT_GRACE / 10)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ABORT_GRACE)
        if self._tasks:
            log.error("%d handlers do not end: they catch their cancellation", len(self._tasks))
