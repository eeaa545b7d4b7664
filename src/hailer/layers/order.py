"""Turns among tasks that push over one transport.

A layer turns what it is given into bytes and pushes these in steps of which others must see none: one
task after the other. Where no two tasks share a connection there is nothing to wait for, so the same
code runs under the models without an event loop.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Self

from hailer.errors import TimedOut

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

__all__ = ["Order"]


class Order:
    """A lock that never suspends when it is free, and is given on in the order in which it was asked for.

    ``async with order:`` takes a turn and waits for ever; `take` and `give_on` are for one with a deadline.
    Only tasks of one asyncio loop may meet here.
    """

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def taken(self) -> bool:
        """Whether somebody has the turn now."""
        return self._taken

    async def take(self, deadline: float | None = None) -> None:
        """Wait for the turn; whoever gets it has to `give_on`.

        Args:
            deadline: the instant of `time.monotonic` at which to stop waiting; a free turn is taken even
                after it.

        Raises:
            TimedOut: whoever was before did not come to an end.
        """
        if self._taken:
            await self._wait(deadline)
        self._taken = True

    def give_on(self) -> None:
        """End the turn: it is the next one's, if somebody waits."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(True)  # it stays taken: nobody can come between
                return
        self._taken = False

    async def __aenter__(self) -> Self:
        if self._taken:
            await self._wait(None)
        self._taken = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_on()

    async def _wait(self, deadline: float | None) -> None:
        import asyncio  # noqa: PLC0415 (two tasks have met: there is a loop, and it has been imported)

        loop = asyncio.get_running_loop()
        future: asyncio.Future[bool] = loop.create_future()
        timer = None
        if deadline is not None:
            timer = loop.call_later(max(0.0, deadline - time.monotonic()), _give_up, future)
        self._waiting.append(future)
        try:
            got = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result():
                self.give_on()  # the turn came at the same moment: the next one is not to wait for ever
            raise
        finally:
            if timer is not None:
                timer.cancel()
            if future in self._waiting:
                self._waiting.remove(future)
        if not got:
            raise TimedOut(
                "another task is still sending on this connection, to a peer that does not read: close it"
            )


def _give_up(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
