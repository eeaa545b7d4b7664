r"""A server that sends lines back: to one client after another, or to many at once.

    python examples/echo_server.py                      port 15020; a second client waits for the first
    python examples/echo_server.py 15020 --model fork   or thread, prefork, select, epoll, asyncio
    python examples/echo_client.py localhost
    telnet localhost 15020

Processes or threads? Neither is in `handle`: try both, and see what docs/explanation/models.md has measured.
The delimiter "\n" leaves a "\r" in the line, so that every byte is counted, shown and sent back.
"""

from __future__ import annotations

import argparse
import sys

import hailer
from hailer.matrix import MODELS
from hailer.text import printable


def say(*lines: str) -> None:
    print("\n".join(lines) + "\n", end="", flush=True)  # in one piece: others write to this console too


def main() -> None:
    parser = argparse.ArgumentParser(description="Send lines back.")
    parser.add_argument(
        "port", nargs="?", default="15020", help="or an endpoint, such as tcp4://localhost:15020"
    )
    parser.add_argument("--model", choices=tuple(MODELS), default="iterative")
    args = parser.parse_args()
    waiting = "Waiting for a new Client to connect"
    one_by_one = args.model == "iterative"

    async def handle(connection: hailer.Connection) -> None:
        say(f"Connected to ({connection.peer.host}, {connection.peer.port})")
        say("Start Communication with Client", *([] if one_by_one else [waiting]))
        try:
            async for line in connection:
                text = printable(line.removesuffix(b"\r").decode(errors="replace"))
                say(f"server received {len(line) + 1} bytes", f"server received message : {text}")
                await connection.send(line)
        finally:
            say("End Communication with Client", *([waiting] if one_by_one else []))

    endpoint = f"tcp://*:{args.port}" if args.port.isdecimal() else args.port
    server = hailer.Server(endpoint, handle, args.model, framing=r"delimiter:\n")
    server.bind()
    say(waiting)
    server.serve()


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"echo_server: {error}")
