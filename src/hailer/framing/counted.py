"""Framings that say a message's size before it: length and netstring."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final

from hailer.errors import BadFrame, MessageError, TruncatedMessage
from hailer.framing.base import DEFAULT_MAX_MESSAGE, check_max_message, too_long

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.framing.base import Received

    # The data and where a frame begins in it, to the message's size and where it begins; None when the
    # header is not all there.
    ReadHeader = Callable[[bytes, int], tuple[int, int] | BadFrame | None]

__all__ = ["LengthFraming", "NetstringFraming"]

_PREFIX: Final = Struct(">I")
_LARGEST: Final = (1 << 32) - 1
# Ten digits write every size that a length prefix can; more are refused before they are kept.
_DIGITS: Final = 10


class _CountedDecoder:
    """Reads a header, then as many bytes as it says, then the trailer, if there is one.

    Frames that lie whole in one read are taken out of it at once. A message over the limit is known by its
    header: none of it is kept, its bytes are only counted.
    """

    def __init__(self, read_header: ReadHeader, trailer: bytes, max_message: int) -> None:
        self._read_header = read_header
        self._trailer = trailer
        self._limit = check_max_message(max_message)
        self._head = b""  # the beginning of a header that is not all there
        self._body = bytearray()  # what has come of a message that is not all there
        self._size = 0  # of that message
        self._left = 0  # bytes to come of it and its trailer; 0 outside of a message
        self._ended = False

    def feed(self, data: bytes) -> list[Received]:
        if self._ended:
            return []
        if not data:
            return self._end()
        received: list[Received] = []
        at = self._resume(data, received) if self._left else 0
        if self._head:
            data = self._head + data
            self._head = b""
        end = len(data)
        while at < end:
            header = self._read_header(data, at)
            if header is None:
                self._head = data[at:]
                break
            if isinstance(header, BadFrame):
                self._fail(header, received)
                break
            size, start = header
            stop = start + size
            at = stop + len(self._trailer)
            if size > self._limit:
                received.append(too_long(self._limit, size))
            if at > end:
                self._size, self._left = size, at - end
                if size <= self._limit:
                    self._body += data[start:]
                break
            if self._trailer and data[stop:at] != self._trailer:
                self._fail(BadFrame(_NO_TRAILER), received)
                break
            if size <= self._limit:
                received.append(data[start:stop])
        return received

    def _resume(self, data: bytes, received: list[Received]) -> int:
        """Go on with a message that earlier reads began; gives where the next frame begins in the data."""
        piece = data[: self._left]
        self._left -= len(piece)
        if self._size <= self._limit:
            self._body += piece
        if self._left:
            return len(data)
        if self._trailer and not piece.endswith(self._trailer):
            self._fail(BadFrame(_NO_TRAILER), received)
            return len(data)
        if self._size <= self._limit:
            del self._body[self._size :]
            received.append(bytes(self._body))
            self._body.clear()
        return len(piece)

    def _fail(self, error: BadFrame, received: list[Received]) -> None:
        self._ended = True
        self._body.clear()
        received.append(error)

    def _end(self) -> list[Received]:
        self._ended = True
        partial = bytes(self._body)
        self._body.clear()
        if self._left and self._size > self._limit:
            return []  # the message that is being skipped has been reported already
        if not self._left and not self._head:
            return []
        of = f" of {self._size}" if self._left else ""
        return [
            TruncatedMessage(
                f"the stream ended in the middle of a frame, after {len(partial)}{of} bytes of its message;"
                " have the peer finish each message, or choose the framing that it speaks",
                partial=partial,
            )
        ]


@dataclass(frozen=True, slots=True)
class LengthFraming:
    """Each message follows its length in bytes, a 4-byte unsigned number, the most significant byte first."""

    name: ClassVar[str] = "length"
    read_size: ClassVar[int | None] = None

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> _CountedDecoder:
        """See `Framing.decoder`."""
        return _CountedDecoder(_read_prefix, b"", max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message of 4 GiB or more."""
        if len(message) > _LARGEST:
            raise MessageError(
                f"a message of {len(message)} bytes does not fit a 4-byte length; send it in parts"
            )
        return _PREFIX.pack(len(message)) + message

    def encode_many(self, messages: Sequence[bytes]) -> bytes:
        """See `Framing`: prefixes and messages are joined at once, so no message is copied twice."""
        sizes = [*map(len, messages)]
        if max(sizes, default=0) > _LARGEST:
            for message in messages:
                self.encode(message)
        return b"".join(
            [part for pair in zip(map(_PREFIX.pack, sizes), messages, strict=True) for part in pair]
        )


@dataclass(frozen=True, slots=True)
class NetstringFraming:
    """Each message is a netstring: its length in digits, a colon, the message and a comma.

    As D. J. Bernstein defines them (Netstrings, 1997): ``5:hello,``, the empty one ``0:,``, and no zero
    before other digits. At most ten digits are taken.
    """

    name: ClassVar[str] = "netstring"
    read_size: ClassVar[int | None] = None

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> _CountedDecoder:
        """See `Framing.decoder`."""
        return _CountedDecoder(_read_digits, b",", max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message whose length needs more than ten digits."""
        digits = b"%d" % len(message)
        if len(digits) > _DIGITS:
            raise MessageError(
                f"a message of {len(message)} bytes is too long for a netstring here; send it in parts"
            )
        return b"%b:%b," % (digits, message)


def _read_prefix(data: bytes, at: int) -> tuple[int, int] | None:
    start = at + _PREFIX.size
    return (_PREFIX.unpack_from(data, at)[0], start) if start <= len(data) else None


def _read_digits(data: bytes, at: int) -> tuple[int, int] | BadFrame | None:
    furthest = at + _DIGITS + 1
    colon = data.find(b":", at, furthest)
    digits = data[at : furthest if colon < 0 else colon]
    # Digits of a header that is not all there are checked too, so a peer that speaks something else is
    # told at its first wrong byte.
    if not digits.isdigit() or len(digits) > _DIGITS or (len(digits) > 1 and digits.startswith(b"0")):
        return BadFrame(_NO_DIGITS)
    return (int(digits), colon + 1) if colon >= 0 else None


_NO_DIGITS: Final = (
    f"a netstring begins with its length (at most {_DIGITS} digits, no zero before others) and a colon, and"
    " these bytes do not; choose the framing that the peer speaks"
)
_NO_TRAILER: Final = (
    "a netstring ends with a comma, and this one does not after the length that it gave;"
    " have the peer count the message's bytes"
)
