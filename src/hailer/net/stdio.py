"""Standard input and output as one connection.

They may be pipes, files or a terminal, which no model can wait for in one way. So two threads carry the bytes
between them and a pair of connected sockets, of which one is given out: it is a stream socket like any other.
The end of the input comes as the end of the stream; to finish is to close the output.

Where standard input is a socket, as inetd has it, that socket itself is the connection.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from hailer.endpoint import Endpoint
from hailer.net.inherited import adopt, adopt_connected
from hailer.net.listener import Accepted, OnceListener

if TYPE_CHECKING:
    from hailer.net.listener import Listener

__all__ = ["dial_stdio", "listen_stdio"]

_ROOM = 64 * 1024
_LAST_WORDS = 5.0  # seconds that the end of the program waits for a reader of the output


def listen_stdio(reader: int = 0, writer: int = 1, *, most: int, amplification: float) -> Listener:
    """Accept standard input and output: once, unless inetd passed a socket that is served for longer.

    Args:
        reader: the descriptor of the input.
        writer: that of the output.
        most: see `hailer.net.inherited.adopt`.
        amplification: see there.

    Raises:
        ListenError: standard input is a socket that cannot be served.
    """
    if _is_socket(reader):
        listener = adopt(os.dup(reader), most=most, amplification=amplification)
        _let_go(reader, writer)
        return listener
    return OnceListener(
        Endpoint("stdio"), lambda: Accepted(_open(reader, writer), "stream", "stdio", "", local="")
    )


def dial_stdio(reader: int = 0, writer: int = 1) -> socket.socket:
    """Standard input and output as a connected socket, which blocks.

    Raises:
        DialError: standard input is a socket that is not connected.
    """
    if _is_socket(reader):
        sock = adopt_connected(os.dup(reader))
        _let_go(reader, writer)
        return sock
    return _open(reader, writer)


def _open(reader: int, writer: int) -> socket.socket:
    far, near = socket.socketpair()
    # Each thread has a descriptor of its own to close: one may stay in a read for as long as nobody types.
    out = near.dup()
    threading.Thread(target=_carry_in, args=(reader, near), name="hailer-stdin", daemon=True).start()

    def carry_out() -> None:
        _carry_out(out, writer)
        atexit.unregister(flush)

    outward = threading.Thread(target=carry_out, name="hailer-stdout", daemon=True)

    def flush() -> None:
        """At the end of the program: what was sent before is written, if somebody reads it."""
        with suppress(OSError):
            out.shutdown(socket.SHUT_RD)
        outward.join(_LAST_WORDS)

    atexit.register(flush)
    outward.start()
    return far


def _carry_in(reader: int, near: socket.socket) -> None:
    with near:
        try:
            while data := _read(reader):
                near.sendall(data)
        except OSError:
            pass  # nobody reads what comes, or the terminal has gone: both are an end
        with suppress(OSError):
            near.shutdown(socket.SHUT_WR)


def _carry_out(out: socket.socket, writer: int) -> None:
    with out:
        try:
            while data := out.recv(_ROOM):
                _write_all(writer, data)
        except OSError:  # nobody reads the output any more: say so to who sends
            with suppress(OSError):
                out.shutdown(socket.SHUT_RD)
        if not os.isatty(writer):  # a terminal has no reader to be told
            _replace(writer)


def _read(reader: int) -> bytes:
    while True:
        try:
            return os.read(reader, _ROOM)
        except BlockingIOError:  # whoever shares the terminal or pipe may have asked for that
            _wait(reader, select.POLLIN)


def _write_all(writer: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(writer, rest) :]
        except BlockingIOError:
            _wait(writer, select.POLLOUT)


def _wait(descriptor: int, event: int) -> None:
    poll = select.poll()
    poll.register(descriptor, event)
    poll.poll()


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _let_go(reader: int, writer: int) -> None:
    """Leave a socket to its copy alone, so that its peer sees it closed, and no print goes there."""
    same = False
    with suppress(OSError):
        same = os.path.sameopenfile(reader, writer)
    _replace(reader)
    if same:
        _replace(writer)


def _replace(descriptor: int) -> None:
    """Close a standard descriptor: its number goes to nothing, or some other file would get it."""
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(nothing, descriptor)
    finally:
        os.close(nothing)
