"""Chargen: characters without end (RFC 864)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.connection import sleep
from hailer.errors import EndOfStream, FramingError, TimedOut
from hailer.services.answering import answer_datagrams

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["chargen"]

_RING = bytes(range(0x20, 0x7F))  # the 95 printing characters, in their order
_WIDTH = 72
_LINES = [(_RING * 2)[at : at + _WIDTH] for at in range(len(_RING))]
_BLOCK = _LINES * 8  # 56,240 bytes with their ends: about what one write takes
_MOST = 512
_LOOK = 0.001  # seconds: a loop learns what has come at its next turn, so that 0 might never see it
_DATAGRAM = b"".join(line + b"\r\n" for line in _LINES)[:_MOST]


async def chargen(connection: Connection) -> None:
    """Send lines of 72 characters, each beginning one character later, until the peer is gone.

    On datagrams: answer each with as many characters as came in it, at most 512. The RFC asks for a
    random number from 0 to 512; this one lets nobody have a third party sent more than they send themselves.

    A stream goes on until the peer closes it, and not only until it finishes sending: ``chargen </dev/null``
    is a fair wish, and whoever is gone altogether makes the next send fail. What comes in is thrown away, a
    read of it between two blocks. A peer that does not read makes the service wait, until the
    connection's time-out ends it.
    """
    if connection.peer.is_datagram:
        await answer_datagrams(connection, lambda datagram: _DATAGRAM[: len(datagram)])
        return
    hears = True
    while True:
        await connection.send_many(_BLOCK)
        hears = hears and await _throw_away(connection)
        await sleep(0)  # a peer that reads quickly never makes a send wait: let the others have their turn


async def _throw_away(connection: Connection) -> bool:
    """Drop what has come, hardly waiting for it; give whether more can come."""
    try:
        await connection.receive_many(_LOOK)
    except TimedOut:
        return True
    except FramingError as error:
        return not error.fatal
    except EndOfStream:
        return False
    return True
