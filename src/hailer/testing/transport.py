"""The conformance suite of a transport: all that `hailer.transport.Transport` promises.

    async def test_my_transport() -> None:
        await check_transport(make_pair)          # one whose coroutines suspend, under asyncio

    def test_my_blocking_transport() -> None:
        check_blocking_transport(make_pair)       # one whose coroutines never do

Each check is written once, as what either side does, and run as two tasks or in two threads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hailer.errors import ConnectionClosed, ConnectionLost, TimedOut
from hailer.testing.sides import SHORT, Sides, expect, let_others_run, run_blocking_checks, run_checks, soon

if TYPE_CHECKING:
    from hailer.transport import Transport

__all__ = ["check_blocking_transport", "check_transport"]

Check = Callable[["Transport", "Transport"], Sides]

_MOST_BUFFERED = 64 << 20
_BLOCK = bytes(range(256)) * 256


async def _pull_all(transport: Transport, limit: int = 65536) -> bytes:
    parts = []
    while data := await transport.pull(limit, soon()):
        assert len(data) <= limit, f"pull({limit}) gave {len(data)} bytes"
        parts.append(data)
        assert len(parts) < 100_000, "the stream has no end"
    return b"".join(parts)


def both_directions(one: Transport, other: Transport) -> Sides:
    """What is pushed arrives, in order, whatever the limit of the pulls; and the ends name each other."""

    async def left() -> None:
        assert one.local == other.peer, "the local endpoint of one side is the peer of the other"
        assert one.peer == other.local, "the local endpoint of one side is the peer of the other"
        for _ in range(4):
            await one.push(_BLOCK, soon())
        await one.push(b"", soon())
        await one.finish()
        assert await _pull_all(one, 1000) == _BLOCK[:5000], "bytes came changed or out of order"

    async def right() -> None:
        assert await _pull_all(other, 777) == _BLOCK * 4, "bytes came changed or out of order"
        for start in range(0, 5000, 50):
            await other.push(_BLOCK[start : start + 50], soon())
        await other.finish()

    return left(), right()


def single_bytes(one: Transport, other: Transport) -> Sides:
    """A pull of one byte gives one byte."""

    async def left() -> None:
        await one.push(b"abc", soon())

    async def right() -> None:
        assert [await other.pull(1, soon()) for _ in range(3)] == [b"a", b"b", b"c"]

    return left(), right()


def half_close(one: Transport, other: Transport) -> Sides:
    """After finish the peer's pulls give the end, again and again, and its answers still come."""

    async def left() -> None:
        await one.push(b"question", soon())
        await one.finish()
        await one.finish()
        await expect(ConnectionClosed, one.push(b"more", soon()), "a push after finish")
        assert await _pull_all(one) == b"answer"

    async def right() -> None:
        assert await _pull_all(other) == b"question"
        assert await other.pull(10, soon()) == b"", "the end of the stream is there at each pull"
        await other.push(b"answer", soon())
        await other.finish()

    return left(), right()


def timed_out_pull(one: Transport, other: Transport) -> Sides:
    """A pull ends at its deadline, not before, and loses nothing."""

    async def left() -> None:
        start = time.monotonic()
        await expect(TimedOut, one.pull(10, start + SHORT), "a pull of nothing")
        assert time.monotonic() - start >= SHORT * 0.9, "the pull ended before its deadline"
        await expect(TimedOut, one.pull(10, start), "a pull of nothing with a deadline that has passed")
        await one.push(b"go", soon())
        assert await one.pull(10, soon()) == b"late"

    async def right() -> None:
        assert await other.pull(10, soon()) == b"go"
        await other.push(b"late", soon())

    return left(), right()


def passed_deadline(one: Transport, other: Transport) -> Sides:
    """A pull whose deadline has passed takes what is there already, and waits for nothing."""

    async def left() -> None:
        await one.push(b"go", soon())
        last = soon()
        while True:
            try:
                data = await one.pull(10, last - 3600)
                break
            except TimedOut:
                assert time.monotonic() < last, "a pull whose deadline has passed takes nothing that is there"
                await let_others_run()
        assert data == b"there"

    async def right() -> None:
        assert await other.pull(10, soon()) == b"go"
        await other.push(b"there", soon())

    return left(), right()


def back_pressure(one: Transport, other: Transport) -> Sides:
    """Pushes to a peer that does not pull wait, within a bound, and the peer never sees a gap."""

    async def left() -> None:
        taken = 0
        try:
            while taken < _MOST_BUFFERED:
                await one.push(_BLOCK, soon(SHORT))
                taken += len(_BLOCK)
        except TimedOut:
            pass
        assert taken < _MOST_BUFFERED, f"{taken} bytes were taken for a peer that does not pull"
        came = 0
        try:
            while True:
                data = await other.pull(len(_BLOCK), soon(SHORT * 4))
                start = came % len(_BLOCK)
                assert (_BLOCK + _BLOCK)[start : start + len(data)] == data, (
                    "bytes came changed or out of order"
                )
                came += len(data)
        except TimedOut:
            pass
        assert came >= taken, f"{taken} bytes were taken and {came} came"
        try:
            await one.push(b"after", soon(SHORT))
        except TimedOut:
            return  # without any buffer a push waits for its pull
        except ConnectionLost:
            return  # the push that timed out had sent a part
        assert came == taken, "a push that timed out had sent something, and the next was taken all the same"
        assert await other.pull(100, soon()) == b"after"

    async def right() -> None:
        pass

    return left(), right()


def data_before_the_end(one: Transport, other: Transport) -> Sides:
    """What was pushed before close still comes; afterwards a peer that goes on pushing learns of it."""

    async def left() -> None:
        await one.push(_BLOCK, soon())
        await one.close()
        await one.close()
        await expect(ConnectionClosed, one.pull(10, soon()), "a pull after close")
        await expect(ConnectionClosed, one.push(b"x", soon()), "a push after close")

    async def right() -> None:
        assert await _pull_all(other) == _BLOCK
        try:
            while True:
                await other.push(_BLOCK, soon())
        except ConnectionLost:
            pass

    return left(), right()


def abort_is_seen(one: Transport, other: Transport) -> Sides:
    """An abort ends both sides, at once and without complaint when repeated."""

    async def left() -> None:
        assert await one.pull(10, soon()) == b"ready"
        one.abort()
        one.abort()
        await expect(ConnectionClosed, one.pull(10, soon()), "a pull after abort")
        await expect(ConnectionClosed, one.push(b"x", soon()), "a push after abort")
        await one.close()

    async def right() -> None:
        await other.push(b"ready", soon())
        try:
            # Kernels that cannot say that a peer broke off, as for Unix sockets, say that it finished.
            assert await other.pull(10, soon()) == b""
        except ConnectionLost:
            pass

    return left(), right()


def abort_wakes(one: Transport, other: Transport) -> Sides:
    """Whoever waits in a pull wakes when its own side aborts."""

    async def left() -> None:
        await one.push(b"waiting", soon())
        await expect(ConnectionClosed, one.pull(10, soon()), "a pull on an aborted transport")

    async def right() -> None:
        assert await other.pull(10, soon()) == b"waiting"
        one.abort()

    return left(), right()


CHECKS: tuple[Check, ...] = (
    both_directions,
    single_bytes,
    half_close,
    timed_out_pull,
    passed_deadline,
    back_pressure,
    data_before_the_end,
    abort_is_seen,
    abort_wakes,
)
"""Every check, named for what it asserts; each makes what the two sides do with a fresh pair."""


async def check_transport(make_pair: Callable[[], Awaitable[tuple[Transport, Transport]]]) -> None:
    """Assert that the transports of a pair keep the promises of `Transport`, under asyncio.

    Args:
        make_pair: connects a fresh pair for each check; both are closed afterwards.

    Raises:
        AssertionError: they do not; a note names the check.
    """
    await run_checks((*CHECKS, _cancelled_pull), make_pair)


def check_blocking_transport(make_pair: Callable[[], tuple[Transport, Transport]]) -> None:
    """Assert that blocking transports keep the promises of `Transport`; each side has a thread of its own.

    Args:
        make_pair: connects a fresh pair for each check; both are closed afterwards.

    Raises:
        AssertionError: they do not; a note names the check.
    """
    run_blocking_checks(CHECKS, make_pair)


def _cancelled_pull(one: Transport, other: Transport) -> Sides:
    """A pull that is cancelled, even as its bytes arrive, loses none of them."""

    async def left() -> None:
        for _ in range(20):
            pull = asyncio.ensure_future(one.pull(4, soon()))
            await asyncio.sleep(0)
            await one.push(b"go", soon())
            # Wait until the bytes have come, at the moment of which the pull may be done or not.
            await asyncio.sleep(0.001)
            pull.cancel()
            try:
                data = await pull
            except asyncio.CancelledError:
                data = await one.pull(4, soon())
            assert data == b"back"

    async def right() -> None:
        for _ in range(20):
            assert await other.pull(2, soon()) == b"go"
            await other.push(b"back", soon())

    return left(), right()
