"""Listening sockets that another process opened: `fd://N`, and `fd://systemd` for socket activation.

systemd passes sockets as descriptors from 3 up and says so in three variables (sd_listen_fds(3)):
LISTEN_PID, for whom they are; LISTEN_FDS, how many; LISTEN_FDNAMES, their names with colons between.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING

from hailer.endpoint import Endpoint, from_sockaddr
from hailer.errors import ListenError
from hailer.net.listener import Listener

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["adopt", "adopt_systemd"]

_FIRST = 3
_MOST = 1024
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def adopt(descriptor: int, *, name: str = "") -> Listener:
    """Take over a listening socket that this process inherited.

    From now on children do not inherit it. Its path, if it has one, belongs to whoever made it and
    stays when it is closed.

    Args:
        descriptor: its number.
        name: a name for it, for programs that are passed several.

    Raises:
        ListenError: it is not open, no socket, not listening, or of a kind that is not served.
    """
    where = f"fd://{descriptor}"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError as error:
        raise ListenError(f"{where} is not open: pass the socket on when you start this program") from error
    if not is_socket:
        raise ListenError(f"{where} is no socket: pass a listening one")
    sock = socket.socket(fileno=descriptor)
    try:
        endpoint = _endpoint_of(sock, where)
    except BaseException:
        sock.detach()  # what we refuse is not ours to close
        raise
    sock.set_inheritable(False)
    sock.setblocking(True)  # whether it blocks is the opener's choice until now
    return Listener(sock, endpoint, name=name)


def adopt_systemd(environ: MutableMapping[str, str] = os.environ) -> list[Listener]:
    """Take over the sockets that systemd opened for this process, and remove its variables.

    Args:
        environ: where the variables are, and are removed from, so that children are not misled.

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
            listeners.append(adopt(_FIRST + offset, name=each_name[offset]))  # noqa: PERF401 (closed on error)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _endpoint_of(sock: socket.socket, where: str) -> Endpoint:
    if sock.type != socket.SOCK_STREAM or sock.family not in (
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
    ):
        raise ListenError(f"{where} is neither a TCP nor a Unix stream socket: pass one of these")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ListenError(f"{where} is a socket that does not listen: pass a listening one (Accept=no)")
    scheme = "unix" if sock.family == socket.AF_UNIX else "tcp"
    return from_sockaddr(scheme, sock.getsockname())
