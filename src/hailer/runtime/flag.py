"""An event that a selector can wait for."""

from __future__ import annotations

import select
import socket

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
        return bool(poll.poll(None if seconds is None else max(0.0, seconds) * 1000))

    def close(self) -> None:
        """Release the descriptors."""
        self._reader.close()
        self._writer.close()
