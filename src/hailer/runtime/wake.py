"""How tasks of asyncio's wait for their transport.

The one that pulls is woken without a turn of the loop (`Wake`, see docs/design/direct-wake.md), those that
push in its next turn (`Gate`).
"""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import Context, copy_context
from itertools import repeat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from hailer.runtime.driven import Driven

__all__ = ["Gate", "Wake", "nothing", "throw"]


class Wake:
    """What one task at a time waits for.

    A task waits for anything that behaves like a future: it leaves a callback there, which steps it. A
    future would have the loop call that in its next turn; this calls it in the very call that brought the
    news, which saves the future, the handle and the turn.

    Args:
        loop: the loop of the tasks.

    Attributes:
        waiting: whether a task waits that has not been woken yet.
        deadline: the instant at which it is to go on at the latest; None for no such.
        expired: whether the deadline of the last wait came first.
        now: steps the task that waits, before it returns, where `waiting`. It gives False when the task was
            not stepped because another one runs, and is to be woken `soon`.
        driver: what steps the coroutine that waits, where that is not its task.
    """

    __slots__ = (
        "__await__",
        "_asyncio_future_blocking",
        "_callback",
        "_context",
        "_loop",
        "_timer",
        "_timer_at",
        "deadline",
        "driver",
        "expired",
        "get_loop",
        "now",
        "result",
        "waiting",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.waiting = self.expired = False
        self.deadline: float | None = None
        # To await this gives it to the task, once. The iterator of a tuple of one does in C what a generator
        # with one yield would do.
        self.__await__: Callable[[], Generator[Any, None, None]] = (self,).__iter__  # type: ignore[assignment]
        # What a task asks each time that it waits: where the loop is, and whether the waiting failed. Both
        # answers hardly ever change, and these give them without a call of Python.
        self.get_loop: Callable[[], asyncio.AbstractEventLoop] = repeat(loop).__next__
        self.result: Callable[[], None] = nothing
        self.driver: Driven | None = None
        self.now: Callable[[], bool] = self._step_task
        self._asyncio_future_blocking = False
        self._callback: Callable[[Wake], object] = nothing
        self._context: Context | None = None
        # The timer is left running when a wait ends early: a timer for each of a million receives would
        # cost more than the receives.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def begin(self, deadline: float | None) -> None:
        """Begin to wait: the task awaits this object next."""
        self.deadline = deadline
        if deadline is not None and deadline < self._timer_at:
            self._arm(deadline)
        self._asyncio_future_blocking = True  # tells the task that this is no mistake

    def end(self) -> None:
        """End the wait, however it went."""
        self.waiting = self.expired = False

    def soon(self) -> None:
        """Have the loop step the task that waits, if there is one, in its next turn."""
        if self.waiting:
            self.waiting = False
            if self.driver is not None:
                self.driver.step_soon()
            else:
                self._loop.call_soon(self._callback, self, context=self._context)

    def release(self) -> None:
        """Nothing will come any more: stop the timer, and let go of what refers to this."""
        self._disarm()
        self.__await__ = self.now = nothing
        self.driver = None

    def _step_task(self) -> bool:
        self.waiting = False
        try:
            self._context.run(self._callback, self)  # type: ignore[union-attr]  # set where `waiting`
        except RuntimeError:
            # Nothing that a handler raises comes out of a step. This is asyncio, which refuses to step a task
            # while another runs; it is never so in what the loop itself calls, and so not asked each time.
            if asyncio.current_task() is None:
                raise  # it was stepped
            self.waiting = True
            return False
        except (KeyboardInterrupt, SystemExit) as error:
            # A task lets these out into the loop. uvloop would take them for a fault of the protocol that
            # it has called, and go on.
            self._loop.call_soon(throw, error)
        return True

    # What a task does with what it waits for.

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Keep what steps the task."""
        if self.driver is not None:
            self.driver = None
            self.now = self._step_task
        self._callback = callback
        self._context = copy_context() if context is None else context
        self.waiting = True

    def cancel(self, msg: object = None) -> bool:
        """Have the task that waits meet a `CancelledError`; False when it has been woken already."""
        if not self.waiting:
            return False

        def result() -> None:
            self.result = nothing
            raise asyncio.CancelledError(*(() if msg is None else (msg,)))

        self.result = result
        self.soon()
        return True

    # The deadline.

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        self._disarm()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if not self.waiting:
            return  # whoever waits next sets it anew
        if self.deadline is None:
            return
        if self.deadline > time.monotonic():
            self._arm(self.deadline)
        else:
            self.expired = True
            self.soon()


class Gate:
    """Tasks that wait for something to change, each with its deadline, and one timer for all of them.

    The timer is left running when a wait ends early: a timer for each of a million receives would cost
    more than the receives.
    """

    __slots__ = ("_loop", "_timer", "_timer_at", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[asyncio.Future[bool], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    async def wait(self, deadline: float | None) -> bool:
        """Wait for `open`; give False when the deadline came first."""
        future: asyncio.Future[bool] = self._loop.create_future()
        if deadline is None:
            self._waiting[future] = math.inf
        else:
            self._waiting[future] = deadline
            if deadline < self._timer_at:
                self._arm(deadline)
        try:
            return await future
        finally:
            del self._waiting[future]

    def open(self) -> None:
        """Wake all that wait; each looks for itself whether its turn has come."""
        for future in self._waiting:
            if not future.done():
                future.set_result(True)

    def release(self) -> None:
        """Stop the timer: nothing will change any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        self.release()
        self._timer_at = at
        self._timer = self._loop.call_later(max(0.0, at - time.monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        now = time.monotonic()
        following = math.inf
        for future, deadline in self._waiting.items():
            if deadline > now:
                following = min(following, deadline)
            elif not future.done():
                future.set_result(False)
        if following < math.inf:
            self._arm(following)


nothing: Any = repeat(None).__next__
"""A function that does nothing, in C."""


def throw(error: BaseException) -> None:
    """Raise it, called by the loop."""
    raise error
