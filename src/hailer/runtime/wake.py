"""How a task of asyncio's waits for its transport, and is woken without a turn of the loop.

See docs/design/direct-wake.md.
"""

from __future__ import annotations

import asyncio
import math
import time
import types
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from hailer.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["Wake"]


class Wake:
    """What one task at a time waits for.

    A task waits for anything that behaves like a future: it leaves a callback there, which steps it. A
    future would have the loop call that in its next turn; this calls it in the very call that brought the
    news, which saves the future, the handle and the turn.

    Args:
        loop: the loop of the tasks.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_deadline",
        "_expired",
        "_loop",
        "_timer",
        "_timer_at",
        "_waiting",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._asyncio_future_blocking = False
        self._callback: Callable[[Wake], object] | None = None  # there while a task waits and was not woken
        self._context: Context | None = None
        self._cancelled: tuple[object, ...] | None = None
        self._waiting = False
        self._expired = False
        self._deadline = math.inf
        # The timer is left running when a wait ends early: a timer for each of a million receives would
        # cost more than the receives.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    @types.coroutine  # a generator: a coroutine and what it awaits would be two objects for each wait
    def wait(self, deadline: float | None) -> Generator[Wake, None, bool]:
        """Wait for `soon` or `now`; give False when the deadline came first.

        Raises:
            BusyError: another task waits.
        """
        if self._waiting:
            raise BusyError("two tasks pull at once: let one task pull and hand the bytes on")
        if deadline is not None:
            self._deadline = deadline
            if deadline < self._timer_at:
                self._arm(deadline)
        self._waiting = True
        self._asyncio_future_blocking = True  # tells the task that this is no mistake
        try:
            yield self
        finally:
            self._waiting = False
            self._callback = None
            self._deadline = math.inf
            expired, self._expired = self._expired, False
        return not expired

    @property
    def can_run(self) -> bool:
        """Whether a task waits that `now` may step: none runs, as in all that the loop itself calls."""
        return self._callback is not None and asyncio.current_task(self._loop) is None

    def now(self) -> None:
        """Step the task that waits, before this returns; only where `can_run`."""
        callback, self._callback = self._callback, None
        assert callback is not None
        assert self._context is not None
        try:
            self._context.run(callback, self)
        except (KeyboardInterrupt, SystemExit) as error:
            # A task lets these out into the loop. uvloop would take them for a fault of the protocol that
            # it has called, and go on.
            self._loop.call_soon(_throw, error)

    def soon(self) -> None:
        """Have the loop step the task that waits, if there is one, in its next turn."""
        if self._callback is not None:
            self._loop.call_soon(self._callback, self, context=self._context)
            self._callback = None

    def release(self) -> None:
        """Stop the timer: nothing will come any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # What a task asks of what it waits for.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Keep what steps the task."""
        self._callback = callback
        self._context = copy_context() if context is None else context

    def cancel(self, msg: object = None) -> bool:
        """Have the task that waits meet a `CancelledError`; False when it has been woken already."""
        if self._callback is None:
            return False
        self._cancelled = () if msg is None else (msg,)
        self.soon()
        return True

    def result(self) -> None:
        """What the callback asks before it steps the task."""
        if self._cancelled is not None:
            words, self._cancelled = self._cancelled, None
            raise asyncio.CancelledError(*words)

    # The deadline.

    def _arm(self, at: float) -> None:
        self.release()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self._deadline > time.monotonic():
            if self._deadline < math.inf:
                self._arm(self._deadline)
        elif self._callback is not None:
            self._expired = True
            self.soon()


def _throw(error: BaseException) -> None:
    raise error
