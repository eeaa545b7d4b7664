"""Framings that end each message with a mark: line, null, delimiter:TEXT, and the unsafe short-read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from hailer.errors import MessageError, TruncatedMessage, UsageError
from hailer.framing.base import DEFAULT_MAX_MESSAGE, check_max_message, too_long

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.framing.base import Framing, Received

__all__ = ["DelimiterFraming", "LineFraming", "NullFraming", "ShortReadFraming", "unescape"]

_LF: Final = 10
_CR: Final = 13  # as numbers: to look for a number in bytes takes 20 ns, and for bytes 250 ns (CPython 3.11)
_LONGEST_DELIMITER: Final = 255
_LARGE: Final = 512  # bytes of a message from which on it is found and not split off
_ESCAPES: Final = {b"\\n": b"\n", b"\\r": b"\r", b"\\t": b"\t", b"\\0": b"\0", b"\\\\": b"\\"}
_ESCAPE: Final = re.compile(rb"\\(?:x[0-9a-fA-F]{2}|.|$)", re.DOTALL)
_SHOWN: Final = {meaning[0]: escape.decode() for escape, meaning in _ESCAPES.items()}


class _DelimitedDecoder:
    """Splits at a mark.

    What has come of an unfinished message lies in two parts: `_pending`, in which no mark can begin
    any more, and `_tail`, its last bytes, which may be the first half of a mark. Only the tail is
    looked at again when more comes, so the cost is linear however the stream is cut, and the first
    mark in the stream is the one that is found.
    """

    def __init__(self, mark: bytes, max_message: int, *, drop_cr: bool = False) -> None:
        self._mark = mark
        self._limit = check_max_message(max_message)
        self._drop_cr = drop_cr
        self._pending: bytes | bytearray = b""
        self._tail = b""
        self._skipping = False
        self._ended = False
        # The limit while nothing is kept, skipped or over: no message in a read of so many bytes can be over
        # it. Else 0.
        self._easy = self._limit

    def feed(self, data: bytes) -> list[Received]:
        if data and len(data) <= self._easy:
            # The usual read holds whole messages, and fewer bytes than one message may have: no message needs
            # to be looked at, and all the work is a few calls of C.
            if self._drop_cr and _CR in data:
                data = data.replace(b"\r\n", b"\n")
            whole: list[Received] = (
                data.split(self._mark) if len(data) < _LARGE else _split(data, self._mark)  # type: ignore[assignment]
            )  # bytes are `Received`
            rest: bytes = whole.pop()  # type: ignore[assignment]
            if rest:
                self._easy = 0
                self._keep(rest, whole)
            return whole
        return self._feed_slowly(data)

    def _feed_slowly(self, data: bytes) -> list[Received]:
        if self._ended:
            return []
        if not data:
            return self._end()
        pieces = _split(self._tail + data if self._tail else data, self._mark)
        rest = pieces.pop()
        received: list[Received] = self._completed(pieces) if pieces else []
        self._keep(rest, received)
        self._easy = 0 if rest or self._pending or self._skipping else self._limit
        return received

    def _completed(self, pieces: list[bytes]) -> list[Received]:
        if self._skipping:
            self._skipping = False
            del pieces[0]
        elif self._pending:
            self._pending += pieces[0]
            pieces[0] = bytes(self._pending)
            self._pending = b""
        if self._drop_cr:
            pieces = [piece.removesuffix(b"\r") for piece in pieces]
        if max(map(len, pieces), default=0) <= self._limit:
            return [*pieces]
        return [piece if len(piece) <= self._limit else too_long(self._limit) for piece in pieces]

    def _keep(self, rest: bytes, received: list[Received]) -> None:
        cut = max(len(rest) - len(self._mark) + 1, 0)
        self._tail = rest[cut:]
        if self._skipping:
            return
        if not self._pending:
            # The first piece is kept as it came: a message of two reads is copied once, when it is whole.
            self._pending = rest[:cut]
        else:
            if isinstance(self._pending, bytes):
                self._pending = bytearray(self._pending)  # which grows without copying all of it each time
            self._pending += rest[:cut]
        size = len(self._pending)
        if self._drop_cr and self._pending.endswith(b"\r"):
            size -= 1  # it may yet turn out to be half of the line's end
        if size > self._limit:
            self._pending = b""
            self._skipping = True
            received.append(too_long(self._limit))

    def _end(self) -> list[Received]:
        self._ended = True
        self._easy = 0
        partial = bytes(self._pending) + self._tail
        self._pending = b""
        # The message that is being skipped has been reported already.
        if self._skipping or not partial:
            return []
        return [
            TruncatedMessage(
                f"the stream ended {len(partial)} bytes into a message;"
                " have the peer finish each message, or choose the framing that it speaks",
                partial=partial,
            )
        ]


class _ShortReadDecoder(_DelimitedDecoder):
    def __init__(self, size: int, max_message: int) -> None:
        super().__init__(b"\0", max_message)
        self._size = size

    def feed(self, data: bytes) -> list[Received]:
        received = super().feed(data)
        # What a larger read brought is what reads of the framing's size would have brought in a row:
        # full ones, and perhaps a short one, which ends the message.
        if len(data) % self._size:
            if self._pending:
                received.append(bytes(self._pending))
                self._pending = b""
            self._skipping = False
            self._easy = 0 if self._ended else self._limit
        return received


@dataclass(frozen=True, slots=True)
class LineFraming:
    """Each message is a line: LF ends it, the CR of a CRLF is dropped, and LF is sent."""

    name: ClassVar[str] = "line"
    read_size: ClassVar[int | None] = None

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> _DelimitedDecoder:
        """See `Framing.decoder`."""
        return _DelimitedDecoder(b"\n", max_message, drop_cr=True)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message with a newline in it, or a carriage return at its end."""
        if _LF in message:
            raise MessageError("a line cannot hold a newline; send several lines, or take the framing length")
        if _CR in message and message.endswith(b"\r"):
            raise MessageError(
                "a carriage return at a line's end would be taken for part of the line's end; leave it out"
            )
        return message + b"\n"

    def encode_many(self, messages: Sequence[bytes]) -> bytes:
        """See `Framing`: the lines are joined and then looked at once."""
        joined = b"\n".join([*messages, b""])
        if _holds_mark(messages, b"\n", joined) or (_CR in joined and b"\r\n" in joined):
            _refuse(self, messages)
        return joined


@dataclass(frozen=True, slots=True)
class NullFraming:
    """Each message ends with a NUL byte, as a C string does."""

    name: ClassVar[str] = "null"
    read_size: ClassVar[int | None] = None

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> _DelimitedDecoder:
        """See `Framing.decoder`."""
        return _DelimitedDecoder(b"\0", max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message with a NUL in it."""
        return _with_nul(message)

    def encode_many(self, messages: Sequence[bytes]) -> bytes:
        """See `Framing`: the messages are joined and then looked at once."""
        joined = b"\0".join([*messages, b""])
        if _holds_mark(messages, b"\0", joined):
            _refuse(self, messages)
        return joined


@dataclass(frozen=True, slots=True)
class DelimiterFraming:
    """Each message ends with the same bytes, such as ``DONE``.

    Args:
        delimiter: 1 to 255 bytes.

    Raises:
        UsageError: it is empty or longer.
    """

    delimiter: bytes
    read_size: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        if not 0 < len(self.delimiter) <= _LONGEST_DELIMITER:
            raise UsageError(
                f"a delimiter of {len(self.delimiter)} bytes cannot be used;"
                f" give 1 to {_LONGEST_DELIMITER}, as in delimiter:DONE"
            )

    @classmethod
    def parse(cls, text: str) -> DelimiterFraming:
        r"""Read a delimiter as a person writes it, with ``\n \r \t \0 \\ \xNN`` for what cannot be typed.

        Raises:
            UsageError: it is empty, too long, or has another backslash.
        """
        return cls(unescape(text))

    @property
    def name(self) -> str:
        """``delimiter:`` and the delimiter with its escapes."""
        return "delimiter:" + "".join(
            chr(byte) if 32 < byte < 127 and byte != 0x5C else _SHOWN.get(byte, f"\\x{byte:02x}")
            for byte in self.delimiter
        )

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> _DelimitedDecoder:
        """See `Framing.decoder`."""
        return _DelimitedDecoder(self.delimiter, max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: refuses a message in which the delimiter would be found too early."""
        framed = message + self.delimiter
        # It can also begin in the message and end in the delimiter: "xa" before "aa".
        if framed.find(self.delimiter) != len(message):
            raise MessageError(
                "the message holds the delimiter that ends it; take another delimiter, or the framing length"
            )
        return framed

    def encode_many(self, messages: Sequence[bytes]) -> bytes:
        """See `Framing`: the messages are joined and must come apart again as they were."""
        parts = [*messages, b""]
        joined = self.delimiter.join(parts)
        if joined.split(self.delimiter) != parts:
            _refuse(self, messages)
        return joined


@dataclass(frozen=True, slots=True)
class ShortReadFraming:
    r"""Unsafe, for programs that do the same: a NUL, or a read shorter than the read buffer, ends a message.

    The rule is wrong over a stream: where a read ends is decided by the network and the kernel, not by the
    sender. ``Hello Ser``, a pause and ``ver`` are two messages under it, and a message without a NUL that
    fills its last read waits for the next one. It is here to talk with programs that have the rule, and to
    show what is wrong with it; between programs of one's own, take `NullFraming`, whose messages look the
    same on the wire.

    The transport has to read at most `read_size` bytes at a time for the rule to be followed read by read.
    Where it reads more at once, those bytes count as reads of that size in a row, the last perhaps short.
    What follows a NUL in a read begins the next message. The end of the stream ends no message.

    Args:
        size: the read buffer's size in bytes.

    Raises:
        UsageError: the size is below 1.
    """

    size: int = 4

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(
                f"a read of {self.size} bytes brings nothing; give at least 1, as in short-read:4"
            )

    @property
    def name(self) -> str:
        """``short-read:`` and the size."""
        return f"short-read:{self.size}"

    @property
    def read_size(self) -> int | None:
        """The read buffer's size."""
        return self.size

    def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> _ShortReadDecoder:
        """See `Framing.decoder`."""
        return _ShortReadDecoder(self.size, max_message)

    def encode(self, message: bytes) -> bytes:
        """See `Framing.encode`: ends with a NUL, and refuses a message that has one."""
        return _with_nul(message)


def _with_nul(message: bytes) -> bytes:
    if 0 in message:
        raise MessageError(
            "a message that a NUL ends cannot hold one; leave it out, or take the framing length"
        )
    return message + b"\0"


def _split(data: bytes, mark: bytes) -> list[bytes]:
    """Do what ``data.split(mark)`` does: all the work for each byte is done in here, by C.

    `bytes.split` looks at one byte after another, and `bytes.find` at 32 and more at once (memchr), but takes
    a call for each piece. So pieces are found as long as they are large, and the rest is split.
    """
    if len(data) < _LARGE:
        return data.split(mark)
    pieces, start = [], 0
    while (end := data.find(mark, start)) - start >= _LARGE:
        pieces.append(data[start:end])
        start = end + len(mark)
    rest = data[start:]
    return [*pieces, *rest.split(mark)] if end >= 0 else [*pieces, rest]


def _holds_mark(messages: Sequence[bytes], mark: bytes, joined: bytes) -> bool:
    """Whether a message holds the byte that has joined them all; large ones one by one, as in `_split`."""
    if len(joined) < len(messages) * _LARGE:
        return joined.count(mark) != len(messages)
    return any(mark in message for message in messages)


def _refuse(framing: Framing, messages: Sequence[bytes]) -> None:
    """Say which of a batch cannot be carried: `encode` raises at it."""
    for message in messages:
        framing.encode(message)


def unescape(text: str) -> bytes:
    r"""The bytes that a person means, with ``\n \r \t \0 \\ \xNN`` for what cannot be typed.

    Raises:
        UsageError: there is another backslash.
    """
    # A byte of the command line that is not UTF-8 comes as a surrogate, and goes as that byte.
    return _ESCAPE.sub(_unescape, text.encode("utf-8", "surrogateescape"))


def _unescape(found: re.Match[bytes]) -> bytes:
    escape = found[0]
    if escape[1:2] == b"x" and len(escape) == 4:
        return bytes.fromhex(escape[2:].decode())
    try:
        return _ESCAPES[escape]
    except KeyError:
        raise UsageError(
            f"{escape.decode('utf-8', 'replace')!r} is no escape;"
            r" write one of \n \r \t \0 \\ or \xNN"
        ) from None
