"""Listening sockets: every address of a name, the same port on all, and errors that say who is in the way."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hailer.endpoint import from_sockaddr
from hailer.errors import EndpointError, ListenError, UsageError
from hailer.net.holder import holder_of_port
from hailer.net.inherited import adopt, adopt_systemd
from hailer.net.listener import Listener
from hailer.net.oserrors import map_os_error
from hailer.net.resolve import resolve
from hailer.net.unix import listen_unix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.endpoint import Endpoint
    from hailer.net.address import Address

__all__ = ["BACKLOG", "listen"]

BACKLOG = 1024
"""Connections that the system keeps until they are accepted; it may hold this to a limit of its own."""

_PORT_TRIES = 20


def listen(
    endpoint: Endpoint,
    *,
    backlog: int = BACKLOG,
    reuse_port: bool = False,
    mode: int = 0o600,
    timeout: float | None = 10.0,
    prepare: Callable[[socket.socket], object] | None = None,
    addresses: Sequence[Address] | None = None,
) -> list[Listener]:
    """Listen on an endpoint.

    A name with several addresses, such as `localhost`, and `*` make one listener for each address,
    IPv4 first, with the same port on all, also where port 0 takes a free one. IPv6 sockets take IPv6
    only, so that IPv4 peers are seen as IPv4. A family that this machine lacks is left out if
    another is there.

    Args:
        endpoint: tcp, a Unix stream, or `fd://`.
        backlog: connections that the system keeps until they are accepted.
        reuse_port: let other processes that also ask for this listen on the same port; the system
            spreads connections over them (Linux).
        mode: the permissions of a Unix socket's path.
        timeout: seconds that looking the name up may take.
        prepare: called with each new socket before it is bound, to set options.
        addresses: where to listen, when that is already known; nothing is looked up.

    Returns:
        At least one listener, with the real port in its endpoint.

    Raises:
        ListenError: an address is in use, not of this machine, or not permitted; nothing stays open.
        ResolveError: the name or the service is not known.
        TimedOut: the look-up took too long.
        EndpointError: the endpoint is of a kind that cannot be listened on here.
    """
    scheme = endpoint.scheme
    if scheme == "fd":
        return adopt_systemd() if endpoint.fd == "systemd" else [adopt(int(endpoint.fd or 0))]
    if scheme == "unix":
        return [listen_unix(endpoint, backlog=backlog, mode=mode, prepare=prepare)]
    if scheme not in ("tcp", "tcp4", "tcp6"):
        raise EndpointError(f"{endpoint} cannot be listened on as a stream: give tcp://, unix: or fd://")
    found = resolve(endpoint, timeout=timeout, passive=True) if addresses is None else addresses
    # IPv4 first: `listening on tcp://127.0.0.1:7000` is what most people look for.
    ordered = sorted(dict.fromkeys(found), key=lambda address: address.family != socket.AF_INET)
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError("this system cannot share a port (no SO_REUSEPORT): listen in one process only")

    def open_socket(address: Address) -> socket.socket:
        sock = address.open()
        try:
            if prepare is not None:
                prepare(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if address.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address.sockaddr)
            sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return sock

    for _ in range(_PORT_TRIES - 1):
        with suppress(_TakenElsewhere):
            return _listen_each(scheme, ordered, open_socket)
    return _listen_each(scheme, ordered, open_socket)


class _TakenElsewhere(ListenError):
    """A free port of the first address is in use on another one: take another port."""


def _listen_each(
    scheme: str, addresses: Sequence[Address], open_socket: Callable[[Address], socket.socket]
) -> list[Listener]:
    listeners: list[Listener] = []
    lacking: ListenError | None = None
    try:
        for wanted in addresses:
            # Of port 0 the first address takes a free one, and the others take the same.
            address = _with_port(wanted, listeners[0]) if listeners else wanted
            try:
                sock = open_socket(address)
            except OSError as error:
                problem = _explained(error, address)
                if _is_lacking(error, address):
                    lacking = problem
                    continue
                if address != wanted and error.errno == errno.EADDRINUSE:
                    raise _TakenElsewhere(str(problem)) from error
                raise problem from error
            listeners.append(Listener(sock, from_sockaddr(scheme, sock.getsockname())))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    if not listeners:
        raise lacking or EndpointError("there is no address to listen on: give at least one")
    return listeners


def _with_port(address: Address, listener: Listener) -> Address:
    assert isinstance(address.sockaddr, tuple)
    host, _, *rest = address.sockaddr
    return replace(address, sockaddr=(host, listener.endpoint.port, *rest))


def _is_lacking(error: OSError, address: Address) -> bool:
    """Say whether this machine has no IPv6 at all, rather than not this address."""
    return address.family == socket.AF_INET6 and (
        error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
        or (error.errno == errno.EADDRNOTAVAIL and address.sockaddr[0] in ("::1", "::"))
    )


def _explained(error: OSError, address: Address) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        holder = holder_of_port(int(address.sockaddr[1]))
        if holder is not None:
            return ListenError(f"{address} is in use by {holder}: stop it or take another port")
    mapped = map_os_error(error, "listen", str(address))
    assert isinstance(mapped, ListenError)
    return mapped
