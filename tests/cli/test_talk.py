"""hailer talk and hailer listen, with each other and with plain sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint
from tests.cli.conftest import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Process, Run

    Start = Callable[..., Process]


def listening(process: Process) -> Endpoint:
    """The endpoint that it tells on standard error."""
    line = process.read_until(b"\n", "err").decode().splitlines()[0]
    return Endpoint.parse(line.removeprefix("hailer: listening on "))


@pytest.fixture
def receiver() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(10)
    return sock


def test_a_datagram(hailer: Run, receiver: socket.socket) -> None:
    with receiver:
        port = receiver.getsockname()[1]
        done = hailer("talk", "127.0.0.1", str(port), "hello there")
        assert receiver.recv(100) == b"hello there"
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == f"sent 11 bytes to 127.0.0.1:{port}\n".encode()


def test_each_line_of_input_so_often(hailer: Run, receiver: socket.socket) -> None:
    with receiver:
        port = receiver.getsockname()[1]
        done = hailer("talk", f"udp://127.0.0.1:{port}", "--count", "2", "--json", data=b"a\n\nb\n")
        assert [receiver.recv(100) for _ in range(6)] == [b"a", b"a", b"", b"", b"b", b"b"]
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert rows[0] == {"sent": 1, "to": f"udp://127.0.0.1:{port}"}


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_nobody_needs_to_listen_unless_connected(hailer: Run) -> None:
    port = str(free_port())
    assert hailer("talk", "127.0.0.1", port, "hello").returncode == 0
    done = hailer("talk", "127.0.0.1", port, "hello", "--connected")
    assert done.returncode == 7
    assert b"nobody listens" in done.stderr


@pytest.mark.parametrize("family", ["127.0.0.1", "localhost"])
def test_all_are_sent_though_nobody_listens(hailer: Run, family: str) -> None:
    port = str(free_port())
    done = hailer("talk", family, port, "hello", "--count", "50")
    assert (done.returncode, done.stdout.count(b"sent 5 bytes"), done.stderr) == (0, 50, b"")
    done = hailer("talk", family, port, "hello", "--count", "50", "--connected")
    assert (done.returncode, done.stderr.count(b"nobody listens")) == (7, 1)


def test_answers_of_that_peer(start: Start, hailer: Run) -> None:
    server = start("serve", "echo", "udp4://127.0.0.1:0")
    endpoint = server.read_until(b"\n").decode().removeprefix("listening on ").strip()
    done = hailer("talk", endpoint, "--connected", "anybody?", "--timeout", "0.5")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[1] == b"anybody?"


def test_a_silent_peer(hailer: Run, receiver: socket.socket) -> None:
    with receiver:
        port = str(receiver.getsockname()[1])
        done = hailer("talk", "127.0.0.1", port, "hello", "--connected", "--timeout", "0.2")
    assert done.returncode == 28
    assert b"did not answer within 0.2 seconds" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tcp://localhost:7", "x"], b"carries no datagrams"),
        (["localhost:7", "two", "words"], b"put quotation marks"),
        (["localhost", "7", "two", "words"], b"put quotation marks"),
    ],
)
def test_wrong_usage(hailer: Run, words: list[str], says: bytes) -> None:
    done = hailer("talk", *words)
    assert done.returncode == 2
    assert says in done.stderr


def test_one_that_is_too_large(hailer: Run) -> None:
    done = hailer("talk", "127.0.0.1:9", data=b"x" * 65536)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_listen_shows_who_sent_what(start: Start, hailer: Run) -> None:
    process = start("listen", "udp4://127.0.0.1:0", "--count", "3")
    endpoint = listening(process)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((endpoint.host, int(endpoint.port or 0)))
        name = f"127.0.0.1:{client.getsockname()[1]}".encode()
        client.send(b"one")
        process.read_until(name + b" one\n")
        client.send(b"")
        client.send(b"\x00\xff\n192.0.2.1:9 not from there\n")
        code, out, _ = process.end()
    last = name + b" \x00\xff\n    192.0.2.1:9 not from there\n"
    assert (code, out) == (0, name + b" one\n" + name + b" \n" + last)


def test_listen_as_json(start: Start, hailer: Run) -> None:
    process = start("listen", "udp4://127.0.0.1:0", "--count", "1", "--json")
    endpoint = listening(process)
    hailer("talk", str(endpoint), "grüß dich")
    code, out, _ = process.end()
    row = json.loads(out)
    assert (code, row["text"], row["bytes"]) == (0, "grüß dich", 11)
    assert row["from"].startswith("udp4://127.0.0.1:")


def test_listen_to_the_first_sender_only(start: Start) -> None:
    process = start("listen", "udp4://127.0.0.1:0", "--count", "2", "--connected")
    endpoint = listening(process)
    address = (endpoint.host, int(endpoint.port or 0))
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
    ):
        first.sendto(b"first", address)
        process.read_until(b" first\n")
        second.sendto(b"second", address)
        first.sendto(b"third", address)
        _, out, _ = process.end()
    assert b"second" not in out
    assert b" third\n" in out


@pytest.mark.parametrize("output", ["/dev/full", "closed", "gone"])
def test_listen_ends_when_what_comes_cannot_be_shown(env: dict[str, str], output: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*COMMAND, "listen", "udp4://127.0.0.1:0"]
    if output != "gone":
        command = ["sh", "-c", f'exec "$@" >{"&-" if output == "closed" else output}', "sh", *command]
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, env=env)
    os.close(writer)
    assert process.stderr is not None
    with process.stderr:
        port = int(process.stderr.readline().rpartition(b":")[2])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", ("127.0.0.1", port))
        assert process.wait(20) == (141 if output == "gone" else 1)
        said = process.stderr.read()
    assert (b"standard output" in said, said.count(b"\n")) == ((False, 0) if output == "gone" else (True, 1))


@pytest.mark.parametrize("words", [["--count", "2"], ["--connected"]])
def test_listen_says_what_is_for_datagrams(hailer: Run, words: list[str]) -> None:
    done = hailer("listen", "tcp4://127.0.0.1:0", *words)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"--count and --connected are for datagrams" in done.stderr


def test_listen_has_no_certificate(hailer: Run) -> None:
    done = hailer("listen", "tls://localhost:0")
    assert done.returncode == 2
    assert b"take another endpoint, or hailer serve with --cert" in done.stderr


def test_listen_gives_up(hailer: Run) -> None:
    done = hailer("listen", "udp4://127.0.0.1:0", "--timeout", "0.1")
    assert done.returncode == 28
    assert b"nothing came to udp4://127.0.0.1:0 within 0.1 seconds" in done.stderr
    assert hailer("listen", "tcp4://127.0.0.1:0", "--timeout", "0.1").returncode == 28


def test_listen_takes_one_connection(start: Start, tmp_path: Path) -> None:
    process = start("listen", f"unix:{tmp_path}/s")
    listening(process)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(f"{tmp_path}/s")
        client.sendall(b"from the client\n")
        process.read_until(b"from the client\n")
        process.write(b"from the server\n")
        assert client.recv(100) == b"from the server\n"
        client.shutdown(socket.SHUT_WR)
        code, out, _ = process.end()
        assert (code, out) == (0, b"from the client\n")
