"""Failed log-ins: each answer waits longer than the one before, for the same source.

Only the answers that say no wait: whoever has the right token is let in at once, also from a source of which
others fail. While its answer waits a session is not read.
"""

from __future__ import annotations

from heapq import heappop, heappush
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hailer.relay.core.clock import Clock
    from hailer.relay.core.session import Session

MOST_FAILURES = 3
"""So often one connection may fail. OpenSSH lets six tries pass, of passwords that people type; a token comes
from a file, and its second try is no better than the first."""

FIRST_DELAY = 0.5
MOST_DELAY = 8.0
"""Seconds that the first answer waits, and the most that any does; each is twice the one before. Three of
the longest fit into the time to log in."""

_FORGIVEN = 60.0
"""Seconds after which one failure is forgotten."""

_MOST_COUNTED = 8
_MOST_SOURCES = 10_000
"""Sources that are remembered; beyond, the one that has not failed for longest is forgotten. They are a few
MB; who has more addresses than that to try from is not stopped by waiting anyway, but by 256 bits."""


class Denials:
    """Answers that wait, and the sources that made them wait.

    Attributes:
        deadline: the instant at which the next answer is due.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures: dict[str, tuple[float, float]] = {}
        self._waiting: dict[Session, bytes] = {}
        self._queue: list[tuple[float, int, Session]] = []
        self._count = 0

    @property
    def deadline(self) -> float:
        """The instant at which the next answer is due."""
        return self._queue[0][0] if self._queue else float("inf")

    def __contains__(self, session: Session) -> bool:
        return session in self._waiting

    def add(self, session: Session, why: bytes, now: float) -> None:
        """Have an answer wait.

        Args:
            session: who failed; it has no answer that waits.
            why: what it is to be told.
            now: the instant.
        """
        self._count += 1
        self._waiting[session] = why
        at = now + self.delay(source_of(session.host), now)
        heappush(self._queue, (at, self._count, session))
        self._clock.wake(at)

    def delay(self, source: str, now: float) -> float:
        """Count one failure of a source; gives the seconds that its answer has to wait."""
        failures, at = self._failures.pop(source, (0.0, now))
        failures = min(max(0.0, failures - (now - at) / _FORGIVEN) + 1, _MOST_COUNTED)
        if len(self._failures) >= _MOST_SOURCES:
            del self._failures[next(iter(self._failures))]
        self._failures[source] = (failures, now)
        return min(FIRST_DELAY * 2 ** (failures - 1), MOST_DELAY)

    def due(self, now: float) -> Iterator[tuple[Session, bytes]]:
        """Take out the answers whose time has come: whom they are for, and what they say."""
        while self._queue and self._queue[0][0] <= now:
            session = heappop(self._queue)[2]
            why = self._waiting.pop(session, None)
            if why is not None:  # else it has gone meanwhile
                yield session, why

    def drop(self, session: Session) -> bool:
        """Forget the answer for a session that goes; tells whether there was one."""
        return self._waiting.pop(session, None) is not None


def source_of(host: str) -> str:
    """What is one source for the counting of failures.

    Args:
        host: an address without its port; empty for a peer on a Unix socket.

    Returns:
        An IPv4 address, or the first half of an IPv6 address, for who has one has 2**64 of them; all of
        this machine are one.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_loopback:
        return "localhost"
    if isinstance(address, IPv6Address):
        return f"{address.packed[:8].hex()}::"
    return host
