"""A server that shows one message and acknowledges it: over TCP, UDP or a Unix socket, under any model.

    python examples/message_server.py 51717                    ends after one client
    python examples/message_server.py 51717 --model fork       goes on, a process for each client
    python examples/message_server.py udp://*:51717            datagrams; goes on
    python examples/message_server.py unix:/tmp/message.sock
    python examples/message_client.py localhost 51717

What changes is the endpoint and the model: `handle` stays. A message is a line of at most 255 bytes in
a stream, however many pieces it comes in, and a datagram as it is. `--one-read` takes one read of at
most 255 bytes for the message instead, as many first programs do, and so cuts and splits messages.
"""

from __future__ import annotations

import argparse
import sys

import hailer
from hailer.framing import LineFraming, RawFraming
from hailer.matrix import MODELS, kind_of
from hailer.text import printable

MOST = 255


class LineInBytesOut(LineFraming):
    """Takes lines, and sends what is sent without a line's end."""

    name = "line-in-bytes-out"

    def encode(self, message: bytes) -> bytes:
        return message


class OneRead(RawFraming):
    """Takes a read of at most 255 bytes for a message."""

    name = "one-read"
    read_size = MOST


async def handle(connection: hailer.Connection) -> None:
    async for message in connection:
        shown = printable(message.decode(errors="replace"))
        print(f"Here is the message: {shown}\n", end="", flush=True)  # in one piece, beside other clients
        if not connection.peer.is_datagram:
            await connection.send(b"I got your message")
            return
        await connection.send(b"Got your message\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Show messages and acknowledge them.")
    parser.add_argument(
        "where", nargs="?", metavar="PORT", help="a port, or an endpoint such as udp://*:51717"
    )
    parser.add_argument("--model", choices=tuple(MODELS), help="go on after one client, and serve so")
    parser.add_argument("--one-read", action="store_true")
    args = parser.parse_args()
    if args.where is None:
        sys.exit("ERROR, no port provided")
    text = args.where
    endpoint = hailer.Endpoint.parse(f"tcp4://*:{text}" if text.isdecimal() else text)
    framing = OneRead() if args.one_read else LineInBytesOut()
    hailer.Server(
        endpoint,
        handle,
        args.model or "iterative",
        framing=None if kind_of(endpoint).records else framing,
        max_message=MOST,
        backlog=5,
        once=args.model is None and not endpoint.is_datagram,
        # 17 bytes go to whoever sends 1: too few to flood a victim whose address was forged.
        amplification=17.0,
    ).serve()


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"message_server: {error}")
