"""The WebSocket transport keeps the promises of a record transport, and says goodbye."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from hailer.endpoint import Endpoint
from hailer.errors import (
    BadFrame,
    ConnectionClosed,
    ConnectionLost,
    FramingError,
    HailerError,
    MessageTooLong,
    TimedOut,
)
from hailer.layers import websocket
from hailer.layers.websocket import WebSocketTransport
from hailer.runtime.aio import AioTransport
from hailer.runtime.blocking import BlockingTransport, run_to_end
from hailer.testing.clock import settle
from hailer.testing.memory import MemoryTransport, lockstep_pair, memory_pair
from hailer.testing.records import check_blocking_record_transport, check_record_transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from hailer.transport import Transport

ENDPOINT = Endpoint.parse("ws://localhost:7000/chat")


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def open_both(
    one: Transport, other: Transport, max_message: int = 1 << 20
) -> tuple[WebSocketTransport, WebSocketTransport]:
    """The client's side, then the server's."""
    client, server = await asyncio.gather(
        WebSocketTransport.connect(one, ENDPOINT, soon(), max_message=max_message),
        WebSocketTransport.accept(other, soon(), max_message=max_message),
    )
    return client, server


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


async def over_memory() -> tuple[WebSocketTransport, WebSocketTransport]:
    return await open_both(*memory_pair())


async def over_lockstep() -> tuple[WebSocketTransport, WebSocketTransport]:
    return await open_both(*lockstep_pair())


async def over_tcp() -> tuple[WebSocketTransport, WebSocketTransport]:
    client, server = tcp_pair()
    return await open_both(await AioTransport.adopt(client, "tcp"), await AioTransport.adopt(server, "tcp"))


async def over_tcp_backwards() -> tuple[WebSocketTransport, WebSocketTransport]:
    client, server = await over_tcp()
    return server, client


@pytest.mark.parametrize("make_pair", [over_memory, over_lockstep, over_tcp, over_tcp_backwards])
def test_it_conforms(
    make_pair: Callable[[], Awaitable[tuple[WebSocketTransport, WebSocketTransport]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if make_pair is over_lockstep:
        # Where nothing is buffered, two that close at once both wait for the other to pull.
        monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", 0.05)
        monkeypatch.setattr(websocket, "ANSWER_TIMEOUT", 0.05)
    asyncio.run(check_record_transport(make_pair, half_close=False, largest=200_000))


@pytest.mark.parametrize("backwards", [False, True])
def test_it_conforms_blocking(backwards: bool) -> None:
    def make_pair() -> tuple[WebSocketTransport, WebSocketTransport]:
        one, other = tcp_pair()
        served: list[WebSocketTransport] = []
        accept = WebSocketTransport.accept(BlockingTransport(other, "tcp"), soon())
        thread = threading.Thread(target=lambda: served.append(run_to_end(accept)))
        thread.start()
        client = run_to_end(WebSocketTransport.connect(BlockingTransport(one, "tcp"), ENDPOINT, soon()))
        thread.join()
        return (served[0], client) if backwards else (client, served[0])

    check_blocking_record_transport(make_pair, half_close=False, largest=200_000)


def run(work: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await work

    asyncio.run(bounded())


async def pull(transport: WebSocketTransport, count: int = 1) -> list[bytes | FramingError]:
    came: list[bytes | FramingError] = []
    while len(came) < count:
        records = await transport.pull_records(1 << 20, soon())
        assert records, f"the end came after {came!r}"
        came += records
    return came


# Kinds.


async def raw_client(
    room: int = 65536, max_message: int = 1 << 20
) -> tuple[MemoryTransport, WebSocketTransport]:
    """A client that writes its frames by hand, and the server's side."""
    client, stream = memory_pair(room=room)
    accepting = asyncio.create_task(WebSocketTransport.accept(stream, soon(), max_message=max_message))
    await client.push(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (await client.pull(4096)).startswith(b"HTTP/1.1 101 ")
    return client, await accepting


def frame(kind: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(kind, data, fin).serialize(mask=True)


def test_a_pull_gives_one_kind_and_the_answers_go_out_in_it() -> None:
    async def main() -> None:
        client, server = await raw_client()
        await server.push_records([b"text first", b"\xff binary"])
        assert await client.pull(100) == b"\x81\x0atext first\x82\x08\xff binary"
        kinds = [Opcode.TEXT, Opcode.TEXT, Opcode.BINARY, Opcode.TEXT]
        await client.push(b"".join(frame(kind, b"%d" % at) for at, kind in enumerate(kinds)))
        for batch, head in (([b"0", b"1"], b"\x81\x01"), ([b"2"], b"\x82\x01"), ([b"3"], b"\x81\x01")):
            assert await server.pull_records(100) == batch
            await server.push_records(batch)
            assert await client.pull(100) == b"".join(head + record for record in batch)
        client.abort()
        await server.close()

    run(main())


# The end.


def test_what_the_peer_sent_before_its_close_comes_after_finish() -> None:
    async def main() -> None:
        client, server = await over_memory()
        await server.push_records([b"before"])
        await client.finish()
        assert await pull(client) == [b"before"]
        assert await server.pull_records(10) == []
        assert await client.pull_records(10) == []
        await asyncio.gather(client.close(), server.close())

    run(main())


def test_what_came_before_a_close_is_answered_before_it() -> None:
    async def main() -> None:
        client, server = await raw_client()
        await client.push(frame(Opcode.TEXT, b"a") + frame(Opcode.CLOSE, b"\x0f\xa0bye"))
        assert await server.pull_records(10) == [b"a"]
        await server.push_records([b"A"])
        assert await server.pull_records(10) == []
        assert await client.pull(100) == b"\x81\x01A" + b"\x88\x05\x0f\xa0bye"
        assert await client.pull(100) == b"", "the server ends the stream"
        with pytest.raises(ConnectionLost):
            await server.push_records([b"late"])
        await server.close()
        await client.close()

    run(main())


@pytest.mark.parametrize("partial", [b"", b"\x81", b"\x01\x82\0\0\0\0ab"])
def test_a_stream_that_ends_without_close_is_a_loss(partial: bytes) -> None:
    async def main() -> None:
        client, server = await raw_client()
        await client.push(frame(Opcode.TEXT, b"a") + partial)
        await client.finish()
        assert await server.pull_records(10) == [b"a"]
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="without closing"):
                await server.pull_records(10)
        await server.close()

    run(main())


def test_close_waits_for_the_peers_close_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "ANSWER_TIMEOUT", 0.1)

    async def main() -> None:
        client, server = await raw_client()
        closing = asyncio.create_task(server.close())
        assert await client.pull(100) == b"\x88\x02\x03\xe8"
        await settle()
        assert not closing.done()
        await client.push(frame(Opcode.TEXT, b"dropped") + frame(Opcode.CLOSE, b"\x03\xe8"))
        await closing
        assert not server._ready, "what comes while it closes is kept by nobody"
        assert await client.pull(100) == b""

        client, server = await raw_client()
        start = time.monotonic()
        await server.close()
        assert 0.09 < time.monotonic() - start < 2, "a server waits shortly"

        monkeypatch.setattr(websocket, "CLOSE_TIMEOUT", 0.1)
        monkeypatch.setattr(websocket, "ANSWER_TIMEOUT", 1000)
        asking, _ = await over_memory()
        start = time.monotonic()
        await asking.close()
        assert 0.09 < time.monotonic() - start < 2, "and a client for a time of its own"

        monkeypatch.setattr(websocket, "ANSWER_TIMEOUT", 0.1)
        client, server = await raw_client(room=1)  # and one that does not read
        blocked = asyncio.create_task(server.push_records([b"x" * 1000]))
        await settle()
        second = asyncio.create_task(server.push_records([b"y" * 1000]))
        await settle()
        await server.close()
        with pytest.raises(ConnectionClosed):
            await second
        await blocked

    run(main())


def test_finish_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "FINISH_TIMEOUT", 0.05)

    async def main() -> None:
        client, server = await raw_client(room=1)  # which does not read
        blocked = asyncio.create_task(server.push_records([b"x" * 1000]))
        await settle()
        with pytest.raises(TimedOut):
            await server.finish()
        server.abort()
        client.abort()
        await asyncio.gather(blocked, return_exceptions=True)

    run(main())


def test_a_cancelled_close_lets_go_at_once() -> None:
    async def main() -> None:
        client, server = await raw_client()
        closing = asyncio.create_task(server.close())
        await settle()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ConnectionLost):
            await client.push(b"x")
        await server.close()

    run(main())


def test_a_pull_that_waits_while_another_task_closes() -> None:
    async def main() -> None:
        client, server = await over_memory()
        waiting = asyncio.create_task(server.pull_records(10))
        await settle()
        start = time.monotonic()
        closing = asyncio.create_task(server.close())
        assert await client.pull_records(10) == []
        with pytest.raises(ConnectionClosed):
            await waiting
        await closing
        assert time.monotonic() - start < 2, "the waiting pull hands the peer's Close on"
        await client.close()

    run(main())


# Pings.


def test_pings_are_answered_while_another_task_sends_to_a_peer_that_does_not_read() -> None:
    async def main() -> None:
        client, server = await raw_client(room=1)
        await server.push_records([b"fills the room"])
        sending = [asyncio.create_task(server.push_records([b"%d" % at])) for at in range(3)]
        await settle()
        # Reading goes on, and what is kept of the pongs is those of one read.
        for round_ in range(100):
            await client.push(frame(Opcode.PING, b"%d" % round_) * 10 + frame(Opcode.TEXT, b"message"))
            assert await pull(server) == [b"message"]
            assert len(server._pongs) <= 10 * 4
        came = b""
        while not came.endswith(b"\x81\x012"):
            came += await client.pull(1000)
        assert came.index(b"\x81\x010") < came.index(b"\x8a\x0299") < came.index(b"\x81\x012")
        await asyncio.gather(*sending)
        client.abort()
        await server.close()

    run(main())


def test_a_sender_sends_the_pong_that_came_meanwhile() -> None:
    async def main() -> None:
        client, server = await raw_client(room=1)
        await server.push_records([b"fills the room"])
        sending = asyncio.create_task(server.push_records([b"sent"]))
        pulling = asyncio.create_task(server.pull_records(100))
        await client.push(frame(Opcode.PING, b"x"))
        await settle()
        came = b""
        while not came.endswith(b"sent\x8a\x01x"):
            came += await client.pull(1000, soon())
        await sending
        assert not pulling.done()
        client.abort()
        with pytest.raises(ConnectionLost):
            await pulling
        await server.close()

    run(main())


def test_a_ping_without_a_message_is_answered() -> None:
    async def main() -> None:
        client, server = await raw_client()
        await client.push(frame(Opcode.PING, b"x"))
        with pytest.raises(TimedOut):
            await server.pull_records(10, soon(0.02))
        assert await client.pull(100) == b"\x8a\x01x"
        client.abort()
        await server.close()

    run(main())


# Limits.


@pytest.mark.parametrize("fragmented", [False, True])
def test_a_message_over_the_limit_ends_the_connection(fragmented: bool) -> None:
    async def main() -> None:
        client, server = await raw_client(max_message=100)
        await client.push(frame(Opcode.TEXT, b"x" * 100))
        assert await pull(server) == [b"x" * 100]
        if fragmented:
            await client.push(frame(Opcode.TEXT, b"x" * 100, fin=False))
            # A control frame is no part of the message, whatever is left of its limit.
            await client.push(frame(Opcode.PING, b"p" * 125) + frame(Opcode.CONT, b"x"))
        else:
            await client.push(frame(Opcode.BINARY, b"x" * 101))
        (error,) = await pull(server)
        assert isinstance(error, MessageTooLong)
        assert error.fatal
        assert error.limit == 100
        assert await server.pull_records(100) == []
        answer = await client.pull(1000)
        assert b"\x88" in answer
        assert (1009).to_bytes(2) in answer
        with pytest.raises(ConnectionLost):
            await server.push_records([b"x"])
        client.abort()
        await server.close()

    run(main())


def test_a_header_that_promises_too_much_is_refused_before_anything_is_kept() -> None:
    async def main() -> None:
        client, server = await raw_client()
        await client.push(b"\x82\xff" + (1 << 40).to_bytes(8))
        (error,) = await pull(server)
        assert isinstance(error, MessageTooLong)
        client.abort()
        await server.close()

    run(main())


def test_fragments_cost_no_more_than_their_bytes() -> None:
    async def main() -> None:
        client, server = await raw_client(room=1 << 30)
        await client.push(frame(Opcode.BINARY, b"", fin=False))
        await client.push(
            frame(Opcode.CONT, b"", fin=False) * 5000 + frame(Opcode.CONT, b"x", fin=False) * 5000
        )
        with pytest.raises(TimedOut):
            await server.pull_records(1 << 20, soon(0.2))
        assert server._partial == bytearray(b"x" * 5000)
        assert not server._ready
        client.abort()
        await server.close()

    run(main())


# Any bytes.


async def fed(pieces: list[bytes]) -> list[object]:
    """What a server makes of these bytes of a client, up to the end."""
    client, server = await raw_client(room=1 << 20, max_message=200)
    came: list[object] = []

    async def read() -> None:
        try:
            while records := await server.pull_records(200, soon()):
                came.extend(records)
        except ConnectionLost as error:
            came.append(error)

    reading = asyncio.create_task(read())
    try:
        for piece in pieces:
            await client.push(piece)
            await settle()
        await client.finish()
    except ConnectionLost:
        pass
    await reading
    client.abort()
    await server.close()
    assert all(isinstance(one, (bytes, HailerError)) for one in came)
    return [one if isinstance(one, bytes) else str(one) for one in came]


messages = st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING]), st.binary(max_size=20))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(at) if start < end]


@given(
    st.lists(messages, max_size=6),
    st.binary(max_size=12),
    st.lists(st.integers(0, 1000), max_size=6),
)
def test_any_bytes_in_any_pieces_give_the_same_records_or_errors_of_ours(
    frames: list[tuple[Opcode, bytes]], rest: bytes, places: list[int]
) -> None:
    data = b"".join(Frame(kind, payload).serialize(mask=True) for kind, payload in frames) + rest
    assert asyncio.run(fed([data])) == asyncio.run(fed(cut(data, places)))


def test_a_bad_frame_comes_after_what_came_before_it() -> None:
    async def main() -> None:
        client, server = await raw_client()
        await client.push(frame(Opcode.TEXT, b"good") + b"\x83\x80\0\0\0\0")
        assert await server.pull_records(10) == [b"good"]
        (error,) = await server.pull_records(10)
        assert isinstance(error, BadFrame)
        assert error.fatal
        assert "opcode" in str(error)
        assert await client.pull(100) == b"\x88\x10\x03\xeainvalid opcode"
        await server.close()

    run(main())
