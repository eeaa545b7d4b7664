"""The hello server and client, the listener and the talker."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hailer.matrix import MODELS
from tests.examples.conftest import all_of, children_of, dial, finish, interrupt

if TYPE_CHECKING:
    from tests.conftest import RequireProgram
    from tests.examples.conftest import Start

WAITING = "server: waiting for connections...\n"


@pytest.mark.parametrize("model", MODELS)
def test_hello_on_both_families(start: Start, port: str, model: str) -> None:
    server = start("hello_server.py", f"tcp://*:{port}", "--model", model)
    assert server.until("\n") == WAITING
    for host, shown in (("127.0.0.1", "127.0.0.1"), ("::1", "::1")):
        client = finish("hello_client.py", host, port)
        assert (client.returncode, client.stderr) == (0, "")
        assert client.stdout == f"client: connecting to {shown}\nclient: received 'Hello, world!'\n"
        assert server.until("\n") == f"server: got connection from {shown}\n"
    assert interrupt(server) == ""


def test_exactly_thirteen_bytes_and_no_zombie(start: Start, port: str) -> None:
    server = start("hello_server.py", f"tcp://*:{port}")
    server.until(WAITING)
    for _ in range(20):
        with dial(port) as client:
            assert all_of(client) == b"Hello, world!"
    give_up = time.monotonic() + 5
    while children_of(server):
        assert time.monotonic() < give_up, "a child is left"
        time.sleep(0.01)
    interrupt(server)


def test_the_address_that_is_told_is_the_clients(start: Start, port: str) -> None:
    server = start("hello_server.py", f"tcp4://127.0.0.1:{port}", "--model", "thread")
    server.until(WAITING)
    with socket.socket() as client:
        with suppress(OSError):  # not every system has more than one address of its own
            client.bind(("127.0.0.2", 0))
        client.connect(("127.0.0.1", int(port)))
        assert server.until("\n") == f"server: got connection from {client.getsockname()[0]}\n"


def test_telnet_is_told_hello(start: Start, port: str, require_program: RequireProgram) -> None:
    start("hello_server.py", f"tcp://*:{port}").until(WAITING)
    telnet = start(require_program("telnet"), "127.0.0.1", port, terminal=True)
    assert "Hello, world!" in telnet.until("Connection closed by foreign host.")


def test_the_port_can_be_taken_again_at_once(start: Start, port: str) -> None:
    for _ in range(2):
        server = start("hello_server.py", f"tcp://*:{port}")
        server.until(WAITING)
        with dial(port) as client:
            assert all_of(client) == b"Hello, world!"  # the server closes first: TIME_WAIT is on its side
        interrupt(server)


def test_a_greeting_in_pieces_is_shown_whole(
    port: str, start: Start, require_program: RequireProgram
) -> None:
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        client = start("hello_client.py", "127.0.0.1", port)
        connection, _ = listener.accept()
        with connection:
            client.until("client: connecting to 127.0.0.1\n")
            connection.sendall(b"Hello, ")
            time.sleep(0.05)  # a pause on the wire is what this is about
            connection.sendall(b"world! " + b"x" * 200)
        assert client.rest() == f"client: received 'Hello, world! {'x' * 200}'\n"


def test_nobody_listens(port: str) -> None:
    client = finish("hello_client.py", "localhost", port)
    assert client.returncode == 2
    assert client.stdout == ""
    assert client.stderr.startswith("client: failed to connect: nobody listens on ")
    assert "connection refused" in client.stderr


def test_usage() -> None:
    client, talker = finish("hello_client.py"), finish("talker.py", "localhost")
    assert (client.returncode, client.stderr) == (1, "usage: client hostname\n")
    assert (talker.returncode, talker.stderr) == (1, "usage: talker hostname message\n")


def test_a_port_in_use(start: Start, port: str) -> None:
    start("hello_server.py", f"tcp://*:{port}").until(WAITING)
    second = finish("hello_server.py", f"tcp://*:{port}")
    assert second.returncode == 1
    assert second.stderr.startswith("server: ")
    assert "in use" in second.stderr


# Datagrams.


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_datagram(start: Start, port: str, host: str) -> None:
    listener = start("listener.py", f"udp://*:{port}")
    assert listener.until("\n") == "listener: waiting to recvfrom...\n"
    talker = finish("talker.py", host, "good morning", port)
    assert (talker.returncode, talker.stdout, talker.stderr) == (
        0,
        f"talker: sent 12 bytes to {host}\n",
        "",
    )
    assert listener.rest() == (
        f"listener: got packet from {host}\n"
        "listener: packet is 12 bytes long\n"
        'listener: packet contains "good morning"\n'
    )
    assert listener.process.returncode == 0


@pytest.mark.parametrize("size", [0, 99, 100, 8192, 60000])
def test_datagrams_are_taken_whole(start: Start, port: str, size: int) -> None:
    listener = start("listener.py", f"udp4://127.0.0.1:{port}")
    listener.until("recvfrom...\n")
    assert finish("talker.py", "127.0.0.1", "x" * size, port).returncode == 0
    assert listener.rest() == (
        "listener: got packet from 127.0.0.1\n"
        f"listener: packet is {size} bytes long\n"
        f'listener: packet contains "{"x" * size}"\n'
    )


def test_a_limit_refuses_and_says_so(start: Start, port: str) -> None:
    listener = start("listener.py", f"udp4://127.0.0.1:{port}", "--most", "99", "--follow")
    listener.until("recvfrom...\n")
    for size in (100, 99):
        finish("talker.py", "127.0.0.1", "x" * size, port)
    said = listener.until('contains "' + "x" * 99 + '"\n')
    assert said.startswith("listener: refused a packet from 127.0.0.1: a message")
    assert "limit of 99 bytes" in said
    assert said.count("got packet") == 1
    assert interrupt(listener) == ""


def test_a_talker_needs_no_listener(port: str) -> None:
    talker = finish("talker.py", "127.0.0.1", "into the ether", port)
    assert (talker.returncode, talker.stdout) == (0, "talker: sent 14 bytes to 127.0.0.1\n")


def test_only_the_peer_is_heard(start: Start, port: str) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        peer.bind(("127.0.0.1", int(port)))
        stranger.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        talker = start("talker.py", "127.0.0.1", "who is there?", port, "--wait", "5")
        message, address = peer.recvfrom(100)
        assert message == b"who is there?"
        stranger.sendto(b"a stranger", address)
        peer.sendto(b"your peer", address)
        talker.until("talker: sent 13 bytes to 127.0.0.1\n")
        assert talker.rest() == 'talker: got "your peer" from 127.0.0.1\n'


def test_a_talker_that_waits_hears_that_nobody_listens(port: str) -> None:
    talker = finish("talker.py", "127.0.0.1", "hello?", port, "--wait", "5")
    assert talker.returncode == 1
    assert talker.stderr.startswith("talker: nobody listens on 127.0.0.1:")
    assert talker.stderr.count("\n") == 1


def test_socat_and_ncat_talk_to_the_listener(
    start: Start, port: str, require_program: RequireProgram
) -> None:
    listener = start("listener.py", f"udp4://127.0.0.1:{port}", "--follow")
    listener.until("recvfrom...\n")
    socat = start(require_program("socat"), "-u", "-", f"UDP4-SENDTO:127.0.0.1:{port}")
    socat.type("by socat")
    listener.until('listener: packet contains "by socat"\n')
    ncat = start(require_program("ncat"), "-u", "127.0.0.1", port)
    ncat.type("by ncat")
    listener.until('listener: packet contains "by ncat"\n')


def test_escapes_do_not_reach_the_terminal(start: Start, port: str) -> None:
    listener = start("listener.py", f"udp4://127.0.0.1:{port}")
    listener.until("recvfrom...\n")
    finish("talker.py", "127.0.0.1", "\x1b]0;title\x07\nlistener: got packet", port)
    assert 'contains "\\x1b]0;title\\x07\\nlistener: got packet"\n' in listener.rest()
