"""Exit codes, those of curl where it has one for the case, and which error has which."""

from __future__ import annotations

from typing import Final

from hailer.errors import DialError, HailerError, ResolveError, TimedOut, TlsError, UsageError

__all__ = ["BROKEN_PIPE", "DONE", "FAILED", "INTERRUPTED", "MEANINGS", "TERMINATED", "USAGE", "exit_code"]

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
TERMINATED: Final = 143

# The first row that fits counts, so what is narrower stands above what is wider.
_OF_ERRORS: Final[tuple[tuple[type[HailerError], int], ...]] = (
    (UsageError, USAGE),
    (ResolveError, 6),
    (DialError, 7),
    (TimedOut, 28),
    (TlsError, 35),
    (HailerError, FAILED),
)

MEANINGS: Final = (
    (DONE, "done"),
    (FAILED, "the work failed"),
    (USAGE, "wrong usage"),
    (6, "a name did not resolve"),
    (7, "not connected"),
    (28, "timed out"),
    (35, "TLS failed"),
    (INTERRUPTED, "interrupted by Ctrl-C"),
    (BROKEN_PIPE, "nobody read the output any more"),
    (TERMINATED, "ended by SIGTERM"),
)
"""What each code says, for the help."""


def exit_code(error: HailerError) -> int:
    """Give the exit code of an error."""
    return next(code for kind, code in _OF_ERRORS if isinstance(error, kind))
