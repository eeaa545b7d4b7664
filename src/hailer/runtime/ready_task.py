"""Tasks of our own event loop, `hailer.runtime.ready`, and how they stand still."""

from __future__ import annotations

import logging
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from hailer.runtime.blocking import foreign_error

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from hailer.runtime.ready import ReadyLoop

__all__ = ["PAUSE", "Task", "Turn"]

log = logging.getLogger("hailer.runtime")

_CHANCES = 3
"""A handler may catch the error of a foreign await and await again; it does not get to do so for ever."""


_PAUSED = object()
"""What a task that pauses gives to whoever steps it."""


class _Pause:
    """What a task awaits to stand still until somebody resumes it; see `hailer.runtime.ready_waiter`."""

    if TYPE_CHECKING:

        def __await__(self) -> Generator[object, None, None]: ...
    else:
        # The iterator of a tuple of one gives that once and then ends: what a generator with one yield
        # would do, in C.
        __await__ = (_PAUSED,).__iter__


PAUSE = _Pause()


class Task:
    """A coroutine that a loop runs, in a context of its own; made by `ReadyLoop.spawn`.

    Attributes:
        resume: goes on after a `PAUSE`; to be called by the loop, once for each pause. Bound once, for each
            wait needs it.
    """

    __slots__ = ("_context", "_coroutine", "_done", "_ended", "_loop", "resume")

    def __init__(
        self,
        loop: ReadyLoop,
        coroutine: Coroutine[Any, Any, object],
        done: Callable[[BaseException | None], object],
    ) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._context = copy_context()
        self._done = done
        self._ended = False
        self.resume: Callable[[], None] = self._step

    def _step(self) -> None:
        self._loop.current = self
        try:
            awaited = self._context.run(self._coroutine.send, None)
        except BaseException as error:
            self._end(error)
            return
        if awaited is not _PAUSED:
            self._refuse(awaited)

    def start(self) -> None:
        """Run to the first pause; by the loop."""
        if not self._ended:
            self.resume()

    def cancel(self, error: BaseException) -> None:
        """Raise an error where the task stands, soon; nothing if it has ended by then."""
        self._loop.call_soon(self._throw, error)

    def close(self) -> None:
        """Give the task up, if it has not ended: its coroutine is closed, and `done` is not called.

        For one that ignores its errors even so, the rest is for the garbage collector.
        """
        if not self._ended:
            self._ended = True
            try:
                self._context.run(self._coroutine.close)
            except Exception as error:
                log.error("a task that was given up failed: %r", error)  # noqa: TRY400 (no words of a peer in it)

    def _throw(self, error: BaseException) -> None:
        if self._ended:
            return
        self._loop.current = self
        try:
            awaited = self._context.run(self._coroutine.throw, error)
        except BaseException as result:
            self._end(result)
            return
        if awaited is not _PAUSED:
            self._refuse(awaited)

    def _refuse(self, awaited: object) -> None:
        """Raise the error about a foreign await at that await."""
        error = foreign_error(awaited, self._loop.poller)
        for _ in range(_CHANCES):
            try:
                awaited = self._context.run(self._coroutine.throw, error)
            except BaseException as result:
                self._end(result)
                return
            if awaited is _PAUSED:
                return
            error = foreign_error(awaited, self._loop.poller)
        self._context.run(self._coroutine.close)
        self._end(error)

    def _end(self, error: BaseException) -> None:
        self._ended = True
        self.resume = _nothing  # which ends the cycle of references
        self._done(None if isinstance(error, StopIteration) else error)
        if not isinstance(error, Exception):
            raise error  # the end of the program goes through the loop


class Turn:
    """A task stands still, once, until its turn comes or a time has come.

    Args:
        loop: the one whose current task it is for.

    Attributes:
        came: whether the turn has come.
    """

    __slots__ = ("_loop", "_task", "came")

    def __init__(self, loop: ReadyLoop) -> None:
        assert loop.current is not None
        self._loop = loop
        self._task: Task | None = loop.current
        self.came = False

    def come(self) -> bool:
        """Have the task go on, soon; False if it has gone on already, and will not know of this."""
        if self._task is None:
            return False
        self.came = True
        self._loop.call_soon(self._go_on)
        return True

    async def wait(self, deadline: float | None) -> bool:
        """Stand still.

        Args:
            deadline: the instant of `time.monotonic` at which to go on at the latest.

        Returns:
            Whether the turn has come; the deadline came first otherwise.
        """
        timer = None if deadline is None else self._loop.call_at(deadline, self._go_on)
        try:
            await PAUSE
        finally:
            self._task = None
            if timer is not None:
                timer.cancel()
        return self.came

    def _go_on(self) -> None:
        if self._task is not None:
            self._task.resume()


def _nothing() -> None:
    pass
