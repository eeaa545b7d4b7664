"""A program that waits for a datagram and shows it.

    python examples/listener.py                    UDP port 4950 of every address; ends after one
    python examples/listener.py udp4://localhost:4950 --follow
    python examples/talker.py localhost "good morning"

A datagram is a message: it is taken whole, up to the 65,507 bytes that one can have (65,527 on IPv6).
`--most 99` refuses longer ones, and says so; none is ever cut without a word. `hailer listen` does the same
from the shell.
"""

from __future__ import annotations

import argparse
import sys

import hailer
from hailer.text import printable


async def handle(connection: hailer.Connection) -> None:
    try:
        packet = await connection.receive()
    except hailer.MessageTooLong as error:
        print(f"listener: refused a packet from {connection.peer.host}: {error}", flush=True)
        return
    print(f"listener: got packet from {connection.peer.host}")
    print(f"listener: packet is {len(packet)} bytes long")
    print(f'listener: packet contains "{printable(packet.decode(errors="replace"))}"', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Show a datagram.")
    parser.add_argument("endpoint", nargs="?", default="udp://*:4950")
    parser.add_argument("--most", type=int, default=65535, metavar="BYTES", help="refuse longer ones")
    parser.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    args = parser.parse_args()
    # One after another: then every datagram is a conversation of its own.
    server = hailer.Server(args.endpoint, handle, "iterative", max_message=args.most, once=not args.follow)
    server.bind()
    print("listener: waiting to recvfrom...", flush=True)
    server.serve()


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"listener: {error}")
