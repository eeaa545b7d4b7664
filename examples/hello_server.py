"""A server that says hello to each client, from a process of its own.

    python examples/hello_server.py                 port 3490 of every address, IPv4 and IPv6
    python examples/hello_server.py tcp4://localhost:3490 --model epoll
    telnet localhost 3490
    python examples/hello_client.py localhost

`hailer.Server` binds every address there is, with SO_REUSEADDR, and under the fork model reaps each child:
what a handler is for is left.
"""

from __future__ import annotations

import argparse
import sys

import hailer
from hailer.matrix import MODELS


async def handle(connection: hailer.Connection) -> None:
    say(f"server: got connection from {connection.peer.host}")
    await connection.send(b"Hello, world!")


def say(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # in one piece: others write to this console too


def main() -> None:
    parser = argparse.ArgumentParser(description="Say hello.")
    parser.add_argument("endpoint", nargs="?", default="tcp://*:3490")
    parser.add_argument("--model", choices=tuple(MODELS), default="fork")
    args = parser.parse_args()
    server = hailer.Server(args.endpoint, handle, args.model, framing="raw", backlog=10)
    server.bind()
    say("server: waiting for connections...")
    server.serve()


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"server: {error}")
