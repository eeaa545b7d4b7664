"""Processes of the fork and prefork models: made with care, watched by a pipe, counted in shared memory.

A process that forks should have no other thread, for a lock that another thread holds stays locked in
the child for ever. So those who fork here are supervisors: one thread, a `ReadyLoop`, and nothing else.
"""

from __future__ import annotations

import _thread
import fcntl
import logging
import mmap
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from hailer.errors import ListenError, UsageError
from hailer.runtime.model import Counters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from hailer.net.listener import Listener
    from hailer.runtime.model import Model
    from hailer.runtime.supervisor import Supervisor

__all__ = [
    "DRAIN_SIGNAL",
    "STOP_SIGNAL",
    "BackgroundProcess",
    "Child",
    "Parent",
    "SharedCounters",
    "check_fork",
    "handled_signals",
    "obey_signals",
    "spawn",
]

log = logging.getLogger("hailer.server")

DRAIN_SIGNAL = signal.SIGTERM
"""Has a worker or a supervisor drain."""

STOP_SIGNAL = getattr(signal, "SIGQUIT", signal.SIGTERM)
"""Has one stop: a signal of its own, for two of one kind that follow each other closely become one."""


def check_fork() -> None:
    """Refuse where there is no fork.

    Raises:
        UsageError: the system has none.
    """
    if not hasattr(os, "fork"):
        raise UsageError("this system has no fork: choose another model, such as thread or asyncio")


class Child:
    """A child process, as its parent sees it.

    Its end shows as the end of a pipe, which a selector can wait for, outside the main thread too. Only
    this process is waited for, never just any: the program may have children of its own.

    Attributes:
        pid: its number.
        started: when, by the monotonic clock.
        status: its exit status, or minus the signal that killed it; None as long as it lives.
    """

    __slots__ = ("_reader", "pid", "started", "status")

    def __init__(self, pid: int, reader: int) -> None:
        self.pid = pid
        self.started = time.monotonic()
        self.status: int | None = None
        self._reader = reader

    def __repr__(self) -> str:
        return f"<Child {self.pid}>"

    def fileno(self) -> int:
        """The descriptor that is readable when the child has told something, and when it has ended."""
        return self._reader

    def read(self) -> bytes | None:
        """Take what the child has told; ``b""`` when it has gone, None when there is nothing now."""
        try:
            return os.read(self._reader, 65536)
        except BlockingIOError:
            return None

    def reap(self, *, wait: bool = False) -> bool:
        """Take the child's status, so that it is no zombie any more; tell whether it has ended.

        Args:
            wait: until it has.
        """
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            except ChildProcessError:
                # Somebody else has reaped it, or the program ignores SIGCHLD.
                self.status = 0
            else:
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def send_signal(self, number: int) -> None:
        """Signal it, if it has not been reaped: until then its number is no other's."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of the pipe; may be called twice."""
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def end(self) -> str:
        """How it ended, in words."""
        if self.status is None or self.status >= 0:
            return f"ended with status {self.status or 0}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-self.status).name}"
        return f"was killed by signal {-self.status}"


def handled_signals() -> list[int]:
    """The signals for which this process has handlers in Python; to find them takes a while."""
    return [number for number in signal.valid_signals() if callable(signal.getsignal(number))]


class Parent:
    """The process that made this one, as seen from here: there is a pipe to it."""

    __slots__ = ("_writer",)

    def __init__(self, writer: int) -> None:
        self._writer = writer

    def tell(self, data: bytes) -> None:
        """Let it read this."""
        while data:
            data = data[os.write(self._writer, data) :]

    def when_gone(self, callback: Callable[[], object]) -> None:
        """Call back, in a thread of its own, when it has ended, even by SIGKILL; from the main thread.

        The thread is made only then, where the system can signal the end of a pipe (SIGIO): this may be one
        of a thousand children.
        """
        if not hasattr(signal, "SIGIO") or not hasattr(fcntl, "FASYNC"):
            threading.Thread(target=self._wait, args=(callback,), name="hailer-parent", daemon=True).start()
            return

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            if self._has_gone(0):
                signal.signal(signal.SIGIO, signal.SIG_IGN)
                # The bare function, for threading has locks that the signal may have come in the middle of.
                _thread.start_new_thread(callback, ())

        signal.signal(signal.SIGIO, on_signal)
        fcntl.fcntl(self._writer, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(self._writer, fcntl.F_GETFL)
        fcntl.fcntl(self._writer, fcntl.F_SETFL, flags | fcntl.FASYNC)
        if self._has_gone(0):  # before the system was asked to tell
            os.kill(os.getpid(), signal.SIGIO)

    def _wait(self, callback: Callable[[], object]) -> None:
        self._has_gone(None)
        callback()

    def _has_gone(self, milliseconds: int | None) -> bool:
        poll = select.poll()
        poll.register(self._writer, 0)  # that nobody reads any more is an error, of which it always tells
        return bool(poll.poll(milliseconds))


def spawn(
    run: Callable[[Parent], int | None], leave: Callable[[], object], handled: Sequence[int] | None = None
) -> Child:
    """Run a function in a child process, which ends with it.

    The child has the default signal handlers, but for SIGINT and SIGHUP: a terminal sends these to the whole
    group, and it is the parent that decides. What the parent has registered to be done at its own end is not
    done; standard output and error are flushed. Subprocesses do not inherit the pipe.

    Args:
        run: gets the parent, to tell it something; gives the exit status, 0 when None.
        leave: called in the child first, to close what is the parent's.
        handled: what `handled_signals` gave, from one who makes many children.

    Raises:
        OSError: the system has no room for another process or pipe.
    """
    _flush()  # or both would write what is in the buffers now
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    if handled is None:
        handled = handled_signals()
    # A signal between the fork and the change of handlers would run the parent's handler in the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    try:
        try:
            pid = os.fork()
        except BaseException:
            os.close(reader)
            os.close(writer)
            raise
        if pid == 0:
            _live(run, leave, reader, writer, handled, mask)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(writer)
    return Child(pid, reader)


def _live(
    run: Callable[[Parent], int | None],
    leave: Callable[[], object],
    reader: int,
    writer: int,
    handled: Sequence[int],
    mask: set[int | signal.Signals],
) -> None:
    """The child's life; it never returns."""
    status = 1
    try:
        os.close(reader)
        signal.set_wakeup_fd(-1)
        for number in handled:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, _leave_to_parent)
        # A child of the child's own must not hold the pipe open beyond its end.
        os.register_at_fork(after_in_child=partial(_close_quietly, writer))
        leave()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        status = run(Parent(writer)) or 0
    except BaseException as error:
        log.error("process %d ended with %r", os.getpid(), error)  # noqa: TRY400 (it may hold words of a peer)
    finally:
        try:
            _flush()
        finally:
            os._exit(status)


def _leave_to_parent(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal; programs that this one executes do not."""


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            # Closed, or nobody reads it: not the business of a server.
            with suppress(OSError, ValueError):
                stream.flush()


def _close_quietly(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


# What a child obeys.


def obey_signals(model: Model) -> None:
    """Let SIGTERM drain a model and SIGQUIT stop it: for the main thread of a child."""
    signal.signal(DRAIN_SIGNAL, lambda _number, _frame: model.drain())
    if STOP_SIGNAL != DRAIN_SIGNAL:
        signal.signal(STOP_SIGNAL, lambda _number, _frame: model.stop())


# Counters.

_NAMES = ("accepted", "active", "accept_failures", "handler_failures")


def _cell(index: int) -> Any:
    def get(row: _Row) -> int:
        return row._cells[index]

    def put(row: _Row, value: int) -> None:
        row._cells[index] = value

    return property(get, put)


class _Row(Counters):
    """The counters of one process; it alone writes them, so nothing is lost."""

    __slots__ = ("_cells",)

    def __init__(self, cells: memoryview[int]) -> None:
        self._cells = cells

    accepted: int = _cell(0)
    active: int = _cell(1)
    accept_failures: int = _cell(2)
    handler_failures: int = _cell(3)


def _sum(index: int) -> Any:
    return property(lambda counters: sum(counters._cells[index :: len(_NAMES)]))


class SharedCounters(Counters):
    """The counters of several processes that were forked from one, added up: read only.

    Args:
        rows: how many processes count.
    """

    __slots__ = ("_cells",)

    def __init__(self, rows: int) -> None:
        # Anonymous memory that is shared with the children, aligned, so that each number is read whole.
        self._cells = memoryview(mmap.mmap(-1, rows * len(_NAMES) * 8)).cast("q")

    def row(self, index: int) -> Counters:
        """The counters of one process, for it to write."""
        start = index * len(_NAMES)
        return _Row(self._cells[start : start + len(_NAMES)])

    accepted: int = _sum(0)
    active: int = _sum(1)
    accept_failures: int = _sum(2)
    handler_failures: int = _sum(3)


# A server in the background.

_READY = b"\0"


class BackgroundProcess:
    """A supervisor that serves in a process of its own, for a program that goes on meanwhile.

    Args:
        model: a fork or prefork model; it serves in the child.
        listeners: theirs from now on; this process closes its own descriptors.
    """

    def __init__(self, model: Supervisor, listeners: Sequence[Listener]) -> None:
        lifeline, self._lifeline = os.pipe()
        own = self._lifeline

        def run(parent: Parent) -> int:
            obey_signals(model)
            model.lifeline = lifeline
            for listener in listeners:
                listener.belong_to(os.getpid())
            try:
                model.serve(listeners, partial(parent.tell, _READY))
            except Exception as error:
                parent.tell(f"{type(error).__name__}\n{error}".encode(errors="replace"))
                return 1
            return 0

        try:
            self._child = spawn(run, lambda: os.close(own))
        except BaseException:
            os.close(own)
            raise
        finally:
            os.close(lifeline)
        for listener in listeners:
            listener.belong_to(self._child.pid)
            listener.close()
        self._told = b""
        self._listen(lambda: self._told.startswith(_READY))

    def drain(self) -> None:
        """See `hailer.runtime.model.Model`."""
        self._child.send_signal(DRAIN_SIGNAL)

    def stop(self) -> None:
        """See `hailer.runtime.model.Model`."""
        self._child.send_signal(STOP_SIGNAL)

    def join(self) -> Exception | None:
        """Wait for the end; give what it failed with."""
        self._listen(lambda: False)
        self._child.reap(wait=True)
        self._child.close()
        _close_quietly(self._lifeline)
        name, newline, text = self._told.removeprefix(_READY).decode().partition("\n")
        if newline:
            if name == ListenError.__name__:
                return ListenError(text)
            return RuntimeError(f"the serving process failed with {name}: {text}")
        if self._child.status:
            return RuntimeError(f"the serving process {self._child.end()}: its log says more")
        return None

    def _listen(self, enough: Callable[[], bool]) -> None:
        """Read what the child tells, until that is enough or it has gone."""
        poll = select.poll()
        poll.register(self._child, select.POLLIN)
        while not enough():
            poll.poll()
            data = self._child.read()
            if data == b"":
                return
            self._told += data or b""
