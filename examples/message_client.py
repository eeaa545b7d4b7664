"""A client that asks for a message, sends it, and shows the answer: over TCP, UDP or a Unix socket.

    python examples/message_client.py HOST PORT
    python examples/message_client.py --udp HOST PORT
    python examples/message_client.py unix:/tmp/message.sock

Its partner is message_server.py. Over a stream the message is a line, and the answer is all that comes until
the server closes; a datagram is answered by one datagram, or by none: it may be lost on either way, so
that there is a `--timeout`.
"""

from __future__ import annotations

import argparse
import sys

import hailer
from hailer.endpoint import parse_words
from hailer.framing import EofFraming
from hailer.matrix import kind_of
from hailer.text import printable


class LineOutAllIn(EofFraming):
    """Sends lines, and takes all that comes for one message."""

    name = "line-out-all-in"

    def encode(self, message: bytes) -> bytes:
        return message + b"\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Send a message and show the answer.")
    parser.add_argument(
        "where", nargs="*", metavar="HOST PORT", help="or an endpoint, such as unix:/tmp/x.sock"
    )
    parser.add_argument("--udp", action="store_true", help="send a datagram")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the answer")
    args = parser.parse_args()
    if not args.where:
        sys.exit("usage message_client hostname port")
    endpoint = parse_words(args.where, default_scheme="udp" if args.udp else "tcp")
    framing = None if kind_of(endpoint).records else LineOutAllIn()
    with hailer.connect(endpoint, framing=framing) as connection:
        try:
            message = input("Please enter the message: ")
        except EOFError:
            sys.exit("message_client: the input ended before there was a message: type one")
        connection.send(message.encode(errors="surrogateescape"))
        print(printable(connection.receive(args.timeout).decode(errors="replace").removesuffix("\n")))


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"message_client: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
