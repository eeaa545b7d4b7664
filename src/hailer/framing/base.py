"""What a framing is: the two protocols that every one fulfils, and the limit that every decoder takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from hailer.errors import MessageTooLong, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.errors import FramingError

__all__ = [
    "DEFAULT_MAX_MESSAGE",
    "Decoder",
    "Framing",
    "Received",
    "check_max_message",
    "encoder_of_many",
    "too_long",
]

# The default has to hold what people send in earnest and still be small against a machine's memory
# when every connection of a server uses all of it. Precedents: IRC has 512 bytes a line, h11 buffers
# 16 KiB, asyncio's readline 64 KiB; NATS (max_payload), the websockets library and Kafka take 1 MiB,
# gRPC 4 MiB. A line protocol can do with 64 KiB and says so itself (the relay does), but one framing
# here is the whole stream, and another takes each read whole, so the default is the 1 MiB of those
# that carry payloads: 1,000 connections that all fill it hold 1 GiB.
DEFAULT_MAX_MESSAGE: Final = 1 << 20
"""The most bytes of a message where nothing else is said: 1 MiB."""

if TYPE_CHECKING:
    Received = bytes | FramingError


class Decoder(Protocol):
    """The receiving half of a framing, for one stream: bytes in, messages out."""

    def feed(self, data: bytes) -> list[Received]:
        """Take what one read brought.

        Args:
            data: the bytes; ``b""`` is the end of the stream.

        Returns:
            The messages that these bytes completed, in order. A message over the limit stands in its
            place as a `MessageTooLong`, whose ``fatal`` is False where the decoder skips it and goes
            on. A message that the end of the stream cut is a `TruncatedMessage`, and bytes that are no
            frame a `BadFrame`. After a fatal error, or the end, nothing more is given.

            Nothing that a peer sends makes it raise.
        """
        ...


class Framing(Protocol):
    """How messages are told apart in a stream of bytes. Holds no state; each stream has a decoder.

    A framing may also have ``encode_many(messages: Sequence[bytes]) -> bytes``, which gives the same bytes as
    joining what `encode` gives for each, and refuses what that refuses, without a call for each message.
    """

    @property
    def name(self) -> str:
        """What `framing` takes to make an equal one, such as ``line`` or ``delimiter:DONE``."""
        ...

    @property
    def read_size(self) -> int | None:
        """The most bytes that one read may ask for where the framing depends on it, else None."""
        ...

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> Decoder:
        """Make a decoder for one stream.

        Args:
            max_message: the most bytes of a message, without what frames it.

        Raises:
            UsageError: the limit is below one byte.
        """
        ...

    def encode(self, message: bytes) -> bytes:
        """Frame one message for sending.

        Raises:
            MessageError: this framing cannot carry it; send it another way.
        """
        ...


def encoder_of_many(framing: Framing) -> Callable[[Sequence[bytes]], bytes]:
    """What frames a batch of messages for sending: the framing's own way, or one message after another."""
    own: Any = getattr(framing, "encode_many", None)
    if own is not None:
        chosen: Callable[[Sequence[bytes]], bytes] = own
        return chosen
    encode = framing.encode
    return lambda messages: b"".join(map(encode, messages))


def check_max_message(max_message: int) -> int:
    """The limit itself, once it is known to let a message through."""
    if max_message < 1:
        raise UsageError(f"the limit on a message is {max_message} bytes; give at least 1")
    return max_message


def too_long(limit: int, size: int | None = None, *, fatal: bool = False) -> MessageTooLong:
    """The error for a message over the limit, with its size where the peer has told it."""
    of = "" if size is None else f" of {size} bytes"
    return MessageTooLong(
        f"a message{of} is over the limit of {limit} bytes; raise the limit or send shorter ones",
        limit=limit,
        fatal=fatal,
    )
