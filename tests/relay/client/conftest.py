"""A relay to talk to, the client in both its forms behind one face, and a peer that misbehaves.

Tests here are coroutines: each is run on an event loop of its own, with a time limit, and must leave no
task and no thread behind.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import pytest

from hailer import blocking
from hailer.endpoint import Endpoint
from hailer.relay.app import RelayServer, Settings
from hailer.relay.client.client import RelayClient
from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from hailer.relay.client.events import Message

_SECONDS = 20


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}

    async def run() -> None:
        async with asyncio.timeout(_SECONDS):
            await pyfuncitem.obj(**arguments)
        left = asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}
        assert not left, f"tasks were left: {left}"

    asyncio.run(run())
    return True


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail a test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    for thread in left:
        thread.join(5)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture(params=["tcp", "unix"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RelayServer]:
    """A relay in a thread of its own."""
    text = f"unix:{tmp_path}/relay.sock" if request.param == "unix" else "tcp4://127.0.0.1:0"
    with RelayServer(Settings(listen=(Endpoint.parse(text),), drain=0.5)) as server:
        yield server


@pytest.fixture
def tcp_relay() -> Iterator[RelayServer]:
    """A relay on TCP that makes senders wait for 0.2 s and keeps 64 KiB for a receiver."""
    limits = Limits(waiting=64 * 1024, patience=0.2)
    listen = (Endpoint.parse("tcp4://127.0.0.1:0"),)
    with RelayServer(Settings(listen=listen, limits=limits, drain=0.5)) as server:
        yield server


class Client(Protocol):
    """What both forms of the client are to a test: the asyncio client's methods."""

    name: str
    connected: bool
    rooms: frozenset[str]
    posts_waiting: int

    async def connect(self) -> None: ...
    async def close(self) -> None: ...
    async def receive(self, timeout: float | None = None) -> Message: ...
    async def receive_many(self, timeout: float | None = None) -> list[Message]: ...
    async def send(self, to: str, payload: str | bytes, *, confirm: bool = True) -> None: ...
    async def post(self, to: str, payload: str | bytes, *, confirm: bool = True) -> None: ...
    async def ack(self, number: int) -> None: ...
    async def drain(self) -> None: ...
    async def ask(self, to: str, payload: str | bytes, *, timeout: float | None = None) -> bytes: ...
    async def join(self, room: str) -> None: ...
    async def leave(self, room: str) -> None: ...
    async def who(self, room: str | None = None) -> list[str]: ...
    async def watch(self, *names: str) -> None: ...
    async def unwatch(self) -> None: ...
    async def ping(self) -> float: ...
    async def collect(self) -> list[str]: ...
    async def reply(self, message: Message, payload: str) -> None: ...
    async def acknowledge(self, message: Message) -> None: ...


class _Asyncio(RelayClient):
    async def end(self) -> None:
        await self.close()

    async def collect(self) -> list[str]:
        return [message.text async for message in self]

    async def reply(self, message: Message, payload: str) -> None:
        await message.reply(payload)

    async def acknowledge(self, message: Message) -> None:
        await message.ack()


class _Threaded:
    """The blocking client, each call in a thread."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._client = blocking.RelayClient(*args, **options)
        self._threads = ThreadPoolExecutor(32)

    async def _run(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, partial(work, *args, **options)
        )

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return partial(self._run, value) if callable(value) else value

    async def close(self) -> None:
        await self._run(self._client.close)

    async def end(self) -> None:
        """Close, and end the threads."""
        await self.close()
        self._threads.shutdown()

    async def collect(self) -> list[str]:
        return cast("list[str]", await self._run(lambda: [message.text for message in self._client]))

    async def reply(self, message: blocking.Message, payload: str) -> None:
        await self._run(message.reply, payload)

    async def acknowledge(self, message: blocking.Message) -> None:
        await self._run(message.ack)


class Clients:
    """Makes clients, connects them, and closes them at the end of the block."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def make(self, name: str, where: Endpoint, **options: Any) -> Client:
        """A client that is not connected yet."""
        client = self.kind(name, where, **options)
        self._stack.push_async_callback(client.end)
        return cast("Client", client)

    async def __call__(self, name: str, where: Endpoint, **options: Any) -> Client:
        options.setdefault("retry_delay", 0.01)
        client = self.make(name, where, **options)
        await client.connect()
        return client


@pytest.fixture(params=[_Asyncio, _Threaded], ids=["asyncio", "blocking"])
def clients(request: pytest.FixtureRequest) -> Clients:
    """Makes clients of either form: ``async with clients: alice = await clients("alice", where)``."""
    return Clients(request.param)


class Wire:
    """Between a client and a relay: can break the connections, or carry nothing any more."""

    def __init__(self, target: Endpoint) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.connections = 0
        self.refusing = False
        self.endpoint: Endpoint

    def abort(self) -> None:
        """Break all connections by a reset."""
        for writer in self._writers:
            writer.transport.abort()

    def stall(self) -> None:
        """Carry nothing any more, in either direction, on the connections that there are and will be."""
        self._flowing.clear()

    def flow(self) -> None:
        """Carry again."""
        self._flowing.set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.connections += 1
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self.refusing:
                return
            far, near = await asyncio.open_connection(self._target.host, cast("int", self._target.port))
            self._writers.add(near)
            await asyncio.gather(self._carry(reader, near), self._carry(far, writer))
        except (
            OSError,
            RuntimeError,
            asyncio.CancelledError,
        ):  # uvloop's word for a closed one is RuntimeError
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def stop(self) -> None:
        """End everything."""
        self.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
def wired() -> Callable[[Endpoint], Any]:
    """``async with wired(relay_endpoint) as wire``: clients dial ``wire.endpoint``."""

    @asynccontextmanager
    async def wired(target: Endpoint) -> AsyncIterator[Wire]:
        wire = Wire(target)
        server = await asyncio.start_server(wire.take, "127.0.0.1", 0)
        wire.endpoint = Endpoint("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            yield wire
        finally:
            server.close()
            await wire.stop()
            await server.wait_closed()

    return wired


@pytest.fixture
def scripted() -> Callable[[bytes], Any]:
    """``async with scripted(b"...") as endpoint``: a server that says this to everybody and then listens."""

    @asynccontextmanager
    async def scripted(said: bytes) -> AsyncIterator[Endpoint]:
        writers: list[asyncio.StreamWriter] = []
        ends: list[asyncio.Event] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)
            ends.append(end := asyncio.Event())
            try:
                writer.write(said)
                while await reader.read(65536):
                    pass
            except OSError:
                pass
            finally:
                writer.transport.abort()
                end.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield Endpoint("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            for end in ends:
                await end.wait()
            await server.wait_closed()

    return scripted


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    while not condition():  # noqa: ASYNC110 (what is waited for happens in other threads)
        await asyncio.sleep(0.005)


@pytest.fixture(name="eventually")
def _eventually() -> Callable[[Callable[[], object]], Any]:
    """``await eventually(lambda: ...)``: waits until it holds; the test's own limit ends it."""
    return eventually
