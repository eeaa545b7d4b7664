"""The iterative and thread models: blocking transports, one connection after another or a pool of threads."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, ClassVar

from hailer.connection import dialler, sleeper
from hailer.errors import ConnectionClosed, ListenError
from hailer.runtime.acceptor import BlockingAcceptor
from hailer.runtime.blocking import BlockingTransport, explained, run_to_end
from hailer.runtime.dialled import dial_blocking
from hailer.runtime.flag import Flag
from hailer.runtime.model import ABORT_GRACE, ACCEPT_PAUSE, AcceptTrouble, note_failure, serve_connection
from hailer.runtime.records import SocketRecords
from hailer.runtime.sockets import prepare
from hailer.runtime.waiting import PollWaiter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.net.listener import Accepted, Listener
    from hailer.runtime.model import Policy

__all__ = ["IterativeModel", "ThreadModel", "open_leaf"]

log = logging.getLogger("hailer.server")


def open_leaf(accepted: Accepted) -> BlockingTransport | SocketRecords:
    """Make the transport of what a listener has accepted, for the thread that calls this.

    Raises:
        OSError: the connection has gone already.
    """
    if accepted.kind == "record":
        return SocketRecords.of(accepted, PollWaiter(accepted.socket))
    prepare(accepted.socket)
    return BlockingTransport(accepted.socket, accepted.scheme, accepted.address)


class BlockingModel(ABC):
    """The accept loop and the ending that the blocking models share.

    A thread of its own, the watchdog, holds the deadline of a drain, for the thread that serves may be
    inside a handler. It shuts the sockets of the connections down, which wakes whoever waits for them.

    Args:
        policy: what to do with each connection.
    """

    name: ClassVar[str]

    def __init__(self, policy: Policy) -> None:
        self._policy = replace(policy, handler=explained(policy.handler, self.name))
        self._trouble = AcceptTrouble(policy.counters)
        self._lock = threading.Lock()
        self._leafs: set[BlockingTransport | SocketRecords] = set()
        self._draining = False
        self._stopping = False
        self._aborted = False
        self._done = False
        # Made when serving begins: what changed for the accept loop, for the watchdog, and for sleepers.
        self._changed: Flag | None = None
        self._alarm: Flag | None = None
        self._abort: Flag | None = None

    def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """See `hailer.runtime.model.Model`."""
        with ExitStack() as stack:
            self._changed, self._alarm, self._abort = (stack.enter_context(closing(Flag())) for _ in range(3))
            stack.enter_context(self._changed.set_by_signals())
            watchdog = threading.Thread(target=self._watch, name="hailer-watchdog", daemon=True)
            try:
                watchdog.start()
            except RuntimeError as error:
                raise ListenError(
                    f"no thread can be started ({error}): end other programs or raise the limit (ulimit -u)"
                ) from error
            stack.callback(self._dismiss, watchdog)
            try:
                ready()
                self._accept_until_drained(listeners, self._changed)
            except BaseException:
                self.stop()
                raise
            finally:
                for listener in listeners:
                    listener.close()
                self._finish()

    def drain(self) -> None:
        """See `hailer.runtime.model.Model`."""
        self._draining = True
        self._notify()

    def stop(self) -> None:
        """See `hailer.runtime.model.Model`."""
        self._stopping = True
        self._notify()

    @abstractmethod
    def _dispatch(self, accepted: Accepted) -> None:
        """Have one connection served, now or by another thread.

        Raises:
            RuntimeError: the system gives no more threads.
        """

    @abstractmethod
    def _finish(self) -> None:
        """Wait for the handlers that still run; the watchdog aborts them in time."""

    def _notify(self) -> None:
        for flag in (self._changed, self._alarm):
            if flag is not None:
                flag.set()

    def _dismiss(self, watchdog: threading.Thread) -> None:
        self._done = True
        self._notify()
        watchdog.join()

    # Accepting.

    def _accept_until_drained(self, listeners: Sequence[Listener], changed: Flag) -> None:
        counters = self._policy.counters
        acceptor = BlockingAcceptor(
            listeners,
            changed,
            self._trouble,
            self._accept,
            most=self._policy.max_connections,
            active=lambda: counters.active,
            once=self._policy.once,
        )
        acceptor.run(lambda: self._draining or self._stopping)

    def _accept(self, accepted: Accepted) -> float:
        with self._lock:
            self._policy.counters.accepted += 1
            self._policy.counters.active += 1
        try:
            self._dispatch(accepted)
        except RuntimeError as error:
            accepted.close()
            self._release()
            self._trouble.note(str(error))
            return ACCEPT_PAUSE
        return 0.0

    # One connection.

    def _serve_one(self, accepted: Accepted) -> None:
        try:
            leaf = open_leaf(accepted)
        except OSError as error:
            log.debug("a connection was gone before it was served: %s", error)
            accepted.close()
            return
        try:
            with self._lock:
                self._leafs.add(leaf)
                aborted = self._aborted
            if aborted:
                leaf.abort()
            run_to_end(serve_connection(leaf, self._policy), self.name)
        except Exception as error:  # a handler that goes on awaiting what it cannot
            note_failure(leaf, self._policy, error)
        finally:
            with self._lock:
                self._leafs.discard(leaf)
            run_to_end(leaf.close())

    def _release(self) -> None:
        with self._lock:
            self._policy.counters.active -= 1
        assert self._changed is not None
        self._changed.set()

    async def _sleep(self, seconds: float) -> None:
        assert self._abort is not None
        if self._abort.wait(seconds):
            raise ConnectionClosed("the server was stopped while a handler slept: nothing is left to do")

    # Ending.

    def _watch(self) -> None:
        assert self._alarm is not None
        deadline: float | None = None
        while True:
            self._alarm.clear()
            if self._done:
                return
            now = time.monotonic()
            if self._draining and deadline is None:
                deadline = now + self._policy.drain
            if self._stopping or (deadline is not None and now >= deadline):
                break
            self._alarm.wait(None if deadline is None else deadline - now)
        with self._lock:
            self._aborted = True
            leafs = list(self._leafs)
        if leafs and not self._stopping:
            log.warning("the time to drain is over: %d connections are aborted", len(leafs))
        for leaf in leafs:
            leaf.abort()
        assert self._abort is not None
        self._abort.set()
        self._notify()


class IterativeModel(BlockingModel):
    """One connection after another, in the thread that serves."""

    name = "iterative"

    def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """See `hailer.runtime.model.Model`."""
        for listener in listeners:
            listener.single = True  # nobody would carry further datagrams to the one that is served
        super().serve(listeners, ready)

    def _dispatch(self, accepted: Accepted) -> None:
        token, other = sleeper.set(self._sleep), dialler.set(dial_blocking)
        try:
            self._serve_one(accepted)
        finally:
            sleeper.reset(token)
            dialler.reset(other)
            self._release()

    def _finish(self) -> None:
        pass  # the one handler has ended before this is called

    def _watch(self) -> None:
        super()._watch()
        assert self._alarm is not None
        until = time.monotonic() + ABORT_GRACE
        while not self._done and (left := until - time.monotonic()) > 0:
            self._alarm.clear()
            if not self._done:
                self._alarm.wait(left)
        if not self._done:
            log.error("the handler does not end, and so the server does not: interrupt it by more signals")


_MOST_IDLE = 16
"""Threads without a connection that wait for the next one; those beyond end at once."""

_IDLE_TIMEOUT = 1.0
"""Seconds for which they wait."""


class ThreadModel(BlockingModel):
    """A thread for each connection, from a pool of at most `max_connections` that are made when needed.

    Threads that have become idle are kept for a moment and for few connections only.
    """

    name = "thread"
    leftover: ClassVar[str] = "their threads are left behind"
    """What becomes of handlers that do not end."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._waiting: SimpleQueue[Accepted | None] = SimpleQueue()
        self._idle = 0  # threads that nothing has been put into the queue for
        self._workers: set[threading.Thread] = set()
        self._ended: list[threading.Thread] = []

    def _dispatch(self, accepted: Accepted) -> None:
        with self._lock:
            reuse = self._idle > 0
            if reuse:
                self._idle -= 1
        self._join_ended()
        if not reuse:
            worker = threading.Thread(target=self._work, name="hailer-worker", daemon=True)
            worker.start()
            with self._lock:
                self._workers.add(worker)
        self._waiting.put(accepted)

    def _work(self) -> None:
        sleeper.set(self._sleep)
        dialler.set(dial_blocking)
        while (accepted := self._next()) is not None:
            try:
                self._serve_one(accepted)
            except BaseException as error:
                log.error("a handler ended its thread with %r; the server goes on", error)  # noqa: TRY400
            del accepted
            with self._lock:
                stays = self._idle < _MOST_IDLE
                if stays:
                    self._idle += 1  # before its place is given away: the next one gets this thread
            self._release()
            if not stays:
                break
        with self._lock:
            self._workers.discard(threading.current_thread())
            self._ended.append(threading.current_thread())
        self._notify()

    def _next(self) -> Accepted | None:
        """Wait for a connection; None when this thread is of no more use."""
        while True:
            try:
                return self._waiting.get(timeout=_IDLE_TIMEOUT)
            except Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        return None
                # All that wait have been counted on: something is about to come for this one.

    def _join_ended(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
        for thread in ended:
            thread.join()

    def _finish(self) -> None:
        for _ in range(len(self._workers)):
            self._waiting.put(None)
        assert self._changed is not None
        until: float | None = None
        while self._workers:
            now = time.monotonic()
            if self._aborted and until is None:
                until = now + ABORT_GRACE
            if until is not None and now >= until:
                log.error("%d handlers do not end: %s", len(self._workers), self.leftover)
                break
            self._changed.wait(None if until is None else until - now)
            self._changed.clear()
        self._join_ended()
