"""Which sockets are ready, with the numbers of epoll: epoll itself, or what else the system has."""

from __future__ import annotations

import select
import selectors
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from hailer.runtime.poller import READ, WRITE, make_poller

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["READ", "WRITE", "Poller", "open_poller"]


class Poller(Protocol):
    """See `hailer.runtime.poller`."""

    def set(self, fd: int, old: int, new: int, /) -> None:
        """Change what is watched for on a descriptor: 0, READ, WRITE or both."""

    def poll(self, wait: float | None) -> Sequence[tuple[int, int]]:
        """Wait, at most for so many seconds; give descriptors with READ, WRITE and the numbers of errors."""

    def close(self) -> None:
        """Release it."""


def open_poller() -> Poller:
    """Make the best one of this system; none has a limit that thousands of clients would meet."""
    return make_poller("epoll") if hasattr(select, "epoll") else _Selector()


class _Selector:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.close = self._selector.close

    def set(self, fd: int, old: int, new: int) -> None:
        events = (selectors.EVENT_READ if new & READ else 0) | (selectors.EVENT_WRITE if new & WRITE else 0)
        if not old and not events:
            return
        if not old:
            self._selector.register(fd, events)
        elif new:
            self._selector.modify(fd, events)
        else:
            with suppress(KeyError, ValueError, OSError):
                self._selector.unregister(fd)

    def poll(self, wait: float | None) -> Sequence[tuple[int, int]]:
        # EVENT_READ is READ, and EVENT_WRITE (2) becomes WRITE (4).
        return [
            (key.fd, (events & selectors.EVENT_READ) | (events & selectors.EVENT_WRITE) << 1)
            for key, events in self._selector.select(wait)
        ]
