"""How long to wait before trying again: exponential, bounded, with jitter. No clock and no sleep here."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["delays"]


def delays(
    first: float = 0.5,
    factor: float = 2.0,
    most: float = 30.0,
    jitter: float = 0.5,
    *,
    draw: Callable[[], float] = random.random,
) -> Iterator[float]:
    """Give the waits between tries, without end.

    The n-th wait is `first * factor ** n`, at most `most`, and then shortened by a random share of
    up to `jitter` of itself, so that a thousand clients that lost the same server do not come back
    in the same instant.

    Args:
        first: the first wait in seconds.
        factor: by how much each wait is longer than the one before, at least 1.
        most: the longest wait in seconds.
        jitter: 0 for exact waits, 1 for anything between nothing and the whole wait.
        draw: gives a number from 0 to less than 1; tests pass their own.

    Returns:
        An endless iterator of seconds.

    Raises:
        UsageError: a negative time, a factor under 1, or a jitter outside 0 to 1.
    """
    if not (first >= 0 and most >= 0 and factor >= 1 and 0 <= jitter <= 1):
        raise UsageError("give waits of 0 seconds or more, a factor of 1 or more and a jitter from 0 to 1")
    return _delays(first, factor, most, jitter, draw)


def _delays(
    first: float, factor: float, most: float, jitter: float, draw: Callable[[], float]
) -> Iterator[float]:
    wait = min(first, most)
    while True:
        yield wait * (1 - jitter * draw())
        wait = min(wait * factor, most)
