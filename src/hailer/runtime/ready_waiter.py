"""How a task of our own event loop waits for a socket."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from hailer.errors import BusyError
from hailer.runtime.poller import READ, WRITE
from hailer.runtime.ready_task import PAUSE, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.runtime.ready import HasFileno, ReadyLoop, Timer

__all__ = ["ReadyWaiter"]


class ReadyWaiter:
    """How tasks of a `ReadyLoop` wait for a socket: one to read, any number to write.

    Most waits are to read, have a deadline and do not reach it. So there is one timer for them, which is left
    running when a wait ends and looks at the deadline of that time when it fires: usually a wait sets two
    attributes and that is all.

    Args:
        loop: whose tasks wait.
        sock: what they wait for; it does not block.

    Attributes:
        watch: the loop's watch of the socket.
        resume: has the task that waits to read go on; None while none does.
        deadline: when the task that waits to read is to go on at the latest; None for no such.
        expired: the deadline of the last wait to read came first.

    Raises:
        UsageError: select(2) cannot watch a descriptor of this number.
    """

    __slots__ = (
        "_loop",
        "_timer",
        "_timer_at",
        "_woken",
        "_writers",
        "deadline",
        "expired",
        "resume",
        "watch",
    )

    def __init__(self, loop: ReadyLoop, sock: HasFileno) -> None:
        self._loop = loop
        self.watch = loop.watch(sock)
        self.resume: Callable[[], None] | None = None
        self.deadline: float | None = None
        self.expired = False
        self._woken = False
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._writers: list[Turn] = []  # of the tasks that wait to write

    async def readable(self, deadline: float | None) -> bool:
        """Wait until it is readable, broken or `wake` is called; False: the deadline came first."""
        if self._woken:
            return True
        self.begin_read(deadline)
        try:
            await PAUSE
        finally:
            self.end_read()
        return not self.expired

    async def writable(self, deadline: float | None) -> bool:
        """The same until something can be written."""
        if self._woken:
            return True
        watch = self.watch
        turn = Turn(self._loop)
        self._writers.append(turn)
        watch.writer = self._let_write
        try:
            if not watch.mask & WRITE:
                self._loop.expect(watch, WRITE)
            return await turn.wait(deadline)
        finally:
            self._writers.remove(turn)
            if not self._writers:
                watch.writer = None

    def begin_read(self, deadline: float | None) -> None:
        """Begin what `readable` does; whoever calls it awaits `PAUSE` next, and then calls `end_read`."""
        if self.resume is not None:
            raise BusyError("two tasks pull at once: let one task pull and hand the bytes on")
        self.expired = False
        self.until(deadline)
        self.resume = self._loop.current.resume  # type: ignore[union-attr]  # a task runs
        self.watch.reader = self._awaken
        self.expect_read()

    def end_read(self) -> None:
        """End what `begin_read` has begun."""
        self.resume = self.watch.reader = None

    def expect_read(self) -> None:
        """Have the loop call the reader of `watch`, from now on."""
        if not self.watch.mask & READ:
            self._loop.expect(self.watch, READ)

    def until(self, deadline: float | None) -> None:
        """Have the task that waits to read go on at this instant, `expired`; None for no such."""
        self.deadline = deadline
        if deadline is not None and deadline < self._timer_at:
            self._set_timer(deadline)

    def wake(self) -> None:
        """Have whoever waits go on, now and from now on: the socket is of no more use."""
        self._woken = True
        if self.resume is not None:
            self._loop.call_soon(self._awaken)
        self._let_write()

    def release(self) -> None:
        """Forget the socket, before it is closed; may be called twice."""
        self._woken = True
        self._loop.unwatch(self.watch)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = math.inf

    def _let_write(self) -> None:
        """Let all that wait try: there may be room for one of them only."""
        for turn in self._writers:
            turn.come()

    def _awaken(self) -> None:
        if self.resume is not None:
            self.resume()

    def _set_timer(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        if self.resume is None or self.deadline is None:
            return  # the next wait that has a deadline sets a timer
        if self.deadline > time.monotonic():
            self._set_timer(self.deadline)
        else:
            self.expired = True
            self.resume()
