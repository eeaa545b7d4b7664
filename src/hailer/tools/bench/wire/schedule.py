"""Clients that send by a schedule, whatever the server does: the open loop."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, cast

from hailer.errors import TimedOut
from hailer.tools.bench.wire.drive import NANO, Client, Drive
from hailer.tools.bench.wire.load import clock
from hailer.tools.bench.wire.streams import StreamClient

if TYPE_CHECKING:
    import socket

    from hailer.tools.bench.wire.channel import Opening

__all__ = ["OpenLoop"]


class ScheduledClient(StreamClient):
    """Sends when it is told to, and remembers when that was to be."""

    __slots__ = ("_counts_sent", "due")

    def __init__(self, drive: Drive, sock: socket.socket) -> None:
        super().__init__(drive, sock)
        self.due: deque[int] = deque()
        self._counts_sent = drive.load.expect == "none"

    def start(self) -> None:
        """See `Client`."""

    def leave(self, due: int) -> None:
        """Send a message that was to leave at that instant."""
        drive = self.drive
        if self._counts_sent:
            drive.messages += 1
        else:
            self.due.append(due)
        drive.sent += 1
        self.owed += self.size
        self.flush()

    def answered(self, done: int, now: int) -> None:
        """See `StreamClient`."""
        due = self.due
        drive = self.drive
        if done > len(due):
            raise self.too_many()
        drive.messages += done
        record = drive.latency.record
        for _ in range(done):
            record(now - due.popleft())

    def stop(self) -> None:
        """See `Client`."""

    def waits(self) -> bool:
        """See `Client`."""
        return self.owed > 0 or bool(self.due)


_BACKLOG: Final = 1_000_000
"""Messages that may wait for their answer: a server that is slower than the rate would have them pile up."""

_SLEEP: Final = NANO // 500
"""Nanoseconds before the next message from which it is waited for in the kernel, which does that to the
millisecond only; what is nearer is waited for awake, or the lateness would be taken for the server's."""

_yield = getattr(os, "sched_yield", lambda: None)


class _Leaving(Client, Protocol):
    """A client that sends when it is told to."""

    def leave(self, due: int) -> object:
        """Send a message that was to leave at that instant."""


class OpenLoop(Drive):
    """A fixed rate: message number n leaves n / rate seconds after the beginning, come what may.

    The time of a message counts from then on, also if the load or the connection was late: a server that
    stands still for a second makes every message of that second slow, as it would for its users.
    """

    _next = 0
    _start = 0
    _ring: tuple[_Leaving, ...] = ()

    def client(self, sock: socket.socket, opening: Opening) -> _Leaving:  # noqa: ARG002
        """See `Drive`."""
        return ScheduledClient(self, sock)

    def began(self) -> None:
        """See `Drive`."""
        super().began()
        self._next = 0
        self._start = clock()
        self._ring = cast("tuple[_Leaving, ...]", tuple(self.clients.values()))

    def pace(self, now: int) -> float:
        """See `Drive`."""
        step = NANO / self.load.rate
        at, start, ring = self._next, self._start, self._ring
        count = len(ring)
        due = start + int(at * step)
        if due > now:
            ahead = due - now
            if ahead > _SLEEP:
                return (ahead - _SLEEP // 2) / NANO
            _yield()
            return 0.0
        self.late = max(self.late, now - due)
        # As many as are due, but not so many at once that answers would have to wait to be seen.
        for _ in range(64):
            ring[at % count].leave(due)
            self.due += 1
            at += 1
            due = start + int(at * step)
            if due > now:
                break
        self._next = at
        if self.sent - self.messages > _BACKLOG:
            raise TimedOut(
                f"{self.target.where} is slower than {self.load.rate:g} messages a second: a million wait for"
                " their answers; give a lower rate"
            )
        return 0.0

    def movement(self) -> tuple[int, ...]:
        """See `Drive`: that more can be sent says nothing of who is to answer."""
        return (self.up,) if self.load.expect == "none" else (self.messages, self.down)

    def idle_is_well(self) -> bool:
        """See `Drive`."""
        return not any(client.waits() for client in self.clients.values())
