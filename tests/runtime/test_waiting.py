from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import uvloop

from hailer.runtime.blocking import run_to_end
from hailer.runtime.waiting import AioWaiter, PollWaiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Pair = tuple[socket.socket, socket.socket]
    Run = Callable[[Callable[[], Awaitable[None]]], None]

SHORT = 0.05


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


@pytest.fixture(params=["stock", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = asyncio.SelectorEventLoop if request.param == "stock" else uvloop.new_event_loop

    def run_(main: Callable[[], Awaitable[None]]) -> None:
        async def whole() -> None:
            async with asyncio.timeout(10):
                await main()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(whole())

    return run_


def watches(waiter: AioWaiter) -> bool:
    return waiter._reading


def soon() -> float:
    return time.monotonic() + 5


def fill(sock: socket.socket) -> None:
    try:
        while True:
            sock.send(bytes(65536))
    except BlockingIOError:
        pass


def drain(sock: socket.socket) -> None:
    try:
        while True:
            sock.recv(65536)
    except BlockingIOError:
        pass


def test_polling(pair: Pair) -> None:
    one, other = pair
    waiter = PollWaiter(one)
    start = time.monotonic()
    assert not run_to_end(waiter.readable(start + SHORT))
    assert time.monotonic() - start >= SHORT * 0.9
    assert not run_to_end(waiter.readable(start))
    other.send(b"x")
    assert run_to_end(waiter.readable(start)), "what is there is there, whatever the deadline"
    assert run_to_end(waiter.readable(None))
    assert run_to_end(waiter.writable(start))
    fill(one)
    assert not run_to_end(waiter.writable(time.monotonic() + SHORT))
    drain(other)
    assert run_to_end(waiter.writable(soon()))
    waiter.release()
    waiter.release()


@pytest.mark.parametrize("kind", ["stream", "seqpacket", "dgram", "udp"])
def test_another_thread_wakes_a_poll(kind: str) -> None:
    if kind == "udp":
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        other.bind(("127.0.0.1", 0))
        one.connect(other.getsockname())
    else:
        one, other = socket.socketpair(socket.AF_UNIX, getattr(socket, f"SOCK_{kind.upper()}"))
    with one, other:
        one.setblocking(False)
        waiter = PollWaiter(one)
        came: list[bool] = []
        thread = threading.Thread(target=lambda: came.append(run_to_end(waiter.readable(soon()))))
        start = time.monotonic()
        thread.start()
        time.sleep(0.02)  # so that it waits; if it does not yet, the result is the same
        waiter.wake()
        thread.join(10)
        assert came == [True]
        assert time.monotonic() - start < 3
        assert run_to_end(waiter.readable(soon())), "it stays awake"


def test_in_a_loop(run: Run, pair: Pair) -> None:
    one, other = pair

    async def main() -> None:
        waiter = AioWaiter(one)
        start = time.monotonic()
        assert not await waiter.readable(start + SHORT)
        assert time.monotonic() - start >= SHORT * 0.9
        assert not await waiter.readable(start)
        other.send(b"x")
        assert await waiter.readable(soon())
        assert await waiter.readable(None)
        assert await waiter.writable(soon())
        fill(one)
        assert not await waiter.writable(time.monotonic() + SHORT)
        waiting = asyncio.ensure_future(waiter.writable(None))
        await asyncio.sleep(0)
        drain(other)
        assert await waiting
        waiter.release()
        waiter.release()
        assert await waiter.readable(None), "nobody waits for what was released"
        assert await waiter.writable(None)

    run(main)


def test_several_wait_and_all_wake(run: Run, pair: Pair) -> None:
    one, _ = pair

    async def main() -> None:
        waiter = AioWaiter(one)
        fill(one)
        waits = [asyncio.ensure_future(waiter.writable(None)) for _ in range(3)]
        waits.append(asyncio.ensure_future(waiter.readable(None)))
        await asyncio.sleep(0)
        waits[0].cancel()
        waiter.wake()
        assert await asyncio.gather(*waits[1:]) == [True] * 3
        with pytest.raises(asyncio.CancelledError):
            await waits[0]

    run(main)


def test_a_cancelled_wait_leaves_nothing(run: Run, pair: Pair) -> None:
    one, other = pair

    async def main() -> None:
        waiter = AioWaiter(one)
        for _ in range(3):
            waiting = asyncio.ensure_future(waiter.readable(soon()))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert not waiter._readers
        other.send(b"x")
        assert await waiter.readable(soon())
        waiter.release()

    run(main)


def test_what_nobody_waits_for_keeps_no_loop_busy(run: Run, pair: Pair) -> None:
    one, other = pair

    async def main() -> None:
        waiter = AioWaiter(one)
        other.send(b"x")
        assert await waiter.readable(soon())
        # It stays unread: the loop watches until it finds that nobody wants it.
        for _ in range(100):
            await asyncio.sleep(0)
        assert not watches(waiter)
        one.recv(1)
        waiting = asyncio.ensure_future(waiter.readable(soon()))
        await asyncio.sleep(0)
        other.send(b"y")
        assert await waiting
        assert watches(waiter), "an exchange of messages goes on watching"
        waiter.release()

    run(main)


def test_others_get_their_turn(run: Run, pair: Pair) -> None:
    one, other = pair

    async def main() -> None:
        waiter = AioWaiter(one)
        other.send(b"x")
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        for _ in range(10):
            assert await waiter.readable(None)
        assert turns >= 10
        counting.cancel()
        waiter.release()

    run(main)
