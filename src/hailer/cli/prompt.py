"""A line editor at a terminal on which other lines arrive meanwhile."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.input.vt100 import Vt100Input

from hailer.cli.output import on_terminal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["Prompt"]


class _RawInput(Vt100Input):
    """The terminal's keys, never in cooked mode.

    To write a line above the prompt, prompt_toolkit leaves raw mode for a moment. A key pressed just then
    would be echoed into that line, and a Ctrl-D swallowed.
    """

    def cooked_mode(self) -> AbstractContextManager[None]:
        return nullcontext()


class Prompt:
    """A `hailer.cli.lines.Console` with editing and history, for use within `patch_stdout`.

    Args:
        prompt: what stands before the line being typed, or what gives that.
        keep_ends: give lines with their ends.
    """

    def __init__(self, prompt: str | Callable[[], str], keep_ends: bool) -> None:
        self._session: PromptSession[str] = PromptSession(prompt, input=_RawInput(sys.stdin))
        self._end = b"\n" if keep_ends else b""

    async def batches(self) -> AsyncGenerator[list[bytes], None]:
        # Raw from the first line to the last: what is typed between two prompts is not echoed twice.
        with self._session.app.input.raw_mode():
            while True:
                try:
                    line = await self._session.prompt_async()
                except EOFError:
                    return
                except KeyboardInterrupt:
                    # Raised on in a task it would tear the event loop down instead of cancelling the work.
                    raise click.Abort from None
                yield [line.encode("utf-8", "surrogateescape") + self._end]

    async def show(self, data: bytes) -> None:
        sys.stdout.write(on_terminal(data).decode())
        sys.stdout.flush()
