"""Readiness of many sockets inside an asyncio loop, a batch at a time."""

from __future__ import annotations

import select
import selectors
from typing import Protocol

READ = 1
WRITE = 2


class Poller(Protocol):
    """Which descriptors are ready; itself a descriptor that an event loop can wait for.

    One look gives a whole batch of ready sockets to one Python loop: measured against a protocol object
    for each connection, this is as fast for single messages, and leaves the size of reads, the order of
    writes and the pausing to us (docs/design/relay-edge.md).
    """

    def fileno(self) -> int:
        """The descriptor that is readable when others are ready."""

    def set(self, fd: int, old: int, new: int) -> None:
        """Change what is waited for on a descriptor: 0, READ, WRITE or both."""

    def poll(self, seconds: float = 0) -> list[tuple[int, int]]:
        """Descriptors that are ready, with READ, WRITE or both; does not wait without being told to."""

    def close(self) -> None:
        """Release it."""


class _Epoll:
    """Linux. An error or hang-up counts as readable: reading tells what it is."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fileno = self._epoll.fileno
        self.close = self._epoll.close
        self._poll = self._epoll.poll

    def set(self, fd: int, old: int, new: int) -> None:
        mask = (select.EPOLLIN if new & READ else 0) | (select.EPOLLOUT if new & WRITE else 0)
        if not old:
            self._epoll.register(fd, mask)
        elif new:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.unregister(fd)

    def poll(self, seconds: float = 0) -> list[tuple[int, int]]:
        # EPOLLIN is 1 and READ is 1, so the usual event needs no translation
        return [
            (fd, mask if mask == READ else (READ if mask & ~select.EPOLLOUT else 0) | (mask & 4) >> 1)
            for fd, mask in self._poll(seconds, 256)
        ]


class _Selector:
    """Elsewhere: the kqueue of macOS and the BSDs, by the standard library."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self.close = selector.close

    def fileno(self) -> int:
        number = self._selector.fileno()  # type: ignore[attr-defined]  # kqueue and epoll have it
        assert isinstance(number, int)
        return number

    def set(self, fd: int, old: int, new: int) -> None:
        if not old:
            self._selector.register(fd, new)
        elif new:
            self._selector.modify(fd, new)
        else:
            self._selector.unregister(fd)

    def poll(self, seconds: float = 0) -> list[tuple[int, int]]:
        return [(key.fd, mask) for key, mask in self._selector.select(seconds)]


def make_poller() -> Poller:
    """The best poller that this system has."""
    if hasattr(select, "epoll"):
        return _Epoll()
    return _Selector(selectors.DefaultSelector())
