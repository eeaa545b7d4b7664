"""WebSocket with the websockets library's own clients and servers, asynchronous and threaded."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect as aio_connect
from websockets.asyncio.server import serve as aio_serve
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect as sync_connect
from websockets.sync.server import serve as sync_serve

import hailer
from hailer.errors import BadFrame, EndOfStream, MessageTooLong
from hailer.server import Server
from hailer.services.echo import echo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.asyncio.server import ServerConnection
    from websockets.sync.server import ServerConnection as SyncServerConnection

    from hailer.server import ModelName

MESSAGES: list[str | bytes] = ["", "hello", "Grüße", b"\xff\x00", b"", "x" * 70_000, b"\x80" * 200_000]


@contextmanager
def serving(model: ModelName) -> Iterator[str]:
    with Server("ws://127.0.0.1:0/echo", echo, model, drain=0.2, max_message=1 << 18) as server:
        yield str(server.endpoints[0])


@pytest.mark.parametrize("model", ["asyncio", "thread", "epoll"])
def test_its_asynchronous_client(model: ModelName) -> None:
    async def main(url: str) -> None:
        async with aio_connect(url) as client:
            for message in MESSAGES:
                await client.send(message)
            assert [await client.recv() for _ in MESSAGES] == MESSAGES
            await client.send(["frag", "ments"])
            assert await client.recv() == "fragments"
            await asyncio.wait_for(await client.ping(), 5)
        assert client.close_code == 1000
        async with aio_connect(url, max_size=None) as client:
            await client.send(b"x" * ((1 << 18) + 1))
            with pytest.raises(ConnectionClosedError, match="1009"):
                await client.recv()

    with serving(model) as url:
        asyncio.run(main(url))


@pytest.mark.parametrize("model", ["asyncio", "thread", "epoll"])
def test_its_threaded_client(model: ModelName) -> None:
    with serving(model) as url:
        with sync_connect(url) as client:
            for message in MESSAGES:
                client.send(message)
                assert client.recv(timeout=5) == message
            assert client.ping().wait(5)
        assert client.close_code == 1000
        with pytest.raises(InvalidStatus, match="404"):
            sync_connect(url + "/other")
        with pytest.raises(InvalidStatus, match="403"):
            sync_connect(url, additional_headers={"Origin": "http://evil.example"})


async def aio_echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def converse(url: str) -> None:
    async with await hailer.connect(url) as connection:
        await connection.send_many([b"text", b"\xff binary", b""])
        came: list[bytes] = []
        while len(came) < 3:
            came += await connection.receive_many(timeout=5)
        assert came == [b"text", b"\xff binary", b""]
        await connection.finish()
        with pytest.raises(EndOfStream):
            await connection.receive(timeout=30)
    async with await hailer.connect(url, max_message=10) as connection:
        await connection.send(b"x" * 11)
        with pytest.raises(MessageTooLong):
            await connection.receive(timeout=30)


def test_its_asynchronous_server() -> None:
    async def main() -> None:
        async with aio_serve(aio_echo, "127.0.0.1", 0) as server:
            await converse(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    asyncio.run(main())


def test_its_threaded_server() -> None:
    def sync_echo(connection: SyncServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with sync_serve(sync_echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        asyncio.run(converse(f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"))
        server.shutdown()
        thread.join()


def test_what_is_no_websocket_server() -> None:
    async def main() -> None:
        with Server("tcp://127.0.0.1:0", echo, drain=0.2) as server:
            port = server.endpoints[0].port
            with pytest.raises(BadFrame, match="does not speak WebSocket"):
                await hailer.connect(f"ws://127.0.0.1:{port}/")

    asyncio.run(main())
