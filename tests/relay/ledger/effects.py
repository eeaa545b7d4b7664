"""A receiver that keeps its cursor beside its effects: ``effects.py PORT NAME SESSION DATABASE WAY``.

After each effect it says so on standard output, and goes on when it gets a line. A test kills it in between.
The ways:

    joint   effect and cursor are one transaction: whenever it dies, the effect happens exactly once
    apart   the cursor is kept after the effect: whoever dies in between has the effect twice
    none    no cursor: the same
"""

from __future__ import annotations

import socket
import sqlite3
import sys

from tests.relay.ledger.parties import Stream

_SCHEMA = """
CREATE TABLE IF NOT EXISTS effect (place INTEGER PRIMARY KEY, number INTEGER, value BLOB);
CREATE TABLE IF NOT EXISTS cursor (number INTEGER);
"""


def open_effects(path: str) -> sqlite3.Connection:
    """The database, made if need be."""
    database = sqlite3.connect(path, isolation_level=None)
    # A process that is killed loses nothing that it has written; flushing is against power cuts.
    database.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF")
    database.executescript(_SCHEMA)
    return database


def main(port: int, name: str, session: str, path: str, way: str) -> None:
    """Take mail until killed."""
    database = open_effects(path)
    row = database.execute("SELECT max(number) FROM cursor").fetchone()
    cursor = row[0] or 0
    with Stream(socket.create_connection(("127.0.0.1", port))) as stream:
        _, events = stream.hello(name, f"session={session}")
        while True:
            mail = [event for event in events if event.verb == b"MAIL" and int(event.words[1]) > cursor]
            # a few at a time, so that there are many ends of transactions to die at
            for few in (mail[at : at + 5] for at in range(0, len(mail), 5)):
                database.execute("BEGIN")
                for event in few:
                    number = int(event.words[1])
                    database.execute("INSERT INTO effect(number, value) VALUES (?, ?)", (number, event.text))
                cursor = int(few[-1].words[1])
                if way == "joint":
                    database.execute("INSERT INTO cursor VALUES (?)", (cursor,))
                database.execute("COMMIT")
                print("effect", flush=True)
                sys.stdin.readline()
                if way == "apart":
                    database.execute("INSERT INTO cursor VALUES (?)", (cursor,))
                stream.say(b"ACK %d" % cursor)
            events = stream.receive()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
