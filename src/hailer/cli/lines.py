"""Where lines come from and where what arrives is shown: standard input and output, or a prompt.

Plain: standard input is read as it comes, without being made non-blocking (it may be shared with a shell).
At a terminal: a line editor with history, above which what arrives is written, so that neither garbles
the other.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from hailer.cli.output import Output, on_terminal
from hailer.errors import TruncatedMessage, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

__all__ = ["Console", "at_terminal", "open_console", "read_chunks", "read_lines"]

_READ = 65536


class Console(Protocol):
    """Lines in, text out."""

    def batches(self) -> AsyncGenerator[list[bytes], None]:
        """What is typed or piped in, in lines without their ends, until the end of input.

        To be closed (`contextlib.aclosing`), for a terminal is in raw mode until then.
        """

    async def show(self, data: bytes) -> None:
        """Write what arrived; control characters are escaped on a terminal."""


def at_terminal() -> bool:
    """Whether a person sits at both ends of this program."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()


async def read_chunks() -> AsyncIterator[bytes]:
    """Give standard input as it comes, until its end.

    Raises:
        UsageError: it cannot be read.
    """
    if sys.stdin is None:
        return
    descriptor = sys.stdin.fileno()
    while True:
        await _readable(descriptor)
        try:
            chunk = os.read(descriptor, _READ)
        except BlockingIOError:
            continue  # somebody else who has it open was quicker
        except OSError as error:
            if error.errno == errno.EIO:
                return  # Linux's way to say that the terminal has gone
            why = os.strerror(error.errno or 0).lower()
            raise UsageError(f"standard input cannot be read ({why}): take it from elsewhere") from error
        if not chunk:
            return
        yield chunk


async def _readable(descriptor: int) -> None:
    """Wait until a read does not block."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except OSError:
        await asyncio.sleep(0)  # a regular file or /dev/null, which cannot be waited for and need not be
        return
    try:
        await ready.wait()
    finally:
        # Not watched between two reads: the loop would tell again of what has been read meanwhile.
        loop.remove_reader(descriptor)


async def read_lines(max_line: int) -> AsyncIterator[list[bytes]]:
    """Give standard input in lines, those together that came together; the last may lack its end.

    Args:
        max_line: the most bytes of a line.

    Raises:
        UsageError: a line is longer.
    """
    from hailer.framing import LineFraming  # noqa: PLC0415 (not for who reads no lines)

    decoder = LineFraming().decoder(max_line)
    async for chunk in read_chunks():
        lines: list[bytes] = []
        for item in decoder.feed(chunk):
            if not isinstance(item, bytes):
                if lines:
                    yield lines
                raise _too_long(max_line)
            lines.append(item)
        if lines:
            yield lines
    for item in decoder.feed(b""):
        if isinstance(item, TruncatedMessage):
            yield [item.partial]
        elif not isinstance(item, bytes):
            raise _too_long(max_line)


def _too_long(max_line: int) -> UsageError:
    return UsageError(f"a line of input is longer than {max_line} bytes: allow more or send it in parts")


class _Plain:
    def __init__(self, max_line: int, keep_ends: bool) -> None:
        self._max_line = max_line
        self._keep_ends = keep_ends
        self._output = Output()

    async def batches(self) -> AsyncGenerator[list[bytes], None]:
        if self._keep_ends:
            async for chunk in read_chunks():
                yield [chunk]
        else:
            async for lines in read_lines(self._max_line):
                yield lines

    async def show(self, data: bytes) -> None:
        await self._output.write(on_terminal(data) if self._output.is_terminal else data)


@asynccontextmanager
async def open_console(
    max_line: int, *, prompt: str | Callable[[], str] = "> ", keep_ends: bool = False
) -> AsyncIterator[Console]:
    """Open a prompt when both standard input and output are a terminal, else the plain streams.

    Args:
        max_line: the most bytes of a line of plain input.
        prompt: what stands before the line being typed, or what gives that.
        keep_ends: give plain input as it comes and typed lines with their ends, for a peer without messages.
    """
    if not at_terminal():
        yield _Plain(max_line, keep_ends)
        return
    # Only here: the import takes longer than all else.
    from prompt_toolkit.patch_stdout import patch_stdout  # noqa: PLC0415

    from hailer.cli.prompt import Prompt  # noqa: PLC0415

    with patch_stdout():
        yield Prompt(prompt, keep_ends)
