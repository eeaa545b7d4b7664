"""The socket transports keep the promises of `Transport`, and the clients connect them."""

from __future__ import annotations

import asyncio
import inspect
import socket
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hailer
from hailer.connection import Connection
from hailer.errors import (
    ConnectionClosed,
    ConnectionLost,
    EndOfStream,
    ForeignAwaitError,
    TimedOut,
    UsageError,
)
from hailer.runtime import aio
from hailer.runtime.aio import READ_HIGH, WRITE_HIGH, AioTransport
from hailer.runtime.blocking import BlockingConnection, BlockingTransport, run_to_end
from hailer.runtime.buffer import ByteQueue
from hailer.runtime.sockets import RESET_ON_CLOSE
from hailer.server import Server
from hailer.services.echo import echo
from hailer.testing.transport import check_blocking_transport, check_transport
from tests.runtime.conftest import connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hailer.endpoint import Endpoint

LOOPS = ("uvloop", "stock")


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("loop", LOOPS)
def test_asyncio_transports_conform(loop: Any, family: str, tmp_path: Path) -> None:
    async def make_pair() -> tuple[AioTransport, AioTransport]:
        one, other, scheme = connected(family, tmp_path)
        return await AioTransport.adopt(one, scheme), await AioTransport.adopt(other, scheme)

    with asyncio.Runner(loop_factory=aio.loop_factory(loop)) as runner:
        runner.run(check_transport(make_pair))


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_blocking_transports_conform(family: str, tmp_path: Path) -> None:
    def make_pair() -> tuple[BlockingTransport, BlockingTransport]:
        one, other, scheme = connected(family, tmp_path)
        return BlockingTransport(one, scheme), BlockingTransport(other, scheme)

    check_blocking_transport(make_pair)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_nobody_pulls_is_bounded(loop: Any, tmp_path: Path) -> None:
    async def main() -> None:
        one, other, scheme = connected("tcp", tmp_path)
        transport = await AioTransport.adopt(one, scheme)
        other.setblocking(False)
        sent = 0
        running = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(0.3):
                while True:
                    await running.sock_sendall(other, b"x" * 65536)
                    sent += 65536
        except TimeoutError:
            pass
        assert transport._queue.size <= READ_HIGH + 256 * 1024
        left = sent
        while left > 0:
            left -= len(await transport.pull(65536))
        transport.abort()
        await transport.close()
        other.close()

    with asyncio.Runner(loop_factory=aio.loop_factory(loop)) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_pushed_to_the_loop_is_bounded(loop: Any, tmp_path: Path) -> None:
    async def main() -> None:
        one, other, scheme = connected("unix", tmp_path)
        transport = await AioTransport.adopt(one, scheme)

        async def fill() -> None:
            while True:
                await transport.push(b"x" * 10_000, time.monotonic() + 0.05)
                assert transport._transport.get_write_buffer_size() <= WRITE_HIGH + 10_000

        with pytest.raises(TimedOut):
            await fill()
        # Pushes that are given up add nothing to the buffer.
        size = transport._transport.get_write_buffer_size()
        for _ in range(20):
            with pytest.raises(TimedOut):
                await transport.push(b"x" * 10_000, time.monotonic())
        assert transport._transport.get_write_buffer_size() == size
        transport.abort()
        await transport.close()
        other.close()

    with asyncio.Runner(loop_factory=aio.loop_factory(loop)) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_close_does_not_wait_for_ever_for_a_peer_that_does_not_read(
    loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "CLOSE_TIMEOUT", 0.05)

    async def main() -> None:
        one, other, scheme = connected("tcp", tmp_path)
        transport = await AioTransport.adopt(one, scheme)
        await transport.push(b"x" * (64 << 20))
        async with asyncio.timeout(5):
            await transport.close()
        assert one.fileno() == -1
        other.close()

    with asyncio.Runner(loop_factory=aio.loop_factory(loop)) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_sender_whose_peer_reads_quickly_lets_others_run(loop: Any, tmp_path: Path) -> None:
    async def main() -> None:
        one, other, scheme = connected("tcp", tmp_path)
        transport = await AioTransport.adopt(one, scheme)
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(others())
        for _ in range(5000):
            await transport.push(b".")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert turns >= 3
        other.close()
        await transport.close()

    with asyncio.Runner(loop_factory=aio.loop_factory(loop)) as runner:
        runner.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_pushes_notice_at_once_that_the_peer_has_gone(
    loop: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        one, other, scheme = connected("tcp", tmp_path)
        transport = await AioTransport.adopt(one, scheme)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        other.close()

        async def push() -> None:
            for _ in range(500):
                await transport.push(b".")

        with pytest.raises(ConnectionLost):
            await push()
        await transport.close()

    with asyncio.Runner(loop_factory=aio.loop_factory(loop)) as runner:
        runner.run(main())
    assert not caplog.records, "the loop was written to in vain"


def test_the_loop_is_chosen_and_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert aio.loop_factory("stock") is asyncio.SelectorEventLoop
    assert aio.loop_factory("auto") is aio.loop_factory("uvloop")
    assert aio.loop_factory("auto") is not aio.loop_factory("stock")
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert aio.loop_factory("auto") is asyncio.SelectorEventLoop
    with pytest.raises(UsageError, match="loop='stock'"):
        aio.loop_factory("uvloop")


# Clients.


@contextmanager
def serving() -> Iterator[Endpoint]:
    with Server("tcp://127.0.0.1:0", echo, drain=0.2) as server:
        yield server.endpoints[0]


def test_the_asynchronous_client() -> None:
    async def main(endpoint: Endpoint) -> None:
        async with hailer.connect(str(endpoint)) as connection:
            assert str(connection.peer) == str(endpoint)
            await connection.send_many([b"a", b"b"])
            await connection.finish()
            assert [message async for message in connection] == [b"a", b"b"]
        with pytest.raises(ConnectionClosed):
            await connection.receive()

    with serving() as endpoint:
        asyncio.run(main(endpoint))


def test_the_blocking_client() -> None:
    with serving() as endpoint, hailer.connect(endpoint) as connection:
        assert str(connection.peer) == str(endpoint)
        assert str(connection.peer) in repr(connection)
        assert connection.local.port != connection.peer.port
        connection.send(b"one")
        assert connection.receive(timeout=30) == b"one"
        with pytest.raises(TimedOut):
            connection.receive(timeout=0.02)
        connection.send_many([b"two", b"three"])
        connection.finish()
        assert list(connection) == [b"two", b"three"]
        with pytest.raises(EndOfStream):
            connection.receive_many()


def test_a_blocking_receive_is_woken_by_an_abort_in_another_thread() -> None:
    with serving() as endpoint, hailer.connect(endpoint) as connection:
        timer = threading.Timer(0.05, connection.abort)
        timer.start()
        with pytest.raises(ConnectionClosed):
            connection.receive()
        timer.join()


def test_the_blocking_twin_has_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(member).parameters)
            for name, member in vars(kind).items()
            if not name.startswith("_") and callable(member)
        }

    def properties(kind: type) -> set[str]:
        return {name for name, member in vars(kind).items() if isinstance(member, property)}

    assert methods(BlockingConnection) == methods(Connection)
    assert properties(BlockingConnection) == properties(Connection)


def test_foreign_awaits_in_a_blocking_program() -> None:
    async def main() -> None:
        await asyncio.sleep(1)

    with pytest.raises(ForeignAwaitError, match=r"hailer\.sleep"):
        run_to_end(main())


def test_another_runtime_error_stays_what_it_is() -> None:
    async def main() -> None:
        raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="my own"):
        run_to_end(main())


@given(st.lists(st.one_of(st.binary(max_size=30), st.integers(1, 40))))
def test_a_queue_gives_what_went_in(steps: list[bytes | int]) -> None:
    queue = ByteQueue()
    model = b""
    for step in steps:
        if isinstance(step, bytes):
            queue.put(step)
            model += step
        elif model:
            taken = queue.take(step)
            assert taken == model[:step]
            model = model[step:]
        assert queue.size == len(model)
    assert queue.take(1 << 20) == model if model else queue.pieces == 0
