"""Programs on the library that are killed at any moment: ``programs.py sender|receiver PORT FILE [SERIAL]``.

The sender posts unique values through an outbox, and says on standard output what it is about to post and
what is in the outbox. The receiver keeps its cursor in one transaction with the effects.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing

from hailer import RelayClient
from hailer.blocking import RelayClient as BlockingClient
from tests.relay.ledger.book import Value
from tests.relay.ledger.effects import open_effects

SENDER, RECEIVER = "sender", "receiver"


async def send(relay: str, outbox: str, serial: int) -> None:
    """Post on and on, until standard input ends; then wait until all is stored."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), ending.set)
    async with RelayClient(SENDER, relay, outbox=outbox, timeout=None) as client:
        while not ending.is_set():
            print("posting", serial, flush=True)
            await client.post(RECEIVER, Value(SENDER, serial).text(40), confirm=False)
            print("kept", serial, flush=True)
            serial += 1
        loop.remove_reader(sys.stdin.fileno())
        await client.drain()


def receive(relay: str, path: str) -> None:
    """Take mail until killed."""
    with closing(open_effects(path)) as database:
        (cursor,) = database.execute("SELECT coalesce(max(number), 0) FROM cursor").fetchone()
        with BlockingClient(RECEIVER, relay, cursor=cursor, timeout=None) as client:
            for message in client:
                database.execute("BEGIN")
                entry = (message.number, message.payload)
                database.execute("INSERT INTO effect(number, value) VALUES (?, ?)", entry)
                database.execute("INSERT INTO cursor VALUES (?)", (message.number,))
                database.execute("COMMIT")
                message.ack()


def main(what: str, port: str, path: str, serial: str = "0") -> None:
    """Run one of the two."""
    relay = f"tcp4://127.0.0.1:{port}"
    if what == "sender":
        asyncio.run(send(relay, path, int(serial)))
    else:
        receive(relay, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
