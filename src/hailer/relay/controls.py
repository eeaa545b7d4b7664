"""Which bytes may not stand in a text, looked for in all text that passes: so the search is to be fast.

With the extra ``fast`` the library StringZilla looks for all of them at once, some ten times faster than what
Python has for it. The answers are the same.
"""

from __future__ import annotations

import re

try:
    from stringzilla import find_first_of as _first_of
except Exception:  # the extra is not installed, or broken: a relay is to start without it
    _first_of = None

__all__ = ["ACCELERATED", "clean", "is_clean"]

ACCELERATED = _first_of is not None
"""Whether the library is there."""

_CONTROLS = bytes(range(0x20)) + b"\x7f"
_CONTROLS_BUT_LF = _CONTROLS.replace(b"\n", b"")
_UNUSUAL = _CONTROLS + bytes(range(0x80, 0x100))
_UNUSUAL_BUT_LF = _UNUSUAL.replace(b"\n", b"")

# Tables for bytes.translate that change nothing but controls: it gives the very same object back when it
# changed nothing, so that comparing the two costs nothing. Deleting and counting takes half as long again.
_NO_CONTROLS = bytes.maketrans(_CONTROLS, b"?" * len(_CONTROLS))
_NO_CONTROLS_BUT_LF = _NO_CONTROLS[:10] + b"\n" + _NO_CONTROLS[11:]

_SHORT = 192 if ACCELERATED else 2048
"""Bytes below which a look-up for each takes less time than the library's start, or than 32 searches, each
for one control in steps of 64 bytes (memchr). For 64 KiB these take a third of the look-ups' time."""

# C1 controls (U+0080 to U+009F) as UTF-8: terminals obey them as they obey ESC sequences.
_C1 = re.compile(rb"\xc2[\x80-\x9f]")


def is_clean(data: bytes) -> bool:
    """Tell whether this is UTF-8 without control characters: no LF, CR, NUL, escape, tab, DEL or C1."""
    if len(data) < _SHORT:
        without = data.translate(_NO_CONTROLS) == data
    elif _first_of is not None:
        if _first_of(data, _UNUSUAL) < 0:
            return True
        without = _first_of(data, _CONTROLS) < 0
    else:
        without = not any(map(data.__contains__, _CONTROLS))
    return without and (data.isascii() or _is_utf8(data))


def clean(block: bytes) -> bool:
    """Tell the same of whole lines, each ended by LF.

    Asked once for all lines of a read; a block that fails is looked at line by line.
    """
    if len(block) < _SHORT:
        without = block.translate(_NO_CONTROLS_BUT_LF) == block
    elif _first_of is not None:
        if _first_of(block, _UNUSUAL_BUT_LF) < 0:
            return True
        without = _first_of(block, _CONTROLS_BUT_LF) < 0
    else:
        without = not any(map(block.__contains__, _CONTROLS_BUT_LF))
    return without and (block.isascii() or _is_utf8(block))


def _is_utf8(data: bytes) -> bool:
    """Tell whether this is UTF-8 without C1 controls."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\xc2" not in data or _C1.search(data) is None
