"""Standard output, where results go."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import stat
import sys

from hailer.cli.notes import OutputError, output_error
from hailer.text import printable

__all__ = ["Output", "as_field", "on_terminal", "one_line"]

_PIECE = 4096
"""What a pipe takes without blocking once it says that it is writable: POSIX's PIPE_BUF on Linux."""


class Output:
    """Standard output of a program that must go on while nobody reads it.

    A pipe or a terminal is written to only when it has room, so that Ctrl-C works and connections stay
    alive although the reader stands still.
    """

    def __init__(self) -> None:
        self._fd = 1
        self._turn = asyncio.Lock()
        self.is_terminal = os.isatty(self._fd)
        try:
            mode = os.fstat(self._fd).st_mode
        except OSError:
            mode = stat.S_IFREG  # closed: the first write says so
        self._may_wait = not stat.S_ISREG(mode)

    async def write(self, data: bytes) -> None:
        """Write all of these bytes, now.

        Raises:
            ReaderGone: nobody reads any more.
            OutputError: it cannot be written, such as on a full disk.
        """
        if sys.stdout is None:
            # It was closed when the program started; its number may be somebody else's by now.
            raise OutputError("standard output is closed: send it elsewhere, such as to /dev/null")
        try:
            async with self._turn:  # what two tasks write is each whole
                view = memoryview(data)
                while view:
                    if self._may_wait:
                        await self._room()
                    view = view[os.write(self._fd, view[:_PIECE] if self._may_wait else view) :]
        except OSError as error:
            raise output_error(error) from error

    async def line(self, text: str) -> None:
        """Write one line of text."""
        await self.write(text.encode("utf-8", "backslashreplace") + b"\n")

    async def object(self, **fields: object) -> None:
        """Write one JSON object on a line of its own."""
        await self.line(json.dumps(fields, ensure_ascii=False))

    async def _room(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if poll.poll(0):
            return
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(self._fd, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(self._fd)


def as_field(payload: bytes, key: str = "text") -> dict[str, str]:
    """A payload as a field of a JSON object: ``text`` if it is UTF-8, else ``base64``."""
    try:
        return {key: payload.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode()}


def one_line(payload: bytes) -> str:
    r"""A payload as one line of text that tells any two payloads apart.

    A backslash is doubled; what could break a line, move a cursor or turn text is written as Python
    writes it (``\n``, ``\x1b``, ``\u202e``), and a byte that is not UTF-8 as ``\udcNN``.
    """
    return printable(payload.decode("utf-8", "surrogateescape").replace("\\", "\\\\"))


def on_terminal(payload: bytes) -> bytes:
    """A peer's bytes for a terminal: lines and tabs stay, other control characters are escaped."""
    text = payload.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    lines = ("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
    return "\n".join(lines).encode()
