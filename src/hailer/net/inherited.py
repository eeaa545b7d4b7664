"""Sockets that another process opened: `fd://N`, and `fd://systemd` for socket activation.

One that listens, or a bound one for datagrams, is served like our own. A connected one is a connection that
was accepted already, as inetd and `Accept=yes` of systemd pass it: it is accepted once, and that is all.

systemd passes sockets as descriptors from 3 up and says so in three variables (sd_listen_fds(3)):
LISTEN_PID, for whom they are; LISTEN_FDS, how many; LISTEN_FDNAMES, their names with colons between.

inetd, and systemd with StandardInput=socket, pass the socket as standard input, output and error too. Once it
is taken over these lead to nothing: what this process prints or logs is not for the peer, and the peer
sees the socket closed when it is closed.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from hailer.endpoint import from_sockaddr
from hailer.errors import DialError, ListenError
from hailer.net.address import scheme_of
from hailer.net.datagrams import AMPLIFICATION, MOST_PEERS, DatagramListener
from hailer.net.listener import Accepted, Listener, OnceListener

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from hailer.net.address import RawAddress

__all__ = ["adopt", "adopt_connected", "adopt_systemd"]

_STANDARD = (0, 1, 2)
_FIRST = 3
_MOST = 1024
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def adopt(
    descriptor: int,
    *,
    name: str = "",
    most: int = MOST_PEERS,
    amplification: float = AMPLIFICATION,
) -> Listener:
    """Take over a socket that this process inherited, to accept from it.

    From now on children do not inherit it. Its path, if it has one, belongs to whoever made it and
    stays when it is closed.

    Args:
        descriptor: its number.
        name: a name for it, for programs that are passed several.
        most: how many peers of a datagram socket are told apart at once.
        amplification: bytes that may go to a UDP peer for each that came from there; see `listen`.

    Raises:
        ListenError: it is not open, no socket, or neither listening nor bound nor connected.
    """
    sock, scheme = _take(descriptor)
    try:
        listener = _listener_of(sock, scheme, f"fd://{descriptor}", name, most, amplification)
    except BaseException:
        _give_back(sock, descriptor)
        raise
    _leave_it_alone(sock)
    sock.set_inheritable(False)
    if sock.type == socket.SOCK_STREAM:
        sock.setblocking(True)  # whether it blocks is the opener's choice until now
    return listener


def adopt_connected(descriptor: int) -> socket.socket:
    """Take over a connected socket that this process inherited.

    Returns:
        The socket, which blocks, of whatever kind it is.

    Raises:
        DialError: it is not open, no socket or not connected.
    """
    try:
        sock, _ = _take(descriptor)
    except ListenError as error:
        raise DialError(str(error)) from error
    if _peer_of(sock) is None:
        _give_back(sock, descriptor)
        raise DialError(f"fd://{descriptor} is a socket that is not connected: pass one that is")
    _leave_it_alone(sock)
    sock.set_inheritable(False)
    sock.setblocking(True)
    return sock


def adopt_systemd(
    environ: MutableMapping[str, str] = os.environ,
    *,
    most: int = MOST_PEERS,
    amplification: float = AMPLIFICATION,
) -> list[Listener]:
    """Take over the sockets that systemd opened for this process, and remove its variables.

    Args:
        environ: where the variables are, and are removed from, so that children are not misled.
        most: see `adopt`.
        amplification: see `adopt`.

    Returns:
        At least one listener, in the order of the unit file, with their names.

    Raises:
        ListenError: no sockets were passed, or not to this process, or one of them cannot be served.
    """
    pid, count, names = (environ.get(variable) for variable in _VARIABLES)
    if pid is None or count is None:
        raise ListenError(
            "fd://systemd was given, but no sockets were passed (LISTEN_PID and LISTEN_FDS are not set):"
            " start this by a .socket unit or systemd-socket-activate"
        )
    if pid != str(os.getpid()):
        raise ListenError(
            f"the sockets of systemd are for process {pid!r} and this is {os.getpid()}:"
            " let the unit start this program without a shell or wrapper between"
        )
    number = int(count) if count.isascii() and count.isdecimal() and len(count) < 5 else 0
    if not 1 <= number <= _MOST:
        raise ListenError(f"LISTEN_FDS is {count!r}: it has to be how many sockets are passed, 1 to {_MOST}")
    for variable in _VARIABLES:
        environ.pop(variable, None)
    each_name = names.split(":") if names else []
    each_name += [""] * (number - len(each_name))
    listeners: list[Listener] = []
    try:
        for offset in range(number):
            listener = adopt(_FIRST + offset, name=each_name[offset], most=most, amplification=amplification)
            listeners.append(listener)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _take(descriptor: int) -> tuple[socket.socket, str]:
    where = f"fd://{descriptor}"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError as error:
        raise ListenError(f"{where} is not open: pass the socket on when you start this program") from error
    if not is_socket:
        raise ListenError(f"{where} is no socket: pass one")
    # A standard descriptor keeps its number, or the next file that is opened would get it.
    sock = socket.socket(fileno=os.dup(descriptor) if descriptor in _STANDARD else descriptor)
    scheme = scheme_of(sock)
    if scheme is None:
        _give_back(sock, descriptor)
        raise ListenError(f"{where} is neither a TCP, a UDP nor a Unix socket: pass one of these")
    return sock, scheme


def _give_back(sock: socket.socket, descriptor: int) -> None:
    """Let go of a socket that is refused: it is not ours to close."""
    if sock.fileno() == descriptor:
        sock.detach()
    else:
        sock.close()


def _leave_it_alone(sock: socket.socket) -> None:
    """Have the standard descriptors lead to nothing where they are this socket."""
    for descriptor in _STANDARD:
        with suppress(OSError):  # one that is closed
            if os.path.sameopenfile(descriptor, sock.fileno()):
                nothing = os.open(os.devnull, os.O_RDWR)
                os.dup2(nothing, descriptor)
                os.close(nothing)


def _listener_of(
    sock: socket.socket, scheme: str, where: str, name: str, most: int, amplification: float
) -> Listener:
    endpoint = from_sockaddr(scheme, sock.getsockname())
    datagrams = sock.type == socket.SOCK_DGRAM
    if not datagrams and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return Listener(sock, endpoint, name=name)
    peer = _peer_of(sock)
    if peer is not None:
        accepted = Accepted(sock, "stream" if sock.type == socket.SOCK_STREAM else "record", scheme, peer)
        return OnceListener(endpoint, lambda: accepted, sock, name=name)
    if datagrams and (endpoint.port or endpoint.path):
        return DatagramListener(sock, endpoint, name=name, most=most, amplification=amplification)
    raise ListenError(f"{where} is a socket that neither listens nor is connected: pass one that does")


def _peer_of(sock: socket.socket) -> RawAddress | None:
    """The address of the peer that a socket is connected to, empty for one without a name; None for none."""
    try:
        peer: RawAddress = sock.getpeername()
    except OSError:
        return None
    return peer
