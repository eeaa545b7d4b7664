"""What the services share: taking what comes without being ended by what is too long."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from hailer.errors import EndOfStream, MessageTooLong
from hailer.text import printable

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["Skipped", "take"]

log = logging.getLogger("hailer.services")


class Skipped:
    """Counts the messages of one connection that were over the limit, and tells the log of the first.

    The peer is not told: none of the small protocols has a word for it, and whatever were sent instead
    would be taken for the answer. The messages before and after are served, as each stands alone. Only
    the first is logged, so that a flood of long messages is none of log lines.
    """

    def __init__(self) -> None:
        self.count = 0

    def note(self, connection: Connection, error: MessageTooLong) -> None:
        """Count one.

        Raises:
            MessageTooLong: the error itself, where it is fatal: nothing can follow.
        """
        if error.fatal:
            raise error
        self.count += 1
        if self.count == 1:
            log.info("skipping what %s sends over the limit: %s", printable(str(connection.peer)), error)


async def take(connection: Connection, skipped: Skipped, timeout: float | None = None) -> list[bytes]:
    """Take the messages that have come, waiting for at least one; those over the limit are left out.

    Args:
        connection: where from.
        skipped: what to count them with, one for the connection.
        timeout: as in `Connection.receive`.

    Returns:
        At least one message, or ``[]`` when the peer has finished.

    Raises:
        The same as `Connection.receive_many`, but for EndOfStream.
    """
    while True:
        try:
            return await connection.receive_many(timeout)
        except MessageTooLong as error:
            skipped.note(connection, error)
        except EndOfStream:
            return []
