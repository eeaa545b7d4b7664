"""Endpoints: what to dial or to listen on, as text that a person types and a value that code uses.

    tcp://HOST:PORT   tcp4://  tcp6://      a stream; 4 and 6 choose the family
    tls://HOST:PORT                         the same, encrypted
    udp://HOST:PORT   udp4://  udp6://      datagrams
    ws://HOST[:PORT]/PATH  wss://           WebSocket (ports 80 and 443 when none is given)
    unix:PATH  unix+dgram:PATH  unix+seqpacket:PATH      @NAME is Linux's abstract space
    fd://N  fd://systemd                    an inherited descriptor
    stdio:                                  standard input and output

`HOST:PORT` alone means tcp. `*` as HOST means all interfaces, `[…]` holds an IPv6 address, PORT is a
number, 0 for any free one, or a service's name. Nothing here resolves, opens or looks anything up:
a host or service that does not exist is found out by `hailer.net`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Literal

from hailer.endpoint_text import (
    DATAGRAM,
    UNIX,
    UNIX_PATH_LIMIT,
    WEB_PORTS,
    WITH_HOST,
    check_default,
    checked_host,
    checked_port,
    checked_unix_path,
    checked_web_path,
    digits,
    literal,
    quote,
    refuse_scheme,
    require_ipv6,
    shown_unix_path,
    split_authority,
    split_scheme,
    unix_path,
)
from hailer.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["UNIX_PATH_LIMIT", "Endpoint", "from_sockaddr", "parse_words"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing to dial or to listen on.

    Made by `Endpoint.parse` in most programs. `str()` gives the canonical text, which parses to an
    equal endpoint.

    Args:
        scheme: the kind, such as ``tcp`` or ``unix+dgram``.
        host: a name, an address without brackets, or ``*``; empty for kinds that have none.
        port: a number, a service's name, or None for kinds that have none.
        path: a Unix socket's path (``@NAME`` in the abstract space), or a WebSocket's path and query.
            A Unix peer that has not bound a path has an empty one (`from_sockaddr`).
        fd: the inherited descriptor's number or ``systemd``, for ``fd://``.

    Raises:
        EndpointError: the parts make no endpoint.
    """

    scheme: str
    host: str = ""
    port: int | str | None = None
    path: str = ""
    fd: int | Literal["systemd"] | None = None

    @classmethod
    def parse(cls, text: str, *, default_scheme: str = "tcp") -> Endpoint:
        """Read an endpoint as a person writes it.

        Args:
            text: such as ``localhost:7000``, ``udp://[::1]:53`` or ``unix:/run/x.sock``.
            default_scheme: the kind of a bare ``HOST:PORT``.

        Raises:
            EndpointError: it is none; the message says what to write instead.
        """
        scheme, rest = split_scheme(text, default_scheme)
        if scheme in UNIX:
            return cls(scheme, path=unix_path(scheme, rest))
        if scheme == "stdio":
            if rest:
                raise EndpointError(f"{quote(text)} says more than stdio: can mean; write stdio: alone")
            return cls(scheme)
        if scheme == "fd":
            if rest == "systemd":
                return cls(scheme, fd="systemd")
            number = digits(rest)
            if number is None:
                raise EndpointError(
                    f"{quote(text)} names no descriptor; write its number, as in fd://3, or fd://systemd"
                )
            return cls(scheme, fd=number)
        host, port, path = split_authority(scheme, rest)
        return cls(scheme, host, port, path)

    def __post_init__(self) -> None:
        with_host = self.scheme in WITH_HOST
        if not with_host and self.scheme not in (*UNIX, "fd", "stdio"):
            refuse_scheme(self.scheme)
        allowed_path = self.scheme in UNIX or self.scheme in WEB_PORTS
        if (
            ((self.host or self.port is not None) and not with_host)
            or (self.path and not allowed_path)
            or ((self.fd is not None) != (self.scheme == "fd"))
        ):
            raise EndpointError(
                f"the parts do not fit {self.scheme}; give host and port, path, or fd, as its kind has them"
            )
        if with_host:
            object.__setattr__(self, "host", checked_host(self.scheme, self.host))
            object.__setattr__(self, "port", checked_port(self.scheme, self.port))
        if self.scheme in WEB_PORTS:
            object.__setattr__(self, "path", checked_web_path(self.path))
        elif self.scheme in UNIX:
            object.__setattr__(self, "path", checked_unix_path(self.path))
        elif self.fd is not None and self.fd != "systemd" and not 0 <= self.fd < 1 << 31:
            raise EndpointError(f"{quote(str(self.fd))} is no descriptor's number; write one such as fd://3")

    def __str__(self) -> str:
        if self.scheme in UNIX:
            return f"{self.scheme}:{self.path}"
        if self.scheme == "stdio":
            return "stdio:"
        if self.scheme == "fd":
            return f"fd://{self.fd}"
        return f"{self.scheme}://{self.address_text}{self.path}"

    @property
    def address_text(self) -> str:
        """The address without its kind, for sentences: ``[::1]:7000``, ``/run/x``, ``descriptor 3``."""
        if self.scheme in UNIX:
            return self.path or "an unnamed Unix socket"
        if self.scheme == "stdio":
            return "standard input and output"
        if self.scheme == "fd":
            return "systemd's sockets" if self.fd == "systemd" else f"descriptor {self.fd}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def family_hint(self) -> Literal[4, 6] | None:
        """The only IP version that this can be, by its kind or literal address; None for either or none."""
        if self.scheme.endswith("4"):
            return 4
        if self.scheme.endswith("6"):
            return 6
        address = literal(self.host)
        return None if address is None else address.version

    @property
    def is_datagram(self) -> bool:
        """Whether messages are datagrams, each its own, with no connection."""
        return self.scheme in DATAGRAM

    @property
    def is_local(self) -> bool:
        """Whether it has neither host nor port: a Unix socket, a descriptor or standard input and output."""
        return self.scheme not in WITH_HOST

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it: ``localhost``, 127.x.x.x, ::1 or a Unix socket.

        False where that cannot be told from the text alone: other names, inherited descriptors.
        """
        if self.scheme in UNIX or self.host == "localhost":
            return True
        address = literal(self.host)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address is not None and address.is_loopback

    def with_port(self, port: int | str) -> Endpoint:
        """The same endpoint with another port, such as the one that was taken for port 0.

        Raises:
            EndpointError: this kind has no port, or the port is none.
        """
        return replace(self, port=port)


def parse_words(words: Sequence[str], *, default_scheme: str = "tcp") -> Endpoint:
    """Read an endpoint from a command line's words: one endpoint, or ``HOST PORT``.

    Args:
        words: one or two; an IPv6 host needs no brackets where it is a word of its own.
        default_scheme: the kind where none is written.

    Raises:
        EndpointError: they are none; the message says what to write instead.
    """
    if len(words) == 1:
        return Endpoint.parse(words[0], default_scheme=default_scheme)
    if len(words) != 2:
        raise EndpointError(
            f"an endpoint is one word or two, not {len(words)}; write localhost:7000 or localhost 7000"
        )
    host, port = words
    if "://" in host or host.lower().startswith(tuple(f"{scheme}:" for scheme in (*UNIX, "stdio", "fd"))):
        raise EndpointError(
            f"{quote(host)} is followed by another word, {quote(port)}; write one endpoint, such as tcp://localhost:7000"
        )
    if host.startswith("[") and host.endswith("]"):
        require_ipv6(host[1:-1])
        host = host[1:-1]
    check_default(default_scheme)
    return Endpoint(default_scheme, host, port)


def from_sockaddr(scheme: str, sockaddr: object) -> Endpoint:
    """The endpoint of a socket's own or peer's address, as the kernel gave it.

    An IPv4 peer of an IPv6 socket (``::ffff:1.2.3.4``, RFC 4291 section 2.5.5.2) is shown as IPv4. A
    name that a Unix peer chose never fails here: what cannot be shown in it is escaped.

    Args:
        scheme: the kind of the socket's endpoint.
        sockaddr: ``(host, port)``, ``(host, port, flow, scope)``, or a Unix path or abstract name; an
            empty one or None for an unnamed Unix socket; anything for standard input and output.

    Raises:
        EndpointError: it is no address of that kind.
    """
    if scheme == "stdio":
        return Endpoint(scheme)
    if scheme in UNIX and (sockaddr is None or isinstance(sockaddr, (str, bytes))):
        return Endpoint(scheme, path=shown_unix_path(sockaddr or ""))
    if not isinstance(sockaddr, tuple) or len(sockaddr) not in (2, 4) or scheme not in WITH_HOST:
        raise EndpointError(f"{quote(str(sockaddr))} is no socket address of the kind {quote(scheme)}")
    host, port = str(sockaddr[0]), sockaddr[1]
    address = literal(host)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            host = str(address.ipv4_mapped)
            scheme = scheme.removesuffix("6")
        elif len(sockaddr) == 4 and sockaddr[3] and address.scope_id is None:
            host = f"{host}%{sockaddr[3]}"
    return Endpoint(scheme, host, port)
