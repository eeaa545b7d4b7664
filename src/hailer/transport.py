"""Transports: bytes or records in and out, which is what a concurrency model supplies.

A blocking one never suspends, an asyncio one awaits its loop; TLS and WebSocket are transports over
another. Nothing here opens or reads anything.

Deadlines are instants of the monotonic clock (`time.monotonic`), in seconds; None is no deadline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.endpoint import Endpoint
    from hailer.errors import FramingError

__all__ = ["RecordTransport", "Transport"]


class _Ends(Protocol):
    """What both kinds of transport have."""

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""

    async def finish(self) -> None:
        """Half-close: nothing more will be sent, but the answers can still be read."""

    async def close(self) -> None:
        """Send what is in the buffer, within a bounded time, and release everything; may be called twice."""

    def abort(self) -> None:
        """Release everything now; what is in the buffer is lost. May be called twice, and after close."""


class Transport(_Ends, Protocol):
    """A stream of bytes in each direction.

    One may also have what saves a coroutine for each message:

    ``push_now(data: bytes, deadline: float | None) -> bool`` does what a push does and gives True. Or others
    would have to run first, and it gives False: then the push of the same data has to follow, for a part of
    it may have gone.

    ``pull_now(deadline: float | None) -> bytes | None`` is a pull in steps, of as many bytes as the transport
    likes, with ``arrival``, ``data`` and ``stop_pull() -> None``. It gives what a pull gives. Or it has begun
    to wait and gives None: then ``arrival`` is to be awaited, after which the bytes are in ``data``; if that
    is None, `pull_now` is called again. Whoever does not get so far, being cancelled, calls `stop_pull`.

    `hailer.testing.transport.check_transport` checks all that stands here.
    """

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        """Read what has come, waiting for at least one byte.

        A cancelled or timed out pull loses nothing: what has come stays for the next one.

        Args:
            limit: the most bytes to give.
            deadline: the instant at which to stop waiting.

        Returns:
            One to `limit` bytes, or ``b""`` when the peer has finished, and again so at each later call.

        Raises:
            TimedOut: nothing came before the deadline.
            ConnectionLost: the peer vanished; what had come before was given first.
            ConnectionClosed: this side closed or aborted the transport.
        """

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        """Send bytes; return when they are the kernel's or within a bounded buffer.

        After a push that ended in an error or was cancelled, either nothing of `data` was sent, or the
        transport takes no more bytes: the peer never sees bytes that follow a gap.

        Raises:
            TimedOut: there was no room before the deadline.
            ConnectionLost: the peer vanished.
            ConnectionClosed: this side finished, closed or aborted the transport.
        """


class RecordTransport(_Ends, Protocol):
    """Records in each direction, whose boundaries are kept for us: datagrams, WebSocket messages.

    Each record is one message, so there is no framing. What one read brought is given at once.
    """

    async def pull_records(self, limit: int, deadline: float | None = None) -> list[bytes | FramingError]:
        """Take the records that have come, waiting for at least one.

        A cancelled or timed out pull loses nothing: what has come stays for the next one.

        Args:
            limit: the most bytes of a record. A longer one is never cut: a `MessageTooLong` stands in its
                place, fatal where nothing can follow it.
            deadline: the instant at which to stop waiting.

        Returns:
            At least one record, each of which may be empty, or ``[]`` when the peer has finished, and again
            so at each later call. A `FramingError` stands where a record could not be understood.

        Raises:
            TimedOut: nothing came before the deadline.
            ConnectionLost: the peer vanished; what had come before was given first.
            ConnectionClosed: this side closed or aborted the transport.
        """

    async def push_records(self, records: Sequence[bytes], deadline: float | None = None) -> None:
        """Send records, in order; return when they are the kernel's or within a bounded buffer.

        Raises:
            MessageError: a record is too large to be carried; it and those after it were not sent.
            TimedOut: there was no room before the deadline.
            ConnectionLost: the peer vanished, or has no address to answer to.
            ConnectionClosed: this side finished, closed or aborted the transport.
        """
