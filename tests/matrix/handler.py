"""The one handler that every cell of the matrix serves, and that the command serves from this file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.errors import EndOfStream, MessageTooLong

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["handle"]


async def handle(connection: Connection) -> None:
    """Send back what comes; say so when it is too long; fail when told to."""
    while True:
        try:
            message = await connection.receive()
        except EndOfStream:
            return
        except MessageTooLong as error:
            await connection.send(b"over %d" % error.limit)
            if error.fatal:
                return
            continue
        if message == b"fail":
            raise RuntimeError("as it was told to")
        await connection.send(message)
