"""What every transport over a stream socket has in common, whatever waits for the socket."""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING

from hailer.endpoint import Endpoint, from_sockaddr
from hailer.errors import ConnectionClosed
from hailer.net.address import scheme_of
from hailer.net.options import set_keepalive, set_nodelay

if TYPE_CHECKING:
    import select

    from hailer.net.address import RawAddress

__all__ = [
    "LONGEST_WAIT",
    "RECEIVE_SIZE",
    "RESET_ON_CLOSE",
    "Names",
    "acknowledge",
    "closed_error",
    "discard",
    "finished_error",
    "keeps_records",
    "poll_until",
    "prepare",
]

KEEPALIVE = (60.0, 15.0, 4)
"""Seconds of silence before the kernel asks a peer for life, between questions, and how many: a peer that
vanished is noticed in two minutes."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 seconds: close sends RST and forgets what was not sent yet."""

RECEIVE_SIZE = 64 * 1024
"""The most bytes of one recv: room for all of them is made before it is known how many come."""

_DISCARD = 1 << 20

LONGEST_WAIT = 86400.0
"""Seconds of one poll at most: it takes no more than some weeks."""


class Names:
    """The two ends of a connected socket.

    The addresses are taken at once, for a reset takes the peer's away; they are read only when asked for.
    """

    __slots__ = ("_addresses", "_local", "_peer", "_scheme")

    def __init__(self, sock: socket.socket, scheme: str, peer: RawAddress | None = None) -> None:
        # Of an inherited descriptor its own kind tells more than its number.
        self._scheme = (scheme_of(sock) or scheme) if scheme == "fd" else scheme
        if peer is None:
            try:
                peer = sock.getpeername()
            except OSError:  # gone already: the first pull or push will say so
                peer = ("0.0.0.0", 0) if sock.family == socket.AF_INET else ("::", 0)  # noqa: S104 (a name, nothing is bound)
                if sock.family not in (socket.AF_INET, socket.AF_INET6):
                    peer = ""
        self._addresses = (sock.getsockname(), peer)
        self._local: Endpoint | None = None
        self._peer: Endpoint | None = None

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""
        if self._local is None:
            self._local = from_sockaddr(self._scheme, self._addresses[0])
        return self._local

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""
        if self._peer is None:
            self._peer = from_sockaddr(self._scheme, self._addresses[1])
        return self._peer


def prepare(sock: socket.socket) -> None:
    """Set the options that every stream has: small messages go at once, dead peers are noticed.

    Raises:
        OSError: the connection has gone already (macOS says EINVAL then).
    """
    set_nodelay(sock)
    set_keepalive(sock, *KEEPALIVE)


def acknowledge(sock: socket.socket) -> None:
    """Have the system acknowledge what has come now, and not in 40 ms with the next answer; Linux only.

    A client without TCP_NODELAY sends no more small messages before that (RFC 896).
    """
    option = getattr(socket, "TCP_QUICKACK", None)
    if option is not None and sock.family != socket.AF_UNIX:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)
        except OSError:
            pass  # the peer has gone: the next read says so


def keeps_records(sock: socket.socket) -> bool:
    """Tell a socket that keeps the boundaries of what is sent from one of a stream."""
    return sock.type != socket.SOCK_STREAM


def discard(sock: socket.socket) -> None:
    """Read and throw away what has come, up to 1 MiB, without waiting.

    Closing over unread bytes sends RST, which can take the last answer from the peer (RFC 1122 section
    4.2.2.13).

    Raises:
        OSError: there is no more, or the peer has gone.
    """
    left = _DISCARD
    while left > 0:
        data = sock.recv(65536, socket.MSG_DONTWAIT)
        if not data:
            return
        left -= len(data)


def poll_until(poll: select.poll, deadline: float | None) -> bool:
    """Tell whether anything is ready before a deadline; this blocks."""
    if deadline is None:
        return bool(poll.poll())
    while (left := deadline - time.monotonic()) > LONGEST_WAIT:
        if poll.poll(LONGEST_WAIT * 1000):
            return True
    return bool(poll.poll(max(0.0, left) * 1000))


def closed_error() -> ConnectionClosed:
    """The error of using what this side has closed."""
    return ConnectionClosed("this side closed the connection: open another to go on")


def finished_error() -> ConnectionClosed:
    """The error of sending after finish."""
    return ConnectionClosed("this side has finished sending: send before finish()")
