from __future__ import annotations

import asyncio

import pytest

from hailer.errors import ConnectionLost, TimedOut, UsageError
from hailer.testing.clock import FakeClock, settle
from hailer.testing.memory import MemoryTransport, lockstep_pair, memory_pair
from hailer.testing.transport import check_transport


async def make_memory_pair() -> tuple[MemoryTransport, MemoryTransport]:
    return memory_pair()


async def make_lockstep_pair() -> tuple[MemoryTransport, MemoryTransport]:
    return lockstep_pair()


def test_memory_pairs_conform() -> None:
    asyncio.run(check_transport(make_memory_pair))


def test_lockstep_pairs_conform() -> None:
    asyncio.run(check_transport(make_lockstep_pair))


def test_a_lockstep_push_waits_for_all_of_its_bytes_to_be_pulled() -> None:
    async def main() -> None:
        one, other = lockstep_pair()
        pushing = asyncio.create_task(one.push(b"abc"))
        await settle()
        assert await other.pull(2) == b"ab"
        await settle()
        assert not pushing.done()
        assert await other.pull(2) == b"c"
        await pushing

    asyncio.run(main())


def test_a_lockstep_push_given_up_in_the_middle_leaves_no_gap() -> None:
    async def main() -> None:
        with FakeClock() as clock:
            one, other = lockstep_pair(clock=clock)
            pushing = asyncio.create_task(one.push(b"abc", clock.now() + 1))
            await settle()
            assert await other.pull(1) == b"a"
            await clock.advance(1)
            with pytest.raises(TimedOut):
                await pushing
            with pytest.raises(ConnectionLost):
                await one.push(b"next")

    asyncio.run(main())


def test_a_memory_push_waits_when_its_room_is_full() -> None:
    async def main() -> None:
        one, other = memory_pair(room=4)
        await one.push(b"abcdef")
        pushing = asyncio.create_task(one.push(b"gh"))
        await settle()
        assert not pushing.done()
        assert await other.pull(100) == b"abcdef"
        await pushing
        assert await other.pull(100) == b"gh"

    asyncio.run(main())


class Forgetful(MemoryTransport):
    """Loses a byte of each large pull: the suite has to see it."""

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        data = await super().pull(limit, deadline)
        return data[:-1] if len(data) > 700 else data


class Deaf(MemoryTransport):
    """Never says that the other side finished."""

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        return await super().pull(limit, deadline) or b"?"


class Boundless(MemoryTransport):
    """Takes everything, whether anybody pulls or not."""

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        self._out.room = 1 << 40
        await super().push(data, deadline)


@pytest.mark.parametrize("broken", [Forgetful, Deaf, Boundless])
def test_the_suite_finds_what_is_broken(broken: type[MemoryTransport]) -> None:
    async def make() -> tuple[MemoryTransport, MemoryTransport]:
        one, other = memory_pair()
        one.__class__ = other.__class__ = broken
        return one, other

    with pytest.raises(AssertionError) as caught:
        asyncio.run(check_transport(make))
    assert "in the check" in caught.value.__notes__[0]


def test_time_stands_still_until_it_is_advanced() -> None:
    woken: list[tuple[str, float]] = []

    async def main() -> None:
        clock = FakeClock(0)

        async def sleeper(name: str, *naps: float) -> None:
            for nap in naps:
                await clock.sleep(nap)
                woken.append((name, clock.now()))

        tasks = [asyncio.create_task(sleeper("a", 3, 1)), asyncio.create_task(sleeper("b", 2, 2))]
        await clock.advance(1.5)
        assert woken == []
        await clock.advance(10)
        assert woken == [("b", 2), ("a", 3), ("b", 4), ("a", 4)]
        assert clock.now() == 11.5
        await asyncio.gather(*tasks)
        with pytest.raises(UsageError):
            await clock.advance(-1)

    asyncio.run(main())
