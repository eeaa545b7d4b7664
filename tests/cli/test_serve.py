"""hailer serve: what it prints, serves, refuses and how it ends, under every model."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint
from hailer.matrix import MODELS
from tests.cli.conftest import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Process, Run

    Start = Callable[..., Process]

HANDLER = """
async def handle(connection):
    async for message in connection:
        await connection.send(message.upper())

def reply(message):
    return message[::-1]

def blocking(connection):
    for message in connection:
        connection.send(b"<" + message + b">")

class Shelf:
    reply = staticmethod(reply)

number = 3
"""


def endpoints(process: Process, count: int = 1) -> list[Endpoint]:
    """What it says that it listens on."""
    out = process.read_until(b"\n")
    while out.count(b"\n") < count:
        out = process.read_more()
    return [Endpoint.parse(line.removeprefix("listening on ")) for line in out.decode().splitlines()]


def exchange(endpoint: Endpoint, data: bytes) -> bytes:
    """Send, half-close, and read to the end."""
    with socket.create_connection((endpoint.host, int(endpoint.port or 0)), 10) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_echo_and_a_polite_end(start: Start, model: str, number: int, code: int) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "--model", model)
    (endpoint,) = endpoints(process)
    assert exchange(endpoint, b"one\ntwo\n") == b"one\ntwo\n"
    with socket.create_connection((endpoint.host, int(endpoint.port or 0)), 10) as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
        process.signal(number)
        client.sendall(b"still here\n")
        assert client.recv(100) == b"still here\n"
    assert process.end() == (code, f"listening on {endpoint}\n".encode(), b"")


@pytest.mark.parametrize("model", MODELS)
def test_once(start: Start, model: str) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "--once", "--model", model)
    (endpoint,) = endpoints(process)
    assert exchange(endpoint, b"only one\n") == b"only one\n"
    code, _, err = process.end()
    assert (code, err) == (0, b"")


def test_the_default_endpoint_or_who_has_it(hailer: Run) -> None:
    with socket.create_server(("127.0.0.1", 7000)):
        done = hailer("serve", "echo")
    assert done.returncode == 1
    assert b"127.0.0.1:7000 is in use by" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_several_endpoints(start: Start, tmp_path: Path) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "udp4://127.0.0.1:0", f"unix:{tmp_path}/s")
    tcp, udp, unix = endpoints(process, 3)
    assert exchange(tcp, b"x\n") == b"x\n"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"a datagram", (udp.host, int(udp.port or 0)))
        assert client.recv(100) == b"a datagram"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(unix.path)
        client.sendall(b"y\n")
        assert client.recv(100) == b"y\n"


@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        ("own:handle", b"ABC\n"),
        ("own.py:handle", b"ABC\n"),
        ("own:reply", b"cba\n"),
        ("own:Shelf.reply", b"cba\n"),
    ],
)
def test_a_handler_of_ones_own(start: Start, tmp_path: Path, handler: str, answer: bytes) -> None:
    (tmp_path / "own.py").write_text(HANDLER)
    process = start("serve", handler, "tcp4://127.0.0.1:0")
    assert exchange(endpoints(process)[0], b"abc\n") == answer


@pytest.mark.parametrize("model", [name for name, kind in MODELS.items() if kind.blocking])
def test_a_blocking_handler_of_ones_own(start: Start, tmp_path: Path, model: str) -> None:
    (tmp_path / "own.py").write_text(HANDLER)
    process = start("serve", "own:blocking", "tcp4://127.0.0.1:0", "--model", model)
    assert exchange(endpoints(process)[0], b"abc\n") == b"<abc>\n"


@pytest.mark.parametrize(("loop", "module"), [("uvloop", b"uvloop"), ("stock", b"asyncio.unix_events")])
def test_the_event_loop_that_was_named(start: Start, tmp_path: Path, loop: str, module: bytes) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop", reason="there is none for this Python")
    (tmp_path / "own.py").write_text(
        "import asyncio\nasync def handle(connection):\n"
        "    await connection.send(type(asyncio.get_running_loop()).__module__.encode())\n"
    )
    process = start("serve", "own:handle", "tcp4://127.0.0.1:0", "--loop", loop)
    assert exchange(endpoints(process)[0], b"") == module + b"\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["echo", "--model", "thread", "--loop", "stock"], b"has no event loop of asyncio"),
        (["nothing"], b"there is no service 'nothing'"),
        (["nowhere:handle"], b"there is no module 'nowhere'"),
        (["nowhere.py:handle"], b"there is no file nowhere.py"),
        (["own:absent"], b"own has no 'absent'"),
        (["own:number"], b"is no function"),
        (["own:blocking"], b"choose the model iterative, fork, prefork or thread"),
        (["broken:handle"], b"broken cannot be imported (line 1: SyntaxError"),
        (["failing:handle"], b"failing cannot be imported (failing.py line 2: ZeroDivisionError"),
        (["own:handle", "--set", "x=1"], b"--set is for the built-in services"),
        (["echo", "udp://localhost:0", "--framing", "line"], b"keeps the boundaries of messages itself"),
        (["echo", "stdio:", "--model", "fork"], b"nothing to fork for"),
        (["echo", "tls://localhost:0"], b"needs a certificate"),
        (["echo", "--cert", "nowhere.pem"], b"nowhere.pem"),
        (["echo", "--key", "nowhere.pem"], b"give --cert too"),
        (["finger", "udp://localhost:0"], b"is a conversation"),
        (["echo", "--unix-mode", "999"], b"in octal"),
        (["echo", "--model", "green"], b"green"),
    ],
)
def test_refusals(hailer: Run, tmp_path: Path, words: list[str], says: bytes) -> None:
    (tmp_path / "own.py").write_text(HANDLER)
    (tmp_path / "broken.py").write_text("def handle(:\n")
    (tmp_path / "failing.py").write_text("import os\n1 / 0\n")
    done = hailer("serve", *words)
    assert says in done.stderr
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


def test_standard_input_and_output(hailer: Run) -> None:
    done = hailer("serve", "echo", "stdio:", data=b"one\ntwo\n")
    assert (done.returncode, done.stdout) == (0, b"one\ntwo\n")


def standard(sock: socket.socket) -> dict[str, Any]:
    """A socket as standard input, output and error."""
    return {name: sock.fileno() for name in ("stdin", "stdout", "stderr")}


@pytest.mark.parametrize("endpoint", ["fd://0", "stdio:"])
@pytest.mark.parametrize("model", ["iterative", "thread", "epoll", "asyncio"])
def test_under_inetd_nothing_but_the_service_goes_to_the_client(
    env: dict[str, str], endpoint: str, model: str
) -> None:
    """It passes the connection as standard input, output and error."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), 10)
        accepted, _ = server.accept()
    with accepted:
        command = [*COMMAND, "serve", "echo", endpoint, "--model", model, "-v"]
        process = subprocess.Popen(command, **standard(accepted), env=env)
    with client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert process.wait(10) == 0


def test_under_inetd_that_passes_the_listening_socket(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        command = [*COMMAND, "serve", "echo", "fd://0"]
        process = subprocess.Popen(command, **standard(server), env=env)
    try:
        for _ in range(2):
            with socket.create_connection(address, 10) as client:
                client.sendall(b"hello\n")
                assert client.recv(100) == b"hello\n"
    finally:
        process.terminate()
        assert process.wait(10) == 0


def test_the_list(hailer: Run) -> None:
    done = hailer("serve", "--list")
    assert (done.returncode, done.stderr) == (0, b"")
    assert all(model.encode() in done.stdout for model in MODELS)
    rows = [json.loads(line) for line in hailer("serve", "--list", "--json").stdout.splitlines()]
    assert {"model": "fork", "transport": "tcp", "possible": True, "reason": None} in rows
    assert len([row for row in rows if "model" in row]) == 70


def test_max_connections_makes_the_next_wait(start: Start) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "--max-connections", "1")
    (endpoint,) = endpoints(process)
    address = (endpoint.host, int(endpoint.port or 0))
    with socket.create_connection(address, 10) as first, socket.create_connection(address, 10) as second:
        first.sendall(b"a\n")
        assert first.recv(10) == b"a\n"
        second.sendall(b"b\n")
        second.settimeout(0.2)
        with pytest.raises(TimeoutError):
            second.recv(10)
        first.close()
        second.settimeout(10)
        assert second.recv(10) == b"b\n"


def test_an_idle_client_is_let_go(start: Start) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "--idle-timeout", "0.1", "-v")
    (endpoint,) = endpoints(process)
    with socket.create_connection((endpoint.host, int(endpoint.port or 0)), 10) as client:
        assert client.recv(10) == b""
    process.read_until(b"in time", "err")
