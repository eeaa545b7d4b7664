"""A clock that tests move by hand, so that no test waits for real time."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING, Self

from hailer.connection import sleeper
from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextvars import Token
    from types import TracebackType

__all__ = ["FakeClock", "settle"]

_ROUNDS = 100


async def settle() -> None:
    """Let all tasks of the loop run until they wait for something that only the test can bring about.

    It gives up its turn a hundred times: enough for any chain of tasks that wake each other, no I/O.
    """
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)


class FakeClock:
    """Time that stands still until `advance`.

    Inside ``with clock:`` `hailer.sleep` waits for this clock, also in tasks that are started there. Give
    it to `memory_pair` and give `now` to a `Connection`, and their time-outs go by it too.

    Args:
        start: the first instant, in seconds.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._timers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._token: Token[Callable[[float], Awaitable[None]] | None] | None = None

    def now(self) -> float:
        """The instant, in seconds."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been advanced by so much."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._timers, (self._now + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move the time on; whoever is due on the way wakes in order and runs until it waits again.

        Raises:
            UsageError: the time cannot go back.
        """
        if seconds < 0:
            raise UsageError(f"a monotonic clock cannot go back by {-seconds} s: advance it by 0 or more")
        until = self._now + seconds
        await settle()
        while self._timers and self._timers[0][0] <= until:
            due, _, future = heapq.heappop(self._timers)
            self._now = max(self._now, due)
            if not future.done():
                future.set_result(None)
                await settle()
        self._now = until

    def __enter__(self) -> Self:
        self._token = sleeper.set(self.sleep)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        sleeper.reset(self._token)
