"""A relay's stream over WebSocket messages, and what a client does when its relay comes back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import hailer
from hailer.endpoint import Endpoint
from hailer.errors import DialError, FramingError
from hailer.layers.websocket import WebSocketTransport
from hailer.relay.app import RelayServer, Settings
from hailer.relay.client.dialling import WebStream
from hailer.relay.grammar import MAX_LINE
from hailer.testing.memory import memory_pair
from tests.relay.edge.layered import SERVER, trusting, write_identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHERE = Endpoint.parse("ws://127.0.0.1:4000/")


async def pair(max_message: int = 1 << 20) -> tuple[WebStream, WebSocketTransport]:
    """A client's stream, and the WebSocket at the other end."""
    inner = memory_pair()
    client, server = await asyncio.gather(
        WebSocketTransport.connect(inner[0], WHERE),
        WebSocketTransport.accept(inner[1], max_message=max_message),
    )
    return WebStream(client), server


async def test_messages_are_a_stream() -> None:
    stream, server = await pair()
    await server.push_records([b"one\ntw", b"", "o é\n".encode()])
    got = b""
    while len(got) < 11:
        piece = await stream.pull(5)
        assert 1 <= len(piece) <= 5
        got += piece
    assert got == "one\ntwo é\n".encode()
    await asyncio.gather(server.close(), stream.pull(5))
    assert await stream.pull(5) == b""
    await stream.close()


async def test_what_is_sent_is_binary_and_in_pieces_that_every_relay_takes() -> None:
    stream, server = await pair(max_message=MAX_LINE)
    data = b"line\n" * 50_000
    pushing = asyncio.create_task(stream.push(data))
    got = b""
    while len(got) < len(data):
        for record in await server.pull_records(MAX_LINE):
            assert isinstance(record, bytes)
            got += record
        assert not server.text
    await pushing
    assert got == data
    stream.abort()
    server.abort()


async def test_a_message_that_is_too_long_is_an_error() -> None:
    stream, server = await pair()
    pushing = asyncio.create_task(server.push_records([bytes(3 << 20)]))
    with pytest.raises(FramingError):
        await stream.pull(100)
    stream.abort()
    server.abort()
    await asyncio.gather(pushing, return_exceptions=True)


@pytest.mark.parametrize("kind", ["tls", "ws", "wss"])
async def test_it_comes_back_with_its_relay(
    kind: str, tmp_path: Path, eventually: Callable[[Callable[[], object]], object]
) -> None:
    cert, key = write_identity(SERVER, tmp_path, "server")
    settings = Settings(listen=(Endpoint.parse(f"{kind}://127.0.0.1:0"),), drain=0.1)
    if kind != "ws":
        settings = replace(settings, cert=str(cert), key=str(key))
    server = RelayServer(settings)
    with server:
        where = server.endpoints[0]
        client = hailer.RelayClient(
            "ann", where, tls=None if kind == "ws" else trusting(), retry_delay=0.01, timeout=20
        )
        await client.connect()
        await client.join("#den")
    await eventually(lambda: not client.connected)  # type: ignore[misc]
    with RelayServer(replace(settings, listen=(where,))):
        await eventually(lambda: client.connected)  # type: ignore[misc]
        assert await client.who("#den") == ["ann"]
        await client.close()


async def test_a_proxy_without_its_relay_is_nobody_listening() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    proxy = await asyncio.start_server(refuse, "127.0.0.1", 0)
    try:
        where = Endpoint("ws", "127.0.0.1", proxy.sockets[0].getsockname()[1], "/")
        with pytest.raises(DialError, match="opens no WebSocket"):
            await hailer.RelayClient("ann", where).connect()
    finally:
        proxy.close()
        await proxy.wait_closed()
