"""Finger of a relay's users."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from hailer import blocking
from hailer.endpoint import Endpoint
from hailer.errors import EndpointError
from hailer.relay.app import RelayServer, Settings
from hailer.server import Server
from hailer.services import SERVICES
from hailer.services.finger import finger
from hailer.services.relay_users import RelayUsers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.conftest import Serve

CRLF = SERVICES["finger"].framing


@pytest.fixture(scope="module")
def relay() -> Iterator[Endpoint]:
    with RelayServer(Settings(listen=(Endpoint.parse("tcp4://127.0.0.1:0"),))) as server:
        yield server.endpoints[0]


@pytest.fixture(autouse=True)
def no_look_is_left() -> Iterator[None]:
    """The threads that look end by themselves."""
    yield
    for thread in threading.enumerate():
        if thread.name == "hailer-finger":
            thread.join(10)
            assert not thread.is_alive()


def test_who_is_there(serve: Serve, relay: Endpoint) -> None:
    served = serve(finger(RelayUsers(relay, fresh=0)), CRLF)
    assert served.ask(b"\r\n") == b"Nobody is here.\r\n"
    with blocking.RelayClient("Alice", relay), blocking.RelayClient("bob", relay):
        assert served.ask(b"\r\n") == b"Alice\r\nbob\r\n"
        assert served.ask(b"alice\r\n") == b"Login: Alice\r\nLogged in to the relay.\r\n"
        assert str(relay).encode() in served.ask(b"/W bob\r\n")
        assert served.ask(b"carol\r\n") == b"carol: no such user.\r\n"
        assert served.ask(b"bob@elsewhere\r\n") == b"Finger forwarding service denied.\r\n"
    assert served.server.counters.handler_failures == 0


def test_it_is_in_the_table(serve: Serve, relay: Endpoint) -> None:
    service = SERVICES["finger"]
    with blocking.RelayClient("alice", relay):
        assert serve(service.build(relay=str(relay)), CRLF).ask(b"\r\n") == b"alice\r\n"
    with pytest.raises(EndpointError):
        service.build(relay="nonsense")


def test_many_queries_are_few_looks(relay: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        if thread.name == "hailer-finger":
            looks.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    # In this process, where the threads can be counted.
    with Server("tcp4://127.0.0.1:0", finger(RelayUsers(relay, fresh=60)), "asyncio", framing=CRLF) as server:
        where = ("127.0.0.1", int(server.endpoints[0].port or 0))
        with blocking.RelayClient("alice", relay), ExitStack() as ends:
            clients = [ends.enter_context(socket.create_connection(where, 10)) for _ in range(20)]
            for client in clients:
                client.sendall(b"\r\n")
            assert [client.recv(100) for client in clients] == [b"alice\r\n"] * 20
    assert len(looks) == 1


def test_a_relay_that_is_not_there(serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        served = serve(finger(RelayUsers(f"tcp://127.0.0.1:{taken.getsockname()[1]}", timeout=2)), CRLF)
        assert served.ask(b"\r\n") == b"The relay cannot be asked now, try again later.\r\n"
    assert served.server.counters.handler_failures == 0


def test_a_relay_that_is_silent(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        served = serve(finger(RelayUsers(where, timeout=0.2)), CRLF)
        began = time.monotonic()
        assert served.ask(b"alice\r\n") == b"The relay cannot be asked now, try again later.\r\n"
        assert time.monotonic() - began < 5
