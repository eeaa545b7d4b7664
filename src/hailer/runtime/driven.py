"""A coroutine that a task of asyncio's runs, and that bytes step without the task.

See docs/design/direct-wake.md.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task  # for makers of tasks: see "Extending" in asyncio's manual
from collections.abc import Coroutine
from itertools import repeat
from typing import TYPE_CHECKING, Any, cast

from hailer.runtime.wake import Wake, nothing, throw

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

__all__ = ["Driven"]


class Driven(Coroutine[Any, Any, Any]):
    """Stands between a task and the coroutine that it runs.

    When the coroutine waits for bytes (a `Wake`), the task is told to wait for this, which is like a future
    to it. Bytes that come then step the coroutine, with the task as the current one and in its context; as
    long as it waits for bytes again, the task knows nothing of it. That saves all that a task does at each
    wait. What else the coroutine awaits, or how it ends, is left here, and the task is woken to find it.

    Args:
        coroutine: what the task is to run.
        loop: the loop of the task.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_awaited",
        "_cancelled",
        "_context",
        "_coroutine",
        "_error",
        "_loop",
        "_step",
        "_task",
        "_wake",
        "_wakeup",
        "_woken",
        "get_loop",
        "result",
    )

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._coroutine = coroutine
        self._step: Callable[[], bool] = self._step_now
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._context: Context = cast("Context", None)  # of the task, once it waits
        self._wakeup: Callable[[Driven], object] = nothing
        self._wake: Wake | None = None  # what the coroutine waits for, or has waited for last
        self._woken = False  # it waits no more, and will be stepped by the loop
        self._awaited: Any = None  # what else it awaits, and the task does not know yet
        self._error: BaseException | None = None  # how it ended, which the task does not know yet
        self._cancelled = False  # from within
        # As those of a `Wake`.
        self._asyncio_future_blocking = False
        self.get_loop: Callable[[], asyncio.AbstractEventLoop] = repeat(loop).__next__
        self.result: Callable[[], None] = nothing

    def step_soon(self) -> None:
        """Have the loop step the coroutine in its next turn."""
        self._woken = True
        self._loop.call_soon(self._step_late)

    def _step_late(self) -> None:
        if self._woken:  # it has not been cancelled meanwhile
            self._woken = False
            self._step_now()

    def _step_now(self) -> bool:
        """Do what `Wake.now` says."""
        loop, task, wake = self._loop, self._task, self._wake
        try:
            _enter_task(loop, task)  # type: ignore[arg-type]  # there is one that waits
        except RuntimeError:
            return False
        wake.waiting = False  # type: ignore[union-attr]  # it waits for one
        try:
            awaited = self._context.run(self._coroutine.send, None)
            if awaited is wake and not self._cancelled:
                wake.waiting = True
                return True  # for bytes, again
            self._awaited = awaited
        except BaseException as error:
            self._error = error
        finally:
            _leave_task(loop, task)  # type: ignore[arg-type]
        try:
            self._context.run(self._wakeup, self)
        except (KeyboardInterrupt, SystemExit) as error:
            # A task lets these out into the loop. uvloop would take them for a fault of the protocol that
            # it has called, and go on.
            loop.call_soon(throw, error)
        return True

    # What a task does with its coroutine.

    def send(self, value: Any) -> Any:
        """Go on; see `types.CoroutineType`."""
        if self._error is not None:
            self._end(self._error)
        awaited, self._awaited = self._awaited, None
        if awaited is None:
            if self._task is None:
                self._task = asyncio.current_task(self._loop)
            try:
                awaited = self._coroutine.send(value)
            except BaseException:
                self._let_go()
                raise
        return self._given(awaited)

    def throw(self, error: Any, *more: Any) -> Any:
        """Raise an error where the coroutine stands."""
        if self._error is not None:
            # A task that is cancelled just before its coroutine returns has been cancelled.
            self._end(error if isinstance(self._error, StopIteration) else self._error)
        awaited, self._awaited = self._awaited, None
        if awaited is not None and type(awaited) is not Wake:
            awaited.cancel()  # as the task would have done, had it known of it
        try:
            awaited = self._coroutine.throw(error, *more)
        except BaseException:
            self._let_go()
            raise
        return self._given(awaited)

    def close(self) -> None:
        """Give it up."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # what debuggers ask: cr_frame, __qualname__ …

    def _given(self, awaited: Any) -> Any:
        """What the task is to wait for."""
        self._cancelled = False
        if type(awaited) is not Wake:
            return awaited
        awaited.waiting = True
        awaited.driver = self
        awaited.now = self._step
        self._wake = awaited
        self._asyncio_future_blocking = True
        return self

    def _end(self, error: BaseException) -> None:
        self._let_go()
        try:
            raise error
        finally:
            del error

    def _let_go(self) -> None:
        """Break the circle of what keeps each other alive."""
        self._error = self._task = self._wake = None
        self._wakeup = self._step = nothing

    # What a task does with what it waits for.

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        """Keep what wakes the task."""
        self._wakeup = callback
        self._context = context

    def cancel(self, msg: object = None) -> bool:
        """Have the coroutine meet a `CancelledError`; False: the task is to see to it at its next step."""
        wake = self._wake
        if wake is None or not (wake.waiting or self._woken):
            self._cancelled = True  # from within a step, or once more: what it awaits next is cancelled
            return False
        wake.waiting = self._woken = False

        def result() -> None:
            self.result = nothing
            raise asyncio.CancelledError(*(() if msg is None else (msg,)))

        self.result = result
        self._loop.call_soon(self._wakeup, self, context=self._context)
        return True
