"""A program that sends one datagram, whether or not anybody listens.

    python examples/talker.py HOST MESSAGE [PORT]
    python examples/talker.py HOST MESSAGE [PORT] --wait 2

Its partner is listener.py. The socket is connected to its peer: an answer, for which `--wait` waits so many
seconds, is heard from there only, and so is the news that nobody listens.
"""

from __future__ import annotations

import argparse
import sys

import hailer
from hailer.text import printable


def main() -> None:
    parser = argparse.ArgumentParser(description="Send a datagram.")
    parser.add_argument("hostname", nargs="?")
    parser.add_argument("message", nargs="?")
    parser.add_argument("port", nargs="?", default="4950")
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="show an answer")
    args = parser.parse_args()
    if args.message is None:
        sys.exit("usage: talker hostname message")
    message = args.message.encode(errors="surrogateescape")
    with hailer.connect(hailer.Endpoint("udp", args.hostname, args.port)) as connection:
        connection.send(message)
        print(f"talker: sent {len(message)} bytes to {args.hostname}", flush=True)
        if args.wait is not None:
            answer = connection.receive(args.wait)
            print(f'talker: got "{printable(answer.decode(errors="replace"))}" from {connection.peer.host}')


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"talker: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
