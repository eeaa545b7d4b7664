"""Socket options, each set only where the system has it.

Each function says whether it had an effect, so that a caller can tell a person what will not work
here. None of them applies to Unix sockets, where the TCP ones are quietly without effect.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import NamedTuple

from hailer.errors import UsageError

__all__ = [
    "Unanswered",
    "sent_again",
    "set_buffers",
    "set_keepalive",
    "set_nodelay",
    "set_user_timeout",
    "unanswered",
]

# Of Linux's struct tcp_info: tcpi_retransmits at 2, tcpi_unacked at 24, tcpi_last_ack_recv at 56.
_TCP_INFO = struct.Struct("=xxB21xI28xI")


def set_nodelay(sock: socket.socket, on: bool = True) -> bool:
    """Send small messages at once rather than gathering them (RFC 9293 section 3.7.4, Nagle).

    Returns:
        True when it was set; False when this is no TCP socket.
    """
    if not _is_tcp(sock):
        return False
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, on)
    return True


def set_keepalive(
    sock: socket.socket, idle: float | None = None, interval: float | None = None, count: int | None = None
) -> bool:
    """Let the system ask a silent peer whether it is still there (RFC 9293 section 3.8.4).

    A peer that vanished is noticed after about `idle + interval * count` seconds. Times are rounded
    to whole seconds, at least one.

    Args:
        sock: a TCP socket.
        idle: seconds of silence before the first question; None for the system's (often 2 hours).
        interval: seconds between questions; None for the system's.
        count: how many questions go unanswered before the connection is lost; None for the system's.

    Returns:
        True when all that was asked was set; False when this is no TCP socket or the system lacks one.
    """
    if not _is_tcp(sock):
        return False
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # macOS has its own name for the idle time.
    idle_option = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
    done = True
    for option, value in (
        (idle_option, idle),
        (getattr(socket, "TCP_KEEPINTVL", None), interval),
        (getattr(socket, "TCP_KEEPCNT", None), count),
    ):
        if value is None:
            continue
        if option is None:
            done = False
            continue
        sock.setsockopt(socket.IPPROTO_TCP, option, max(1, round(value)))
    return done


def set_user_timeout(sock: socket.socket, seconds: float) -> bool:
    """Give the connection up when sent bytes are not acknowledged for so long (RFC 5482).

    Without it a peer that vanished in the middle of a transfer is noticed after a quarter of an hour.

    Returns:
        True when it was set; False when this is no TCP socket or the system lacks it (macOS).
    """
    if not _is_tcp(sock) or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return False
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(seconds * 1000)))
    return True


class Unanswered(NamedTuple):
    """Bytes that were sent again and again, and that the peer's system has not acknowledged.

    Attributes:
        again: how often in a row they were sent again.
        silence: seconds since the peer's system last acknowledged anything.
    """

    again: int
    silence: float


def unanswered(sock: socket.socket) -> Unanswered | None:
    """Tell whether sent bytes are not being acknowledged.

    A peer that does not read acknowledges all the same that it does not (RFC 9293 section 3.8.6.1): it is no
    such case. `set_user_timeout` does not tell the two apart.

    Returns:
        None when all is acknowledged, or when this is no TCP socket of Linux, which alone tells.
    """
    option = getattr(socket, "TCP_INFO", None)
    if option is None or sys.platform != "linux" or not _is_tcp(sock):
        return None
    again, waiting, silence = _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO.size))
    return Unanswered(again, silence / 1000) if again and waiting else None


def sent_again(sock: socket.socket) -> int:
    """Tell how many segments a connection had to send again so far; 0 where only Linux would tell."""
    option = getattr(socket, "TCP_INFO", None)
    if option is None or sys.platform != "linux" or not _is_tcp(sock):
        return 0
    # tcpi_total_retrans of struct tcp_info.
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, option, 104)[100:104], sys.byteorder)


def set_buffers(sock: socket.socket, *, receive: int | None = None, send: int | None = None) -> None:
    """Set the kernel's buffers. For TCP do this before connecting or listening.

    The window scale is agreed when a connection is made (RFC 7323 section 2.2), so a larger receive
    buffer that comes later is not used whole. The system may round the sizes or hold them to a limit.

    Args:
        sock: any socket.
        receive: bytes, or None to leave it to the system, which adapts it.
        send: bytes, or None to leave it to the system.

    Raises:
        UsageError: a size under 1.
    """
    for option, size in ((socket.SO_RCVBUF, receive), (socket.SO_SNDBUF, send)):
        if size is None:
            continue
        if size < 1:
            raise UsageError(f"a socket buffer of {size} bytes cannot be: give 1 or more")
        sock.setsockopt(socket.SOL_SOCKET, option, size)


def _is_tcp(sock: socket.socket) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
