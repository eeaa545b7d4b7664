"""An event that a selector can wait for."""

from __future__ import annotations

import select
import signal
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hailer.runtime.sockets import poll_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Flag"]


class Flag:
    """An event that a selector can wait for, and that any thread or signal handler can set.

    threading.Event will not do: its lock may be held by the very code that a signal interrupts.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """The descriptor that is readable once the flag is set."""
        return self._reader.fileno()

    def set(self) -> None:
        """Set it; more than once is fine, and so is after close."""
        try:
            self._writer.send(b"\0")
        except OSError:
            pass  # full of earlier ones, or closed

    def clear(self) -> None:
        """Take it back."""
        try:
            while self._reader.recv(4096):
                pass
        except BlockingIOError:
            pass

    def wait(self, seconds: float | None) -> bool:
        """Wait until it is set, at most so long; tell whether it is."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        return poll_until(poll, None if seconds is None else time.monotonic() + seconds)

    @contextmanager
    def set_by_signals(self) -> Iterator[None]:
        """Let each signal that has a handler set it, as long as this lasts; nothing outside the main thread.

        A handler runs only when the main thread is back from the system, and a signal that comes just before
        a call that waits, or that the system gives to another thread, does not end that call.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def close(self) -> None:
        """Release the descriptors."""
        self._reader.close()
        self._writer.close()
