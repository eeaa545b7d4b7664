from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from hailer.testing.clock import FakeClock, settle
from hailer.testing.memory import MemoryRecordTransport, memory_record_pair
from hailer.testing.records import check_record_transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.errors import FramingError


async def make_pair() -> tuple[MemoryRecordTransport, MemoryRecordTransport]:
    return memory_record_pair()


def test_memory_record_pairs_conform() -> None:
    asyncio.run(check_record_transport(make_pair))


class Joining(MemoryRecordTransport):
    """Makes one record of those that come together."""

    async def pull_records(self, limit: int, deadline: float | None = None) -> list[bytes | FramingError]:
        records = await super().pull_records(limit, deadline)
        return [b"".join(record for record in records if isinstance(record, bytes))] if records else []


class Cutting(MemoryRecordTransport):
    """Cuts what is over the limit, as recv does."""

    async def pull_records(self, limit: int, deadline: float | None = None) -> list[bytes | FramingError]:
        records = await super().pull_records(1 << 30, deadline)
        return [record[:limit] for record in records if isinstance(record, bytes)]


class Endless(MemoryRecordTransport):
    """Takes the end for an empty record."""

    async def pull_records(self, limit: int, deadline: float | None = None) -> list[bytes | FramingError]:
        return await super().pull_records(limit, deadline) or [b""]


class Skipping(MemoryRecordTransport):
    """Does not send records without bytes."""

    async def push_records(self, records: Sequence[bytes], deadline: float | None = None) -> None:
        await super().push_records([record for record in records if record], deadline)


@pytest.mark.parametrize("broken", [Joining, Cutting, Endless, Skipping])
def test_the_suite_finds_what_is_broken(
    broken: type[MemoryRecordTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailer.testing.sides.PATIENCE", 0.3)
    monkeypatch.setattr("hailer.testing.sides.soon.__defaults__", (0.3,))

    async def make() -> tuple[MemoryRecordTransport, MemoryRecordTransport]:
        one, other = memory_record_pair()
        one.__class__ = other.__class__ = broken
        return one, other

    with pytest.raises(Exception) as caught:  # a time-out, or what was asserted
        asyncio.run(check_record_transport(make))
    assert "in the check" in caught.value.__notes__[0]


def test_deadlines_go_by_the_clock_of_the_test() -> None:
    async def main() -> None:
        with FakeClock() as clock:
            one, other = memory_record_pair(room=4, clock=clock)
            await one.push_records([b"full"])
            pushing = asyncio.create_task(one.push_records([b"more"], clock.now() + 1))
            await settle()
            assert not pushing.done()
            assert await other.pull_records(100) == [b"full"]
            await pushing

    asyncio.run(main())
