"""Telling systemd how a service is getting on: sd_notify(3), for units of Type=notify."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["notify"]


def notify(*states: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send systemd the states, such as ``READY=1``; nothing where nobody asked for it.

    Args:
        states: sent together, in this order.
        environ: where NOTIFY_SOCKET is: the path of a Unix socket for datagrams, or an abstract name after @.

    Returns:
        Whether somebody got it. That nobody listens any more is no reason for a server to fail.
    """
    where = environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            # a notification is nothing to wait for: this is also called where a signal is handled
            sock.setblocking(False)
            sock.sendto("\n".join(states).encode(), "\0" + where[1:] if where[0] == "@" else where)
    except OSError:
        return False
    return True
