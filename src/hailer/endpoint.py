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

import re
import sys
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Final, Literal, NoReturn

from hailer.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["UNIX_PATH_LIMIT", "Endpoint", "from_sockaddr", "parse_words"]

_UNIX: Final = ("unix", "unix+dgram", "unix+seqpacket")
_DATAGRAM: Final = ("udp", "udp4", "udp6", "unix+dgram")
_WEB_PORTS: Final = {"ws": 80, "wss": 443}
_WITH_HOST: Final = ("tcp", "tcp4", "tcp6", "tls", "udp", "udp4", "udp6", "ws", "wss")
_KINDS: Final = (
    "tcp://, tcp4://, tcp6://, tls://, udp://, udp4://, udp6://,"
    " unix:, unix+dgram:, unix+seqpacket:, ws://, wss://, fd:// or stdio:"
)

UNIX_PATH_LIMIT: Final = 107 if sys.platform == "linux" else 103
"""The most bytes of a Unix socket's path: `sun_path` has 108 on Linux, 104 on macOS, less a NUL."""

# RFC 6335 section 5.1 has letters, digits and hyphens; system databases also have names like whois++.
_SERVICE: Final = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9+._-]{0,62}", re.ASCII)
_NOT_IN_NAMES: Final = frozenset("/\\?#@[]%:*<>\"'`,;|&$(){}^!=")
_NOT_IN_ZONES: Final = frozenset("/\\?#@[]%")


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
        scheme, rest = _split_scheme(text, default_scheme)
        if scheme in _UNIX:
            return cls(scheme, path=_unix_path(scheme, rest))
        if scheme == "stdio":
            if rest:
                raise EndpointError(f"{_quote(text)} says more than stdio: can mean; write stdio: alone")
            return cls(scheme)
        if scheme == "fd":
            if rest == "systemd":
                return cls(scheme, fd="systemd")
            number = _digits(rest)
            if number is None:
                raise EndpointError(
                    f"{_quote(text)} names no descriptor; write its number, as in fd://3, or fd://systemd"
                )
            return cls(scheme, fd=number)
        host, port, path = _split_authority(scheme, rest)
        return cls(scheme, host, port, path)

    def __post_init__(self) -> None:
        with_host = self.scheme in _WITH_HOST
        if not with_host and self.scheme not in (*_UNIX, "fd", "stdio"):
            _refuse_scheme(self.scheme)
        allowed_path = self.scheme in _UNIX or self.scheme in _WEB_PORTS
        if (
            ((self.host or self.port is not None) and not with_host)
            or (self.path and not allowed_path)
            or ((self.fd is not None) != (self.scheme == "fd"))
        ):
            raise EndpointError(
                f"the parts do not fit {self.scheme}; give host and port, path, or fd, as its kind has them"
            )
        if with_host:
            object.__setattr__(self, "host", _checked_host(self.scheme, self.host))
            object.__setattr__(self, "port", _checked_port(self.scheme, self.port))
        if self.scheme in _WEB_PORTS:
            object.__setattr__(self, "path", _checked_web_path(self.path))
        elif self.scheme in _UNIX:
            object.__setattr__(self, "path", _checked_unix_path(self.path))
        elif self.fd is not None and self.fd != "systemd" and not 0 <= self.fd < 1 << 31:
            raise EndpointError(f"{_quote(str(self.fd))} is no descriptor's number; write one such as fd://3")

    def __str__(self) -> str:
        if self.scheme in _UNIX:
            return f"{self.scheme}:{self.path}"
        if self.scheme == "stdio":
            return "stdio:"
        if self.scheme == "fd":
            return f"fd://{self.fd}"
        return f"{self.scheme}://{self.address_text}{self.path}"

    @property
    def address_text(self) -> str:
        """The address without its kind, for sentences: ``[::1]:7000``, ``/run/x``, ``descriptor 3``."""
        if self.scheme in _UNIX:
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
        address = _literal(self.host)
        return None if address is None else address.version

    @property
    def is_datagram(self) -> bool:
        """Whether messages are datagrams, each its own, with no connection."""
        return self.scheme in _DATAGRAM

    @property
    def is_local(self) -> bool:
        """Whether it has neither host nor port: a Unix socket, a descriptor or standard input and output."""
        return self.scheme not in _WITH_HOST

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it: ``localhost``, 127.x.x.x, ::1 or a Unix socket.

        False where that cannot be told from the text alone: other names, inherited descriptors.
        """
        if self.scheme in _UNIX or self.host == "localhost":
            return True
        address = _literal(self.host)
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
    if "://" in host or host.lower().startswith(tuple(f"{scheme}:" for scheme in (*_UNIX, "stdio", "fd"))):
        raise EndpointError(
            f"{_quote(host)} is followed by another word, {_quote(port)}; write one endpoint, such as tcp://localhost:7000"
        )
    if host.startswith("[") and host.endswith("]"):
        _require_ipv6(host[1:-1])
        host = host[1:-1]
    _check_default(default_scheme)
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
    if scheme in _UNIX and (sockaddr is None or isinstance(sockaddr, (str, bytes))):
        return Endpoint(scheme, path=_shown_unix_path(sockaddr or ""))
    if not isinstance(sockaddr, tuple) or len(sockaddr) not in (2, 4) or scheme not in _WITH_HOST:
        raise EndpointError(f"{_quote(str(sockaddr))} is no socket address of the kind {_quote(scheme)}")
    host, port = str(sockaddr[0]), sockaddr[1]
    address = _literal(host)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            host = str(address.ipv4_mapped)
            scheme = scheme.removesuffix("6")
        elif len(sockaddr) == 4 and sockaddr[3] and address.scope_id is None:
            host = f"{host}%{sockaddr[3]}"
    return Endpoint(scheme, host, port)


def _split_scheme(text: str, default_scheme: str) -> tuple[str, str]:
    _check_default(default_scheme)
    head, colon, rest = text.partition(":")
    scheme = head.lower()
    if colon and (scheme in _UNIX or scheme == "stdio"):
        return scheme, rest
    if rest.startswith("//"):
        if scheme != "fd" and scheme not in _WITH_HOST:
            _refuse_scheme(head)
        return scheme, rest[2:]
    if colon and (scheme == "fd" or (scheme in _WITH_HOST and ":" in rest)):
        # A host that is called tcp or ws (tcp:7000) is still a host.
        raise EndpointError(f"{_quote(text)} lacks the slashes; write {scheme}://{_example(scheme)}")
    if text.startswith(("/", "./", "../", "~", "@")):
        raise EndpointError(
            f"{_quote(text)} looks like a Unix socket's path; write unix:PATH, as in unix:/run/x.sock"
        )
    return default_scheme, text


def _split_authority(scheme: str, rest: str) -> tuple[str, str | None, str]:
    """Take HOST, PORT and, for a WebSocket, PATH apart; what they may hold is checked by Endpoint."""
    path_at = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    authority, path = rest[:path_at], rest[path_at:]
    if "@" in (authority if scheme in _WEB_PORTS else rest):
        # What stands before the @ may be a password: it is not repeated.
        raise EndpointError(
            f"an endpoint takes no user name or password before {_quote(rest.rpartition('@')[2])};"
            f" write {scheme}://{_example(scheme)}"
        )
    if path and scheme not in _WEB_PORTS:
        raise EndpointError(
            f"{_quote(rest)} has a path, query or fragment, which {scheme}:// has not;"
            f" end it after the port, as in {scheme}://{_example(scheme)}"
        )
    if authority.startswith("["):
        host, bracket, after = authority[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise EndpointError(
                f"{_quote(authority)} does not have its brackets round the address; write [::1]:7000"
            )
        _require_ipv6(host)
        port = after[1:]
    elif authority.count(":") > 1:
        _refuse_bare_ipv6(authority)
    else:
        host, _, port = authority.partition(":")
    if not port:
        if scheme in _WEB_PORTS:
            return host, None, path
        if _digits(host) is not None:
            raise EndpointError(
                f"{_quote(host)} is a port without a host; write localhost:{host[:5]},"
                f" or *:{host[:5]} for all interfaces"
            )
        raise EndpointError(f"{_quote(authority)} has no port; write HOST:PORT, as in {_example(scheme)}")
    return host, port, path


def _checked_host(scheme: str, host: str) -> str:
    if not host:
        raise EndpointError(
            "the host is missing; write localhost:7000, or *:7000 to listen on all interfaces"
        )
    if host == "*":
        return host
    address = _literal(host)
    if address is not None:
        if (scheme.endswith("4") and address.version == 6) or (scheme.endswith("6") and address.version == 4):
            other = f"{scheme[:-1]}{address.version}"
            raise EndpointError(
                f"{_quote(host)} is an IPv{address.version} address, which {scheme}:// cannot use; write {other}://"
            )
        return _canonical(address)
    if "%" in host and ":" in host:
        raise EndpointError(
            f"{_quote(host)} has no good scope after its %; write an interface, as in [fe80::1%eth0]:7000"
        )
    if ":" in host:
        _refuse_bare_ipv6(host)
    if not host.isprintable() or " " in host or not _NOT_IN_NAMES.isdisjoint(host):
        raise EndpointError(
            f"{_quote(host)} has characters that no host has; write a name or address, as in localhost:7000"
        )
    if len(host) > 253:  # RFC 1035 section 2.3.4, as text
        raise EndpointError(
            f"{_quote(host)} is longer than a host's name can be (253 characters); write a shorter one"
        )
    # Names outside ASCII are left to the resolver, which knows IDNA.
    return host.lower() if host.isascii() else host


def _checked_port(scheme: str, port: int | str | None) -> int | str:
    if port is None:
        port = _WEB_PORTS.get(scheme)
        if port is None:
            raise EndpointError(f"the port is missing; write HOST:PORT, as in {_example(scheme)}")
    number = _digits(port) if isinstance(port, str) else port
    if number is not None:
        if not 0 <= number <= 65535:
            raise EndpointError(
                f"the port {_quote(str(port))} is out of range;"
                f" write one from 0 to 65535, as in {_example(scheme)}"
            )
        return number
    assert isinstance(port, str)
    if not _SERVICE.fullmatch(port):
        raise EndpointError(
            f"{_quote(port)} is neither a port's number nor a service's name;"
            f" write one from 0 to 65535 or a name such as echo, as in {_example(scheme)}"
        )
    return port


def _checked_web_path(path: str) -> str:
    if not path.startswith("/"):
        path = f"/{path}"
    if not path.isascii() or not path.isprintable() or " " in path:
        raise EndpointError(
            f"{_quote(path)} has characters that no WebSocket's path has; percent-encode them, as in /a%20b"
        )
    if "#" in path:
        raise EndpointError(
            f"{_quote(path)} has a fragment, which a WebSocket has not; leave out what follows the #"
        )
    return path


def _unix_path(scheme: str, rest: str) -> str:
    if rest.startswith("//") and not rest.startswith("///"):
        raise EndpointError(
            f"{_quote(rest)} has two slashes, where one or three are expected;"
            f" write {scheme}:/run/x.sock, {scheme}:///run/x.sock or {scheme}:x.sock"
        )
    if not rest:
        raise EndpointError(f"{scheme}: has no path; write one, as in {scheme}:/run/x.sock")
    return rest


def _checked_unix_path(path: str) -> str:
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    if path == "@":
        raise EndpointError("the abstract name after @ is missing; write one, as in unix:@hailer")
    if not path.isprintable():
        raise EndpointError(
            f"{_quote(path)} has control characters or bytes that are not UTF-8; write a path without them"
        )
    size = len(path.removeprefix("@").encode())
    if size > UNIX_PATH_LIMIT:
        raise EndpointError(
            f"{_quote(path)} has {size} bytes and a Unix socket's path at most {UNIX_PATH_LIMIT};"
            " write a shorter one, such as one relative to the working directory"
        )
    return path


def _shown_unix_path(sockaddr: str | bytes) -> str:
    raw = sockaddr.encode("utf-8", "surrogateescape") if isinstance(sockaddr, str) else sockaddr
    prefix = ""
    if raw.startswith(b"\0"):
        prefix, raw = "@", raw[1:]
    elif raw.startswith(b"@"):
        prefix = "./"  # a file whose name starts with @ is not in the abstract space
    text = raw.decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    room = UNIX_PATH_LIMIT - len(prefix.removeprefix("@"))
    shown = shown.encode()[:room].decode("utf-8", "ignore")
    return prefix + shown if shown else ""


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        zone = address.scope_id
        if zone is not None and (not zone.isprintable() or " " in zone or not _NOT_IN_ZONES.isdisjoint(zone)):
            return None
    return address


def _canonical(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        # Python writes these differently before and after 3.13.
        zone = f"%{address.scope_id}" if address.scope_id else ""
        return f"::ffff:{address.ipv4_mapped}{zone}"
    return str(address)


def _require_ipv6(host: str) -> None:
    if not isinstance(_literal(host), IPv6Address):
        raise EndpointError(
            f"{_quote(host)} stands in brackets but is no IPv6 address; write [::1]:7000, or localhost:7000"
        )


def _refuse_bare_ipv6(text: str) -> NoReturn:
    head, _, tail = text.rpartition(":")
    whole = isinstance(_literal(text), IPv6Address)
    if isinstance(_literal(head), IPv6Address) and (_digits(tail) is not None or _SERVICE.fullmatch(tail)):
        advice = f"write [{head}]:{tail}" + (
            f", or [{text}]:7000 if all of it is the address" if whole else ""
        )
        raise EndpointError(f"{_quote(text)} has an IPv6 address without brackets; {advice}")
    if whole:
        raise EndpointError(f"{_quote(text)} is an IPv6 address without a port; write [{text}]:7000")
    raise EndpointError(
        f"{_quote(text)} has too many colons; write HOST:PORT, with an IPv6 address in brackets: [::1]:7000"
    )


def _refuse_scheme(scheme: str) -> NoReturn:
    raise EndpointError(f"{_quote(scheme)} is no kind of endpoint; write one of {_KINDS}")


def _check_default(scheme: str) -> None:
    if scheme not in _WITH_HOST:
        raise EndpointError(
            f"{_quote(scheme)} cannot be what a bare HOST:PORT means; take tcp, udp or a kind with a host"
        )


def _digits(text: str) -> int | None:
    """The number that ASCII digits write; a very long one is only known to be too large."""
    if not (text.isascii() and text.isdecimal()):
        return None
    significant = text.lstrip("0") or "0"
    return int(significant[:20])


def _example(scheme: str) -> str:
    return "3" if scheme == "fd" else "localhost:80/path" if scheme in _WEB_PORTS else "localhost:7000"


def _quote(text: str) -> str:
    """Quote what a person or peer wrote, with nothing in it that a terminal would obey."""
    return repr(text if len(text) <= 60 else text[:59] + "…")
