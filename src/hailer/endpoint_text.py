"""The text of endpoints, taken apart and checked: what `hailer.endpoint` puts into values.

Nothing here makes an `Endpoint`; what cannot be one is refused with a sentence that says what to write.
"""

from __future__ import annotations

import re
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NoReturn

from hailer.errors import EndpointError

__all__ = [
    "DATAGRAM",
    "UNIX",
    "UNIX_PATH_LIMIT",
    "WEB_PORTS",
    "WITH_HOST",
    "check_default",
    "checked_host",
    "checked_port",
    "checked_unix_path",
    "checked_web_path",
    "digits",
    "literal",
    "quote",
    "refuse_scheme",
    "require_ipv6",
    "shown_unix_path",
    "split_authority",
    "split_scheme",
    "unix_path",
]

UNIX: Final = ("unix", "unix+dgram", "unix+seqpacket")
DATAGRAM: Final = ("udp", "udp4", "udp6", "unix+dgram")
WEB_PORTS: Final = {"ws": 80, "wss": 443}
WITH_HOST: Final = ("tcp", "tcp4", "tcp6", "tls", "udp", "udp4", "udp6", "ws", "wss")
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


def split_scheme(text: str, default_scheme: str) -> tuple[str, str]:
    """Take the kind off, where one is written; the rest is as the kind has it."""
    check_default(default_scheme)
    head, colon, rest = text.partition(":")
    scheme = head.lower()
    if colon and (scheme in UNIX or scheme == "stdio"):
        return scheme, rest
    if rest.startswith("//"):
        if scheme != "fd" and scheme not in WITH_HOST:
            refuse_scheme(head)
        return scheme, rest[2:]
    if colon and (scheme == "fd" or (scheme in WITH_HOST and ":" in rest)):
        # A host that is called tcp or ws (tcp:7000) is still a host.
        raise EndpointError(f"{quote(text)} lacks the slashes; write {scheme}://{_example(scheme)}")
    if text.startswith(("/", "./", "../", "~", "@")):
        raise EndpointError(
            f"{quote(text)} looks like a Unix socket's path; write unix:PATH, as in unix:/run/x.sock"
        )
    return default_scheme, text


def split_authority(scheme: str, rest: str) -> tuple[str, str | None, str]:
    """Take HOST, PORT and, for a WebSocket, PATH apart; what they may hold is checked by Endpoint."""
    path_at = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    authority, path = rest[:path_at], rest[path_at:]
    if "@" in (authority if scheme in WEB_PORTS else rest):
        # What stands before the @ may be a password: it is not repeated.
        raise EndpointError(
            f"an endpoint takes no user name or password before {quote(rest.rpartition('@')[2])};"
            f" write {scheme}://{_example(scheme)}"
        )
    if path and scheme not in WEB_PORTS:
        raise EndpointError(
            f"{quote(rest)} has a path, query or fragment, which {scheme}:// has not;"
            f" end it after the port, as in {scheme}://{_example(scheme)}"
        )
    if authority.startswith("["):
        host, bracket, after = authority[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise EndpointError(
                f"{quote(authority)} does not have its brackets round the address; write [::1]:7000"
            )
        require_ipv6(host)
        port = after[1:]
    elif authority.count(":") > 1:
        _refuse_bare_ipv6(authority)
    else:
        host, _, port = authority.partition(":")
    if not port:
        if scheme in WEB_PORTS:
            return host, None, path
        if digits(host) is not None:
            raise EndpointError(
                f"{quote(host)} is a port without a host; write localhost:{host[:5]},"
                f" or *:{host[:5]} for all interfaces"
            )
        raise EndpointError(f"{quote(authority)} has no port; write HOST:PORT, as in {_example(scheme)}")
    return host, port, path


def checked_host(scheme: str, host: str) -> str:
    """A host in its one form: a name in lower case, an address as it is usually written, or ``*``."""
    if not host:
        raise EndpointError(
            "the host is missing; write localhost:7000, or *:7000 to listen on all interfaces"
        )
    if host == "*":
        return host
    address = literal(host)
    if address is not None:
        if (scheme.endswith("4") and address.version == 6) or (scheme.endswith("6") and address.version == 4):
            other = f"{scheme[:-1]}{address.version}"
            raise EndpointError(
                f"{quote(host)} is an IPv{address.version} address, which {scheme}:// cannot use; write {other}://"
            )
        return _canonical(address)
    if "%" in host and ":" in host:
        raise EndpointError(
            f"{quote(host)} has no good scope after its %; write an interface, as in [fe80::1%eth0]:7000"
        )
    if ":" in host:
        _refuse_bare_ipv6(host)
    if not host.isprintable() or " " in host or not _NOT_IN_NAMES.isdisjoint(host):
        raise EndpointError(
            f"{quote(host)} has characters that no host has; write a name or address, as in localhost:7000"
        )
    if len(host) > 253:  # RFC 1035 section 2.3.4, as text
        raise EndpointError(
            f"{quote(host)} is longer than a host's name can be (253 characters); write a shorter one"
        )
    # Names outside ASCII are left to the resolver, which knows IDNA.
    return host.lower() if host.isascii() else host


def checked_port(scheme: str, port: int | str | None) -> int | str:
    """A port's number, or a service's name; None is the kind's own port, where it has one."""
    if port is None:
        port = WEB_PORTS.get(scheme)
        if port is None:
            raise EndpointError(f"the port is missing; write HOST:PORT, as in {_example(scheme)}")
    number = digits(port) if isinstance(port, str) else port
    if number is not None:
        if not 0 <= number <= 65535:
            raise EndpointError(
                f"the port {quote(str(port))} is out of range;"
                f" write one from 0 to 65535, as in {_example(scheme)}"
            )
        return number
    assert isinstance(port, str)
    if not _SERVICE.fullmatch(port):
        raise EndpointError(
            f"{quote(port)} is neither a port's number nor a service's name;"
            f" write one from 0 to 65535 or a name such as echo, as in {_example(scheme)}"
        )
    return port


def checked_web_path(path: str) -> str:
    """A WebSocket's path and query, from its slash."""
    if not path.startswith("/"):
        path = f"/{path}"
    if not path.isascii() or not path.isprintable() or " " in path:
        raise EndpointError(
            f"{quote(path)} has characters that no WebSocket's path has; percent-encode them, as in /a%20b"
        )
    if "#" in path:
        raise EndpointError(
            f"{quote(path)} has a fragment, which a WebSocket has not; leave out what follows the #"
        )
    return path


def unix_path(scheme: str, rest: str) -> str:
    """What stands after a Unix scheme, of which `unix:///run/x` is another form of `unix:/run/x`."""
    if rest.startswith("//") and not rest.startswith("///"):
        raise EndpointError(
            f"{quote(rest)} has two slashes, where one or three are expected;"
            f" write {scheme}:/run/x.sock, {scheme}:///run/x.sock or {scheme}:x.sock"
        )
    if not rest:
        raise EndpointError(f"{scheme}: has no path; write one, as in {scheme}:/run/x.sock")
    return rest


def checked_unix_path(path: str) -> str:
    """A Unix socket's path or abstract name, short enough and printable."""
    if path.startswith("//"):
        path = "/" + path.lstrip("/")
    if path == "@":
        raise EndpointError("the abstract name after @ is missing; write one, as in unix:@hailer")
    if not path.isprintable():
        raise EndpointError(
            f"{quote(path)} has control characters or bytes that are not UTF-8; write a path without them"
        )
    size = len(path.removeprefix("@").encode())
    if size > UNIX_PATH_LIMIT:
        raise EndpointError(
            f"{quote(path)} has {size} bytes and a Unix socket's path at most {UNIX_PATH_LIMIT};"
            " write a shorter one, such as one relative to the working directory"
        )
    return path


def shown_unix_path(sockaddr: str | bytes) -> str:
    """A path or name as the kernel gave it, in a form that can be shown and never fails."""
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


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is, if it is none to be looked up."""
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


def require_ipv6(host: str) -> None:
    """Refuse what stands in brackets and is no IPv6 address."""
    if not isinstance(literal(host), IPv6Address):
        raise EndpointError(
            f"{quote(host)} stands in brackets but is no IPv6 address; write [::1]:7000, or localhost:7000"
        )


def _refuse_bare_ipv6(text: str) -> NoReturn:
    head, _, tail = text.rpartition(":")
    whole = isinstance(literal(text), IPv6Address)
    if isinstance(literal(head), IPv6Address) and (digits(tail) is not None or _SERVICE.fullmatch(tail)):
        advice = f"write [{head}]:{tail}" + (
            f", or [{text}]:7000 if all of it is the address" if whole else ""
        )
        raise EndpointError(f"{quote(text)} has an IPv6 address without brackets; {advice}")
    if whole:
        raise EndpointError(f"{quote(text)} is an IPv6 address without a port; write [{text}]:7000")
    raise EndpointError(
        f"{quote(text)} has too many colons; write HOST:PORT, with an IPv6 address in brackets: [::1]:7000"
    )


def refuse_scheme(scheme: str) -> NoReturn:
    """Refuse a kind that there is not."""
    raise EndpointError(f"{quote(scheme)} is no kind of endpoint; write one of {_KINDS}")


def check_default(scheme: str) -> None:
    """Refuse a kind that a bare ``HOST:PORT`` cannot be."""
    if scheme not in WITH_HOST:
        raise EndpointError(
            f"{quote(scheme)} cannot be what a bare HOST:PORT means; take tcp, udp or a kind with a host"
        )


def digits(text: str) -> int | None:
    """The number that ASCII digits write; a very long one is only known to be too large."""
    if not (text.isascii() and text.isdecimal()):
        return None
    significant = text.lstrip("0") or "0"
    return int(significant[:20])


def _example(scheme: str) -> str:
    return "3" if scheme == "fd" else "localhost:80/path" if scheme in WEB_PORTS else "localhost:7000"


def quote(text: str) -> str:
    """Quote what a person or peer wrote, with nothing in it that a terminal would obey."""
    return repr(text if len(text) <= 60 else text[:59] + "…")
