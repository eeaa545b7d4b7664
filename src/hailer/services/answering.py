"""The two ways in which the small services answer, once on a stream or each datagram, and how they end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from hailer.errors import BadFrame, ConnectionEnded, FramingError, MessageError, TimedOut
from hailer.services.taking import Skipped, take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.connection import Connection

__all__ = ["answer_datagrams", "finish", "tell"]

_CRLF = b"\r\n"

_PATIENCE: Final = 1.0
"""Seconds that a peer has to end its side, once the last word has been sent."""


async def answer_datagrams(connection: Connection, answer: Callable[[bytes], bytes]) -> None:
    """Answer each datagram with one, until the conversation ends.

    Args:
        connection: one over datagrams.
        answer: gives the answer to a datagram.

    Raises:
        BadFrame: an answer is too large for a datagram, as its question almost was.
    """
    skipped = Skipped()
    while datagrams := await take(connection, skipped):
        try:
            await connection.send_many([answer(datagram) for datagram in datagrams])
        except MessageError as error:
            raise BadFrame(f"a datagram leaves no room for its answer: {error}") from None


async def tell(connection: Connection, lines: Callable[[], Sequence[bytes]]) -> None:
    """Send some lines: at once on a stream, which then ends, or in answer to each datagram.

    Streams without boundaries and those with them (seqpacket, WebSocket) are treated alike: the client
    has connected, which is the question. A datagram is its own question (RFC 865, 867 and 868 say so), and
    gets the lines in one datagram, with the ends that they have on a stream.

    Args:
        connection: where to.
        lines: gives the lines, without their ends.
    """
    if connection.peer.is_datagram:
        await answer_datagrams(connection, lambda _: b"".join(line + _CRLF for line in lines()))
    else:
        await connection.send_many(lines())
        await finish(connection)


async def finish(connection: Connection) -> None:
    """Say that the last word has been sent, and throw away what still comes, for a second at most.

    What comes for a socket that is closed is answered with a reset, at which some systems throw away what
    they have received and nobody has read yet: the answer (RFC 1122 section 4.2.2.13, RFC 9112 section 9.6).
    """
    await connection.finish()
    end = time.monotonic() + _PATIENCE
    while (left := end - time.monotonic()) > 0:
        try:
            await connection.receive_many(left)
        except (ConnectionEnded, TimedOut):
            return
        except FramingError as error:
            if error.fatal:
                return
