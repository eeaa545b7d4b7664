"""Text of peers made fit for logs and terminals."""

from __future__ import annotations

import re

__all__ = ["printable"]

# C0, DEL, C1, the line and paragraph separators, lone surrogates, and what turns the direction of text.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """Give the text with every character escaped that could move a cursor, break a line or turn text.

    Args:
        text: what a peer sent or caused.
    """
    return _UNSAFE.sub(lambda match: repr(match[0])[1:-1], text)
