"""Greet, hello and ack: to the byte what the programs of the courses say."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from hailer.errors import BadFrame
from tests.services.conftest import Datagrams, exchange, read_all

if TYPE_CHECKING:
    from tests.services.conftest import Serve

HEARD = b"Hello Client, this is Server. I rec'd this message:\n   "


def test_hello_comes_at_once_and_ends(serve: Serve) -> None:
    assert read_all(serve("hello").connect()) == b"Hello, world!"


def test_hello_on_datagrams() -> None:
    assert exchange("hello", Datagrams([b"one", b""])) == [b"Hello, world!"] * 2


def test_ack(serve: Serve) -> None:
    served = serve("ack")
    client = served.connect()
    client.sendall(b"a message\n")
    assert read_all(client) == b"I got your message"
    assert served.ask() == b"", "no message, no answer"


def test_ack_of_whole_lines(serve: Serve) -> None:
    client = serve("ack", "line").connect()
    client.sendall(b"a mess")
    client.sendall(b"age\n")
    assert read_all(client) == b"I got your message\n"


def test_ack_on_datagrams() -> None:
    assert exchange("ack", Datagrams([b"a", b"b"], [b""])) == [b"Got your message\n"] * 3


def test_greet(serve: Serve) -> None:
    client = serve("greet").connect()
    client.sendall(b"Hello Server, this is Cl")
    client.sendall(b"ient! Used 5 sleep seconds.\0")
    assert read_all(client) == HEARD + b"Hello Server, this is Client! Used 5 sleep seconds.\0"


def test_greet_of_a_client_that_says_nothing(serve: Serve) -> None:
    served = serve("greet")
    assert served.ask() == b""
    client = served.connect()
    client.sendall(b"cut off")
    client.shutdown(socket.SHUT_WR)
    assert read_all(client) == b""
    assert served.server.counters.handler_failures == 0


@pytest.mark.parametrize("framing", ["line", "short-read:4"])
def test_greet_to_a_telnet(serve: Serve, framing: str) -> None:
    client = serve("greet", framing).connect()
    client.sendall(b"Hi, Server!\r\n")
    answer = read_all(client)
    assert answer.rstrip(b"\0\r\n") == HEARD + b"Hi, Server!"


def test_greet_of_what_cannot_be_repeated(serve: Serve) -> None:
    served = serve("greet", "line")
    assert served.ask(b"two ends\r\r\n") == b""
    assert served.server.counters.handler_failures == 0, "it is the peer's doing"


def test_greet_on_datagrams() -> None:
    assert exchange("greet", Datagrams([b"one"], [b"two\0"])) == [HEARD + b"one", HEARD + b"two\0"]


def test_greet_on_a_datagram_without_room() -> None:
    with pytest.raises(BadFrame, match="no room"):
        exchange("greet", Datagrams([b"x" * 65507]))


@pytest.mark.parametrize("name", ["hello", "ack", "greet"])
def test_records_on_a_connection_are_served_like_a_stream(name: str) -> None:
    assert len(exchange(name, Datagrams([b"one", b"two"], scheme="unix+seqpacket"))) == 1
