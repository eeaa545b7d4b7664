"""Which descriptors are ready: select(2) and epoll(7), for `hailer.runtime.ready`."""

from __future__ import annotations

import select
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Protocol

from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FD_SETSIZE", "READ", "WRITE", "Poller", "choose_poller", "make_poller"]

Poller = Literal["epoll", "select", "auto"]
"""How to wait for descriptors: by name, or epoll where the system has it and select elsewhere."""


READ = 1
WRITE = 4
"""The numbers of EPOLLIN and EPOLLOUT, so that no event needs translation."""

FD_SETSIZE = 1024
"""The number of descriptors, from 0, that select(2) can watch; it is compiled into the C library."""

_EVENTS = 256
"""Events taken from the kernel at once, before timers and other callbacks get their turn."""


def choose_poller(poller: Poller) -> Literal["epoll", "select"]:
    """Say which way to wait is meant.

    Raises:
        UsageError: the system has no epoll.
    """
    if poller == "auto":
        return "epoll" if hasattr(select, "epoll") else "select"
    if poller == "epoll" and not hasattr(select, "epoll"):
        raise UsageError("this system has no epoll: choose model='select' or 'asyncio'")
    return poller


class _Poller(Protocol):
    def set(self, fd: int, old: int, new: int, /) -> None:
        """Change what is watched for on a descriptor: 0, READ, WRITE or both."""

    def poll(self, wait: float | None) -> Sequence[tuple[int, int]]:
        """Wait, at most for so many seconds; give descriptors with READ, WRITE and the numbers of errors."""

    def close(self) -> None:
        """Release it."""


def make_poller(name: Literal["epoll", "select"]) -> _Poller:
    """Make one by its name."""
    return _Epoll() if name == "epoll" else _Select()


class _Epoll:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.close = self._epoll.close

    def set(self, fd: int, old: int, new: int) -> None:
        if not old:
            self._epoll.register(fd, new)
        elif new:
            self._epoll.modify(fd, new)
        else:
            # To close a descriptor is not enough: one that a child has inherited would stay.
            with suppress(OSError):  # it has been closed
                self._epoll.unregister(fd)

    def poll(self, wait: float | None) -> Sequence[tuple[int, int]]:
        return self._epoll.poll(wait, _EVENTS)


class _Select:
    def __init__(self) -> None:
        self._read: set[int] = set()
        self._write: set[int] = set()

    def set(self, fd: int, _old: int, new: int) -> None:
        (self._read.add if new & READ else self._read.discard)(fd)
        (self._write.add if new & WRITE else self._write.discard)(fd)

    def poll(self, wait: float | None) -> Sequence[tuple[int, int]]:
        readable, writable, _ = select.select(self._read, self._write, (), wait)
        if not writable:
            return [(fd, READ) for fd in readable]
        events = dict.fromkeys(readable, READ)
        for fd in writable:
            events[fd] = events.get(fd, 0) | WRITE
        return list(events.items())

    def close(self) -> None:
        pass
