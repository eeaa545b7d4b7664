"""How a concurrency model waits until a socket can be read or written."""

from __future__ import annotations

import asyncio
import select
import socket
import time
from contextlib import suppress
from typing import Protocol

from hailer.runtime.sockets import poll_until

__all__ = ["AioWaiter", "PollWaiter", "Waiter"]


class Waiter(Protocol):
    """Waits for one socket, which does not block.

    What is said to be ready may not be so any more: whoever waited tries, and waits again.
    """

    async def readable(self, deadline: float | None) -> bool:
        """Wait until something can be read, the peer has gone, or `wake`; False when the deadline came first.

        Others get their turn meanwhile, even if there is something already.
        """

    async def writable(self, deadline: float | None) -> bool:
        """Wait until there is room to write, or `wake`; False when the deadline came first."""

    def wake(self) -> None:
        """Have all that wait go on, now and from now on: the socket is of no more use."""

    def release(self) -> None:
        """Let go of the socket, which is about to be closed; may be called twice."""


class PollWaiter:
    """Blocks the thread, so that its coroutines never suspend. `wake` may be called from any thread.

    Args:
        sock: the socket.
    """

    __slots__ = ("_read", "_socket", "_woken")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._woken = False
        self._read: select.poll | None = None

    async def readable(self, deadline: float | None) -> bool:
        if self._read is None:
            self._read = select.poll()
            self._read.register(self._socket, select.POLLIN)
        return self._wait(self._read, deadline)

    async def writable(self, deadline: float | None) -> bool:
        poll = select.poll()  # not kept: several threads may send, and one poll is for one of them
        poll.register(self._socket, select.POLLOUT)
        return self._wait(poll, deadline)

    def wake(self) -> None:
        self._woken = True
        # It wakes the thread that polls, also for datagrams, and needs no further descriptor.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        self._woken = True

    def _wait(self, poll: select.poll, deadline: float | None) -> bool:
        if self._woken:
            return True
        return poll_until(poll, deadline) or self._woken


class AioWaiter:
    """Waits in the running event loop.

    The loop goes on watching between two waits: it is asked to stop only when something came that nobody
    waits for, so that an exchange of messages takes no call to the system for watching.

    Args:
        sock: the socket; no other waiter of this loop may have it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._readers: list[asyncio.Future[bool]] = []
        self._writers: list[asyncio.Future[bool]] = []
        self._reading = False
        self._writing = False
        self._told = False
        self._released = False

    async def readable(self, deadline: float | None) -> bool:
        if self._released:
            return True
        if not self._reading:
            self._reading = True
            self._told = False
            self._loop.add_reader(self._socket, self._on_readable)
        return await self._wait(self._readers, deadline)

    async def writable(self, deadline: float | None) -> bool:
        if self._released:
            return True
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._socket, self._on_writable)
        return await self._wait(self._writers, deadline)

    def wake(self) -> None:
        self.release()

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._stop_reading()
            self._stop_writing()
            _tell(self._readers)
            _tell(self._writers)

    def _on_readable(self) -> None:
        if self._told:
            # Whoever was told reads only in the next turn, before which the loop has looked again.
            self._told = False
        elif self._readers:
            self._told = True
            _tell(self._readers)
        else:
            self._stop_reading()

    def _on_writable(self) -> None:
        if self._writers:
            _tell(self._writers)
        # A socket that has room has it nearly always: to go on watching would be a busy loop.
        self._stop_writing()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket)

    async def _wait(self, waiting: list[asyncio.Future[bool]], deadline: float | None) -> bool:
        future: asyncio.Future[bool] = self._loop.create_future()
        waiting.append(future)
        timer = None
        if deadline is not None:
            timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), _settle, future, False)
        try:
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            if future in waiting:
                waiting.remove(future)


def _settle(future: asyncio.Future[bool], ready: bool) -> None:
    if not future.done():
        future.set_result(ready)


def _tell(waiting: list[asyncio.Future[bool]]) -> None:
    for future in waiting:
        _settle(future, True)
    waiting.clear()
