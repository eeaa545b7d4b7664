"""The iterative and thread models: blocking transports, one connection after another or a pool of threads."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, ClassVar

from hailer.connection import sleeper
from hailer.errors import ConnectionClosed
from hailer.net.oserrors import map_os_error
from hailer.runtime.blocking import BlockingTransport, foreign_await, run_to_end
from hailer.runtime.flag import Flag
from hailer.runtime.model import ABORT_GRACE, ACCEPT_PAUSE, AcceptTrouble, note_failure, serve_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.connection import Connection, Handler
    from hailer.net.address import RawAddress
    from hailer.net.listener import Listener
    from hailer.runtime.model import Policy

__all__ = ["IterativeModel", "ThreadModel"]

log = logging.getLogger("hailer.server")

Accepted = tuple[socket.socket, str, "RawAddress"]
"""A connection just accepted: socket, scheme, address of the peer."""


class BlockingModel(ABC):
    """The accept loop and the ending that the blocking models share.

    A thread of its own, the watchdog, holds the deadline of a drain, for the thread that serves may be
    inside a handler. It shuts the sockets of the connections down, which wakes whoever waits for them.

    Args:
        policy: what to do with each connection.
    """

    name: ClassVar[str]

    def __init__(self, policy: Policy) -> None:
        self._policy = replace(policy, handler=self._explained(policy.handler))
        self._trouble = AcceptTrouble(policy.counters)
        self._lock = threading.Lock()
        self._transports: set[BlockingTransport] = set()
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
            flags = [Flag() for _ in range(3)]
            for flag in flags:
                stack.callback(flag.close)
            self._changed, self._alarm, self._abort = flags
            stack.enter_context(self._changed.set_by_signals())
            watchdog = threading.Thread(target=self._watch, name="hailer-watchdog", daemon=True)
            watchdog.start()
            stack.callback(self._dismiss, watchdog)
            try:
                ready()
                self._accept_until_drained(listeners)
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
        """Have one connection served, now or by another thread."""

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

    def _accept_until_drained(self, listeners: Sequence[Listener]) -> None:
        changed = self._changed
        assert changed is not None
        counters = self._policy.counters
        paused_until = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(changed, selectors.EVENT_READ)
            for listener in listeners:
                listener.socket.setblocking(False)
                selector.register(listener.socket, selectors.EVENT_READ, listener)
            while not (self._draining or self._stopping):
                pause = paused_until - time.monotonic()
                if pause > 0:
                    changed.wait(pause)
                    changed.clear()
                    continue
                if counters.active >= self._policy.max_connections:
                    changed.wait(None)  # the next wait in the backlog until one ends
                    changed.clear()
                    continue
                for key, _ in selector.select():
                    if key.data is None:
                        changed.clear()
                    elif counters.active < self._policy.max_connections:
                        seconds = self._accept(key.data)
                        if seconds:
                            paused_until = time.monotonic() + seconds
                            break

    def _accept(self, listener: Listener) -> float:
        """Accept and dispatch one connection; give the seconds not to accept after it."""
        try:
            sock, address = listener.socket.accept()
        except (BlockingIOError, InterruptedError):
            return 0.0
        except OSError as error:
            try:
                return self._trouble.pause(error)
            except OSError:
                raise map_os_error(error, "accept", listener.endpoint.address_text) from error
        with self._lock:
            self._policy.counters.accepted += 1
            self._policy.counters.active += 1
        try:
            self._dispatch((sock, listener.endpoint.scheme, address))
        except RuntimeError as error:  # the system gives no more threads
            sock.close()
            self._release()
            self._trouble.note(str(error))
            return ACCEPT_PAUSE
        return 0.0

    # One connection.

    def _serve_one(self, accepted: Accepted) -> None:
        sock, scheme, address = accepted
        try:
            transport = BlockingTransport(sock, scheme, address)
        except OSError as error:
            log.debug("a connection was gone before it was served: %s", error)
            sock.close()
            return
        try:
            with self._lock:
                self._transports.add(transport)
                aborted = self._aborted
            if aborted:
                transport.abort()
            run_to_end(serve_connection(transport, self._policy), self.name)
        except Exception as error:  # a handler that goes on awaiting what it cannot
            note_failure(transport, self._policy, error)
        finally:
            with self._lock:
                self._transports.discard(transport)
            run_to_end(transport.close())

    def _release(self) -> None:
        with self._lock:
            self._policy.counters.active -= 1
        assert self._changed is not None
        self._changed.set()

    def _explained(self, handler: Handler) -> Handler:
        async def explained(connection: Connection) -> None:
            try:
                await handler(connection)
            except RuntimeError as error:
                clear = foreign_await(error, self.name)
                if clear is None:
                    raise
                raise clear from error

        return explained

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
            transports = list(self._transports)
        if transports and not self._stopping:
            log.warning("the time to drain is over: %d connections are aborted", len(transports))
        for transport in transports:
            transport.abort()
        assert self._abort is not None
        self._abort.set()
        self._notify()


class IterativeModel(BlockingModel):
    """One connection after another, in the thread that serves."""

    name = "iterative"

    def _dispatch(self, accepted: Accepted) -> None:
        token = sleeper.set(self._sleep)
        try:
            self._serve_one(accepted)
        finally:
            sleeper.reset(token)
            self._release()

    def _finish(self) -> None:
        pass  # the one handler has ended before this is called


class ThreadModel(BlockingModel):
    """A thread for each connection, from a pool of at most `max_connections` that are made when needed."""

    name = "thread"

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._waiting: SimpleQueue[Accepted | None] = SimpleQueue()
        self._idle = 0
        self._workers: set[threading.Thread] = set()

    def _dispatch(self, accepted: Accepted) -> None:
        with self._lock:
            reuse = self._idle > 0
            if reuse:
                self._idle -= 1
        if not reuse:
            worker = threading.Thread(target=self._work, name="hailer-worker", daemon=True)
            worker.start()
            with self._lock:
                self._workers.add(worker)
        self._waiting.put(accepted)

    def _work(self) -> None:
        sleeper.set(self._sleep)
        while (accepted := self._waiting.get()) is not None:
            try:
                self._serve_one(accepted)
            except BaseException as error:
                log.error("a handler ended its thread with %r; the server goes on", error)  # noqa: TRY400
            with self._lock:
                self._idle += 1  # before its place is given away: the next one gets this thread
            self._release()
        with self._lock:
            self._workers.discard(threading.current_thread())
        self._notify()

    def _finish(self) -> None:
        workers = list(self._workers)
        for _ in workers:
            self._waiting.put(None)
        assert self._changed is not None
        until: float | None = None
        while self._workers:
            now = time.monotonic()
            if self._aborted and until is None:
                until = now + ABORT_GRACE
            if until is not None and now >= until:
                log.error("%d handlers do not end: their threads are left behind", len(self._workers))
                break
            self._changed.wait(None if until is None else until - now)
            self._changed.clear()
        for worker in workers:
            if worker not in self._workers:
                worker.join()
