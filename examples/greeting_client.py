"""A client that greets greeting_server.py, and a function that does so for other programs.

    python examples/greeting_client.py HOST [SLEEP]

HOST is a name, or an IPv4 or IPv6 address; SLEEP is how many seconds to hold the connection before greeting,
so that several clients are there at once. `--timeout` bounds connecting and the wait for the answer, and
`--retries` has it try again while nobody listens. `greet` is all of it, for other programs to import: `with
hailer.connect(...)` makes the connection, and lets go of it whatever happens.
"""

from __future__ import annotations

import argparse
import sys
import time

import hailer
from hailer.text import printable


def greet(server: hailer.Endpoint, *, sleep: int = 0, timeout: float = 10.0, retries: int = 0) -> bytes:
    """Greet a server and give its answer."""
    with hailer.connect(server, framing="null", timeout=timeout, retries=retries) as connection:
        say(f"Client: connecting to server {connection.peer.host}")
        time.sleep(sleep)
        say("Client sending message to Server ...")
        connection.send(f"Hello Server, this is Client! Used {sleep} sleep seconds.".encode())
        say("... done sending message to Server.", "Client receiving message from Server ...")
        answer = connection.receive(timeout)
        say("... done receiving message from Server.")
        return answer


def say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Greet a server.")
    parser.add_argument("host")
    parser.add_argument("sleep", nargs="?", type=int, default=0)
    parser.add_argument("--port", type=int, default=16273)
    parser.add_argument("--timeout", type=float, default=10.0)
    parser.add_argument("--retries", type=int, default=0)
    args = parser.parse_args()
    if args.sleep < 0:
        parser.error("nobody can sleep less than 0 seconds")
    server = hailer.Endpoint("tcp", args.host, args.port)
    answer = greet(server, sleep=args.sleep, timeout=args.timeout, retries=args.retries)
    say("Complete message from Server read by Client:")
    say("   " + "\n".join(map(printable, answer.decode(errors="replace").split("\n"))), "", "Client exiting.")


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"greeting_client: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
