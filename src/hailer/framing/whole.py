"""Framings without marks: eof (the stream is one message) and raw (a read is a message)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hailer.framing.base import DEFAULT_MAX_MESSAGE, check_max_message, too_long

if TYPE_CHECKING:
    from hailer.framing.base import Received

__all__ = ["EofFraming", "RawFraming"]


class _EofDecoder:
    def __init__(self, max_message: int) -> None:
        self._limit = check_max_message(max_message)
        self._message = bytearray()
        self._ended = False

    def feed(self, data: bytes) -> list[Received]:
        if self._ended:
            return []
        if not data:
            self._ended = True
            message = bytes(self._message)
            self._message.clear()
            return [message]
        if len(self._message) + len(data) > self._limit:
            self._ended = True
            self._message.clear()
            return [too_long(self._limit, fatal=True)]  # nothing can follow it
        self._message += data
        return []


class _RawDecoder:
    def __init__(self, max_message: int) -> None:
        self._limit = check_max_message(max_message)
        self._ended = False

    def feed(self, data: bytes) -> list[Received]:
        if self._ended or not data:
            self._ended = True
            return []
        if len(data) <= self._limit:
            return [data]
        # A larger read says nothing of what was sent at once: it is cut, and nothing is lost.
        return [data[at : at + self._limit] for at in range(0, len(data), self._limit)]


@dataclass(frozen=True, slots=True)
class EofFraming:
    """The whole stream is one message, which its end ends, so each side sends one.

    A stream without a byte is an empty message. A peer that dies in the middle without a reset cannot be
    told from one that has finished.
    """

    name: ClassVar[str] = "eof"
    read_size: ClassVar[int | None] = None

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> _EofDecoder:
        """See `Framing.decoder`."""
        return _EofDecoder(max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: the message as it is, to be followed by the stream's end."""
        return message


@dataclass(frozen=True, slots=True)
class RawFraming:
    """Each read is a message: no boundaries, the bytes as they come.

    Over a stream, what was sent at once may come in several reads and what was sent in several in one. A read
    larger than the limit on a message comes as several messages: no byte is dropped. Right for passing bytes
    on, for peers that have no messages, and where the transport keeps boundaries itself.
    """

    name: ClassVar[str] = "raw"
    read_size: ClassVar[int | None] = None

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> _RawDecoder:
        """See `Framing.decoder`."""
        return _RawDecoder(max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: the message as it is."""
        return message
