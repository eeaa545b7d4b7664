"""A client that connects and shows what it is told: the partner of hello_server.py.

    python examples/hello_client.py HOST [PORT]

`hailer.connect` walks the addresses of HOST, IPv6 and IPv4, until one answers, and says of each why it
did not when none does. All that the server sends until it closes is shown, however many reads that takes.
"""

from __future__ import annotations

import argparse
import sys

import hailer
from hailer.text import printable


def main() -> int:
    parser = argparse.ArgumentParser(description="Show what a server says.")
    parser.add_argument("hostname", nargs="?")
    parser.add_argument("port", nargs="?", default="3490")
    args = parser.parse_args()
    if args.hostname is None:
        print("usage: client hostname", file=sys.stderr)
        return 1
    try:
        connection = hailer.connect(hailer.Endpoint("tcp", args.hostname, args.port), framing="eof").open()
    except hailer.HailerError as error:
        print(f"client: failed to connect: {error}", file=sys.stderr)
        return 2
    with connection:
        print(f"client: connecting to {connection.peer.host}", flush=True)
        print(f"client: received '{printable(connection.receive(10).decode(errors='replace'))}'")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except hailer.HailerError as error:
        sys.exit(f"client: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
