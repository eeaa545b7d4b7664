"""Happy Eyeballs (RFC 8305) without I/O: in which order addresses are tried, and when.

The schedule is told the time and what became of each attempt, and says which attempt is to start
now and when to ask again. `hailer.net.dial` drives it with sockets, tests with numbers.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.net.address import Address

__all__ = ["ATTEMPT_DELAY", "Schedule", "interleave"]

ATTEMPT_DELAY = 0.25
"""Seconds from one attempt to the next (RFC 8305 section 5 recommends 250 ms)."""

_FIRST_AGAIN = 0.005
_MOST_AGAIN = 0.1


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """Order addresses so that the families take turns, each in its own given order.

    RFC 8305 section 4 with a First Address Family Count of 1: the family of the first address
    begins, so that one dead family costs one attempt and not all of its addresses.

    Args:
        addresses: in the resolver's order (RFC 6724); doubles are dropped.
    """
    families: dict[int, deque[Address]] = {}
    for address in dict.fromkeys(addresses):
        families.setdefault(address.family, deque()).append(address)
    ordered = []
    while families:
        for family, waiting in list(families.items()):
            ordered.append(waiting.popleft())
            if not waiting:
                del families[family]
    return ordered


class Schedule:
    """When each of `count` attempts is to start.

    The first starts at once. Each next one starts `delay` seconds after the one before, or as soon
    as any attempt fails (RFC 8305 section 5). An attempt that could not even begin because the
    listener's queue is full can be postponed: it comes up again after a short and growing wait.
    """

    def __init__(self, count: int, now: float, *, delay: float = ATTEMPT_DELAY) -> None:
        """Plan `count` attempts.

        Args:
            count: how many addresses there are.
            now: the time, in seconds of any clock that only goes forward.
            delay: seconds from one attempt to the next.
        """
        self._count = count
        self._delay = delay
        self._next = 0
        self._next_at = now
        self._again: dict[int, float] = {}
        self._again_wait = dict.fromkeys(range(count), _FIRST_AGAIN)
        self._failed: set[int] = set()

    @property
    def due(self) -> float | None:
        """The time of the next start, or None when there is none to come."""
        times = list(self._again.values())
        if self._next < self._count:
            times.append(self._next_at)
        return min(times, default=None)

    @property
    def lost(self) -> bool:
        """Whether every attempt has failed."""
        return len(self._failed) == self._count

    def start(self, now: float) -> int | None:
        """Take the attempt that is to start now.

        Returns:
            Its number from 0, or None when no attempt is due; ask again until None.
        """
        for attempt, at in self._again.items():
            if at <= now:
                del self._again[attempt]
                return attempt
        if self._next < self._count and self._next_at <= now:
            attempt = self._next
            self._next += 1
            self._next_at = now + self._delay
            return attempt
        return None

    def failed(self, attempt: int, now: float) -> None:
        """Note that an attempt failed, so that the next starts at once."""
        self._failed.add(attempt)
        self._next_at = min(self._next_at, now)

    def postpone(self, attempt: int, now: float) -> None:
        """Note that an attempt is to be made again after a short wait."""
        wait = self._again_wait[attempt]
        self._again[attempt] = now + wait
        self._again_wait[attempt] = min(wait * 2, _MOST_AGAIN)
