"""How far a measurement is, on standard error: a bar with the time left while that is a terminal."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any, Self

import click

from hailer.text import printable

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Progress", "duration"]

_BAR_WIDTH = 20
_BESIDE = _BAR_WIDTH + 26  # columns of the bar, the count and the time left


class Progress:
    """A bar for so many steps; nothing but what is told where standard error is no terminal.

        with Progress(len(steps)) as progress:
            for step in steps:
                progress.now(f"round 1, {step}")
                ...
                progress.advance()

    Args:
        total: how many steps there are.
        quiet: show no bar and tell nothing.
    """

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._text = ""
        self._bar: Any = (
            click.progressbar(
                length=total,
                file=sys.stderr,
                width=_BAR_WIDTH,
                show_pos=True,
                show_percent=False,
                item_show_func=lambda _: self._text,
                bar_template="[%(bar)s]  %(info)s",
            )
            if not quiet and sys.stderr is not None and sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def now(self, text: str) -> None:
        """Say what is measured now."""
        room = max(10, shutil.get_terminal_size().columns - _BESIDE)
        text = printable(text)
        self._text = text if len(text) <= room else text[: room - 1] + "…"
        if self._bar is not None:
            self._bar.render_progress()

    def advance(self, steps: int = 1) -> None:
        """So many steps more are done."""
        if self._bar is not None:
            self._bar.update(steps)

    def tell(self, text: str) -> None:
        """Write a line that stays, above the bar."""
        if self._quiet or sys.stderr is None:
            return
        line = "hailer: " + printable(text)
        if self._bar is not None:
            line = "\r" + line.ljust(shutil.get_terminal_size().columns - 1)
        try:
            click.echo(line, err=True)
        except OSError:
            pass


def duration(seconds: float) -> str:
    """About how long, in words: ``40 seconds``, ``3 minutes``, ``1.5 hours``."""
    if seconds < 90:
        whole = max(1, round(seconds))
        return f"{whole} second{'s' * (whole != 1)}"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"
