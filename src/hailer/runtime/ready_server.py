"""The select and epoll models: all connections in one thread, on an event loop of our own."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from hailer.connection import dialler, sleeper, turns
from hailer.errors import ConnectionClosed, HailerError, UsageError
from hailer.runtime.acceptor import LoopAcceptor
from hailer.runtime.blocking import explained
from hailer.runtime.model import ABORT_GRACE, ACCEPT_PAUSE, AcceptTrouble, note_failure, serve_connection
from hailer.runtime.poller import FD_SETSIZE, choose_poller
from hailer.runtime.ready import ReadyLoop
from hailer.runtime.ready_dial import dial_in
from hailer.runtime.ready_task import Task, Turn
from hailer.runtime.ready_transport import ReadyTransport
from hailer.runtime.ready_waiter import ReadyWaiter
from hailer.runtime.records import SocketRecords
from hailer.runtime.sockets import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import ContextVar

    from hailer.net.listener import Accepted, Listener
    from hailer.runtime.model import Policy
    from hailer.transport import RecordTransport, Transport

__all__ = ["ReadyModel", "open_leaf"]

log = logging.getLogger("hailer.server")

_SPARE_DESCRIPTORS = 8
"""Descriptors below FD_SETSIZE, beside those that are open, that connections leave to handlers."""


def open_leaf(loop: ReadyLoop, accepted: Accepted) -> Transport | RecordTransport:
    """Make the transport of what a listener has accepted, for a task of the loop.

    Raises:
        OSError: the connection has gone already.
        UsageError: select(2) cannot watch a descriptor of this number.
    """
    if accepted.kind == "record":
        return SocketRecords.of(accepted, ReadyWaiter(loop, accepted.socket))
    prepare(accepted.socket)
    return ReadyTransport(loop, accepted.socket, accepted.scheme, accepted.address)


class ReadyModel:
    """A task for each connection, in one thread without any other.

    A handler that does not wait for its connection, or computes for long, makes all others wait.

    Args:
        policy: what to do with each connection.
        poller: the system call that waits.

    Raises:
        UsageError: the system has no epoll.
    """

    def __init__(self, policy: Policy, poller: Literal["select", "epoll"]) -> None:
        self._poller = choose_poller(poller)
        self._policy = replace(policy, handler=explained(policy.handler, self._poller))
        self._trouble = AcceptTrouble(policy.counters)
        self._loop: ReadyLoop | None = None
        self._acceptor: LoopAcceptor | None = None
        self._tasks: dict[Task, Transport | RecordTransport] = {}
        self._failure: HailerError | None = None
        self._draining = False
        self._stopping = False
        self._changed = False

    def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """See `hailer.runtime.model.Model`.

        Raises:
            ListenError: accepting failed for a reason that does not pass.
        """
        most = self._policy.max_connections
        loop = self._loop = ReadyLoop(self._poller)
        if self._poller == "select":
            # Of a conversation in datagrams, the listener has a descriptor too.
            each = 2 if any(listener.forwards for listener in listeners) else 1
            most = max(1, min(most, (_watchable() - _SPARE_DESCRIPTORS) // each))
        acceptor = self._acceptor = LoopAcceptor(
            loop,
            listeners,
            self._trouble,
            self._serve_one,
            self._fail,
            most=most,
            active=lambda: len(self._tasks),
            once=self._policy.once,
        )
        # The tasks of the connections inherit these.
        context: dict[ContextVar[Any], object] = {
            sleeper: loop.sleep,
            dialler: dial_in(loop),
            turns: partial(Turn, loop),
        }
        tokens = [(variable, variable.set(value)) for variable, value in context.items()]
        try:
            acceptor.resume()
            ready()
            self._run(
                lambda: self._draining or self._stopping or (acceptor.over and not self._tasks),
            )
            acceptor.close()
            self._run(lambda: not self._tasks or self._stopping, self._policy.drain)
            if self._tasks and not self._stopping:
                log.warning("the time to drain is over: %d connections are aborted", len(self._tasks))
        finally:
            acceptor.close()
            self._abort()
            self._loop = None
            for variable, token in tokens:
                variable.reset(token)
            loop.close()
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

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._note_change)

    def _note_change(self) -> None:
        self._changed = True

    def _run(self, until: Callable[[], bool], seconds: float | None = None) -> None:
        """Run the loop until it is so, at most for so long."""
        assert self._loop is not None
        deadline = None if seconds is None else time.monotonic() + seconds
        # At the very deadline: nothing would end the loop again after a timer that is a moment early.
        timer = None if deadline is None else self._loop.call_at(deadline, self._note_change)
        while not until() and (deadline is None or time.monotonic() < deadline):
            self._changed = False
            self._loop.run(lambda: self._changed)
        if timer is not None:
            timer.cancel()

    # One connection.

    def _serve_one(self, accepted: Accepted) -> float:
        loop = self._loop
        assert loop is not None
        try:
            leaf = open_leaf(loop, accepted)
        except UsageError as error:
            accepted.close()
            self._trouble.note(str(error))
            return ACCEPT_PAUSE
        except OSError as error:
            log.debug("a connection was gone before it was served: %s", error)
            accepted.close()
            return 0.0
        self._policy.counters.accepted += 1
        self._policy.counters.active += 1
        task = loop.spawn(serve_connection(leaf, self._policy), lambda error: self._ended(task, error))
        self._tasks[task] = leaf
        return 0.0

    def _ended(self, task: Task, error: BaseException | None) -> None:
        leaf = self._tasks.pop(task)
        self._policy.counters.active -= 1
        if isinstance(error, Exception):  # of a handler that goes on awaiting what it cannot
            note_failure(leaf, self._policy, error)
        assert self._acceptor is not None
        self._acceptor.resume()
        if not self._tasks:
            self._changed = True

    def _fail(self, error: HailerError) -> None:
        self._failure = error
        self.stop()

    # Ending.

    def _abort(self) -> None:
        """Break what is left; handlers that do not end even then are counted in the log."""
        if not self._tasks:
            return
        for leaf in self._tasks.values():
            leaf.abort()
        # Those that wait for their connection end by its error, the others by this one.
        self._run(lambda: not self._tasks, ABORT_GRACE / 10)
        for task in self._tasks:
            task.cancel(
                ConnectionClosed("the server was stopped while a handler slept: nothing is left to do")
            )
        self._run(lambda: not self._tasks, ABORT_GRACE)
        if self._tasks:
            log.error("%d handlers do not end: they are given up", len(self._tasks))
            for task in self._tasks:
                task.close()
            self._policy.counters.active -= len(self._tasks)
            self._tasks.clear()


def _watchable() -> int:
    """How many descriptors that select(2) can watch are not open yet."""
    return sum(not _is_open(number) for number in range(FD_SETSIZE))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
