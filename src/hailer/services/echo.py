"""Echo: send back what comes (RFC 862)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.errors import EndOfStream

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["echo"]


async def echo(connection: Connection) -> None:
    """Send every message back, until the peer finishes.

    What one read brought goes back in one write.
    """
    try:
        while True:
            await connection.send_many(await connection.receive_many())
    except EndOfStream:
        return
