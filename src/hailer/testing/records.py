"""The conformance suite of a record transport: all that `hailer.transport.RecordTransport` promises.

    async def test_my_transport() -> None:
        await check_record_transport(make_pair)          # one whose coroutines suspend, under asyncio

    def test_my_blocking_transport() -> None:
        check_blocking_record_transport(make_pair)       # one whose coroutines never do

What not every kind of record can do is said by flags, such as ``half_close=False`` for a WebSocket and
``ends=False, reliable=False`` for UDP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hailer.errors import ConnectionClosed, ConnectionLost, MessageTooLong, TimedOut
from hailer.testing.sides import SHORT, Sides, expect, run_blocking_checks, run_checks, soon

if TYPE_CHECKING:
    from hailer.errors import FramingError
    from hailer.transport import RecordTransport

__all__ = ["check_blocking_record_transport", "check_record_transport"]

Check = Callable[["RecordTransport", "RecordTransport"], Sides]

_LIMIT = 1 << 20
_MOST_BUFFERED = 64 << 20
_RECORDS = (b"one", b"two words", b"\0\xff\r\n", b"x" * 1000, "Grüße".encode(), b"a")


async def check_record_transport(
    make_pair: Callable[[], Awaitable[tuple[RecordTransport, RecordTransport]]],
    *,
    ends: bool = True,
    half_close: bool = True,
    reliable: bool = True,
    empty: bool = True,
    largest: int = 8000,
) -> None:
    """Assert that the transports of a pair keep the promises of `RecordTransport`, under asyncio.

    Args:
        make_pair: connects a fresh pair for each check; both are closed afterwards.
        ends: the other side learns of finish, close and abort; not so for UDP.
        half_close: after finish, what the other side sends still comes; not so for a WebSocket.
        reliable: a push waits for a peer that does not pull; not so for UDP, which drops instead.
        empty: records without any bytes can be sent.
        largest: bytes of the largest record to try.

    Raises:
        AssertionError: they do not; a note names the check.
    """
    checks = _checks(ends=ends, half_close=half_close, reliable=reliable, empty=empty, largest=largest)
    await run_checks((*checks, _cancelled_pull), make_pair)


def check_blocking_record_transport(
    make_pair: Callable[[], tuple[RecordTransport, RecordTransport]],
    *,
    ends: bool = True,
    half_close: bool = True,
    reliable: bool = True,
    empty: bool = True,
    largest: int = 8000,
) -> None:
    """Assert the same of blocking transports; each side has a thread of its own.

    Args and errors are those of `check_record_transport`.
    """
    checks = _checks(ends=ends, half_close=half_close, reliable=reliable, empty=empty, largest=largest)
    run_blocking_checks(checks, make_pair)


def _checks(*, ends: bool, half_close: bool, reliable: bool, empty: bool, largest: int) -> list[Check]:
    checks: list[Check] = [boundaries, answers, limit, timed_out_pull, closed_here, aborted_here, abort_wakes]
    if empty:
        checks.append(empty_records)
    if reliable:
        checks.append(back_pressure)
    if ends:
        checks += [half_close_answers if half_close else end_without_half_close]
        checks += [records_before_the_end, abort_is_seen]

    def large_records(one: RecordTransport, other: RecordTransport) -> Sides:
        """Records of the largest size arrive whole."""
        sizes = (largest // 2, largest - 1, largest)

        async def left() -> None:
            for size in sizes:
                await one.push_records([b"y" * size], soon())
                assert await _collect(one, 1) == [b"go on"]

        async def right() -> None:
            for size in sizes:
                assert await _collect(other, 1) == [b"y" * size], f"a record of {size} bytes changed"
                await other.push_records([b"go on"], soon())

        return left(), right()

    return [*checks, large_records]


async def _collect(transport: RecordTransport, count: int, limit: int = _LIMIT) -> list[bytes | FramingError]:
    """Pull until so many records have come."""
    came: list[bytes | FramingError] = []
    while len(came) < count:
        records = await transport.pull_records(limit, soon())
        assert records, f"the end came after {came!r}"
        came += records
    assert len(came) == count, f"{count} records were sent and {came!r} came"
    return came


def boundaries(one: RecordTransport, other: RecordTransport) -> Sides:
    """Records come as they were pushed, in order, in batches and one by one; the ends name each other."""

    async def left() -> None:
        assert one.local == other.peer, "the local endpoint of one side is the peer of the other"
        assert one.peer == other.local, "the local endpoint of one side is the peer of the other"
        await one.push_records(_RECORDS, soon())
        await one.push_records([], soon())
        for record in _RECORDS:
            await one.push_records([record], soon())

    async def right() -> None:
        assert await _collect(other, 2 * len(_RECORDS)) == [*_RECORDS, *_RECORDS]

    return left(), right()


def answers(one: RecordTransport, other: RecordTransport) -> Sides:
    """Both directions carry records, turn by turn."""

    async def left() -> None:
        for number in range(50):
            await one.push_records([b"question %d" % number], soon())
            assert await _collect(one, 2) == [b"answer", b"%d" % number]

    async def right() -> None:
        for number in range(50):
            assert await _collect(other, 1) == [b"question %d" % number]
            await other.push_records([b"answer", b"%d" % number], soon())

    return left(), right()


def empty_records(one: RecordTransport, other: RecordTransport) -> Sides:
    """A record without bytes is a record, and no end."""

    async def left() -> None:
        await one.push_records([b""], soon())
        await one.push_records([b"", b"a", b"", b""], soon())

    async def right() -> None:
        assert await _collect(other, 5) == [b"", b"", b"a", b"", b""]

    return left(), right()


def limit(one: RecordTransport, other: RecordTransport) -> Sides:
    """A record of the limit's size comes; one byte more is an error in its place, and never cut."""

    async def left() -> None:
        await one.push_records([b"x" * 100, b"y" * 101], soon())
        with suppress(ConnectionLost):  # where nothing can follow
            await one.push_records([b"after"], soon())

    async def right() -> None:
        came: list[bytes | FramingError] = []
        while not (came and isinstance(came[-1], MessageTooLong) and came[-1].fatal) and len(came) < 3:
            records = await other.pull_records(100, soon())
            assert records, f"the end came after {came!r}"
            came += records
        assert came[0] == b"x" * 100
        error = came[1]
        assert isinstance(error, MessageTooLong), f"a record over the limit is {error!r}"
        assert error.limit == 100
        assert str(error), "an error has a sentence"
        assert came[2:] == ([] if error.fatal else [b"after"]), f"{came[2:]!r} follows it"

    return left(), right()


def timed_out_pull(one: RecordTransport, other: RecordTransport) -> Sides:
    """A pull ends at its deadline, not before, and loses nothing."""

    async def left() -> None:
        start = time.monotonic()
        await expect(TimedOut, one.pull_records(10, start + SHORT), "a pull of nothing")
        assert time.monotonic() - start >= SHORT * 0.9, "the pull ended before its deadline"
        await expect(TimedOut, one.pull_records(10, start), "a pull with a deadline that has passed")
        await one.push_records([b"go"], soon())
        assert await _collect(one, 1) == [b"late"]

    async def right() -> None:
        assert await _collect(other, 1) == [b"go"]
        await other.push_records([b"late"], soon())

    return left(), right()


def half_close_answers(one: RecordTransport, other: RecordTransport) -> Sides:
    """After finish the peer's pulls give the end, again and again, and its answers still come."""

    async def left() -> None:
        await one.push_records([b"question"], soon())
        await one.finish()
        await one.finish()
        await expect(ConnectionClosed, one.push_records([b"more"], soon()), "a push after finish")
        assert await _collect(one, 1) == [b"answer"]
        assert await one.pull_records(10, soon()) == []

    async def right() -> None:
        assert await _collect(other, 1) == [b"question"]
        for _ in range(2):
            assert await other.pull_records(10, soon()) == [], "the end is there at each pull"
        await other.push_records([b"answer"], soon())
        await other.finish()

    return left(), right()


def end_without_half_close(one: RecordTransport, other: RecordTransport) -> Sides:
    """After finish the end comes to both sides, again and again."""

    async def left() -> None:
        await one.push_records([b"question"], soon())
        assert await _collect(one, 1) == [b"answer"]
        await one.finish()
        await one.finish()
        await expect(ConnectionClosed, one.push_records([b"more"], soon()), "a push after finish")
        for _ in range(2):
            assert await one.pull_records(10, soon()) == [], "the end is there at each pull"

    async def right() -> None:
        assert await _collect(other, 1) == [b"question"]
        await other.push_records([b"answer"], soon())
        for _ in range(2):
            assert await other.pull_records(10, soon()) == [], "the end is there at each pull"
        await expect(ConnectionLost, other.push_records([b"x"], soon()), "a push after the end")

    return left(), right()


def back_pressure(one: RecordTransport, other: RecordTransport) -> Sides:
    """Pushes to a peer that does not pull wait, within a bound, and what was taken comes in order."""
    pad = b"." * 1000

    async def left() -> None:
        taken = 0
        try:
            while taken * len(pad) < _MOST_BUFFERED:
                await one.push_records([b"%d" % taken + pad], soon(SHORT))
                taken += 1
        except TimedOut:
            pass
        assert taken * len(pad) < _MOST_BUFFERED, f"{taken} records were taken for a peer that does not pull"
        came: list[bytes | FramingError] = []
        try:
            while True:
                records = await other.pull_records(_LIMIT, soon(SHORT * 4))
                assert records, "the end came"
                came += records
        except TimedOut:
            pass
        assert came == [b"%d" % number + pad for number in range(taken)], "records were lost or changed"
        try:
            await one.push_records([b"after"], soon(SHORT))
        except TimedOut:
            return  # without any buffer a push waits for its pull
        except ConnectionLost:
            return  # the push that timed out had sent a part
        assert await _collect(other, 1) == [b"after"]

    async def right() -> None:
        pass

    return left(), right()


def records_before_the_end(one: RecordTransport, other: RecordTransport) -> Sides:
    """What was pushed before close still comes; afterwards a peer that goes on pushing learns of it."""

    async def left() -> None:
        await one.push_records(_RECORDS, soon())
        await one.close()

    async def right() -> None:
        assert await _collect(other, len(_RECORDS)) == [*_RECORDS]
        assert await other.pull_records(10, soon()) == []
        try:
            while True:
                await other.push_records(_RECORDS, soon())
        except ConnectionLost:
            pass

    return left(), right()


def closed_here(one: RecordTransport, other: RecordTransport) -> Sides:
    """After close this side neither pulls nor pushes; a second close is no error."""

    async def left() -> None:
        await one.close()
        await one.close()
        await expect(ConnectionClosed, one.pull_records(10, soon()), "a pull after close")
        await expect(ConnectionClosed, one.push_records([b"x"], soon()), "a push after close")

    async def right() -> None:
        await other.close()

    return left(), right()


def aborted_here(one: RecordTransport, other: RecordTransport) -> Sides:
    """After abort this side neither pulls nor pushes; to abort or close once more is no error."""

    async def left() -> None:
        one.abort()
        one.abort()
        await expect(ConnectionClosed, one.pull_records(10, soon()), "a pull after abort")
        await expect(ConnectionClosed, one.push_records([b"x"], soon()), "a push after abort")
        await one.close()

    async def right() -> None:
        await other.close()

    return left(), right()


def abort_is_seen(one: RecordTransport, other: RecordTransport) -> Sides:
    """An abort ends the other side too."""

    async def left() -> None:
        assert await _collect(one, 1) == [b"ready"]
        one.abort()

    async def right() -> None:
        await other.push_records([b"ready"], soon())
        try:
            # Kernels that cannot say that a peer broke off, as for Unix sockets, say that it finished.
            assert await other.pull_records(10, soon()) == []
        except ConnectionLost:
            pass

    return left(), right()


def abort_wakes(one: RecordTransport, other: RecordTransport) -> Sides:
    """Whoever waits in a pull wakes when its own side aborts."""

    async def left() -> None:
        await one.push_records([b"waiting"], soon())
        await expect(ConnectionClosed, one.pull_records(10, soon()), "a pull on an aborted transport")

    async def right() -> None:
        assert await _collect(other, 1) == [b"waiting"]
        one.abort()

    return left(), right()


def _cancelled_pull(one: RecordTransport, other: RecordTransport) -> Sides:
    """A pull that is cancelled, even as its records arrive, loses none of them."""

    async def left() -> None:
        for _ in range(20):
            pull = asyncio.ensure_future(one.pull_records(4, soon()))
            await asyncio.sleep(0)
            await one.push_records([b"go"], soon())
            # Wait until the records have come, at the moment of which the pull may be done or not.
            await asyncio.sleep(0.001)
            pull.cancel()
            try:
                records = await pull
            except asyncio.CancelledError:
                records = await one.pull_records(4, soon())
            if len(records) < 2:
                records += await _collect(one, 1)
            assert records == [b"back", b"on"]

    async def right() -> None:
        for _ in range(20):
            assert await _collect(other, 1) == [b"go"]
            await other.push_records([b"back", b"on"], soon())

    return left(), right()
