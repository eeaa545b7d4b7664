"""Framings that say a message's size before it: length and netstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from hailer.errors import BadFrame, MessageError, TruncatedMessage
from hailer.framing.base import DEFAULT_MAX_MESSAGE, check_max_message, too_long

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.framing.base import Received

    # The beginning of a frame to the message's size and the header's; None when it is not all there.
    # It has to decide within the decoder's `widest` bytes.
    ReadHeader = Callable[[bytes], tuple[int, int] | BadFrame | None]

__all__ = ["LengthFraming", "NetstringFraming"]

_PREFIX: Final = 4
_LARGEST: Final = (1 << 32) - 1
# Ten digits write every size that a length prefix can; more are refused before they are kept.
_DIGITS: Final = 10


class _CountedDecoder:
    """Reads a header, then as many bytes as it says, then the trailer, if there is one.

    A message over the limit is known by its header: none of it is kept, its bytes are only counted.
    """

    def __init__(self, read_header: ReadHeader, widest: int, trailer: bytes, max_message: int) -> None:
        self._read_header = read_header
        self._widest = widest
        self._trailer = trailer
        self._limit = check_max_message(max_message)
        self._head = b""  # the beginning of a header that is not all there
        self._body = bytearray()  # the message so far, and its trailer
        self._size = 0
        self._left: int | None = None  # bytes of body and trailer to come; None outside of a frame
        self._ended = False

    def feed(self, data: bytes) -> list[Received]:
        received: list[Received] = []
        if self._ended:
            return received
        if not data:
            return self._end()
        at, end = 0, len(data)
        while at < end:
            if self._left is None:
                head = self._head + data[at : at + self._widest]
                header = self._read_header(head)
                if header is None:
                    self._head = head
                    break
                if isinstance(header, BadFrame):
                    return self._fail(header, received)
                self._size, width = header
                at += width - len(self._head)
                self._head = b""
                self._left = self._size + len(self._trailer)
                if self._size > self._limit:
                    received.append(too_long(self._limit, self._size))
            whole = not self._body
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            skipping = self._size > self._limit
            if not skipping and (self._left or not whole):
                self._body += piece
            if self._left:
                break
            if self._trailer and data[at - 1 : at] != self._trailer:
                return self._fail(BadFrame(_NO_TRAILER), received)
            self._left = None
            if skipping:
                continue
            if whole:
                received.append(piece[: self._size])
            else:
                del self._body[self._size :]
                received.append(bytes(self._body))
                self._body.clear()
        return received

    def _fail(self, error: BadFrame, received: list[Received]) -> list[Received]:
        self._ended = True
        self._body.clear()
        received.append(error)
        return received

    def _end(self) -> list[Received]:
        self._ended = True
        partial = bytes(self._body[: self._size])
        self._body.clear()
        if self._left is None and not self._head:
            return []
        if self._left is not None and self._size > self._limit:
            return []  # the message that is being skipped has been reported already
        of = f" of {self._size}" if self._left is not None else ""
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
        return _CountedDecoder(_read_prefix, _PREFIX, b"", max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message of 4 GiB or more."""
        if len(message) > _LARGEST:
            raise MessageError(
                f"a message of {len(message)} bytes does not fit a 4-byte length; send it in parts"
            )
        return len(message).to_bytes(_PREFIX) + message


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
        return _CountedDecoder(_read_digits, _DIGITS + 1, b",", max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message whose length needs more than ten digits."""
        digits = b"%d" % len(message)
        if len(digits) > _DIGITS:
            raise MessageError(
                f"a message of {len(message)} bytes is too long for a netstring here; send it in parts"
            )
        return b"%b:%b," % (digits, message)


def _read_prefix(head: bytes) -> tuple[int, int] | None:
    if len(head) < _PREFIX:
        return None
    return int.from_bytes(head[:_PREFIX]), _PREFIX


def _read_digits(head: bytes) -> tuple[int, int] | BadFrame | None:
    digits, colon, _ = head.partition(b":")
    # Digits of a header that is not all there are checked too, so a peer that speaks something else is
    # told at its first wrong byte.
    if not (digits.isdigit() and len(digits) <= _DIGITS) or (len(digits) > 1 and digits.startswith(b"0")):
        return BadFrame(_NO_DIGITS)
    return (int(digits), len(digits) + 1) if colon else None


_NO_DIGITS: Final = (
    f"a netstring begins with its length (at most {_DIGITS} digits, no zero before others) and a colon, and"
    " these bytes do not; choose the framing that the peer speaks"
)
_NO_TRAILER: Final = (
    "a netstring ends with a comma, and this one does not after the length that it gave;"
    " have the peer count the message's bytes"
)
