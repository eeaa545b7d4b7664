"""Times in a histogram of fixed size, each known to within half a percent.

The buckets are log-linear, the idea of HdrHistogram: each power of two is cut into 128 equal parts. So a
million times cost as much memory as ten, those of several processes can be added up, and the far
percentiles are as exact as the near ones. The slowest and the quickest are kept as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["PERCENTS", "Histogram"]

_BITS: Final = 8
"""Bits of a time that count: the rest is dropped, which is an error of at most 1/128; its middle, 1/256."""

_HALF: Final = 1 << (_BITS - 1)

_LONGEST: Final = (1 << 43) - 1
"""Nanoseconds, some two hours: what is longer is counted as this long."""

_BUCKETS: Final = (43 - _BITS) * _HALF + 2 * _HALF

PERCENTS: Final = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 98, 99, 99.5, 99.8, 99.9,
                   99.95, 99.99, 99.995, 99.999, 100)  # fmt: skip
"""Where the curve of a histogram is drawn."""


class Histogram:
    """How often which time was met.

    Attributes:
        counts: the number of times in each bucket; `record` adds to it.
        total: nanoseconds, all times together.
        least: nanoseconds of the quickest, 0 when there is none.
        most: nanoseconds of the slowest.
    """

    __slots__ = ("counts", "least", "most", "total")

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS
        self.total = 0
        self.least = 0
        self.most = 0

    def record(self, nanoseconds: int, count: int = 1) -> None:
        """Count a time, of so many messages."""
        if nanoseconds > self.most:
            self.most = nanoseconds
            if nanoseconds > _LONGEST:
                self.most = nanoseconds = _LONGEST
        if nanoseconds < self.least or not self.least:
            self.least = nanoseconds = max(nanoseconds, 1)
        shift = nanoseconds.bit_length() - _BITS
        if shift <= 0:
            self.counts[nanoseconds] += count
        else:
            self.counts[(shift << (_BITS - 1)) + (nanoseconds >> shift)] += count
        self.total += nanoseconds * count

    def clear(self) -> None:
        """Forget all."""
        self.counts[:] = [0] * _BUCKETS
        self.total = self.least = self.most = 0

    def add(self, other: Histogram) -> None:
        """Add what another counted."""
        self.counts[:] = map(int.__add__, self.counts, other.counts)
        self.total += other.total
        self.most = max(self.most, other.most)
        self.least = min(self.least, other.least) if self.least and other.least else self.least or other.least

    def __len__(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Seconds, 0 when there is none."""
        count = len(self)
        return self.total / count / 1e9 if count else 0.0

    def percentile(self, percent: float) -> float:
        """The time within which so many of a hundred were done, in seconds; 0 when there is none.

        Raises:
            UsageError: it is no percentage.
        """
        if not 0 <= percent <= 100:
            raise UsageError(f"there is no percentile {percent}: give one from 0 to 100")
        return next(self._seconds_at([percent]), 0.0)

    def curve(self) -> list[tuple[float, float]]:
        """Percentages and seconds, up to the percentage that the count can bear, and the slowest."""
        count = len(self)
        known = [percent for percent in PERCENTS if percent == 100 or count * (100 - percent) > 99.9]
        return list(zip(known, self._seconds_at(known), strict=False))

    def _seconds_at(self, percents: list[float]) -> Iterator[float]:
        """The times at percentages that rise."""
        count = len(self)
        if not count:
            return
        seen, at = 0, -1
        for percent in percents:
            if percent in (0, 100):  # these are known as they were
                yield (self.most if percent else self.least) / 1e9
                continue
            rank = max(1.0, count * percent / 100)
            while seen < rank - 1e-9:
                at += 1
                seen += self.counts[at]
            yield min(max(_middle(at), self.least), self.most) / 1e9

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads: the buckets that are not empty."""
        filled = {str(at): count for at, count in enumerate(self.counts) if count}
        return {"counts": filled, "total": self.total, "least": self.least, "most": self.most}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Histogram:
        """Read what `as_json` gave."""
        histogram = cls()
        for at, count in fields["counts"].items():
            histogram.counts[int(at)] = int(count)
        histogram.total, histogram.least, histogram.most = fields["total"], fields["least"], fields["most"]
        return histogram


def _middle(bucket: int) -> float:
    """The nanoseconds in the middle of a bucket."""
    if bucket < 2 * _HALF:
        return bucket
    shift = bucket // _HALF - 1
    return ((bucket - shift * _HALF) << shift) + (1 << shift) / 2
