"""The fork and prefork models: a process for each connection, or a few that share the listeners."""

from __future__ import annotations

import _thread
import logging
import os
import signal
import time
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hailer.connection import dialler, sleeper
from hailer.errors import ConnectionClosed, ListenError
from hailer.runtime.acceptor import LoopAcceptor
from hailer.runtime.blocking import explained, run_to_end
from hailer.runtime.blocking_server import ThreadModel, open_leaf
from hailer.runtime.dialled import dial_blocking
from hailer.runtime.flag import Flag
from hailer.runtime.model import ABORT_GRACE, ACCEPT_PAUSE, note_failure, serve_connection
from hailer.runtime.process import (
    DRAIN_SIGNAL,
    STOP_SIGNAL,
    Child,
    Parent,
    obey_signals,
)
from hailer.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.net.listener import Accepted, Listener
    from hailer.runtime.model import Policy

__all__ = ["ForkModel", "PreforkModel"]

log = logging.getLogger("hailer.server")

_QUICK = 1.0
"""Seconds: a worker that lives shorter than this has died at its start."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
"""Seconds before a worker is replaced that was the second in a row to die at its start, and later ones."""


class ForkModel(Supervisor):
    """A child process for each connection; `max_connections` limits the children.

    Args:
        policy: what to do with each connection.
    """

    drain_signal = None
    abort_signal = STOP_SIGNAL

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy, policy.max_connections)
        self._rows: dict[Child, int] = {}
        self._free = list(range(policy.max_connections, 0, -1))  # rows of the counters
        self._acceptor: LoopAcceptor | None = None
        self._waiting: deque[Accepted] = deque()  # for room to fork

    def _begin(self) -> None:
        assert self._loop is not None
        self._acceptor = LoopAcceptor(
            self._loop,
            self._listeners,
            self._trouble,
            self._take,
            self._fail,
            most=self._policy.max_connections,
            active=lambda: self._count.active,
            once=self._policy.once,
        )
        self._acceptor.resume()

    def _take(self, accepted: Accepted) -> float:
        self._count.accepted += 1
        self._count.active += 1
        return self._start(accepted)

    def _start(self, accepted: Accepted) -> float:
        """Have a child serve a connection; give the seconds not to accept after it."""
        row = self._free[-1]
        try:
            child = self._spawn(lambda parent: self._serve_one(accepted, row, parent))
        except OSError as error:
            # The peer is not sent away: there will be room again.
            self._trouble.note(f"fork: {error.strerror}")
            self._waiting.append(accepted)
            assert self._loop is not None
            self._loop.call_later(ACCEPT_PAUSE, self._retry)
            return ACCEPT_PAUSE
        self._rows[child] = self._free.pop()
        accepted.close()
        return 0.0

    def _retry(self) -> None:
        if self._waiting:
            self._start(self._waiting.popleft())

    def _leave(self) -> None:
        super()._leave()
        # Not the acceptor: it would have the parent's loop, which this child shares, watch no more.
        for listener in self._listeners:
            listener.close()
        for accepted in self._waiting:
            accepted.close()

    def _serve_one(self, accepted: Accepted, row: int, parent: Parent) -> None:
        """Be the process of one connection."""
        policy = replace(
            self._policy,
            counters=self.counters.row(row),
            handler=explained(self._policy.handler, "fork"),
        )
        try:
            leaf = open_leaf(accepted)
        except OSError as error:
            log.debug("a connection was gone before it was served: %s", error)
            return
        aborted = Flag()

        def abort() -> None:
            leaf.abort()
            aborted.set()

        async def sleep(seconds: float) -> None:
            if aborted.wait(seconds):
                raise ConnectionClosed("the server was stopped while a handler slept: nothing is left to do")

        def drain() -> None:
            # Also where nobody is left to see to it that this process ends.
            time.sleep(policy.drain)
            abort()
            time.sleep(ABORT_GRACE)
            os._exit(1)

        # In a thread, for the signal may have come in the middle of what abort needs, such as its lock; by
        # the bare function, for threading has locks of its own.
        signal.signal(DRAIN_SIGNAL, lambda _number, _frame: _thread.start_new_thread(drain, ()))
        signal.signal(STOP_SIGNAL, lambda _number, _frame: _thread.start_new_thread(abort, ()))
        parent.when_gone(drain)
        sleeper.set(sleep)
        dialler.set(dial_blocking)
        try:
            run_to_end(serve_connection(leaf, policy), "fork")
        except Exception as error:  # a handler that goes on awaiting what it cannot
            note_failure(leaf, policy, error)
            run_to_end(leaf.close())

    def _ended(self, child: Child, _told: bytes) -> None:
        self._free.append(self._rows.pop(child))
        self._count.active -= 1
        if child.status and child.status < 0 and not (self._draining or self._stopping):
            self._count.handler_failures += 1
            log.error("process %d of a connection %s", child.pid, child.end())
        self._retry()
        if self._acceptor is not None and not self._waiting:
            self._acceptor.resume()

    def _close_listeners(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
        super()._close_listeners()

    def _is_over(self) -> bool:
        return self._acceptor is not None and self._acceptor.over and not self._count.active

    def _finish(self) -> None:
        while self._waiting:
            self._waiting.popleft().close()
            self._count.active -= 1
        super()._finish()

    def _patience(self) -> float:
        return self._policy.drain

    def _note_abort(self) -> None:
        log.warning("the time to drain is over: %d connections are aborted", len(self._children))


class PreforkModel(Supervisor):
    """A few worker processes that share the listeners; each serves with a pool of threads.

    So a blocking handler is fine, and an idle client does not hold a whole process. With as many workers
    as connections it is the classic one, where a process has one connection at a time. A worker that
    dies is replaced; one that drains because somebody sent it SIGTERM, too.

    Args:
        policy: what to do with each connection; every worker takes its share of `max_connections`.
    """

    drain_signal = DRAIN_SIGNAL
    abort_signal = STOP_SIGNAL

    def __init__(self, policy: Policy) -> None:
        workers = 1 if policy.once else min(policy.workers or _processors(), policy.max_connections)
        super().__init__(policy, workers)
        self._workers: dict[Child, int] = {}
        self._deaths = [0] * workers  # at the start, in a row
        self._share = -(-policy.max_connections // workers)

    def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """See `hailer.runtime.model.Model`."""
        for listener in listeners:
            listener.single = True  # no worker knows what the others have heard from a peer
        super().serve(listeners, ready)

    def _begin(self) -> None:
        for index in range(len(self._deaths)):
            self._start(index)

    def _start(self, index: int) -> None:
        if self._draining or self._stopping:
            return
        assert self._loop is not None
        try:
            self._workers[self._spawn(partial(self._work, index))] = index
        except OSError as error:
            self._trouble.note(f"fork: {error.strerror}")
            self._loop.call_later(ACCEPT_PAUSE, self._start, index)

    def _work(self, index: int, parent: Parent) -> int:
        """Be a worker."""
        counters = self.counters.row(1 + index)
        model = _Worker(replace(self._policy, counters=counters, max_connections=self._share))
        obey_signals(model)

        def orphaned() -> None:
            log.warning("the process that made worker %d has gone: the worker drains", os.getpid())
            model.drain()

        parent.when_gone(orphaned)
        try:
            model.serve(self._listeners, _nothing)
        except ListenError as error:
            parent.tell(str(error).encode(errors="replace"))
            return 1
        return 0

    def _ended(self, child: Child, told: bytes) -> None:
        index = self._workers.pop(child)
        self.counters.row(1 + index).active = 0  # it may have died with some
        if told:
            self._fail(ListenError(told.decode()))
        if self._policy.once and child.status == 0:
            self.drain()
        if self._draining or self._stopping:
            return
        quick = time.monotonic() - child.started < _QUICK
        self._deaths[index] = self._deaths[index] + 1 if quick else 0
        pause = 0.0
        if self._deaths[index] > 1:
            pause = min(_FIRST_PAUSE * 2 ** (self._deaths[index] - 2), _LONGEST_PAUSE)
        when = f"in {pause:.1f} s" if pause else "at once"
        log.warning("worker %d %s: another takes its place %s", child.pid, child.end(), when)
        assert self._loop is not None
        self._loop.call_later(pause, self._start, index)

    def _patience(self) -> float:
        # Workers hold the deadline themselves, abort at it, and give their handlers a moment after that.
        return self._policy.drain + 2 * ABORT_GRACE

    def _note_abort(self) -> None:
        log.warning("%d workers do not end in time: they are stopped", len(self._children))


class _Worker(ThreadModel):
    name = "prefork"
    leftover = "they end with their process"


def _processors() -> int:
    """As many as this process may use, but 2 at least, so that one can wait."""
    if hasattr(os, "sched_getaffinity"):
        return max(2, len(os.sched_getaffinity(0)))
    return max(2, os.cpu_count() or 1)


def _nothing() -> None:
    pass
