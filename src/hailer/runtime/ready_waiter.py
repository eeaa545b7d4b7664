"""How a task of our own event loop waits for a socket."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from hailer.errors import BusyError
from hailer.runtime.poller import READ, WRITE
from hailer.runtime.ready import PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.runtime.ready import HasFileno, ReadyLoop, Timer

__all__ = ["ReadyWaiter"]


class ReadyWaiter:
    """How a task of a `ReadyLoop` waits for a socket; one task at a time.

    Most waits have a deadline and nearly none reaches it. So there is one timer, which is left running
    when a wait ends and looks at the deadline of that time when it fires: usually a wait sets two
    attributes and that is all.

    Args:
        loop: whose tasks wait.
        sock: what they wait for; it does not block.

    Attributes:
        watch: the loop's watch of the socket.
        resume: has the task that waits go on; None while none waits.
        expired: the deadline of the last wait came first.

    Raises:
        UsageError: select(2) cannot watch a descriptor of this number.
    """

    __slots__ = ("_deadline", "_loop", "_timer", "_timer_at", "_woken", "expired", "resume", "watch")

    def __init__(self, loop: ReadyLoop, sock: HasFileno) -> None:
        self._loop = loop
        self.watch = loop.watch(sock)
        self.resume: Callable[[], None] | None = None
        self._deadline: float | None = None
        self.expired = False
        self._woken = False
        self._timer: Timer | None = None
        self._timer_at = math.inf

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
        watch.writer = self._begin(deadline)
        try:
            if not watch.mask & WRITE:
                self._loop.expect(watch, WRITE)
            await PAUSE
        finally:
            self.resume = watch.writer = None
        return not self.expired

    def begin_read(self, deadline: float | None) -> None:
        """Begin what `readable` does, for a transport that spares itself the coroutine.

        It has to await `PAUSE` next, then call `end_read` in any case, and look at `expired`.
        """
        watch = self.watch
        watch.reader = self._begin(deadline)
        if not watch.mask & READ:
            self._loop.expect(watch, READ)

    def end_read(self) -> None:
        """End what `begin_read` has begun."""
        self.resume = self.watch.reader = None

    def wake(self) -> None:
        """Have whoever waits go on, now and from now on: the socket is of no more use."""
        self._woken = True
        if self.resume is not None:
            self._loop.call_soon(self._awaken)

    def release(self) -> None:
        """Forget the socket, before it is closed; may be called twice."""
        self._woken = True
        self._loop.unwatch(self.watch)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = math.inf

    def _begin(self, deadline: float | None) -> Callable[[], None]:
        if self.resume is not None:
            raise BusyError("two tasks wait for one socket at once: let one task receive and send")
        self._deadline = deadline
        self.expired = False
        if deadline is not None and deadline < self._timer_at:
            self._set_timer(deadline)
        assert self._loop.current is not None
        resume = self.resume = self._loop.current.resume
        return resume

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
        if self.resume is None or self._deadline is None:
            return  # the next wait that has a deadline sets a timer
        if self._deadline > time.monotonic():
            self._set_timer(self._deadline)
        else:
            self.expired = True
            self.resume()
