"""Dialling in a task of our own event loop, `hailer.runtime.ready`: for handlers that connect to others."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from hailer.net.dial import dial_by
from hailer.runtime.dialled import make_leaf
from hailer.runtime.ready_task import Turn
from hailer.runtime.ready_transport import ReadyTransport
from hailer.runtime.ready_waiter import ReadyWaiter

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from concurrent.futures import Future

    from hailer.connection import Dial
    from hailer.endpoint import Endpoint
    from hailer.runtime.ready import ReadyLoop
    from hailer.transport import RecordTransport, Transport

__all__ = ["ReadyWaits", "dial_in"]


def dial_in(loop: ReadyLoop) -> Dial:
    """Give what the tasks of a loop dial with; see `hailer.net.dial.dial_by` for its options and errors.

    It raises UsageError for a descriptor of a number that select(2) cannot watch.
    """

    async def dial_ready(endpoint: Endpoint, **options: Any) -> Transport | RecordTransport:
        sock = await dial_by(ReadyWaits(loop), endpoint, **options)
        return make_leaf(sock, endpoint, partial(ReadyWaiter, loop), partial(ReadyTransport, loop))

    return dial_ready


class ReadyWaits:
    """How one task of a loop waits while it dials; see `hailer.net.dial.Waits`."""

    def __init__(self, loop: ReadyLoop) -> None:
        self._loop = loop
        self._ready: list[socket.socket] = []
        self._turn: Turn | None = None  # what the task waits for, or waited for last
        self.sleep = loop.sleep

    def watch(self, sock: socket.socket) -> None:
        self._loop.add_writer(sock, self._on_ready, sock)

    def unwatch(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)

    async def sockets(self, seconds: float | None) -> Sequence[socket.socket]:
        if not self._ready:
            await self._pause(seconds)
        ready, self._ready = self._ready, []
        return ready

    async def future(self, future: Future[Any], seconds: float | None) -> None:
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._go_on))
        end = math.inf if seconds is None else time.monotonic() + seconds
        # What was set for an earlier future may come only now.
        while not future.done() and (left := end - time.monotonic()) > 0:
            await self._pause(None if left == math.inf else left)

    async def _pause(self, seconds: float | None) -> None:
        self._turn = Turn(self._loop)
        await self._turn.wait(None if seconds is None else time.monotonic() + seconds)

    def _on_ready(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)
        self._ready.append(sock)
        self._go_on()

    def _go_on(self) -> None:
        if self._turn is not None:
            self._turn.come()
