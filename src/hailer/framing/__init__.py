r"""Framings: how messages are told apart in a stream of bytes.

A framing holds no state and does no I/O. Its decoder takes what each read brought and gives the messages that
are complete; `encode` gives the bytes to send. The cost is linear in the bytes however the stream is cut, and
a decoder keeps at most one message and one read.

    line             LF ends a message, CRLF too; LF is sent
    crlf             the same, but CRLF is sent, as SMTP, HTTP and telnet have it
    null             a NUL ends it, as in a C string
    delimiter:TEXT   these bytes end it (escapes: \n \r \t \0 \\ \xNN)
    length           a 4-byte length stands before it, the most significant byte first
    netstring        ``5:hello,``
    eof              the whole stream is one message
    raw              each read is one, wherever it happens to end
    short-read:SIZE  unsafe: a NUL or a read shorter than SIZE (4) ends it

`hailer.testing.framing.check_framing` checks one of your own.
"""

from __future__ import annotations

from hailer.errors import UsageError
from hailer.framing.base import DEFAULT_MAX_MESSAGE, Decoder, Framing
from hailer.framing.counted import LengthFraming, NetstringFraming
from hailer.framing.crlf import CrlfFraming
from hailer.framing.delimited import DelimiterFraming, LineFraming, NullFraming, ShortReadFraming
from hailer.framing.whole import EofFraming, RawFraming

__all__ = [
    "DEFAULT_MAX_MESSAGE",
    "FRAMING_NAMES",
    "CrlfFraming",
    "Decoder",
    "DelimiterFraming",
    "EofFraming",
    "Framing",
    "LengthFraming",
    "LineFraming",
    "NetstringFraming",
    "NullFraming",
    "RawFraming",
    "ShortReadFraming",
    "as_framing",
    "framing",
]

_PLAIN: dict[str, Framing] = {
    each.name: each
    for each in (
        LineFraming(),
        CrlfFraming(),
        NullFraming(),
        LengthFraming(),
        NetstringFraming(),
        EofFraming(),
        RawFraming(),
    )
}

FRAMING_NAMES = (*_PLAIN, "delimiter:TEXT", "short-read[:SIZE]")
"""What `framing` takes, for help texts."""


def framing(text: str) -> Framing:
    r"""Make the framing that a person names.

    Args:
        text: such as ``line``, ``delimiter:\r\n`` or ``short-read:16``.

    Raises:
        UsageError: there is none of that name; the message lists those that there are.
    """
    plain = _PLAIN.get(text)
    if plain is not None:
        return plain
    name, colon, value = text.partition(":")
    if name == "delimiter" and colon:
        return DelimiterFraming.parse(value)
    if name == "short-read":
        if not colon:
            return ShortReadFraming()
        # Seven digits hold every buffer that anybody reads with.
        if value.isascii() and value.isdecimal() and len(value) <= 7:
            return ShortReadFraming(int(value))
    shown = text if len(text) <= 60 else text[:59] + "…"
    raise UsageError(f"{shown!r} is no framing; write one of {', '.join(FRAMING_NAMES)}")


def as_framing(chosen: Framing | str) -> Framing:
    """Give a framing as it is, and make the one that a text names, for what takes either.

    Raises:
        UsageError: there is none of that name.
    """
    return framing(chosen) if isinstance(chosen, str) else chosen
