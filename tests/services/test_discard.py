"""Discard: everything is taken, nothing answered, little held."""

from __future__ import annotations

import socket
import tracemalloc
from typing import TYPE_CHECKING

from hailer.errors import MessageTooLong
from tests.services.conftest import Datagrams, exchange

if TYPE_CHECKING:
    from tests.services.conftest import Serve


def test_a_flood_is_thrown_away(serve: Serve) -> None:
    client = serve("discard").connect()
    tracemalloc.start()
    for _ in range(64):
        client.sendall(bytes(1 << 20))
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 << 20, "64 MiB went through"


def test_lines_over_the_limit_do_not_end_it(serve: Serve) -> None:
    served = serve("discard", "line", max_message=10)
    assert served.ask(b"x" * 100_000 + b"\nshort\n") == b""
    assert served.server.counters.handler_failures == 0


def test_datagrams() -> None:
    error = MessageTooLong("too long", limit=10)
    assert exchange("discard", Datagrams([b"one", b""], [error], [b"two"])) == []
