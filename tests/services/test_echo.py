"""Echo: what comes goes back, byte by byte."""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from hailer.errors import BadFrame, MessageTooLong
from tests.services.conftest import Datagrams, exchange, read_all

if TYPE_CHECKING:
    from tests.services.conftest import Serve


def test_bytes_come_back_as_they_are(serve: Serve) -> None:
    data = b"\r\n\r\r\n\0" + bytes(range(256)) + b"without an end"
    assert serve("echo").ask(data) == data


def test_much_comes_back(serve: Serve) -> None:
    data = os.urandom(3 << 20)
    client = serve("echo").connect()

    def send() -> None:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert read_all(client) == data
    sender.join()


def test_bytes_without_boundaries_are_none_too_many(serve: Serve) -> None:
    data = os.urandom(20_000)
    assert serve("echo", max_message=1000).ask(data) == data


def test_a_line_over_the_limit_is_left_out(serve: Serve) -> None:
    long = b"x" * 100 + b"\n"
    served = serve("echo", "line", max_message=10)
    assert served.ask(b"one\n" + long + b"two\n" + 50 * long + b"three\n") == b"one\ntwo\nthree\n"
    assert served.server.counters.handler_failures == 0


def test_a_flood_of_what_is_too_long_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hailer.services")
    flood = [MessageTooLong("over the limit of 10 bytes", limit=10)] * 50
    assert exchange("echo", Datagrams(flood, [b"one"], flood)) == [b"one"]
    assert exchange("discard", Datagrams(flood, [b"one"], flood)) == []
    told = [record.message for record in caplog.records if record.name == "hailer.services"]
    assert len(told) == 2
    assert all("over the limit of 10 bytes" in line for line in told)


def test_a_line_that_cannot_be_sent_back_ends_it(serve: Serve) -> None:
    served = serve("echo", "line")
    assert served.ask(b"one\n") == b"one\n"
    assert served.ask(b"two\r\r\nthree\n") == b""
    assert served.server.counters.handler_failures == 0, "it is the peer's doing"


def test_datagrams() -> None:
    batches = ([b"one", b"", b"two\n"], [b"\0" * 1000])
    assert exchange("echo", Datagrams(*batches)) == [b"one", b"", b"two\n", b"\0" * 1000]


def test_a_datagram_over_the_limit_is_left_out() -> None:
    error = MessageTooLong("too long", limit=10)
    assert exchange("echo", Datagrams([b"one", error, b"two"], [error], [b"three"])) == [
        b"one",
        b"two",
        b"three",
    ]


def test_what_nothing_can_follow_ends_it() -> None:
    with pytest.raises(MessageTooLong):
        exchange("echo", Datagrams([MessageTooLong("too long", limit=10, fatal=True)], [b"after"]))


def test_a_datagram_that_cannot_be_sent_back() -> None:
    with pytest.raises(BadFrame, match="too large"):
        exchange("echo", Datagrams([b"x" * 20], largest=10))
