"""The echo server and client, and the designs."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest

from hailer.matrix import MODELS
from tests.examples.conftest import EXAMPLES, all_of, dial, finish, interrupt

if TYPE_CHECKING:
    from tests.conftest import RequireProgram
    from tests.examples.conftest import Start

WAITING = "Waiting for a new Client to connect\n"


def session(host: str, lines: list[tuple[int, str]]) -> str:
    """The console of one client of the iterative server."""
    return (
        f"Connected to ({host}, PORT)\nStart Communication with Client\n"
        + "".join(f"server received {n} bytes\nserver received message : {text}\n" for n, text in lines)
        + f"End Communication with Client\n{WAITING}"
    )


def test_consoles_are_those_of_the_document(start: Start, port: str) -> None:
    server = start("echo_server.py", port)
    assert server.until("\n") == WAITING
    typed = "this is a test from client 1\nhowdy from client 1\n\n"
    client = start("echo_client.py", "127.0.0.1", port)
    for line in typed.splitlines(keepends=True):
        client.type(line)
        assert client.until("\n") == line
    server.until("Connected to (127.0.0.1, ")
    assert server.until(")\n")[:-2].isdecimal()
    client.end_input()
    assert client.rest() == ""
    said = server.until(WAITING)
    expected = session(
        "127.0.0.1", [(29, "this is a test from client 1"), (20, "howdy from client 1"), (1, "")]
    )
    assert said == expected.partition("\n")[2]
    assert interrupt(server) == ""


def test_telnet(start: Start, port: str, require_program: RequireProgram) -> None:
    server = start("echo_server.py", port)
    server.until(WAITING)
    telnet = start(require_program("telnet"), "127.0.0.1", port, terminal=True)
    telnet.until("Escape character is '^]'.")
    for line, count in (("this is a test from telnet client", 35), ("howdy from telnet client", 26)):
        telnet.type(f"{line}\n")
        telnet.until(f"{line}\r\n")
        server.until(f"server received {count} bytes\nserver received message : {line}\n")
    telnet.type("\x1d")
    telnet.until("telnet> ")
    telnet.type("close\n")
    telnet.until("Connection closed.")
    server.until("End Communication with Client\n" + WAITING)


def test_a_second_client_waits_for_the_first(start: Start, port: str) -> None:
    server = start("echo_server.py", port)
    server.until(WAITING)
    with dial(port) as first, dial(port) as second:
        second.sendall(b"second\n")
        first.sendall(b"first\n")
        assert first.recv(100) == b"first\n"
        second.settimeout(0.1)
        with pytest.raises(TimeoutError):
            second.recv(100)
        second.settimeout(5)
        first.close()
        assert second.recv(100) == b"second\n"
    interrupt(server)


@pytest.mark.parametrize("model", [model for model in MODELS if model != "iterative"])
def test_many_clients_at_once_under_the_other_models(start: Start, port: str, model: str) -> None:
    server = start("echo_server.py", port, "--model", model)
    server.until(WAITING)
    with dial(port) as first, dial(port) as second:
        for client, text in ((second, b"second\r\n"), (first, b"first\n"), (second, b"again\n")):
            client.sendall(text)
            assert client.recv(100) == text
        for client in (first, second):
            client.shutdown(socket.SHUT_WR)
            assert all_of(client) == b""
    said = "".join(server.until("End Communication with Client\n") for _ in range(2))
    assert said.count("Start Communication with Client\n") == 2
    assert said.count(WAITING) == 2
    assert interrupt(server) == ""


@pytest.mark.parametrize("model", [model for model in MODELS if model != "iterative"])
def test_ctrl_c_on_a_terminal_lets_a_client_finish(
    start: Start, port: str, require_program: RequireProgram, model: str
) -> None:
    """There all processes of the server get the signal."""
    command = (sys.executable, "-X", "dev", str(EXAMPLES / "echo_server.py"), port, "--model", model)
    server = start(require_program("setsid"), *command)
    server.until(WAITING)
    with dial(port) as client:
        client.sendall(b"before\n")
        assert client.recv(100) == b"before\n"
        os.killpg(server.process.pid, signal.SIGINT)
        until_refused(port)
        client.sendall(b"after\n")
        assert client.recv(100) == b"after\n"
        client.shutdown(socket.SHUT_WR)
        assert all_of(client) == b""
    assert "Traceback" not in server.rest()
    assert server.process.returncode == 0


def until_refused(port: str) -> None:
    """Wait until nobody listens any more."""
    give_up = time.monotonic() + 5
    while True:
        try:
            dial(port, 0).close()
        except OSError:
            return
        assert time.monotonic() < give_up, "it still listens"
        time.sleep(0.02)


def test_the_client_with_another_echo(start: Start, port: str, require_program: RequireProgram) -> None:
    start(require_program("socat"), f"TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr", "EXEC:cat")
    dial(port).close()
    client = finish("echo_client.py", "127.0.0.1", port, text="one\ntwo\n")
    assert (client.returncode, client.stdout, client.stderr) == (0, "one\ntwo\n", "")


def test_a_server_that_closes(port: str, start: Start) -> None:
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        client = start("echo_client.py", "127.0.0.1", port)
        listener.accept()[0].close()
        client.type("hello\n")
        said = client.rest()
    assert client.process.returncode == 1
    assert said.startswith("echo_client: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("service", "code"), [("no-such-service", 1), ("70000", 1)])
def test_ports_that_are_none(service: str, code: int) -> None:
    done = finish("echo_client.py", "localhost", service)
    assert done.returncode == code
    assert done.stderr.startswith("echo_client: ")
    assert done.stderr.count("\n") == 1


# The designs.


@pytest.mark.parametrize("design", ["concurrent", "select"])
@pytest.mark.parametrize("service", ["echo", "daytime", "finger"])
def test_streams(start: Start, port: str, design: str, service: str) -> None:
    server = start("designs.py", design, service, "--port", port)
    server.until(f"listening on tcp://127.0.0.1:{port}\n")
    with dial(port) as first, dial(port) as second:
        for client in (second, first):
            if service != "daytime":  # which closes at once
                client.sendall(b"ada\n")
                client.shutdown(socket.SHUT_WR)
            check(service, all_of(client), b"ada")
    interrupt(server)


@pytest.mark.parametrize("service", ["echo", "daytime", "finger"])
def test_datagrams(start: Start, port: str, service: str) -> None:
    server = start("designs.py", "connectionless", service, "--port", port)
    server.until(f"listening on udp://127.0.0.1:{port}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.1", int(port)))
        for name in (b"ada", b"nobody"):
            client.send(name)
            check(service, client.recv(1000), name)
    assert interrupt(server).startswith(f"listening on udp://[::1]:{port}\n")


def check(service: str, answer: bytes, asked: bytes) -> None:
    if service == "echo":
        assert answer.strip() == asked
    elif service == "daytime":
        assert b"UTC" in answer
    else:
        says = b"writes notes on an engine" if asked == b"ada" else b"no such user"
        assert answer.strip() == asked + b": " + says
