"""The message server and its client: streams, datagrams and Unix sockets, under every model."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from hailer.matrix import MODELS
from tests.examples.conftest import all_of, children_of, dial, dial_unix, finish, interrupt

if TYPE_CHECKING:
    from tests.conftest import RequireProgram
    from tests.examples.conftest import Finished, Start

PROMPT = "Please enter the message: "


def test_one_client_and_the_server_ends(start: Start, port: str) -> None:
    server = start("message_server.py", port)
    dial_is_possible(port)
    client = finish("message_client.py", "localhost", port, text="hello, server\n")
    assert (client.returncode, client.stdout, client.stderr) == (0, f"{PROMPT}I got your message\n", "")
    assert server.rest() == "Here is the message: hello, server\n"
    assert server.process.returncode == 0


def dial_is_possible(port: str) -> None:
    """Wait until somebody listens, without connecting: this server serves one client only."""
    give_up = time.monotonic() + 5
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", int(port)))
            except OSError:
                return
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_without_a_port() -> None:
    server = finish("message_server.py")
    assert (server.returncode, server.stdout, server.stderr) == (1, "", "ERROR, no port provided\n")


def test_the_client_without_a_port() -> None:
    client = finish("message_client.py")
    assert (client.returncode, client.stderr) == (1, "usage message_client hostname port\n")


@pytest.mark.parametrize("model", MODELS)
def test_any_model_goes_on(start: Start, port: str, model: str) -> None:
    server = start("message_server.py", port, "--model", model)
    for text in ("one", "two"):
        with dial(port) as client:
            client.sendall(text.encode() + b"\r\n")
            assert all_of(client) == b"I got your message"
        assert server.until("\n") == f"Here is the message: {text}\n"
    assert interrupt(server) == ""


def test_one_message_at_one_address_and_the_server_goes_on(start: Start, port: str) -> None:
    server = start("message_server.py", f"tcp4://127.0.0.1:{port}", "--model", "iterative")
    dial(port).close()
    for text in ("one", "two"):
        client = finish("message_client.py", "127.0.0.1", port, text=f"{text}\n")
        assert (client.returncode, client.stdout, client.stderr) == (0, f"{PROMPT}I got your message\n", "")
        assert server.until("\n") == f"Here is the message: {text}\n"
    assert interrupt(server) == ""


def test_forked_children_are_reaped(start: Start, port: str) -> None:
    server = start("message_server.py", port, "--model", "fork")
    for _ in range(100):
        with dial(port) as client:
            client.sendall(b"hello\n")
            assert all_of(client) == b"I got your message"
    give_up = time.monotonic() + 5
    while children_of(server):
        assert time.monotonic() < give_up, "zombies are left"
        time.sleep(0.01)
    interrupt(server)


def test_a_message_in_pieces_is_one_message(start: Start, port: str) -> None:
    server = start("message_server.py", port, "--model", "thread")
    with dial(port) as client:
        client.sendall(b"in two ")
        time.sleep(0.05)  # a pause on the wire is what this is about
        client.sendall(b"pieces\n")
        assert all_of(client) == b"I got your message"
    assert server.until("\n") == "Here is the message: in two pieces\n"


def test_one_read_for_a_message_splits_it_and_cuts_it(start: Start, port: str) -> None:
    server = start("message_server.py", port, "--model", "thread", "--one-read")
    with dial(port) as client:
        client.sendall(b"in two ")
        assert all_of(client) == b"I got your message"
    assert server.until("\n") == "Here is the message: in two \n"
    with dial(port) as client:
        client.sendall(b"x" * 300)
        assert client.recv(100) == b"I got your message"
    assert server.until("\n") == f"Here is the message: {'x' * 255}\n"


@pytest.mark.parametrize("size", [254, 255, 256])
def test_255_bytes_and_no_more(start: Start, port: str, size: int) -> None:
    server = start("message_server.py", port, "--model", "thread")
    with dial(port) as client:
        client.sendall(b"x" * size + b"\n")
        assert all_of(client) == (b"I got your message" if size <= 255 else b"")
    if size <= 255:
        assert server.until("\n") == f"Here is the message: {'x' * size}\n"
    else:
        assert "Here is" not in interrupt(server)


# Datagrams: the same handler, and an endless server.


@pytest.mark.parametrize("model", [None, *MODELS])
def test_datagrams_keep_their_boundaries(start: Start, port: str, model: str | None) -> None:
    server = start("message_server.py", f"udp4://127.0.0.1:{port}", *(("--model", model) if model else ()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect(("127.0.0.1", int(port)))
        ask_until_answered(client, b"is anybody there?")
        server.until("is anybody there?\n")
        client.settimeout(5)
        for text in ("one", "two", "x" * 255):
            client.send(text.encode())
        assert [client.recv(100) for _ in range(3)] == [b"Got your message\n"] * 3
    said = server.until("x" * 255 + "\n").replace("Here is the message: is anybody there?\n", "")
    expected = [f"Here is the message: {text}" for text in ("one", "two", "x" * 255)]
    if model != "prefork":  # its workers take turns
        assert said.splitlines() == expected
    interrupt(server)


def ask_until_answered(client: socket.socket, question: bytes) -> None:
    """Send until there is an answer, then take those that are late."""
    give_up = time.monotonic() + 5
    while True:
        try:
            client.send(question)
            assert client.recv(100) == b"Got your message\n"
            break
        except OSError:
            assert time.monotonic() < give_up
            time.sleep(0.02)
    try:
        while True:
            client.recv(100)
    except OSError:
        pass


def test_the_client_with_datagrams(start: Start, port: str) -> None:
    server = start("message_server.py", f"udp://localhost:{port}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect(("127.0.0.1", int(port)))
        ask_until_answered(client, b"?")
    for host in ("127.0.0.1", "::1"):
        done = finish("message_client.py", "--udp", host, port, text=f"by {host}\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{PROMPT}Got your message\n", "")
        server.until(f"Here is the message: by {host}\n")


def test_nobody_answers_a_datagram(port: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", int(port)))
        done = finish("message_client.py", "--udp", "127.0.0.1", port, "--timeout", "0.2", text="hello\n")
    assert done.returncode == 1
    assert done.stdout == PROMPT
    assert done.stderr.startswith("message_client: nothing came")


# Unix sockets: a path in the place of a port.


@pytest.mark.parametrize("scheme", ["unix", "unix+seqpacket"])
def test_a_path_in_the_place_of_a_port(start: Start, tmp_path_str: str, scheme: str) -> None:
    endpoint = f"{scheme}:{tmp_path_str}/x"
    for _ in range(2):  # the path can be used again
        server = start("message_server.py", endpoint)
        done = until_it_listens(endpoint)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{PROMPT}I got your message\n", "")
        assert server.rest() == "Here is the message: hello\n"


def until_it_listens(endpoint: str) -> Finished:
    give_up = time.monotonic() + 5
    while True:
        done = finish("message_client.py", endpoint, text="hello\n")
        if done.returncode == 0 or time.monotonic() > give_up:
            return done


def test_a_stale_path_is_replaced_and_a_live_one_is_not(
    start: Start, tmp_path_str: str, require_program: RequireProgram
) -> None:
    path = f"{tmp_path_str}/x"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    start("message_server.py", f"unix:{path}", "--model", "thread")
    with dial_unix(path) as client:
        client.sendall(b"over a stale path\n")
        assert all_of(client) == b"I got your message"
    second = finish("message_server.py", f"unix:{path}")
    assert second.returncode == 1
    assert "in use by a live server" in second.stderr
    ncat = start(require_program("ncat"), "-U", path)
    ncat.type("by ncat\n")
    ncat.until("I got your message")


# Foreign programs, and what goes wrong.


def test_ncat_as_the_server(start: Start, port: str, require_program: RequireProgram) -> None:
    server = start(require_program("ncat"), "-l", "127.0.0.1", port)
    server.type("I got your message")
    server.end_input()
    give_up = time.monotonic() + 5
    while True:
        done = finish("message_client.py", "127.0.0.1", port, text="to ncat\n")
        if done.returncode == 0 or time.monotonic() > give_up:
            break
    assert done.stdout == f"{PROMPT}I got your message\n"
    server.until("to ncat\n")


def test_socat_sends_datagrams(start: Start, port: str, require_program: RequireProgram) -> None:
    server = start("message_server.py", f"udp4://127.0.0.1:{port}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect(("127.0.0.1", int(port)))
        ask_until_answered(client, b"?")
    socat = start(require_program("socat"), "-t2", "-", f"UDP4:127.0.0.1:{port}")
    socat.type("by socat")
    socat.until("Got your message\n")
    server.until("Here is the message: by socat\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("localhost", "{port}"), "nobody listens on"),
        (("nohost.invalid", "{port}"), "no host is called"),
        (("localhost", "70000"), "out of range"),
        (("localhost",), "has no port"),
        (("unix:/nonexistent/x",), "nobody listens on unix:/nonexistent/x"),
    ],
)
def test_what_goes_wrong_is_one_sentence(port: str, arguments: tuple[str, ...], sentence: str) -> None:
    done = finish("message_client.py", *(word.format(port=port) for word in arguments))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_and_one_that_is_none(start: Start, port: str) -> None:
    start("message_server.py", port, "--model", "thread")
    dial(port).close()
    for text, sentence in ((port, "in use"), ("70000", "out of range"), ("x", "has no port")):
        done = finish("message_server.py", text)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1


def test_no_message_at_all(start: Start, port: str) -> None:
    start("message_server.py", port, "--model", "thread")
    dial(port).close()
    done = finish("message_client.py", "127.0.0.1", port)
    assert done.returncode == 1
    assert "the input ended" in done.stderr
