"""Standard error, where everything goes that is no result."""

from __future__ import annotations

import os
import sys

from hailer.errors import HailerError

__all__ = ["Notes", "OutputError", "ReaderGone", "output_error", "warn"]


class OutputError(HailerError):
    """Standard output cannot be written to."""


class ReaderGone(OutputError):
    """Nobody reads standard output any more, as after ``| head -1``: the end, but nothing to tell."""


def output_error(error: OSError) -> OutputError:
    """Say what an error of writing to standard output means."""
    if isinstance(error, BrokenPipeError):
        return ReaderGone("nobody reads the output any more")
    why = os.strerror(error.errno or 0).lower()
    return OutputError(f"standard output cannot be written ({why}): send it elsewhere")


def warn(text: str, *, prefix: str = "hailer: ") -> None:
    """Write a line to standard error, whatever -q says; a closed one is no reason to fail."""
    if sys.stderr is not None:
        try:
            print(prefix + text, file=sys.stderr, flush=True)
        except OSError:
            pass


class Notes:
    """What is told beside the results, on standard error.

    Args:
        level: -1 for -q, 0, or the number of -v.
    """

    def __init__(self, level: int = 0) -> None:
        self.level = level

    def note(self, text: str) -> None:
        """Tell it unless -q was given."""
        if self.level >= 0:
            warn(text)

    def detail(self, text: str) -> None:
        """Tell it only if -v was given."""
        if self.level >= 1:
            warn(text)
