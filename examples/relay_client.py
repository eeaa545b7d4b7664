"""A client of relay_server.py: sends what is typed, and shows what comes at any time.

    python examples/relay_client.py NAME [ENDPOINT]

Type `NAME: TEXT` to have NAME shown the text, and `quit` to leave; so does the end of the input. What
comes while one types needs a second thread: the main one reads the keyboard and sends, the other one
receives. `hailer chat` has this for `hailer relay`, and keeps the line that is being typed together.
"""

from __future__ import annotations

import argparse
import sys
import threading

import hailer
from hailer.text import printable


def main() -> None:
    parser = argparse.ArgumentParser(description="Talk to others through a relay.")
    parser.add_argument("name")
    parser.add_argument("endpoint", nargs="?", default="tcp://localhost:5000")
    parser.add_argument("--framing", default="delimiter:DONE")
    args = parser.parse_args()
    with hailer.connect(args.endpoint, framing=args.framing) as connection:

        def show() -> None:
            try:
                for message in connection:
                    print(printable(message.decode(errors="replace")), flush=True)
            except hailer.HailerError as error:
                print(f"relay_client: {error}", file=sys.stderr)

        connection.send(args.name.encode(errors="surrogateescape"))
        shows = threading.Thread(target=show, daemon=True)
        shows.start()
        try:
            for line in sys.stdin:
                try:
                    connection.send(line.strip().encode(errors="surrogateescape"))
                except hailer.MessageError as error:
                    print(f"not sent: {error}", file=sys.stderr)
                if line.strip() == "quit":
                    break
            else:
                connection.send(b"quit")
        except hailer.ConnectionEnded:
            sys.exit("relay_client: the relay has closed the connection: start this again")
        shows.join(10)  # until the relay has closed


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"relay_client: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
