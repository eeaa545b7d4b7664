"""One socket address, with all that is needed to make its socket."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from hailer.endpoint import from_sockaddr

__all__ = ["Address", "RawAddress", "scheme_of"]

RawAddress = tuple[Any, ...] | str | bytes
"""What the socket module takes and gives: a tuple for IP, a path or abstract name for Unix sockets."""

_UNIX_SCHEMES: dict[int, str] = {
    socket.SOCK_STREAM: "unix",
    socket.SOCK_DGRAM: "unix+dgram",
    socket.SOCK_SEQPACKET: "unix+seqpacket",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket can be bound or connected.

    Its text is what people see in messages and logs: `1.2.3.4:80`, `[::1]:80`, `unix:/run/x`,
    `unix:@name`.

    Attributes:
        family: the address family, such as `socket.AF_INET`.
        type: the kind of socket, such as `socket.SOCK_STREAM`.
        proto: the protocol number, 0 for the usual one.
        sockaddr: what `bind` and `connect` take.
    """

    family: int
    type: int
    proto: int
    sockaddr: RawAddress

    def __str__(self) -> str:
        if self.family == socket.AF_UNIX:
            return str(from_sockaddr(_UNIX_SCHEMES.get(self.type, "unix"), self.sockaddr))
        return from_sockaddr("tcp", self.sockaddr).address_text

    def open(self) -> socket.socket:
        """Make a socket of this kind, neither bound nor connected; no child inherits it.

        Raises:
            OSError: the system has no such kind of socket, or no descriptor left.
        """
        return socket.socket(self.family, self.type, self.proto)


def scheme_of(sock: socket.socket) -> str | None:
    """The kind of endpoint that a socket is by itself, such as `tcp`; None for one that is not served."""
    if sock.family == socket.AF_UNIX:
        return _UNIX_SCHEMES.get(sock.type)
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return {socket.SOCK_STREAM: "tcp", socket.SOCK_DGRAM: "udp"}.get(sock.type)
