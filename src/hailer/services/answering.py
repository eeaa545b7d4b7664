"""The two ways in which the small services answer: once on a stream, each time on datagrams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.errors import BadFrame, MessageError
from hailer.services.taking import Skipped, take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.connection import Connection

__all__ = ["answer_datagrams", "tell"]

_CRLF = b"\r\n"


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
    """Send some lines: at once on a stream, whose input is thrown away, or in answer to each datagram.

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
