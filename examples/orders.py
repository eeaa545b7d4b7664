"""Orders that are taken exactly once: mail whose effect and cursor are one transaction of the receiver's own.

    python examples/orders.py orders.db --name shop

What is posted to the name (by `hailer send` or `RelayClient.post`) is stored by the relay, also while this
program does not run.

A receiver that dies between an effect and its acknowledgement gets the message again. So the cursor of the
message is written down together with the effect, and given to the client the next time: it passes over what
was dealt with. Kill the program (`kill -9`) during the `--pause` to see it.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from contextlib import closing

import hailer
from hailer.blocking import RelayClient
from hailer.text import printable

TABLES = (
    "create table if not exists orders(sender text, text text)",
    "create table if not exists dealt_with(one integer primary key check (one = 1), cursor text)",
    "insert or ignore into dealt_with values(1, '')",
)


def serve(database: sqlite3.Connection, name: str, relay: str, pause: float) -> None:
    database.execute("pragma synchronous = full")
    with database:
        for statement in TABLES:
            database.execute(statement)
    (cursor,) = database.execute("select cursor from dealt_with").fetchone()
    with RelayClient(name, relay, cursor=cursor) as client:
        print(f"taking orders after {cursor or 'none'}", flush=True)
        for message in client:
            if message.number is None:
                continue  # a live message: nobody keeps it, so that it could be counted
            with database:  # one transaction: both of these are on disk, or none
                database.execute("insert into orders values(?, ?)", (message.sender, message.text))
                database.execute("update dealt_with set cursor = ?", (message.cursor,))
            print(f"took {message.number} of {message.sender}: {printable(message.text)}", flush=True)
            time.sleep(pause)
            message.ack()


def main() -> None:
    parser = argparse.ArgumentParser(description="Take orders out of a mailbox, each exactly once.")
    parser.add_argument("database", help="where the orders are kept")
    parser.add_argument("--name", default="shop", help="whose mailbox it is")
    parser.add_argument("--relay", default="tcp://localhost:16273", help="where the relay is")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between an order and its ack")
    args = parser.parse_args()
    with closing(sqlite3.connect(args.database)) as database:
        serve(database, args.name, args.relay, args.pause)


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"orders: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
