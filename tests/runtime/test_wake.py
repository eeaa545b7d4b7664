"""The direct wake: bytes step the task that waits for them, and nothing of asyncio's is lost by it."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import weakref
from asyncio import tasks
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from hailer.connection import Connection
from hailer.errors import BusyError, TimedOut
from hailer.framing import as_framing
from hailer.runtime import aio
from hailer.runtime.aio import AioTransport
from hailer.runtime.driven import Driven
from hailer.testing.transport import check_transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    Body = Callable[[AioTransport, socket.socket], Awaitable[None]]

LOOPS = ("uvloop", "stock")
KINDS = ("C", "Python", "driven", "driven Python")


def run(loop: str, kind: str, body: Body) -> None:
    """Run a body with a transport and the other end of its connection, in tasks of one kind."""

    def factory(
        running: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        if "driven" in kind:
            coroutine = Driven(coroutine, running)
        maker: Any = tasks._PyTask if "Python" in kind else asyncio.Task  # type: ignore[attr-defined]
        made: asyncio.Task[Any] = maker(coroutine, loop=running, **options)
        return made

    async def main() -> None:
        if kind != "C":
            asyncio.get_running_loop().set_task_factory(factory)  # type: ignore[arg-type]
        one, other = socket.socketpair()
        other.setblocking(False)
        transport = await AioTransport.adopt(one, "unix")
        try:
            async with asyncio.timeout(10):
                await asyncio.ensure_future(body(transport, other))
        finally:
            transport.abort()
            await transport.close()
            other.close()

    with asyncio.Runner(loop_factory=aio.loop_factory(loop)) as runner:  # type: ignore[arg-type]
        runner.run(main())


pytestmark = [pytest.mark.parametrize("loop", LOOPS), pytest.mark.parametrize("kind", KINDS)]


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_the_task_goes_on_within_the_call_that_brings_the_bytes(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, _: socket.socket) -> None:
        got: list[bytes] = []

        async def take() -> None:
            while len(got) < 3:
                got.append(await transport.pull(10))

        task = asyncio.ensure_future(take())
        await turns()
        done = asyncio.get_running_loop().create_future()

        def bring() -> None:  # as the loop calls it: no task is current
            for data in (b"a", b"b"):
                transport.data_received(data)
            done.set_result(list(got))

        asyncio.get_running_loop().call_soon(bring)
        assert await done == [b"a", b"b"]
        transport.data_received(b"c")  # a task is current: the loop steps the other one
        assert got == [b"a", b"b"]
        await task
        assert got == [b"a", b"b", b"c"]

    run(loop, kind, body)


def test_the_task_keeps_its_context_and_is_the_current_one(loop: str, kind: str) -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")

    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def take() -> tuple[str, asyncio.Task[Any] | None]:
            name.set("taker")
            await transport.pull(10)
            return name.get(), asyncio.current_task()

        task = asyncio.ensure_future(take())
        await turns()
        other.send(b"x")
        assert await task == ("taker", task)
        assert name.get() == "nobody"

    run(loop, kind, body)


def test_a_cancelled_pull_loses_nothing(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        for _ in range(3):
            task = asyncio.ensure_future(transport.pull(10))
            await turns()
            task.cancel("no more")
            other.send(b"x")
            with pytest.raises(asyncio.CancelledError, match="no more"):
                await task
            assert task.cancelled()
            assert await transport.pull(10) == b"x"

    run(loop, kind, body)


def test_a_pull_cancelled_between_its_bytes_and_its_step_loses_nothing(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, _: socket.socket) -> None:
        task = asyncio.ensure_future(transport.pull(10))
        await turns()
        transport.data_received(b"x")  # from within a task: the step comes later
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        transport.data_received(b"y")
        assert await transport.pull(10) == b"xy"

    run(loop, kind, body)


def test_a_pull_that_was_cancelled_before_it_waits(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def take() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await transport.pull(10)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(take())
        other.send(b"x")
        assert await transport.pull(10) == b"x"

    run(loop, kind, body)


def test_timeouts_and_groups_of_asyncio(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await transport.pull(10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(transport.pull(10), 0.01)
        pulls: list[asyncio.Task[bytes]] = []

        async def fail_beside_a_pull() -> None:
            async with asyncio.TaskGroup() as group:
                pulls.append(group.create_task(transport.pull(10)))
                await turns()
                raise ValueError

        with pytest.raises(ExceptionGroup):
            await fail_beside_a_pull()
        assert pulls[0].cancelled()
        other.send(b"x")
        async with asyncio.TaskGroup() as group:
            pulls.append(group.create_task(transport.pull(10)))
        assert pulls[1].result() == b"x"

    run(loop, kind, body)


def test_deadlines_early_and_late(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        for seconds in (0.2, 0.02, 0.05):  # the timer of an earlier, later deadline is still set
            other.send(b"x")
            assert await transport.pull(10, time.monotonic() + 60) == b"x"
            start = time.monotonic()
            with pytest.raises(TimedOut):
                await transport.pull(10, start + seconds)
            assert seconds <= time.monotonic() - start < seconds + 10
        # A deadline that has passed for one pull is none for the next.
        task = asyncio.ensure_future(transport.pull(10))
        await asyncio.sleep(0.05)
        other.send(b"y")
        assert await task == b"y"

    run(loop, kind, body)


def test_a_second_pull_is_refused_and_the_first_goes_on(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        task = asyncio.ensure_future(transport.pull(10))
        await turns()
        with pytest.raises(BusyError):
            await transport.pull(10)
        other.send(b"x")
        assert await task == b"x"

    run(loop, kind, body)


def test_a_coroutine_that_is_dropped_leaves_the_transport_free(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        pull = transport.pull(10)
        pull.send(None)
        pull.close()
        other.send(b"x")
        assert await transport.pull(10) == b"x"

    run(loop, kind, body)


def test_more_than_the_limit_comes_in_parts(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        task = asyncio.ensure_future(transport.pull(2))
        await turns()
        other.send(b"abcde")
        assert await task == b"ab"
        assert [await transport.pull(2) for _ in range(2)] == [b"cd", b"e"]

    run(loop, kind, body)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_goes_through_the_loop(
    loop: str, kind: str, error: type[BaseException]
) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def leave() -> None:
            await transport.pull(10)
            raise error

        task = asyncio.ensure_future(leave())
        await turns()
        other.send(b"x")
        try:
            await asyncio.sleep(10)
        finally:
            assert isinstance(task.exception(), error)

    with pytest.raises(error):
        run(loop, kind, body)


def test_an_error_of_the_handler_stays_in_its_task(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def fail() -> None:
            await transport.pull(10)
            raise RuntimeError("mine")

        task = asyncio.ensure_future(fail())
        await turns()
        other.send(b"x")
        with pytest.raises(RuntimeError, match="mine"):
            await task

    run(loop, kind, body)


def test_the_transport_keeps_its_promises(loop: str, kind: str) -> None:
    async def body(_: AioTransport, __: socket.socket) -> None:
        async def make_pair() -> tuple[AioTransport, AioTransport]:
            one, other = socket.socketpair()
            return await AioTransport.adopt(one, "unix"), await AioTransport.adopt(other, "unix")

        await check_transport(make_pair)

    run(loop, kind, body)


def test_a_handler_that_closes_as_it_is_stepped(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def answer() -> None:
            await transport.push(await transport.pull(10))
            await transport.close()

        task = asyncio.ensure_future(answer())
        await turns()
        other.send(b"x")
        await task
        assert other.recv(10) == b"x"
        assert other.recv(10) == b""

    run(loop, kind, body)


def test_a_task_that_cancels_itself_in_the_middle(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def take() -> bytes:
            await transport.pull(10)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await transport.pull(10)
            task.uncancel()
            return await transport.pull(10)

        task = asyncio.ensure_future(take())
        await turns()
        other.send(b"x")
        await turns()
        other.send(b"y")
        assert await task == b"y"

    run(loop, kind, body)


def test_all_ends_of_a_task(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def take(how: str) -> bytes:
            data = await transport.pull(10)
            if how == "raise":
                raise ValueError(how)
            if how == "sleep":
                await asyncio.sleep(0.001)
            if how == "cancelled as it returns":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            return data

        for how in ("return", "sleep", "raise", "cancelled as it returns"):
            task = asyncio.ensure_future(take(how))
            await turns()
            other.send(b"x")
            if how == "raise":
                with pytest.raises(ValueError, match=how):
                    await task
            elif how.startswith("cancelled"):
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert task.cancelled()
            else:
                assert await task == b"x"

    run(loop, kind, body)


def test_a_deadline_of_one_wait_is_none_of_the_next(loop: str, kind: str) -> None:
    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def take() -> bytes:
            connection = Connection(transport, as_framing("line"))
            await connection.receive(0.05)
            return await connection.receive()

        task = asyncio.ensure_future(take())
        await turns()
        other.send(b"x\n")
        await asyncio.sleep(0.1)
        assert not task.done()
        other.send(b"y\n")
        assert await task == b"y"

    run(loop, kind, body)


def test_tasks_go_away_with_their_connections(loop: str, kind: str) -> None:
    seen: list[weakref.ref[Any]] = []

    async def body(transport: AioTransport, other: socket.socket) -> None:
        async def take() -> None:
            task = asyncio.current_task()
            assert task is not None
            seen.append(weakref.ref(task))
            while await transport.pull(10):
                pass

        task = asyncio.ensure_future(take())
        await turns()
        for _ in range(3):
            other.send(b"x")
            await asyncio.sleep(0.001)
        other.shutdown(socket.SHUT_WR)
        await task

    gc.collect()
    gc.disable()
    try:
        run(loop, kind, body)
        assert seen[0]() is None, "it waits for the garbage collector"
    finally:
        gc.enable()
