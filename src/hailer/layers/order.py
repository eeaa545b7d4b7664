"""Turns among tasks, or threads, that push over one transport.

A layer turns what it is given into bytes and pushes these in steps of which others must see none: one
task after the other. Where no two tasks share a connection there is nothing to wait for, so the same
code runs under the models without an event loop.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

from hailer.connection import turns
from hailer.errors import BusyError, TimedOut

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Order"]


class Order:
    """A lock that never suspends when it is free, and is given on in the order in which it was asked for.

    ``async with order:`` takes a turn and waits for ever; `take` and `give_on` are for one with a deadline.
    Tasks of one asyncio loop may meet here, or threads that run their coroutines to the ends, such as one
    that receives, and so answers pings, and one that sends.
    """

    __slots__ = ("_lock", "_owner", "_waiting")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0  # the thread that has the turn, while it is taken
        self._waiting: deque[Callable[[], bool]] = deque()  # each lets one go on who still waits

    @property
    def taken(self) -> bool:
        """Whether somebody has the turn now."""
        return self._lock.locked()

    def take_if_free(self) -> bool:
        """Take the turn unless somebody has it; tell whether it was taken, and so has to be given on."""
        if not self._lock.acquire(blocking=False):
            return False
        self._owner = threading.get_ident()
        return True

    async def take(self, deadline: float | None = None) -> None:
        """Wait for the turn; whoever gets it has to `give_on`.

        Args:
            deadline: the instant of `time.monotonic` at which to stop waiting; a free turn is taken even
                after it.

        Raises:
            TimedOut: whoever was before did not come to an end.
            BusyError: whoever has it is a task of this thread, which has no event loop of asyncio.
        """
        if not self.take_if_free():
            await self._wait(deadline)

    def give_on(self) -> None:
        """End the turn: it is the next one's, if somebody waits."""
        while self._waiting:
            if self._waiting.popleft()():
                return  # it stays taken: nobody can come between
        self._owner = 0  # first, for the next owner tells who it is only after it has the lock
        self._lock.release()

    async def __aenter__(self) -> Self:
        await self.take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_on()

    async def _wait(self, deadline: float | None) -> None:
        make_turn = turns.get()
        turn = _AioTurn.make() if make_turn is None else make_turn()
        if turn is None:
            self._block(deadline)
            return
        self._waiting.append(turn.come)
        try:
            came = await turn.wait(deadline)
        except BaseException:
            if turn.came:
                self.give_on()  # it came at the same moment: the next one is not to wait for ever
            raise
        if not came:
            raise _timed_out()

    def _block(self, deadline: float | None) -> None:
        """Wait for another thread."""
        if self._owner == threading.get_ident():
            raise BusyError(
                "two tasks send on one connection at once, which only asyncio makes wait: let one task send"
            )
        seconds = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            raise _timed_out()
        self._owner = threading.get_ident()


def _timed_out() -> TimedOut:
    return TimedOut(
        "somebody else is still sending on this connection, to a peer that does not read: close it"
    )


class _AioTurn:
    """What `hailer.runtime.ready_task.Turn` is, for a task of asyncio's."""

    __slots__ = ("_future", "_loop", "came")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] = loop.create_future()
        self.came = False

    @classmethod
    def make(cls) -> _AioTurn | None:
        """One for the task that runs; None in a thread without an event loop."""
        import asyncio  # noqa: PLC0415 (rarely needed, and most who come here have it)

        try:
            return cls(asyncio.get_running_loop())
        except RuntimeError:
            return None

    def come(self) -> bool:
        if self._future.done():
            return False
        self.came = True
        self._future.set_result(None)
        return True

    async def wait(self, deadline: float | None) -> bool:
        timer = None
        if deadline is not None:
            timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._give_up)
        try:
            await self._future
        finally:
            self._future.cancel()
            if timer is not None:
                timer.cancel()
        return self.came

    def _give_up(self) -> None:
        if not self._future.done():
            self._future.set_result(None)
