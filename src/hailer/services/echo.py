"""Echo: send back what comes (RFC 862)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.errors import BadFrame, EndOfStream, MessageError, MessageTooLong
from hailer.services.taking import Skipped

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["echo"]


async def echo(connection: Connection) -> None:
    """Send every message back, until the peer finishes.

    What one read brought goes back in one write. A message over the limit is left out (see `Skipped`).

    Raises:
        BadFrame: the framing cannot send back what it let in, such as a line that ends with two carriage
            returns; to send something else would be no echo.
    """
    skipped = Skipped()
    while True:
        try:
            while True:
                await connection.send_many(await connection.receive_many())
        except MessageTooLong as error:
            skipped.note(connection, error)
        except MessageError as error:
            raise BadFrame(f"a message cannot be sent back as it came: {error}") from None
        except EndOfStream:
            return
