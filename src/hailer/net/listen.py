"""Listening sockets: every address of a name, the same port on all, and errors that say who is in the way."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hailer.endpoint import from_sockaddr
from hailer.errors import EndpointError, ListenError, UsageError
from hailer.net.datagrams import AMPLIFICATION, MOST_PEERS, DatagramListener
from hailer.net.holder import holder_of_port
from hailer.net.inherited import adopt, adopt_systemd
from hailer.net.listener import Listener
from hailer.net.options import set_buffers
from hailer.net.oserrors import map_os_error
from hailer.net.resolve import resolve
from hailer.net.stdio import listen_stdio
from hailer.net.unix import listen_unix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.endpoint import Endpoint
    from hailer.net.address import Address

__all__ = ["BACKLOG", "listen"]

BACKLOG = 1024
"""Connections that the system keeps until they are accepted; it may hold this to a limit of its own."""

_PORT_TRIES = 20
_DATAGRAM_BUFFER = 1 << 20  # bytes: what comes at once from many peers is lost where it does not fit


def listen(
    endpoint: Endpoint,
    *,
    backlog: int = BACKLOG,
    reuse_port: bool = False,
    mode: int = 0o600,
    timeout: float | None = 10.0,
    prepare: Callable[[socket.socket], object] | None = None,
    addresses: Sequence[Address] | None = None,
    most: int = MOST_PEERS,
    amplification: float = AMPLIFICATION,
) -> list[Listener]:
    """Listen on an endpoint.

    A name with several addresses, such as `localhost`, and `*` make one listener for each address,
    IPv4 first, with the same port on all, also where port 0 takes a free one. IPv6 sockets take IPv6
    only, so that IPv4 peers are seen as IPv4. A family that this machine lacks is left out if
    another is there.

    Args:
        endpoint: of any kind. What TLS and WebSocket need above TCP is up to whoever accepts.
        backlog: connections that the system keeps until they are accepted.
        reuse_port: let other processes that also ask for this listen on the same port; the system
            spreads connections over them (Linux).
        mode: the permissions of a Unix socket's path.
        timeout: seconds that looking the name up may take.
        prepare: called with each new socket before it is bound, to set options.
        addresses: where to listen, when that is already known; nothing is looked up.
        most: how many peers of a datagram socket are told apart at once; the one silent for longest makes
            way for another.
        amplification: bytes that may go to a UDP peer that is not on this machine for each that came from
            there.

    Returns:
        At least one listener, with the real port in its endpoint.

    Raises:
        ListenError: an address is in use, not of this machine, or not permitted; nothing stays open.
        ResolveError: the name or the service is not known.
        TimedOut: the look-up took too long.
        EndpointError: the endpoint is of a kind that this system has not.
    """
    scheme = endpoint.scheme
    if scheme == "fd":
        if endpoint.fd == "systemd":
            return adopt_systemd(most=most, amplification=amplification)
        return [adopt(int(endpoint.fd or 0), most=most, amplification=amplification)]
    if scheme == "stdio":
        return [listen_stdio(most=most, amplification=amplification)]
    if endpoint.is_local:
        return [listen_unix(endpoint, backlog=backlog, mode=mode, prepare=prepare, most=most)]
    found = resolve(endpoint, timeout=timeout, passive=True) if addresses is None else addresses
    # IPv4 first: `listening on tcp://127.0.0.1:7000` is what most people look for.
    ordered = sorted(dict.fromkeys(found), key=lambda address: address.family != socket.AF_INET)
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        raise UsageError("this system cannot share a port (no SO_REUSEPORT): listen in one process only")

    def open_socket(address: Address) -> socket.socket:
        sock = address.open()
        try:
            if endpoint.is_datagram:
                set_buffers(sock, receive=_DATAGRAM_BUFFER)
            if prepare is not None:
                prepare(sock)
            if not endpoint.is_datagram:  # for datagrams it would let others take the port over
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if address.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address.sockaddr)
            if not endpoint.is_datagram:
                sock.listen(backlog)
        except BaseException:
            sock.close()
            raise
        return sock

    def make(sock: socket.socket) -> Listener:
        bound = from_sockaddr(scheme, sock.getsockname())
        if endpoint.is_datagram:
            return DatagramListener(sock, bound, most=most, amplification=amplification)
        return Listener(sock, replace(bound, path=endpoint.path))

    for _ in range(_PORT_TRIES - 1):
        with suppress(_TakenElsewhere):
            return _listen_each(ordered, open_socket, make)
    return _listen_each(ordered, open_socket, make)


class _TakenElsewhere(ListenError):
    """A free port of the first address is in use on another one: take another port."""


def _listen_each(
    addresses: Sequence[Address],
    open_socket: Callable[[Address], socket.socket],
    make: Callable[[socket.socket], Listener],
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
            try:
                listeners.append(make(sock))
            except BaseException:
                sock.close()
                raise
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
        holder = holder_of_port(int(address.sockaddr[1]), udp=address.type == socket.SOCK_DGRAM)
        if holder is not None:
            return ListenError(f"{address} is in use by {holder}: stop it or take another port")
    mapped = map_os_error(error, "listen", str(address))
    assert isinstance(mapped, ListenError)
    return mapped
