"""A relay made by hand: a thread for each client, and one table of names that they share.

    python examples/relay_server.py                    port 5000 of this machine
    python examples/relay_client.py ann                in another terminal, and once more for another name
    python examples/relay_server.py tcp://*:5000       for clients elsewhere, behind whatever routers

Every message ends with DONE. A client's first one is its name; then `NAME: TEXT` is for NAME, and
`quit` the end. It is short enough to be read whole, and shows what a relay comes down to. `hailer relay` is
the one to use: there a receiver that does not read holds up nobody, and there are rooms and presence.
"""

from __future__ import annotations

import argparse
import sys
import threading
from typing import TYPE_CHECKING

import hailer
from hailer.text import printable

if TYPE_CHECKING:
    from hailer.runtime.blocking import BlockingConnection

PATIENCE = 5.0  # seconds that one receiver may hold up a sender


class Table:
    """Names to connections; every thread uses it, so each use is under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, tuple[BlockingConnection, threading.Lock]] = {}

    def add(self, name: str, connection: BlockingConnection) -> bool:
        with self._lock:
            return self._clients.setdefault(name, (connection, threading.Lock()))[0] is connection

    def remove(self, name: str) -> None:
        with self._lock:
            del self._clients[name]

    def send(self, name: str, text: str) -> bool:
        """Send to a client, and say whether there is one of that name."""
        with self._lock:
            found = self._clients.get(name)
        if found is None:
            return False
        connection, lock = found
        try:
            with lock:  # two senders must not mix their bytes; the table is free meanwhile
                connection.send(text.encode(), timeout=PATIENCE)
        except hailer.MessageError:
            raise
        except hailer.HailerError:
            connection.abort()  # it has gone, or does not read: its own thread removes its name
            return False
        return True


table = Table()


def handle(connection: BlockingConnection) -> None:
    name = read(connection)
    if not name or ":" in name or len(name) > 32:
        connection.send(b"a name has 1 to 32 characters and no colon: connect again")
        return
    if not table.add(name, connection):
        connection.send(f"{name} is taken: connect again with another name".encode())
        return
    try:
        table.send(name, f"welcome {name}")
        while (message := read(connection)) != "quit":
            to, _, text = message.partition(":")
            if not table.send(to.strip(), f"{name}: {text.strip()}"):
                table.send(name, f"nobody is called {to.strip()!r}: write NAME: TEXT, or quit")
        table.send(name, "goodbye")
    except hailer.EndOfStream:
        pass  # it has gone without a word
    finally:
        table.remove(name)


def read(connection: BlockingConnection) -> str:
    message = connection.receive(timeout=float("inf")).decode(errors="replace").strip()
    print(
        f"{connection.peer}: {printable(message)}\n", end="", flush=True
    )  # in one piece, beside other threads
    return message


def main() -> None:
    parser = argparse.ArgumentParser(description="Pass messages on between clients.")
    parser.add_argument("endpoint", nargs="?", default="tcp://localhost:5000")
    parser.add_argument("--framing", default="delimiter:DONE", help="how messages end, such as line")
    args = parser.parse_args()
    server = hailer.Server(args.endpoint, handle, "thread", framing=args.framing, max_message=65536, drain=1)
    print(*(f"listening on {each}" for each in server.bind()), sep="\n", flush=True)
    server.serve()


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"relay_server: {error}")
