"""A server that takes one greeting from each client and answers it, each client in a process of its own.

    python examples/greeting_server.py            IPv4, port 16273; Ctrl-C ends it
    python examples/greeting_server.py 6          IPv6 and IPv4
    python examples/greeting_client.py localhost 5
    telnet localhost 16273                        type a line

It tells each step of parent and child. Nothing in `handle` forks: `--model thread`, or another, has the same
handler serve in another way. A NUL ends a message, and so does the end of a line that a person types. With
`--framing short-read:4` it follows a wrong rule of some servers instead, and shows it at work: a read
that does not fill the buffer of 4 bytes counts as the end, so that a pause cuts a message in two.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

import hailer
from hailer.framing import DEFAULT_MAX_MESSAGE, Decoder, Framing, framing
from hailer.matrix import MODELS
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable


class EachRead:
    """A framing for which a function changes, or only looks at, what each read brings."""

    def __init__(self, inner: Framing, change: Callable[[bytes], bytes]) -> None:
        self.name, self.read_size, self.encode = inner.name, inner.read_size, inner.encode
        self._inner, self._change = inner, change

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> Decoder:
        return EachReadDecoder(self._inner.decoder(max_message), self._change)


class EachReadDecoder:
    def __init__(self, inner: Decoder, change: Callable[[bytes], bytes]) -> None:
        self._inner, self._change = inner, change

    def feed(self, data: bytes) -> list[bytes | hailer.FramingError]:
        return self._inner.feed(self._change(data))


def end_lines(data: bytes) -> bytes:
    return data.replace(b"\n", b"\n\0")


def tell(data: bytes) -> bytes:
    say(f"Read {len(data)} bytes: {data!r}")
    if data.endswith(b"\0") and len(data) == 4:
        say("Found that pesky even-multiple case, but the null byte")
        say("rec'd indicates we're done - by contract (see 'end of send'", "comments in source code above).")
    elif len(data) < 4:
        say("Found a rec'd byte count less than sizeof rd_buf -", "interpret that to mean 'end of send'.")
    return data


def say(*lines: str) -> None:
    # In one piece, for others write here too; and at once, for what waits at a fork is written twice.
    print("\n".join(lines) + "\n", end="", flush=True)


def tell_of_forks() -> None:
    awaiting = ("", "Server (parent process) awaiting new Client connection.", "")
    say(*awaiting)
    os.register_at_fork(
        before=lambda: say("Now creating child with fork() to handle Client communications."),
        after_in_parent=lambda: say("Server (parent process) closed its Client socket.", *awaiting),
        after_in_child=lambda: say(
            f"In Parent process, child's pid: {os.getpid()}.",
            "",
            "Child process running (proof - it sees its pid as zero: pid 0).",
            "Child process closed its copy of parent proc listener socket.",
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer greetings.")
    parser.add_argument("family", nargs="?", choices=("4", "6"), default="4", help="IPv4, or IPv6 and IPv4")
    parser.add_argument("--port", type=int, default=16273)
    parser.add_argument("--model", choices=tuple(MODELS), default="fork")
    parser.add_argument("--framing", type=framing, default="null", help="null, or short-read:4")
    args = parser.parse_args()
    forks = args.model == "fork"
    who, child = ("Child process", "child") if forks else ("Server", "server")

    async def handle(connection: hailer.Connection) -> None:
        say(f"Server got connection from host {connection.peer.host}")
        say(f"{who} receiving message from Client ...")
        message = await connection.receive()
        say(f"... {child} done receiving message from Client.")
        say(f"Complete message from Client read by Server{' Child process' if forks else ''}:")
        text = message.decode(errors="replace")
        say("   " + printable(text.rstrip("\r\n")), *([""] * text.endswith("\n")))
        say(f"{child.capitalize()} sending message to Client ...")
        await connection.send(b"Hello Client, this is Server. I rec'd this message:\n   " + message)
        say(f"... {child} done sending message to Client.", *(["Forked child process exiting."] * forks))

    rule = EachRead(args.framing, tell if args.framing.read_size else end_lines)
    scheme, address = ("tcp4", "0.0.0.0") if args.family == "4" else ("tcp", "::")
    server = hailer.Server(f"{scheme}://*:{args.port}", handle, args.model, framing=rule, backlog=5)
    server.bind()
    say(f"Server listening for connections on interface {address} (all ipv{args.family} interfaces) ...")
    if forks:
        tell_of_forks()
    server.serve()


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"greeting_server: {error}")
