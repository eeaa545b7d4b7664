"""Chargen: the pattern, its end, and what it does with what comes in."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from hailer.framing import LengthFraming
from tests.services.conftest import Datagrams, exchange

if TYPE_CHECKING:
    from tests.services.conftest import Serve, Served

CYCLE = 95 * 74


def read(client: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = client.recv(count - len(data))
        assert more, "it ended"
        data += more
    return bytes(data)


def pattern(lines: int) -> bytes:
    """RFC 864: on line N the characters numbered 0+N to 71+N of the ring of 95, then CRLF."""
    return b"".join(
        bytes(32 + (number + place) % 95 for place in range(72)) + b"\r\n" for number in range(lines)
    )


def ends(served: Served) -> bool:
    """Wait until somebody has been served and nobody is any more: what was not sent may be kept for 5 s."""
    event = threading.Event()
    for _ in range(2000):
        if served.server.counters.accepted and not served.server.counters.active:
            return True
        event.wait(0.01)
    return False


def test_the_pattern(serve: Serve) -> None:
    client = serve("chargen").connect()
    data = read(client, 20 * CYCLE)
    assert data.startswith(b" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n")
    assert data == pattern(20 * 95)


def test_it_goes_on_after_a_half_close_and_ends_with_the_peer(serve: Serve) -> None:
    served = serve("chargen")
    client = served.connect()
    client.shutdown(socket.SHUT_WR)
    assert len(read(client, 3_000_000)) == 3_000_000
    client.close()
    assert ends(served)
    assert served.server.counters.handler_failures == 0


def test_a_flood_of_input_is_thrown_away(serve: Serve) -> None:
    client = serve("chargen", max_message=1000).connect()
    client_failed = threading.Event()

    def flood() -> None:
        try:
            for _ in range(100):
                client.sendall(b"x" * 65536)  # no line, and far over the limit
        except OSError:
            client_failed.set()

    flooding = threading.Thread(target=flood)
    flooding.start()
    while flooding.is_alive():
        read(client, 65536)
    flooding.join()
    assert not client_failed.is_set()


def test_a_peer_that_never_reads_is_cut(serve: Serve) -> None:
    served = serve("chargen", idle_timeout=0.2)
    served.connect(room=4096)
    assert ends(served)
    assert served.server.counters.handler_failures == 0


def test_it_ends_with_the_server(serve: Serve) -> None:
    served = serve("chargen")
    read(served.connect(), 1000)  # what `serve` does next is to drain, and then to abort


def test_lines_are_messages_in_any_framing(serve: Serve) -> None:
    client = serve("chargen", LengthFraming()).connect()
    assert read(client, 76)[:6] == b"\0\0\0\x48 !"


@pytest.mark.parametrize("size", [0, 1, 72, 511, 512, 513, 65507])
def test_a_datagram_is_answered_with_no_more_than_came(size: int) -> None:
    (answer,) = exchange("chargen", Datagrams([bytes(size)]))
    assert answer == pattern(7)[: min(size, 512)]
