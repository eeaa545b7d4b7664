from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from hailer.net.dial import dial, dial_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hailer.endpoint import Endpoint

    Dial = Callable[..., socket.socket]


@pytest.fixture(params=["blocking", "asyncio", "uvloop"])
def dial_by(request: pytest.FixtureRequest) -> Dial:
    """`dial` and `dial_async` as one function; the sockets it gives block."""
    if request.param == "blocking":
        return dial
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(endpoint: Endpoint, **options: Any) -> socket.socket:
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
