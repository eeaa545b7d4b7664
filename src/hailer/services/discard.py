"""Discard: throw away what comes (RFC 863)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.services.taking import Skipped, take

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["discard"]


async def discard(connection: Connection) -> None:
    """Take every message and answer none, until the peer finishes.

    However much comes, one read of it is held.
    """
    skipped = Skipped()
    while await take(connection, skipped):
        pass
