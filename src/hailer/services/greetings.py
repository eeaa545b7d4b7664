"""Greet, hello and ack: the first servers of three courses on sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.errors import BadFrame, EndOfStream, MessageError
from hailer.services.answering import answer_datagrams, finish

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["ack", "greet", "hello"]

_HELLO = b"Hello, world!"
_HEARD = b"Hello Client, this is Server. I rec'd this message:"
_MARGIN = b"   "


async def hello(connection: Connection) -> None:
    """Send ``Hello, world!`` and end; in answer to each datagram, or at once on a stream."""
    if connection.peer.is_datagram:
        await answer_datagrams(connection, lambda _: _HELLO)
    else:
        await connection.send(_HELLO)
        await finish(connection)


async def ack(connection: Connection) -> None:
    """Say that a message was received: ``I got your message`` on a stream, which then ends.

    Each datagram is answered, with ``Got your message`` and a newline.
    """
    if connection.peer.is_datagram:
        await answer_datagrams(connection, lambda _: b"Got your message\n")
        return
    try:
        await connection.receive()
    except EndOfStream:
        return
    await connection.send(b"I got your message")
    await finish(connection)


async def greet(connection: Connection) -> None:
    """Answer one message with a greeting that repeats it, and end; answer each datagram so.

    The answer has two lines. A framing of lines, which cannot hold the newline between them, gets them as
    two messages.

    Raises:
        BadFrame: the framing cannot send back what it let in, such as a line that ends with two carriage
            returns.
    """
    if connection.peer.is_datagram:
        await answer_datagrams(connection, lambda datagram: b"\n".join(_greeting(datagram)))
        return
    try:
        lines = _greeting(await connection.receive())
    except EndOfStream:
        return
    try:
        await connection.send(b"\n".join(lines))
    except MessageError:
        try:
            await connection.send_many(lines)
        except MessageError as error:
            raise BadFrame(f"a message cannot be repeated as it came: {error}") from None
    await finish(connection)


def _greeting(message: bytes) -> list[bytes]:
    return [_HEARD, _MARGIN + message]
