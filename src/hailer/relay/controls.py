"""Which bytes may not stand in a text, looked for in all text that passes: so the search is to be fast.

With the extra ``fast`` the library StringZilla looks for all of them at once, some ten times faster than what
Python has for it. The answers are the same.
"""

from __future__ import annotations

import re

try:
    from stringzilla import find_first_of as _first_of
except ImportError:  # the extra is not installed
    _first_of = None

__all__ = ["ACCELERATED", "is_clean", "is_clean_with_lf"]

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

_SEARCHED = 2048
"""Bytes from which 32 searches, each for one control in steps of 64 bytes (memchr), take less time than a
look-up for each byte: a third of it for 64 KiB."""

# C1 controls (U+0080 to U+009F) as UTF-8: terminals obey them as they obey ESC sequences.
_C1 = re.compile(rb"\xc2[\x80-\x9f]")


def is_clean(data: bytes) -> bool:
    """Tell whether this is UTF-8 without control characters: no LF, CR, NUL, escape, tab, DEL or C1."""
    if _first_of is not None:
        return _first_of(data, _UNUSUAL) < 0 or (_first_of(data, _CONTROLS) < 0 and _is_utf8(data))
    if len(data) < _SEARCHED:
        without = data.translate(_NO_CONTROLS) == data
    else:
        without = not any(map(data.__contains__, _CONTROLS))
    return without and (data.isascii() or _is_utf8(data))


def is_clean_with_lf(data: bytes) -> bool:
    """Tell the same of lines, in which LF may stand."""
    if _first_of is not None:
        if _first_of(data, _UNUSUAL_BUT_LF) < 0:
            return True
        return _first_of(data, _CONTROLS_BUT_LF) < 0 and _is_utf8(data)
    if len(data) < _SEARCHED:
        without = data.translate(_NO_CONTROLS_BUT_LF) == data
    else:
        without = not any(map(data.__contains__, _CONTROLS_BUT_LF))
    return without and (data.isascii() or _is_utf8(data))


def _is_utf8(data: bytes) -> bool:
    """Tell whether this is UTF-8 without C1 controls."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\xc2" not in data or _C1.search(data) is None
