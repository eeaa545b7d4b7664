from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from hailer.net.dial import dial, dial_async
from hailer.net.dial import dial_by as dial_with
from hailer.runtime.ready import ReadyLoop
from hailer.runtime.ready_dial import ReadyWaits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hailer.endpoint import Endpoint

    Dial = Callable[..., socket.socket]


def dial_ready(endpoint: Endpoint, **options: Any) -> socket.socket:
    """Dial in a task of our own event loop; the socket does not block."""
    loop = ReadyLoop()
    made: list[socket.socket] = []
    ended: list[BaseException | None] = []

    async def dial() -> None:
        made.append(await dial_with(ReadyWaits(loop), endpoint, **options))

    try:
        loop.spawn(dial(), ended.append)
        loop.run(lambda: bool(ended))
    finally:
        loop.close()
    if ended[0] is not None:
        raise ended[0]
    return made[0]


@pytest.fixture(params=["blocking", "ready", "asyncio", "uvloop"])
def dial_by(request: pytest.FixtureRequest) -> Dial:
    """`dial`, `dial_async` and the loop of our own as one function; the sockets it gives block."""
    if request.param == "blocking":
        return dial
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(endpoint: Endpoint, **options: Any) -> socket.socket:
        if request.param == "ready":
            sock = dial_ready(endpoint, **options)
        else:
            with asyncio.Runner(loop_factory=factory) as runner:
                sock = runner.run(dial_async(endpoint, **options))
        assert not sock.getblocking()
        sock.setblocking(True)
        return sock

    return run


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A listener on 127.0.0.1 whose queue has room."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A listener on 127.0.0.1 whose queue is full: it answers no more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as sock:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock
        for filler in fillers:
            filler.close()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 that is taken, so that nobody else gets it, but not listened on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
