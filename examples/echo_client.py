"""A client that sends lines and shows them as they come back, until its input ends.

    python examples/echo_client.py HOST [PORT]

Its partner is echo_server.py, on port 15020. Any other echo server does as well, such as that of inetd on
port 7; a service's name may stand for the number, as in `echo_client.py localhost echo`.
"""

from __future__ import annotations

import argparse
import sys

import hailer
from hailer.text import printable


def main() -> None:
    parser = argparse.ArgumentParser(description="Send lines and show them as they come back.")
    parser.add_argument("host")
    parser.add_argument("port", nargs="?", default="15020")
    args = parser.parse_args()
    with hailer.connect(hailer.Endpoint("tcp", args.host, args.port)) as connection:
        for line in sys.stdin:
            connection.send(line.removesuffix("\n").encode(errors="surrogateescape"))
            print(printable(connection.receive().decode(errors="replace")), flush=True)


if __name__ == "__main__":
    try:
        main()
    except hailer.EndOfStream:
        sys.exit("echo_client: the server has closed the connection: connect again")
    except hailer.HailerError as error:
        sys.exit(f"echo_client: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
