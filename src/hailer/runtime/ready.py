"""An event loop of one thread over select(2) or epoll(7), for coroutines that await only what is ours.

It waits for descriptors and for times, and runs tasks: coroutines that end in `PAUSE`. What is awaited
arranges beforehand that the task is resumed, so a wait that is over costs one call of the coroutine's
send and no future, handle or queue in between.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from hailer.errors import UsageError
from hailer.runtime.flag import Flag
from hailer.runtime.poller import FD_SETSIZE, READ, WRITE, Poller, choose_poller, make_poller
from hailer.runtime.ready_task import Task, Turn
from hailer.runtime.sockets import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["HasFileno", "ReadyLoop", "Timer", "Watch"]

log = logging.getLogger("hailer.runtime")

_COMPACT = 64
"""Cancelled timers, at least, before they are swept out of the heap."""


class HasFileno(Protocol):
    """A socket, a listener, a `Flag` …"""

    def fileno(self) -> int:
        """Its descriptor."""


class Timer:
    """A call at a time of `ReadyLoop`."""

    __slots__ = ("_callback", "_loop")

    def __init__(self, loop: ReadyLoop, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback: Callable[[], object] | None = callback

    @property
    def due(self) -> bool:
        """Whether it is still to be called."""
        return self._callback is not None

    def cancel(self) -> None:
        """Do not call it; nothing if it has been called."""
        if self._callback is not None:
            self._callback = None
            self._loop._note_cancelled()

    def fire(self) -> None:
        """Call it, once; by the loop."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Watch:
    """One descriptor that a loop watches.

    Attributes:
        fd: the descriptor.
        mask: what the poller watches for: READ, WRITE, both or 0.
        reader: called when it is readable, or broken.
        writer: called when it is writable, or broken.
    """

    __slots__ = ("fd", "mask", "reader", "writer")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.mask = 0
        self.reader: Callable[[], object] | None = None
        self.writer: Callable[[], object] | None = None


class ReadyLoop:
    """Waits for descriptors and times, and calls back, in the thread that runs it.

    Args:
        poller: how to wait for descriptors.

    Attributes:
        poller: which one it is: ``epoll`` or ``select``.
        current: the task that runs, or ran last.

    Raises:
        UsageError: the system has no epoll.
    """

    def __init__(self, poller: Poller = "auto") -> None:
        self.poller = choose_poller(poller)
        self._poller = make_poller(self.poller)
        self._watches: dict[int, Watch] = {}
        self._soon: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self.current: Task | None = None
        self._flag = Flag()
        self.add_reader(self._flag, self._flag.clear)

    # Descriptors.

    def add_reader(self, file: HasFileno | int, callback: Callable[..., object], *args: object) -> None:
        """Call back whenever a descriptor is readable, until `remove_reader`.

        Raises:
            UsageError: select(2) cannot watch a descriptor of this number.
        """
        watch = self.watch(file)
        watch.reader = partial(callback, *args) if args else callback
        self.expect(watch, READ)

    def remove_reader(self, file: HasFileno | int) -> bool:
        """Call back no more; tell whether it was called back."""
        watch = self._watches.get(_number(file))
        if watch is None or watch.reader is None:
            return False
        watch.reader = None
        self._forget(watch, READ)
        if watch.writer is None:
            self.unwatch(watch)
        return True

    def add_writer(self, file: HasFileno | int, callback: Callable[..., object], *args: object) -> None:
        """Call back whenever a descriptor is writable, until `remove_writer`; see `add_reader`."""
        watch = self.watch(file)
        watch.writer = partial(callback, *args) if args else callback
        self.expect(watch, WRITE)

    def remove_writer(self, file: HasFileno | int) -> bool:
        """Call back no more; tell whether it was called back."""
        watch = self._watches.get(_number(file))
        if watch is None or watch.writer is None:
            return False
        watch.writer = None
        self._forget(watch, WRITE)
        if watch.reader is None:
            self.unwatch(watch)
        return True

    def watch(self, file: HasFileno | int) -> Watch:
        """The watch of a descriptor, watched for nothing at first.

        Raises:
            UsageError: select(2) cannot watch a descriptor of this number.
        """
        number = _number(file)
        watch = self._watches.get(number)
        if watch is None:
            if self.poller == "select" and number >= FD_SETSIZE:
                raise UsageError(
                    f"select(2) cannot watch descriptor {number}, only those below {FD_SETSIZE}:"
                    " choose model='epoll' or allow fewer connections"
                )
            watch = self._watches[number] = Watch(number)
        return watch

    def expect(self, watch: Watch, what: int) -> None:
        """Have the poller watch for READ or WRITE, if it does not yet.

        Nobody has to end this: what is watched for stays so when its wait is over, for mostly the next
        wait is for the same, and to change it each time would be two system calls a message. The first
        event that nobody waits for ends it.
        """
        if not watch.mask & what:
            self._poller.set(watch.fd, watch.mask, watch.mask | what)
            watch.mask |= what

    def unwatch(self, watch: Watch) -> None:
        """Forget a descriptor; before it is closed, so that its number can be another's."""
        if self._watches.get(watch.fd) is watch:
            del self._watches[watch.fd]
        watch.reader = watch.writer = None
        if watch.mask:
            self._poller.set(watch.fd, watch.mask, 0)
            watch.mask = 0

    def _forget(self, watch: Watch, what: int) -> None:
        if watch.mask & what:
            self._poller.set(watch.fd, watch.mask, watch.mask & ~what)
            watch.mask &= ~what

    # Times and turns.

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """Call back after what is being done now."""
        self._soon.append((callback, args))

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        """The same from another thread or a signal handler: it wakes the loop; lost once that is closed."""
        self._soon.append((callback, args))
        self._flag.set()

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call back once, in so many seconds."""
        return self.call_at(time.monotonic() + seconds, callback, *args)

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call back once, at an instant of `time.monotonic`."""
        timer = Timer(self, partial(callback, *args) if args else callback)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _note_cancelled(self) -> None:
        # A heap lets go of its first entry only: the others wait until sweeping them all out pays.
        self._cancelled += 1
        if self._cancelled > _COMPACT and self._cancelled * 2 > len(self._timers):
            self._timers[:] = [entry for entry in self._timers if entry[2].due]
            heapq.heapify(self._timers)
            self._cancelled = 0

    # Tasks.

    def spawn(
        self, coroutine: Coroutine[Any, Any, object], done: Callable[[BaseException | None], object]
    ) -> Task:
        """Run a coroutine as a task, from soon on.

        Args:
            coroutine: it awaits only what pauses: `sleep`, a `ReadyWaiter`, transports over it. Another await
                is answered with `ForeignAwaitError`, raised there.
            done: called once when it has ended, with the error that it let out.
        """
        task = Task(self, coroutine, done)
        self.call_soon(task.start)
        return task

    async def sleep(self, seconds: float) -> None:
        """Let this task wait; see `hailer.sleep`."""
        turn = Turn(self)
        if seconds > 0:
            await turn.wait(time.monotonic() + seconds)
        else:
            turn.come()
            await turn.wait(None)

    # Running.

    def run(self, until: Callable[[], bool]) -> None:
        """Wait and call back until it is over.

        Signals that have a handler wake it, where this is the main thread. What a callback raises is
        logged; only what ends the program (KeyboardInterrupt, SystemExit) goes through.

        Args:
            until: asked after each turn whether it is over.
        """
        poll, watches, soon, timers = self._poller.poll, self._watches, self._soon, self._timers
        monotonic = time.monotonic
        with self._flag.set_by_signals():
            while not until():
                if soon:
                    wait: float | None = 0.0
                elif timers:
                    wait = timers[0][0] - monotonic()
                    if not 0.0 <= wait <= LONGEST_WAIT:
                        wait = 0.0 if wait < 0.0 else LONGEST_WAIT
                else:
                    wait = None
                for fd, event in poll(wait):
                    watch = watches.get(fd)
                    if watch is None:
                        continue  # forgotten in an earlier event of this turn
                    try:
                        if event != WRITE:  # readable or broken
                            if watch.reader is not None:
                                watch.reader()
                            elif watch.mask & READ:
                                self._forget(watch, READ)
                        if event != READ:  # writable or broken
                            if watch.writer is not None:
                                watch.writer()
                            elif watch.mask & WRITE:
                                self._forget(watch, WRITE)
                    except Exception as error:
                        _fault(error)
                if soon:
                    self._run_soon()
                if timers and timers[0][0] <= monotonic():
                    self._run_timers()

    def _run_soon(self) -> None:
        """Call what is there now; what these add has its turn after the descriptors."""
        for _ in range(len(self._soon)):
            callback, args = self._soon.popleft()
            try:
                callback(*args)
            except Exception as error:
                _fault(error)

    def _run_timers(self) -> None:
        now = time.monotonic()
        # What is set from now on waits for the next turn: else one that asks again and again with a deadline
        # that has passed would keep everybody else out.
        later = next(self._numbers)
        while self._timers and self._timers[0][0] <= now and self._timers[0][1] < later:
            timer = heapq.heappop(self._timers)[2]
            if not timer.due:
                self._cancelled -= 1
                continue
            try:
                timer.fire()
            except Exception as error:
                _fault(error)

    def close(self) -> None:
        """Release the loop's own descriptors; what others watch stays theirs to close.

        A child process may do so after a fork, and takes nothing away from its parent.
        """
        self._poller.close()
        self._flag.close()
        self._watches.clear()
        self._timers.clear()
        self._soon.clear()


def _number(file: HasFileno | int) -> int:
    return file if isinstance(file, int) else file.fileno()


def _fault(error: Exception) -> None:
    # The traceback only when asked for: the words of a peer may stand in it.
    log.error("a fault in hailer: %r", error, exc_info=log.isEnabledFor(logging.DEBUG))
