"""What the fork and prefork models share: a process without threads that looks after its children."""

from __future__ import annotations

import logging
import signal
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from hailer.runtime.model import ABORT_GRACE, AcceptTrouble
from hailer.runtime.process import Child, SharedCounters, check_fork, handled_signals, spawn
from hailer.runtime.ready import ReadyLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.errors import HailerError
    from hailer.net.listener import Listener
    from hailer.runtime.model import Policy
    from hailer.runtime.process import Parent

__all__ = ["Supervisor"]

log = logging.getLogger("hailer.server")

_REAP_PAUSE = 0.1
"""Seconds, at most, between two questions whether a child that has closed its pipe has ended."""


class Supervisor(ABC):
    """A process without threads that makes children, watches them, and ends with them.

    Args:
        policy: what to do with each connection; its counters are replaced by shared ones.
        children: how many children there are at most.
    """

    drain_signal: ClassVar[signal.Signals | None]
    """What tells a child to drain; None where it has but one connection, with which it ends."""

    abort_signal: ClassVar[signal.Signals]
    """What tells a child to end now."""

    def __init__(self, policy: Policy, children: int) -> None:
        check_fork()
        self.counters = SharedCounters(1 + children)
        self._count = self.counters.row(0)  # of this process
        self._policy = policy
        self._trouble = AcceptTrouble(self._count)
        self._listeners: list[Listener] = []
        self._children: set[Child] = set()
        self._loop: ReadyLoop | None = None
        self._handled: list[int] = []
        self._draining = False
        self._stopping = False
        self._failure: Exception | None = None
        self.lifeline: int | None = None

    def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """See `hailer.runtime.model.Model`."""
        self._listeners = list(listeners)
        try:
            self._loop = ReadyLoop()
        except BaseException:
            self._close_listeners()
            raise
        try:
            self._handled = handled_signals()
            if self.lifeline is not None:
                self._loop.add_reader(self.lifeline, self._orphaned)
            if not (self._draining or self._stopping):
                self._begin()
            ready()
            self._loop.run(lambda: self._draining or self._stopping or self._is_over())
            self._close_listeners()
            self._finish()
        finally:
            self._close_listeners()
            for child in self._children:  # only where something was raised
                child.send_signal(signal.SIGKILL)
                child.reap(wait=True)
                child.close()
            self._children.clear()
            self._loop.close()
            self._loop = None
        if self._failure is not None:
            raise self._failure

    def drain(self) -> None:
        """See `hailer.runtime.model.Model`."""
        self._draining = True
        self._wake()

    def stop(self) -> None:
        """See `hailer.runtime.model.Model`."""
        self._stopping = True
        self._wake()

    @abstractmethod
    def _begin(self) -> None:
        """Begin to serve."""

    def _is_over(self) -> bool:
        """Whether there is nothing left to serve."""
        return False

    @abstractmethod
    def _ended(self, child: Child, told: bytes) -> None:
        """Do what is to be done after a child has ended, which has told this."""

    def _fail(self, error: HailerError) -> None:
        """End with an error."""
        self._failure = error
        self.stop()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(_nothing)

    def _orphaned(self) -> None:
        assert self._loop is not None
        assert self.lifeline is not None
        self._loop.remove_reader(self.lifeline)
        log.warning("the process that started this server has gone: draining")
        self.drain()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    # Children.

    def _spawn(self, run: Callable[[Parent], int | None]) -> Child:
        """Make a child.

        Raises:
            OSError: there is no room for another.
        """
        assert self._loop is not None
        child = spawn(run, self._leave, self._handled)
        self._children.add(child)
        self._loop.add_reader(child, self._heard, child, bytearray())
        return child

    def _leave(self) -> None:
        """Close what is the parent's, in a child."""
        assert self._loop is not None
        self._loop.close()
        for child in self._children:
            child.close()

    def _heard(self, child: Child, told: bytearray) -> None:
        data = child.read()
        if data is None:
            return
        told += data
        if not data:
            assert self._loop is not None
            self._loop.remove_reader(child)
            self._reap(child, bytes(told), 0.001)

    def _reap(self, child: Child, told: bytes, pause: float) -> None:
        """Take the status of a child that has closed its pipe: it is ending, or will some time."""
        assert self._loop is not None
        if not child.reap():
            self._loop.call_later(pause, self._reap, child, told, min(2 * pause, _REAP_PAUSE))
            return
        child.close()
        self._children.discard(child)
        self._ended(child, told)

    # Ending.

    def _finish(self) -> None:
        """Have the children end: kindly until the deadline, then less so."""
        if not self._stopping:
            if self.drain_signal is not None:
                self._signal(self.drain_signal)
            self._wait(self._patience(), or_stopped=True)
        if self._children:
            if not self._stopping:
                self._note_abort()
            self._signal(self.abort_signal)
            self._wait(ABORT_GRACE)
        if self._children:
            log.error("%d processes do not end: they are killed", len(self._children))
            self._signal(signal.SIGKILL)
            self._wait(None)

    @abstractmethod
    def _patience(self) -> float:
        """The seconds that children get to end by themselves after a drain began."""

    @abstractmethod
    def _note_abort(self) -> None:
        """Log that what is left is aborted."""

    def _signal(self, number: int) -> None:
        for child in self._children:
            child.send_signal(number)

    def _wait(self, seconds: float | None, *, or_stopped: bool = False) -> None:
        """Wait until all children have ended, at most so long."""
        assert self._loop is not None
        late: list[bool] = []
        timer = None if seconds is None else self._loop.call_later(seconds, late.append, True)
        self._loop.run(lambda: not self._children or bool(late) or (or_stopped and self._stopping))
        if timer is not None:
            timer.cancel()


def _nothing() -> None:
    pass
