"""Orders are taken exactly once, though their taker is killed between the effect and the acknowledgement."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from hailer.blocking import RelayClient
from hailer.endpoint import Endpoint
from hailer.relay.app import RelayServer, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.examples.conftest import Start


@pytest.fixture
def relay() -> Iterator[str]:
    """A relay in a thread."""
    listen = (Endpoint.parse("tcp4://127.0.0.1:0"),)
    with RelayServer(Settings(listen=listen, drain=0.5)) as server:
        yield str(server.endpoints[0])


def test_each_order_takes_effect_once(start: Start, relay: str, tmp_path: Path) -> None:
    with RelayClient("shop", relay):
        pass  # so that there is a mailbox
    count, kills = 12, 6
    with RelayClient("till", relay) as till:
        for number in range(count):
            till.post("shop", f"order {number}")
    for kill in range(kills):
        shop = start("orders.py", str(tmp_path / "orders.db"), "--relay", relay, "--pause", "30")
        shop.until(f"of till: order {kill}\n")  # on disk, and not acknowledged
        shop.process.send_signal(signal.SIGKILL)
        shop.process.wait(10)
    shop = start("orders.py", str(tmp_path / "orders.db"), "--relay", relay)
    shop.until(f"of till: order {count - 1}\n")
    shop.process.send_signal(signal.SIGINT)
    assert "Traceback" not in shop.rest()
    with closing(sqlite3.connect(tmp_path / "orders.db")) as database:
        taken = [text for (text,) in database.execute("select text from orders order by rowid")]
    assert taken == [f"order {number}" for number in range(count)]
    with RelayClient("shop", relay) as last:
        last.send("shop", "nothing else is left")
        while (message := last.receive(30)).text != "nothing else is left":
            assert message.text == taken[-1]  # it was interrupted before it could acknowledge this one
