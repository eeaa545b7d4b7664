"""Our own event loop, over epoll and over select, and the transport on it."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import socket
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from hailer import Server, sleep
from hailer.errors import BusyError, ConnectionClosed, ConnectionLost, ForeignAwaitError, TimedOut, UsageError
from hailer.runtime.poller import FD_SETSIZE, READ, WRITE, choose_poller
from hailer.runtime.ready import ReadyLoop
from hailer.runtime.ready_transport import ReadyTransport
from hailer.runtime.ready_waiter import ReadyWaiter
from hailer.runtime.records import SocketRecords
from hailer.testing import records
from hailer.testing.transport import CHECKS
from tests.runtime.conftest import connected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from hailer.connection import Connection

POLLERS = [name for name in ("epoll", "select") if name == "select" or hasattr(select, "epoll")]
PATIENCE = 30.0


@pytest.fixture(params=POLLERS)
def loop(request: pytest.FixtureRequest) -> Iterator[ReadyLoop]:
    loop = ReadyLoop(request.param)
    yield loop
    loop.close()


@contextmanager
def sockets(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


def run(loop: ReadyLoop, *coroutines: Coroutine[Any, Any, object]) -> None:
    """Run tasks to their end; raise the first error of theirs."""
    results: list[BaseException | None] = []
    for coroutine in coroutines:
        loop.spawn(coroutine, results.append)
    late = loop.call_later(PATIENCE, results.append, AssertionError("a task did not come to an end"))
    loop.run(lambda: len(results) == len(coroutines) or any(results))
    late.cancel()
    for error in results:
        if error is not None:
            raise error


def turn(loop: ReadyLoop) -> None:
    """Let the loop do what there is to be done now."""
    over: list[bool] = []
    loop.call_soon(loop.call_soon, loop.call_soon, over.append, True)
    loop.run(lambda: bool(over))


# Descriptors.


def test_a_reader_is_called_as_long_as_there_is_something(loop: ReadyLoop) -> None:
    with sockets() as (one, other):
        seen: list[bytes] = []
        loop.add_reader(one, lambda: seen.append(one.recv(1)))
        other.send(b"abc")
        loop.run(lambda: len(seen) == 3)
        assert seen == [b"a", b"b", b"c"]
        assert loop.remove_reader(one.fileno())
        assert not loop.remove_reader(one)
        other.send(b"d")
        turn(loop)
        assert len(seen) == 3


def test_a_writer_is_called_as_long_as_there_is_room(loop: ReadyLoop) -> None:
    with sockets() as (one, other):
        count = 0

        def write(size: int) -> None:
            nonlocal count
            count += one.send(bytes(size))

        loop.add_writer(one, write, 10)
        loop.run(lambda: count >= 30)
        assert loop.remove_writer(one)
        assert not loop.remove_writer(one)
        before = count
        turn(loop)
        assert count == before
        assert len(other.recv(1000)) == count


def test_a_descriptor_can_be_read_and_written(loop: ReadyLoop) -> None:
    with sockets() as (one, other):
        seen: set[str] = set()
        loop.add_reader(one, seen.add, "read")
        loop.add_writer(one, seen.add, "written")
        loop.run(lambda: "written" in seen)
        assert seen == {"written"}
        other.send(b"x")
        loop.run(lambda: "read" in seen)
        loop.remove_reader(one)
        loop.remove_writer(one)


def test_a_reader_may_be_removed_by_another_of_the_same_turn(loop: ReadyLoop) -> None:
    with sockets() as (one, other), sockets() as (third, fourth):
        seen: list[str] = []

        def first(name: str, victim: socket.socket) -> None:
            seen.append(name)
            loop.remove_reader(one)
            loop.remove_reader(third)
            victim.close()

        loop.add_reader(one, first, "one", third)
        loop.add_reader(third, first, "third", one)
        other.send(b"x")
        fourth.send(b"x")
        turn(loop)
        assert len(seen) == 1


def test_an_event_that_nobody_waits_for_is_looked_at_once(loop: ReadyLoop) -> None:
    with sockets() as (one, other):
        waiter = ReadyWaiter(loop, one)

        async def read() -> None:
            assert await waiter.readable(None)
            one.recv(1)
            other.send(b"bc")
            for _ in range(5):
                await loop.sleep(0)
            assert not waiter.watch.mask, "the loop would be busy with it"
            assert await waiter.readable(None)
            assert one.recv(10) == b"bc"
            other.close()
            assert await waiter.readable(None)
            assert one.recv(10) == b""

        other.send(b"a")
        run(loop, read())
        waiter.release()
        assert loop._watches.keys() == {loop._flag.fileno()}


def test_a_descriptor_too_high_for_select_is_refused() -> None:
    loop = ReadyLoop("select")
    with sockets() as (one, _):
        high = os.dup(one.fileno())
        try:
            os.dup2(high, FD_SETSIZE)
            with pytest.raises(UsageError, match=r"1024.*model='epoll'"):
                loop.add_reader(FD_SETSIZE, turn, loop)
        finally:
            os.close(high)
            os.close(FD_SETSIZE)
            loop.close()


def test_the_poller_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_poller("auto") == POLLERS[0]
    monkeypatch.delattr(select, "epoll", raising=False)
    assert choose_poller("auto") == "select"
    with pytest.raises(UsageError, match="model='select'"):
        ReadyLoop("epoll")


def test_a_child_closes_the_loop_and_its_parent_keeps_it(loop: ReadyLoop) -> None:
    with sockets() as (one, other):
        seen: list[bytes] = []
        loop.add_reader(one, lambda: seen.append(one.recv(10)))
        pid = os.fork()
        if not pid:
            try:
                loop.close()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        other.send(b"still")
        loop.run(lambda: bool(seen))
        assert seen == [b"still"]
        loop.remove_reader(one)


# Times and turns.


def test_calls_come_in_order(loop: ReadyLoop) -> None:
    seen: list[int] = []
    start = time.monotonic()
    loop.call_later(0.03, seen.append, 3)
    loop.call_later(0.01, seen.append, 2)
    loop.call_later(0.02, seen.append, 0).cancel()
    loop.call_soon(seen.append, 1)
    loop.run(lambda: len(seen) == 3)
    assert seen == [1, 2, 3]
    assert time.monotonic() - start >= 0.03


def test_what_callbacks_call_soon_lets_descriptors_have_their_turn(loop: ReadyLoop) -> None:
    with sockets() as (one, other):
        seen: list[bytes] = []

        def again() -> None:
            if not seen:
                loop.call_soon(again)

        loop.add_reader(one, lambda: seen.append(one.recv(1)))
        again()
        other.send(b"x")
        loop.run(lambda: bool(seen))
        loop.remove_reader(one)


def test_cancelled_timers_are_swept_out(loop: ReadyLoop) -> None:
    kept = loop.call_later(1000, turn, loop)
    for _ in range(10_000):
        timer = loop.call_later(500, turn, loop)
        timer.cancel()
        timer.cancel()
    assert len(loop._timers) < 200
    assert any(entry[2] is kept for entry in loop._timers)
    # The count is right even when cancelled ones come to their time.
    for _ in range(10):
        loop.call_later(0, turn, loop).cancel()
    turn(loop)
    assert loop._cancelled == sum(not entry[2].due for entry in loop._timers)


def test_the_error_of_a_callback_is_told_and_the_loop_goes_on(
    loop: ReadyLoop, caplog: pytest.LogCaptureFixture
) -> None:
    with sockets() as (one, other):

        def fail(how: str) -> None:
            loop.remove_reader(one)
            raise ValueError(how)

        loop.add_reader(one, fail, "as reader")
        other.send(b"x")
        turn(loop)
        loop.call_soon(fail, "soon")
        loop.call_later(0, fail, "later")
        turn(loop)
    text = caplog.text
    assert all(f"ValueError('{how}')" in text for how in ("as reader", "soon", "later"))


def test_what_ends_the_program_goes_through(loop: ReadyLoop) -> None:
    ends: list[BaseException | None] = []

    async def leave() -> None:
        raise SystemExit(3)

    def interrupt() -> None:
        raise KeyboardInterrupt

    loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run(bool)
    loop.spawn(leave(), ends.append)
    with pytest.raises(SystemExit):
        loop.run(bool)
    assert isinstance(ends[0], SystemExit)


def test_another_thread_wakes_it(loop: ReadyLoop) -> None:
    seen: list[int] = []
    timer = threading.Timer(0.05, loop.call_soon_threadsafe, (seen.append, 1))
    timer.start()
    loop.run(lambda: bool(seen))
    timer.join()


def test_a_signal_wakes_it(loop: ReadyLoop) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        loop.run(lambda: bool(seen))
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_loop_that_is_closed_can_be_called_all_the_same() -> None:
    loop = ReadyLoop()
    loop.close()
    loop.call_soon_threadsafe(turn, loop)


# Tasks.


def test_each_task_has_its_own_context(loop: ReadyLoop) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)

    async def task(number: int) -> None:
        assert variable.get() == 0
        variable.set(number)
        await loop.sleep(0)
        assert variable.get() == number

    run(loop, task(1), task(2))
    assert variable.get() == 0


def test_a_task_tells_how_it_ended(loop: ReadyLoop) -> None:
    async def fail() -> None:
        await loop.sleep(0)
        raise ValueError("mine")

    async def fine() -> None:
        pass

    run(loop, fine())
    with pytest.raises(ValueError, match="mine"):
        run(loop, fail())


@pytest.mark.parametrize("seconds", [0, 0.02, 1000])
def test_a_cancelled_sleep_ends_with_the_error_and_only_once(loop: ReadyLoop, seconds: float) -> None:
    async def sleeper() -> None:
        with pytest.raises(ConnectionClosed):
            await loop.sleep(seconds)
        start = time.monotonic()
        await loop.sleep(0.05)
        assert time.monotonic() - start >= 0.05, "the first sleep ended the second"

    ends: list[BaseException | None] = []
    task = loop.spawn(sleeper(), ends.append)
    task.cancel(ConnectionClosed("stop"))
    loop.run(lambda: bool(ends))
    assert ends == [None]
    task.cancel(ConnectionClosed("late"))
    turn(loop)


def test_a_task_that_is_given_up(loop: ReadyLoop) -> None:
    seen: list[str] = []

    async def task(name: str) -> None:
        try:
            await loop.sleep(1000)
        finally:
            seen.append(name)

    never = loop.spawn(task("never"), seen.append)  # type: ignore[arg-type]
    never.close()
    waits = loop.spawn(task("waits"), seen.append)  # type: ignore[arg-type]
    turn(loop)
    waits.close()
    waits.close()
    turn(loop)
    assert seen == ["waits"]


def test_a_foreign_await_is_refused_where_it_stands(loop: ReadyLoop) -> None:
    refusals: list[str] = []

    async def insistent() -> None:
        while True:
            try:
                await asyncio.sleep(0)
            except ForeignAwaitError as error:
                refusals.append(str(error))

    async def reasonable() -> None:
        with pytest.raises(ForeignAwaitError, match=rf"the {loop.poller} model.*hailer\.sleep\(\)"):
            await asyncio.sleep(0)
        await loop.sleep(0)

    run(loop, reasonable())
    with pytest.raises(ForeignAwaitError):
        run(loop, insistent())
    assert len(refusals) == 3


# Waiting.


def test_deadlines_of_waits(loop: ReadyLoop) -> None:
    with sockets() as (one, _):
        waiter = ReadyWaiter(loop, one)

        async def wait() -> None:
            for seconds in (0.03, 0.01, 0.02, 0.0, -1.0):
                start = time.monotonic()
                assert not await waiter.readable(start + seconds)
                assert seconds - 0.001 <= time.monotonic() - start < seconds + 5
            assert await waiter.writable(time.monotonic() + PATIENCE)

        run(loop, wait())
        waiter.release()


def test_many_waits_set_one_timer(loop: ReadyLoop) -> None:
    with sockets() as (one, other):
        waiter = ReadyWaiter(loop, one)

        async def wait() -> None:
            for _ in range(1000):
                other.send(b"x")
                assert await waiter.readable(time.monotonic() + 300)
                one.recv(1)

        before = next(loop._numbers)
        run(loop, wait())
        assert next(loop._numbers) - before <= 3  # one is that of `run`
        waiter.release()


def test_a_deadline_that_was_put_off_is_kept(loop: ReadyLoop) -> None:
    """The timer of the first wait fires during the second, and during none."""
    with sockets() as (one, other):
        waiter = ReadyWaiter(loop, one)

        async def wait() -> None:
            other.send(b"x")
            assert await waiter.readable(time.monotonic() + 0.02)
            one.recv(1)
            start = time.monotonic()
            assert not await waiter.readable(start + 0.06)
            assert time.monotonic() - start >= 0.06
            other.send(b"x")
            assert await waiter.readable(time.monotonic() + 0.01)
            one.recv(1)
            await loop.sleep(0.03)
            assert not await waiter.readable(time.monotonic() + 0.01)

        run(loop, wait())
        waiter.release()


def test_two_tasks_cannot_wait_for_one_socket(loop: ReadyLoop) -> None:
    with sockets() as (one, other):
        waiter = ReadyWaiter(loop, one)

        async def first() -> None:
            assert await waiter.readable(None)

        async def second() -> None:
            with pytest.raises(BusyError):
                await waiter.readable(None)
            other.send(b"x")

        run(loop, first(), second())
        waiter.release()


def test_who_waits_is_woken_and_nobody_waits_afterwards(loop: ReadyLoop) -> None:
    with sockets() as (one, _):
        waiter = ReadyWaiter(loop, one)

        async def waits() -> None:
            assert await waiter.readable(None)
            assert await waiter.readable(None)

        async def wakes() -> None:
            waiter.wake()
            waiter.release()
            waiter.release()

        run(loop, waits(), wakes())


# Transports.

RECORD_CHECKS = records._checks(ends=True, half_close=True, reliable=True, empty=True, largest=65536)


def transports(loop: ReadyLoop, folder: Path, family: str = "tcp") -> tuple[ReadyTransport, ReadyTransport]:
    one, other, scheme = connected(family, folder)
    return ReadyTransport(loop, one, scheme), ReadyTransport(loop, other, scheme)


@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_transport_conforms(
    loop: ReadyLoop, family: str, check: Callable[..., Any], tmp_path: Path
) -> None:
    one, other = transports(loop, tmp_path, family)
    try:
        run(loop, *check(one, other))
    finally:
        run(loop, one.close(), other.close())
    assert loop._watches.keys() == {loop._flag.fileno()}


@pytest.mark.parametrize("check", RECORD_CHECKS, ids=lambda check: check.__name__)
def test_records_conform(loop: ReadyLoop, check: Callable[..., Any], tmp_path: Path) -> None:
    path = str(tmp_path / "pair")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(path)
        server, _ = listener.accept()
    one, other = (SocketRecords(sock, "unix+seqpacket", ReadyWaiter(loop, sock)) for sock in (client, server))
    try:
        run(loop, *check(one, other))
    finally:
        run(loop, one.close(), other.close())


def test_a_cancelled_pull_loses_nothing(loop: ReadyLoop, tmp_path: Path) -> None:
    one, other = transports(loop, tmp_path)
    received = b""

    async def pull() -> None:
        nonlocal received
        while len(received) < 50:
            try:
                received += await one.pull(1, None)
            except ConnectionClosed:
                pass

    async def push() -> None:
        for number in range(50):
            await other.push(bytes([number]))
            puller.cancel(ConnectionClosed("try again"))
            await loop.sleep(random.choice((0, 0.0005)))

    ends: list[BaseException | None] = []
    puller = loop.spawn(pull(), ends.append)
    run(loop, push())
    loop.run(lambda: bool(ends))
    assert ends == [None]
    assert received == bytes(range(50))
    run(loop, one.close(), other.close())


def test_after_a_push_that_was_cut_nothing_follows(loop: ReadyLoop, tmp_path: Path) -> None:
    one, other = transports(loop, tmp_path)

    async def push(deadline: float | None) -> None:
        await one.push(bytes(64 << 20), deadline)

    async def timed_out() -> None:
        with pytest.raises(TimedOut):
            await push(time.monotonic() + 0.02)
        with pytest.raises(ConnectionLost):
            await one.push(b"after")

    run(loop, timed_out())
    run(loop, one.close(), other.close())

    one, other = transports(loop, tmp_path)
    ends: list[BaseException | None] = []
    task = loop.spawn(push(None), ends.append)
    turn(loop)
    task.cancel(ConnectionClosed("stop"))
    loop.run(lambda: bool(ends))
    assert isinstance(ends[0], ConnectionClosed)

    async def cancelled() -> None:
        with pytest.raises(ConnectionLost):
            await one.push(b"after")

    run(loop, cancelled())
    run(loop, one.close(), other.close())


def test_pushes_that_do_not_wait(loop: ReadyLoop, tmp_path: Path) -> None:
    one, other = transports(loop, tmp_path)
    block = random.randbytes(100_000)
    count = 200
    in_part = 0

    async def push() -> None:
        nonlocal in_part
        for _ in range(count):
            if not one.push_now(block, None):
                in_part += one._begun is not None
                await one.push(block)
        await one.finish()
        assert not one.push_now(b"after finish", None)

    async def pull() -> None:
        await loop.sleep(0.02)
        received = bytearray()
        while data := await other.pull(1 << 20):
            received += data
        assert received == block * count

    run(loop, push(), pull())
    assert in_part, "no push was cut in two: the test shows nothing"
    run(loop, one.close(), other.close())
    assert not one.push_now(b"after close", None)


def test_after_a_part_nothing_follows_but_the_rest(loop: ReadyLoop, tmp_path: Path) -> None:
    one, other = transports(loop, tmp_path)
    block = random.randbytes(200_000)
    pushed: list[bytes] = []
    after = b"after"

    async def push() -> None:
        while one.push_now(block, None):
            pushed.append(block)
            one._turn = 100
        assert one._begun is not None, "no push was cut in two: the test shows nothing"
        loop.spawn(push_after(), lambda _: None)
        await loop.sleep(0)
        assert not one.push_now(after, None)
        await one.push(block)
        pushed.append(block)

    async def push_after() -> None:
        await one.push(after)
        pushed.append(after)
        await one.finish()

    async def pull() -> None:
        await loop.sleep(0.02)
        received = bytearray()
        while data := await other.pull(1 << 20):
            received += data
        assert pushed[-2:] == [block, after]
        assert received == b"".join(pushed)

    run(loop, push(), pull())
    run(loop, one.close(), other.close())


def test_what_ended_a_pull_ends_the_next_one_too(loop: ReadyLoop, tmp_path: Path) -> None:
    one, other = transports(loop, tmp_path, "tcp")

    async def pull() -> None:
        deadline = time.monotonic() + 0.02
        for _ in range(3):
            with pytest.raises(TimedOut):
                await one.pull(10, deadline)
        other.abort()
        for _ in range(3):
            with pytest.raises(ConnectionLost):
                await one.pull(10)
        one.abort()
        for _ in range(3):
            with pytest.raises(ConnectionClosed):
                await one.pull(10)

    run(loop, pull())


def test_the_end_of_the_stream_stays(loop: ReadyLoop, tmp_path: Path) -> None:
    one, other = transports(loop, tmp_path)

    async def finish() -> None:
        await loop.sleep(0.01)
        await other.push(b"last")
        await other.finish()

    async def pull() -> None:
        assert await one.pull(3) == b"las"
        assert await one.pull(3) == b"t"
        for _ in range(3):
            assert await one.pull(3) == b""

    run(loop, pull(), finish())
    run(loop, one.close(), other.close())


def test_those_who_wait_for_a_push_are_told_what_became_of_it(loop: ReadyLoop, tmp_path: Path) -> None:
    one, other = transports(loop, tmp_path)
    told: list[type[BaseException]] = []

    async def push(seconds: float) -> None:
        try:
            await one.push(bytes(4 << 20), time.monotonic() + seconds)
        except (TimedOut, ConnectionLost) as error:
            told.append(type(error))

    # The second gives up first, the first leaves a gap, after which the third and fourth send nothing.
    run(loop, push(0.1), push(0.05), push(60), push(60))
    assert told == [TimedOut, TimedOut, ConnectionLost, ConnectionLost]
    run(loop, one.close(), other.close())


def test_the_numbers_of_events_are_those_of_epoll() -> None:
    if hasattr(select, "epoll"):
        assert (READ, WRITE) == (select.EPOLLIN, select.EPOLLOUT)


def test_a_drain_ends_however_long_its_timer_took_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    set_at = ReadyLoop.call_at

    def set_slowly(self: ReadyLoop, *args: Any) -> Any:
        timer = set_at(self, *args)
        time.sleep(0.02)
        return timer

    async def stay(connection: Connection) -> None:
        await sleep(1000)

    monkeypatch.setattr(ReadyLoop, "call_at", set_slowly)
    server = Server("127.0.0.1:0", stay, "select", drain=0.05)
    serving = threading.Thread(target=lambda: server.serve(signals=False))
    server.bind()
    serving.start()
    with socket.create_connection(("127.0.0.1", int(server.endpoints[0].port or 0))):
        give_up = time.monotonic() + PATIENCE
        while not server.counters.active and time.monotonic() < give_up:
            time.sleep(0.005)
        server.drain()
        serving.join(PATIENCE)
        ended = not serving.is_alive()
        server.stop()
        serving.join(PATIENCE)
    assert ended, "it waits for a timer that is over"
