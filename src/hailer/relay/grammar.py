"""The relay protocol's lines: what may stand in them, how they are taken apart and put together.

One line is one command or event: UTF-8, ended by LF or CRLF, at most 64 KiB. Its last argument may be
text (`` :`` and everything up to the end of the line) or counted bytes (`` N``, end of line, then exactly
N raw bytes). Names are 1-64 of ``A-Z a-z 0-9 . _ -`` and compare without regard to case; a room is ``#``
and a name.

Everything is bytes: a relay only passes texts on, and decoding each would cost more than routing it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hailer.relay.controls import is_clean

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LINE = 65536
"""Bytes in one line without its end: what IRCv3 (8,191 of tags), SMTP (1,000) and NATS (4,096 of control
line) allow is less; a chat text or a JSON document of this size still fits, a runaway peer does not."""

MAX_TEXT = MAX_LINE - 256
"""Bytes of text that any line can hold, whatever its head is: two names and an id fit before it."""

PROTOCOL_VERSION = 1

_NAME = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ROOM = re.compile(rb"#[A-Za-z0-9._-]{1,64}")
_TOKEN = re.compile(rb"[!-~]{1,64}")
_COUNT = re.compile(rb"[0-9]+")


def is_name(word: bytes) -> bool:
    """Tell whether this is a well-formed name of a client."""
    return _NAME.fullmatch(word) is not None


def is_room(word: bytes) -> bool:
    """Tell whether this is a well-formed name of a room."""
    return _ROOM.fullmatch(word) is not None


def is_token(word: bytes) -> bool:
    """Tell whether this may be an id or a PING token: 1-64 printable ASCII characters, no space."""
    return _TOKEN.fullmatch(word) is not None


def count_of(word: bytes) -> int | None:
    """The number that a counted argument's word says, or None if it is no such word.

    A number of more than 18 digits is told as some number of 19: above any limit, and it has to be
    refused as too long. Taken for no number, what follows the line would be obeyed as commands.
    """
    if not _COUNT.fullmatch(word):
        return None
    return int(word.lstrip(b"0")[:19] or b"0")


def number_of(word: bytes) -> int | None:
    """The number of an entry of a mailbox that a word says, or None if it is no such word."""
    return int(word) if len(word) <= 18 and _COUNT.fullmatch(word) else None


def is_text(payload: bytes) -> bool:
    """Tell whether the text form of a line can hold this payload; the counted form can hold any."""
    return len(payload) <= MAX_TEXT and is_clean(payload)


def printable(data: bytes, most: int = 40) -> bytes:
    """A peer's bytes as harmless ASCII, shortened, to be quoted in an explanation or a log.

    Args:
        data: anything.
        most: the most characters of it to show.
    """
    shown = data[:most].decode("utf-8", "replace")
    safe = "".join(c if c.isascii() and c.isprintable() else "?" for c in shown)
    return safe.encode() + (b"..." if len(data) > most else b"")


def shown_verb(word: bytes) -> bytes:
    """A peer's verb as one word of an event: harmless, short, and not to be taken for the start of a text."""
    return printable(word.upper(), 16).lstrip(b":") or b"?"


def message(verb: bytes, words: Iterable[bytes], payload: bytes) -> tuple[bytes, bytes]:
    """A line with a last argument, as its head and what follows: text if it can be, else counted.

    Returns:
        The line up to its LF, and the raw bytes after it (empty for the text form).
    """
    head = b" ".join((verb, *words))
    if is_text(payload):
        return b"%s :%s\n" % (head, payload), b""
    return b"%s %d\n" % (head, len(payload)), payload


def fail(code: bytes, command: bytes, explanation: bytes) -> bytes:
    """A FAIL line: what was refused and why."""
    return b"FAIL %s %s :%s\n" % (code, command, explanation)


def bye(reason: bytes) -> bytes:
    """A BYE line: the relay closes, and why."""
    return b"BYE :%s\n" % reason


def listing(head: bytes, names: Iterable[bytes], width: int = 1000) -> list[bytes]:
    """Names as lines that start with a head, each of at most about `width` bytes.

    Args:
        head: such as ``HERE`` or ``HERE #room``.
        names: any number of them, also none (then no line).
        width: bytes after which a new line starts.
    """
    lines: list[bytes] = []
    row: list[bytes] = []
    size = 0
    for name in names:
        row.append(name)
        size += len(name) + 1
        if size >= width:
            lines.append(b"%s %s\n" % (head, b" ".join(row)))
            row, size = [], 0
    if row:
        lines.append(b"%s %s\n" % (head, b" ".join(row)))
    return lines
