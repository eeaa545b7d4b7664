"""Peers that mean no good, and handlers that do none, against every model from outside."""

from __future__ import annotations

import re
import select
import socket
import ssl
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

import hailer
from hailer.errors import HailerError, UsageError
from hailer.matrix import MODELS
from tests.limits.served import ALL_MODELS, PATIENCE, serving, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hailer.runtime.blocking import BlockingConnection
    from tests.limits.served import Served

IDLE = 0.4
HANDSHAKE = 0.5
SCHEMES = ("tcp", "tls", "ws", "wss", "unix", "udp")
ENCRYPTED = ("tls", "wss")
CLOSED = "hailer.server connection from"
HELLO = bytes.fromhex("1603010200010001fc0303") + b"\x07" * 60
UPGRADE = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.fixture(scope="module", params=ALL_MODELS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Path
) -> Iterator[Served]:
    """One server of a model for all tests here: none of them may harm the next."""
    folder = tmp_path_factory.mktemp("bad")
    endpoints = [f"unix:{folder}/s" if scheme == "unix" else f"{scheme}://127.0.0.1:0" for scheme in SCHEMES]
    with serving(
        request.param,
        folder,
        endpoints=endpoints,
        certificate=str(certificate),
        idle_timeout=IDLE,
        handshake_timeout=HANDSHAKE,
        max_message=100_000,
        drain=1.0,
    ) as served:
        yield served
        counters = served.end()
        assert counters["active"] == 0
        log = served.log()
    for trace in ("a fault in hailer", "never retrieved", "never awaited", "Warning", "Exception ignored"):
        assert trace not in log, log
    assert "\x1b" not in log
    assert "\u202e" not in log


class Log:
    """What is logged from now on."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._start = len(served.log())

    def lines(self) -> list[str]:
        return self._served.lines(self._start)

    def wait_for(self, *patterns: str) -> None:
        """Wait until just these lines stand there, in whatever order, and nothing else."""
        until(lambda: len(self._events()) >= len(patterns), what=self.lines)
        left = self._events()
        for pattern in patterns:
            found = next((line for line in left if re.search(pattern, line)), None)
            assert found is not None, f"{pattern!r} is not among {left}"
            left.remove(found)
        assert not left

    def _events(self) -> list[str]:
        """The first line of each record."""
        return [line for line in self.lines() if re.match("(DEBUG|INFO|WARNING|ERROR) ", line)]


def is_over(client: socket.socket) -> bool:
    """Whether the server has let go of a connection; reads what comes first."""
    try:
        return not client.recv(65536)
    except ConnectionError:
        return True
    except (TimeoutError, BlockingIOError):
        return False


def wait_for_end(client: socket.socket) -> None:
    client.settimeout(PATIENCE)
    until(lambda: is_over(client))


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@contextmanager
def connected(served: Served, scheme: str, trusting: ssl.SSLContext) -> Iterator[BlockingConnection]:
    """A client that speaks the transport as it should."""
    with hailer.connect(
        served.endpoints[scheme],
        tls=trusting if scheme in ENCRYPTED else None,
        receive_timeout=PATIENCE,
    ) as connection:
        yield connection


# Peers that are slow, or silent.


def at_once(served: Served, *work: Callable[[], object]) -> None:
    """Do several things at the same time, or one after another where only one is served."""
    with ThreadPoolExecutor(len(work) if served.concurrent else 1) as pool:
        for each in [pool.submit(do) for do in work]:
            each.result()


SILENT = {
    "tcp": "nothing came from .* in time",
    "unix": "nothing came from .* in time",
    "tls": "did not agree on TLS in time",
    "ws": "in time",
    "wss": "did not agree on TLS in time",
}


def test_those_that_never_speak_are_let_go(served: Served) -> None:
    def silent(scheme: str) -> None:
        start = time.monotonic()
        with served.dial(scheme) as client:
            wait_for_end(client)
            assert time.monotonic() - start > IDLE * 0.9

    log = Log(served)
    at_once(served, *(partial(silent, scheme) for scheme in SILENT))
    log.wait_for(*(f"INFO {CLOSED} {scheme}:.* closed: .*{said}" for scheme, said in SILENT.items()))
    served.assert_alive()


def test_those_that_fall_silent_after_the_handshake(served: Served, trusting: ssl.SSLContext) -> None:
    def silent(scheme: str) -> None:
        with connected(served, scheme, trusting) as client:
            client.send(b"hello")
            assert client.receive() == b"hello"
            with pytest.raises(HailerError):
                client.receive()

    log = Log(served)
    schemes = ("tls", "ws", "wss")
    at_once(served, *(partial(silent, scheme) for scheme in schemes))
    log.wait_for(*(f"INFO {CLOSED} {scheme}:.* closed: nothing came from .* in time" for scheme in schemes))
    served.assert_alive()


DRIPS = {
    "tcp": b"x" * 10_000,
    "tls": HELLO + b"\x07" * 10_000,
    "ws": UPGRADE + b"".join(b"X-%d: y\r\n" % number for number in range(1000)),
}


def test_those_that_drip_are_let_go_in_the_same_time(served: Served) -> None:
    def drip(scheme: str) -> None:
        start = time.monotonic()
        with served.dial(scheme) as client:
            client.setblocking(False)
            for byte in DRIPS[scheme]:
                try:
                    client.send(bytes((byte,)))
                except ConnectionError:
                    break
                if select.select([client], [], [], 0.01)[0] and is_over(client):
                    break
            else:
                pytest.fail("a drip holds its connection")
            assert IDLE * 0.9 < time.monotonic() - start < PATIENCE / 2

    log = Log(served)
    at_once(served, *(partial(drip, scheme) for scheme in DRIPS))
    log.wait_for(*(f"INFO {CLOSED} {scheme}:.* closed: " for scheme in DRIPS))
    served.assert_alive()


def test_those_that_never_read_are_let_go_and_cost_no_memory(
    served: Served, trusting: ssl.SSLContext
) -> None:
    log = Log(served)
    before = served.memory()
    said = "made no room to send in time"
    with ExitStack() as stack:
        # All are let go before one of them reads again; one after another where only one is served.
        for done, scheme in enumerate(("tcp", "wss", "unix")):
            if scheme == "tcp":
                client = stack.enter_context(served.dial())
                client.sendall(b"flood\n")
                client.shutdown(socket.SHUT_WR)  # a goodbye is no sign that it reads
            else:
                connection = stack.enter_context(connected(served, scheme, trusting))
                stack.callback(connection.abort)
                connection.send(b"flood")
            if not served.concurrent:
                log.wait_for(*["flooded .* bytes", said] * (done + 1))
        log.wait_for(*["flooded .* bytes", said] * 3)
        assert all(int(line.split()[3]) < 32 << 20 for line in log.lines() if "flooded" in line)
        if served.model != "fork":  # where it has gone with the processes
            assert served.memory() - before < 16 << 20
    served.assert_alive()


# Peers that go.


@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "unix"])
@pytest.mark.parametrize("how", ["reset", "close"])
def test_many_that_vanish_at_once(served: Served, scheme: str, how: str) -> None:
    served.assert_alive()
    log = Log(served)
    before = served.descriptors()
    for said in (b"", b"x", HELLO[:20], UPGRADE) * 2:
        client = served.dial(scheme)
        client.sendall(said)
        reset(client) if how == "reset" else client.close()
    served.assert_alive()
    until(lambda: served.descriptors() <= before, what=served.held)  # all have been let go of
    assert not [line for line in log.lines() if re.match("(WARNING|ERROR) ", line)], log.lines()


def test_one_that_resets_in_the_middle_of_a_message_is_no_news(served: Served) -> None:
    log = Log(served)
    with served.dial() as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
        client.sendall(b"half of a mess")
        port = str(client.getsockname()[1])
        reset(client)
    served.assert_alive()
    assert not [line for line in log.lines() if port in line]


def test_one_that_ends_in_the_middle_of_a_message(served: Served) -> None:
    log = Log(served)
    with served.dial() as client:
        client.sendall(b"half of a mess")
        client.shutdown(socket.SHUT_WR)
        wait_for_end(client)
    log.wait_for("INFO hailer.server connection from tcp:.* closed: ")
    served.assert_alive()


# Peers that speak something else.

GARBAGE = {
    "garbage": bytes(range(256)) * 4,
    "http": b"GET / HTTP/1.0\r\n\r\n",
    "controls": b"\x1b[31m\xe2\x80\xae\r\n" * 10,
    "tls": HELLO + b"\r\n\r\n",
    "a line without an end": b"x" * 300_000,
}


@pytest.mark.parametrize("scheme", ["tls", "ws", "wss"])
@pytest.mark.parametrize("what", GARBAGE)
def test_one_that_speaks_something_else_is_told_apart(served: Served, scheme: str, what: str) -> None:
    log = Log(served)
    with served.dial(scheme) as client:
        with suppress(OSError):  # it may have been let go of already
            client.sendall(GARBAGE[what])
            client.shutdown(socket.SHUT_WR)
        wait_for_end(client)
    log.wait_for(f"INFO hailer.server connection from {scheme}:.* closed: ")
    served.assert_alive()


@pytest.mark.parametrize("scheme", ["tcp", "ws"])
def test_tls_to_what_is_not_encrypted(served: Served, scheme: str, trusting: ssl.SSLContext) -> None:
    with (
        served.dial(scheme) as client,
        pytest.raises((ssl.SSLError, ConnectionError)),
        trusting.wrap_socket(client, server_hostname="localhost"),
    ):
        pass
    served.assert_alive()


def test_a_message_over_the_limit(served: Served) -> None:
    log = Log(served)
    with served.dial() as client, suppress(ConnectionError):
        client.sendall(b"x" * 100_001 + b"\n")
        wait_for_end(client)
    log.wait_for("INFO hailer.server connection from tcp:.* closed: .*100000|100,000")
    served.assert_alive()


# Handlers that fail.


def tell(served: Served, scheme: str, message: bytes, trusting: ssl.SSLContext) -> bytes | HailerError:
    """Send one message; give the answer or the error that came instead."""
    if scheme == "udp":
        with served.dial("udp") as client:
            client.send(message)
        return b""
    with connected(served, scheme, trusting) as connection:
        try:
            connection.send(message)
            answer: bytes = connection.receive()
        except HailerError as error:
            return error
        return answer


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_handler_that_fails_is_told_of_once(served: Served, scheme: str, trusting: ssl.SSLContext) -> None:
    log = Log(served)
    assert not isinstance(tell(served, scheme, b"fail", trusting), bytes) or scheme == "udp"
    log.wait_for(rf"ERROR hailer.server the handler failed, closing connection from {scheme}:.*: ValueError")
    until(lambda: "raise ValueError" in "\n".join(log.lines()), what=log.lines)
    assert not [line for line in log.lines() if line.startswith("FORGED")]
    served.assert_alive()


@pytest.mark.parametrize(("message", "error"), [(b"exit", "SystemExit"), (b"cancel", "CancelledError")])
def test_what_would_end_a_program_or_a_task_ends_a_connection(
    served: Served, message: bytes, error: str, trusting: ssl.SSLContext
) -> None:
    log = Log(served)
    assert isinstance(tell(served, "tcp", message, trusting), HailerError)
    log.wait_for(rf"ERROR hailer.server the handler failed, closing connection from tcp:.*: .*{error}")
    served.assert_alive()


def test_what_closes_a_coroutine_ends_a_connection(served: Served) -> None:
    with served.dial() as client:
        client.sendall(b"close\n")
        wait_for_end(client)
    served.assert_alive()


def test_a_handler_that_returns_at_once(served: Served) -> None:
    log = Log(served)
    for _ in range(20):
        with served.dial() as client:
            client.sendall(b"return\nand more\n")
            wait_for_end(client)
    served.assert_alive()
    assert log.lines() == []


def test_a_foreign_await(served: Served, trusting: ssl.SSLContext) -> None:
    log = Log(served)
    answer = tell(served, "tcp", b"foreign", trusting)
    if served.model == "asyncio":
        assert answer == b"slept"
        assert log.lines() == []
    else:
        assert isinstance(answer, HailerError)
        log.wait_for(
            rf"ERROR hailer.server the handler failed, .*ForeignAwaitError: .* the {served.model} model"
        )
    served.assert_alive()


@pytest.mark.parametrize("model", ALL_MODELS)
def test_ctrl_c_raised_in_a_handler(model: str, tmp_path: Path) -> None:
    """Where a handler runs in the main thread it cannot be told from the real one, which ends the program."""
    with serving(model, tmp_path) as served, served.dial() as client:
        client.sendall(b"interrupt\n")
        wait_for_end(client)
        if model in ("thread", "fork", "prefork"):
            until(lambda: "KeyboardInterrupt" in served.log(), what=served.log)
            served.assert_alive()
            assert "the handler failed" in served.log()
            assert served.end()["handler_failures"] == 1
        else:
            assert served.popen.wait(PATIENCE) != 0
            assert "KeyboardInterrupt" in served.log()


@pytest.mark.parametrize("model", ALL_MODELS)
def test_a_blocking_handler_where_it_would_hold_the_others_up(model: str) -> None:
    def handle(connection: BlockingConnection) -> None:
        pass

    if MODELS[model].blocking:
        hailer.Server("tcp://127.0.0.1:0", handle, model)  # type: ignore[arg-type]
    else:
        with pytest.raises(UsageError, match=f"under the {model} model"):
            hailer.Server("tcp://127.0.0.1:0", handle, model)  # type: ignore[arg-type]
