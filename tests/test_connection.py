"""Connections over transports in memory: no sockets, no waiting for real time."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.connection import Connection, sleep
from hailer.errors import (
    BusyError,
    ConnectionClosed,
    ConnectionLost,
    EndOfStream,
    MessageError,
    MessageTooLong,
    TimedOut,
    TruncatedMessage,
    UsageError,
)
from hailer.framing import as_framing
from hailer.runtime.blocking import run_to_end
from hailer.testing.clock import FakeClock, settle
from hailer.testing.memory import MemoryTransport, lockstep_pair, memory_pair

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

LINE = as_framing("line")


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)


def wire(**options: Any) -> tuple[Connection, MemoryTransport]:
    ours, theirs = memory_pair()
    return Connection(ours, LINE, **options), theirs


def test_messages_go_both_ways() -> None:
    async def main() -> None:
        connection, peer = wire()
        await connection.send(b"hello")
        assert await peer.pull(100) == b"hello\n"
        await peer.push(b"a\r\nb\nc")
        assert [await connection.receive(), await connection.receive()] == [b"a", b"b"]
        await peer.push(b"d\n")
        assert await connection.receive() == b"cd"

    run(main())


def test_a_batch_is_one_push_and_comes_back_as_one() -> None:
    async def main() -> None:
        connection, peer = wire()
        await connection.send_many([b"a", b"b", b"c"])
        assert await peer.pull(100) == b"a\nb\nc\n"
        await connection.send_many([])
        await peer.push(b"x\ny\nz")
        assert await connection.receive_many() == [b"x", b"y"]
        await peer.push(b"\n")
        assert await connection.receive_many() == [b"z"]

    run(main())


def test_a_message_that_cannot_be_framed_sends_nothing_of_its_batch() -> None:
    async def main() -> None:
        connection, peer = wire()
        with pytest.raises(MessageError):
            await connection.send_many([b"good", b"not\na line"])
        await connection.send(b"next")
        assert await peer.pull(100) == b"next\n"

    run(main())


def test_iteration_ends_with_the_stream_and_answers_can_still_be_sent() -> None:
    async def main() -> None:
        connection, peer = wire()
        await peer.push(b"a\nb\n")
        await peer.finish()
        assert [message async for message in connection] == [b"a", b"b"]
        for _ in range(2):
            with pytest.raises(EndOfStream):
                await connection.receive()
        await connection.send(b"answer")
        await connection.finish()
        assert await peer.pull(100) == b"answer\n"
        assert await peer.pull(100) == b""
        with pytest.raises(ConnectionClosed):
            await connection.send(b"more")

    run(main())


def test_an_overlong_message_leaves_the_connection_usable() -> None:
    async def main() -> None:
        connection, peer = wire(max_message=5)
        await peer.push(b"12345\n" + b"123456\n" + b"ok\n")
        assert await connection.receive_many() == [b"12345"]
        with pytest.raises(MessageTooLong) as caught:
            await connection.receive_many()
        assert caught.value.limit == 5
        assert await connection.receive() == b"ok"

    run(main())


def test_a_fatal_framing_error_stands_in_its_place_and_stays() -> None:
    async def main() -> None:
        connection, peer = wire()
        await peer.push(b"whole\ncut")
        await peer.finish()
        assert await connection.receive() == b"whole"
        for _ in range(2):
            with pytest.raises(TruncatedMessage) as caught:
                await connection.receive()
        assert caught.value.partial == b"cut"

    run(main())


def test_a_lost_peer_is_told_after_what_came_before() -> None:
    async def main() -> None:
        connection, peer = wire()
        await peer.push(b"a\nb")
        assert await connection.receive() == b"a"
        peer.abort()
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await connection.receive()
        with pytest.raises(ConnectionLost):
            await connection.send(b"x")

    run(main())


def test_two_receivers_are_refused_and_the_first_goes_on() -> None:
    async def main() -> None:
        connection, peer = wire()
        first = asyncio.create_task(connection.receive())
        await settle()
        with pytest.raises(BusyError):
            await connection.receive()
        with pytest.raises(BusyError):
            await connection.receive_many()
        await peer.push(b"for the first\nfor the next\n")
        assert await first == b"for the first"
        assert await connection.receive() == b"for the next"

    run(main())


def test_several_senders_each_send_whole_messages() -> None:
    async def main() -> None:
        ours, theirs = memory_pair(room=10)
        connection, peer = Connection(ours, LINE), Connection(theirs, LINE)
        messages = [bytes([65 + n]) * 50 for n in range(20)]
        senders = [asyncio.create_task(connection.send(message)) for message in messages]
        assert sorted([await peer.receive() for _ in messages]) == messages
        await asyncio.gather(*senders)

    run(main())


def test_a_cancelled_receive_loses_nothing() -> None:
    async def main() -> None:
        connection, peer = wire()
        await peer.push(b"half ")
        receiving = asyncio.create_task(connection.receive())
        await settle()
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        await peer.push(b"whole\n")
        assert await connection.receive() == b"half whole"

    run(main())


def test_a_receive_cancelled_at_the_moment_of_its_bytes_loses_nothing() -> None:
    async def main() -> None:
        connection, peer = wire()
        for rounds in range(12):
            receiving = asyncio.create_task(connection.receive())
            await settle()
            await peer.push(b"m\n")
            for _ in range(rounds):
                await asyncio.sleep(0)
            receiving.cancel()
            try:
                message = await receiving
            except asyncio.CancelledError:
                message = await connection.receive()
            assert message == b"m"

    run(main())


def clocked(clock: FakeClock, **options: Any) -> tuple[Connection, MemoryTransport]:
    ours, theirs = memory_pair(clock=clock)
    return Connection(ours, LINE, now=clock.now, **options), theirs


def test_a_timeout_is_for_the_whole_message_however_it_drips() -> None:
    async def main() -> None:
        with FakeClock() as clock:
            connection, peer = clocked(clock)
            receiving = asyncio.create_task(connection.receive(timeout=10))
            for _ in range(9):
                await peer.push(b".")
                await clock.advance(1)
            assert not receiving.done()
            await clock.advance(1)
            with pytest.raises(TimedOut):
                await receiving
            await peer.push(b"!\n")
            assert await connection.receive(timeout=10) == b".........!"

    run(main())


def test_a_message_has_its_own_time_from_its_first_bytes_on() -> None:
    async def main() -> None:
        with FakeClock() as clock:
            connection, peer = clocked(clock, timeout=100, message_timeout=5)
            receiving = asyncio.create_task(connection.receive())
            await clock.advance(90)
            assert not receiving.done()
            await peer.push(b"a")
            await clock.advance(4)
            await peer.push(b"b")
            assert not receiving.done()
            await clock.advance(1)
            with pytest.raises(TimedOut):
                await receiving

    run(main())


def test_the_own_timeout_is_the_default_and_inf_waits_for_ever() -> None:
    async def main() -> None:
        with FakeClock() as clock:
            connection, _ = clocked(clock, timeout=3)
            receiving = asyncio.create_task(connection.receive())
            await clock.advance(2.9)
            assert not receiving.done()
            await clock.advance(0.1)
            with pytest.raises(TimedOut):
                await receiving
            receiving = asyncio.create_task(connection.receive(math.inf))
            await clock.advance(1e6)
            assert not receiving.done()
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    run(main())


def test_a_send_waits_for_room_at_most_its_timeout() -> None:
    async def main() -> None:
        with FakeClock() as clock:
            ours, theirs = memory_pair(room=4, clock=clock)
            connection = Connection(ours, LINE, now=clock.now)
            await connection.send(b"fits")
            sending = asyncio.create_task(connection.send(b"does not", timeout=2))
            await clock.advance(2)
            with pytest.raises(TimedOut):
                await sending
            assert await theirs.pull(100) == b"fits\n"
            await connection.send(b"again")
            assert await theirs.pull(100) == b"again\n"

    run(main())


def test_closing_wakes_the_receiver_and_ends_all_use() -> None:
    async def main() -> None:
        connection, peer = wire()
        receiving = asyncio.create_task(connection.receive())
        await settle()
        await connection.close()
        await connection.close()
        with pytest.raises(ConnectionClosed):
            await receiving
        with pytest.raises(ConnectionClosed):
            await connection.receive()
        with pytest.raises(ConnectionClosed):
            await connection.send(b"x")
        assert await peer.pull(10) == b""

    run(main())


def test_after_close_nothing_that_had_arrived_is_given() -> None:
    async def main() -> None:
        connection, peer = wire()
        await peer.push(b"a\nb\n")
        assert await connection.receive() == b"a"
        connection.abort()
        with pytest.raises(ConnectionClosed):
            await connection.receive()

    run(main())


def test_both_sides_that_send_first_deadlock_in_lockstep() -> None:
    async def main() -> None:
        with FakeClock() as clock:
            one, other = (Connection(each, LINE, now=clock.now) for each in lockstep_pair(clock=clock))
            sends = [asyncio.create_task(each.send(b"hello", timeout=1)) for each in (one, other)]
            await clock.advance(1)
            for send in sends:
                with pytest.raises(TimedOut):
                    await send
            receiving = asyncio.create_task(other.receive())
            await one.send(b"in turn")
            assert await receiving == b"in turn"

    run(main())


def test_the_context_closes() -> None:
    async def main() -> None:
        connection, peer = wire()
        async with connection as same:
            assert same is connection
            assert "@other" in repr(connection)
        assert await peer.pull(10) == b""

    run(main())


@given(
    st.lists(st.binary(max_size=20).filter(lambda text: b"\n" not in text and not text.endswith(b"\r"))),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_messages_survive_every_splitting(messages: list[bytes], cuts: list[int]) -> None:
    async def main() -> None:
        connection, peer = wire()
        data = b"".join(message + b"\n" for message in messages)
        received: list[bytes] = []

        async def receive() -> None:
            received.extend([message async for message in connection])

        receiving = asyncio.create_task(receive())
        turn = 0
        while data:
            cut = cuts[turn % len(cuts)]
            turn += 1
            await peer.push(data[:cut])
            await asyncio.sleep(0)
            data = data[cut:]
        await peer.close()
        await receiving
        assert received == messages

    run(main())


def test_sleep_without_a_handler_or_a_loop_says_what_to_use() -> None:
    with pytest.raises(UsageError, match=r"time\.sleep"):
        run_to_end(sleep(0))


def test_sleep_in_a_plain_asyncio_program() -> None:
    run(sleep(0))
