"""Errors as a person sees them: one sentence on standard error that says what to do next."""

from __future__ import annotations

import errno
import os
import traceback
from typing import TYPE_CHECKING

import click

from hailer.cli.exits import BROKEN_PIPE, FAILED, INTERRUPTED, exit_code
from hailer.cli.notes import ReaderGone, output_error, warn
from hailer.errors import HailerError, Refused
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["tell"]

_OF_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def tell(error: BaseException) -> int:
    """Say what went wrong on standard error.

    Args:
        error: what ended the command.

    Returns:
        The exit code.
    """
    if isinstance(error, BaseExceptionGroup):
        error = _first(error)
    if isinstance(error, OSError) and error.errno in _OF_OUTPUT:
        error = output_error(error)  # of a help text, such as that of a full disk; others are mapped already
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return INTERRUPTED
    if isinstance(error, ReaderGone):
        return BROKEN_PIPE
    if isinstance(error, click.ClickException):
        warn(_usage(error))
        return error.exit_code
    if os.environ.get("HAILER_DEBUG"):
        warn("".join(traceback.format_exception(error)).rstrip(), prefix="")
    if isinstance(error, Refused):
        warn(
            f"the relay refused {printable(error.command)} ({printable(error.code)}): {printable(str(error))}"
        )
        return exit_code(error)
    if isinstance(error, HailerError):
        warn(printable(str(error)))
        return exit_code(error)
    what = printable(str(error))
    named = type(error).__name__ + (f": {what}" if what else "")
    warn(f"this is a bug in hailer: {named}; run again with HAILER_DEBUG=1 for the traceback")
    return FAILED


def _usage(error: click.ClickException) -> str:
    """One sentence out of click's several, and where to read more."""
    message = " ".join(error.format_message().split()).removesuffix(".").replace(". Did you", ": did you")
    message = message.removesuffix("?")
    message = message[:1].lower() + message[1:]
    context = error.ctx if isinstance(error, click.UsageError) else None
    where = f" (see {context.command_path} --help)" if context is not None else ""
    return printable(message + where)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of a group that counts: what interrupts, what was foreseen, else the first."""
    leaves = list(_leaves(group))
    for kind in (KeyboardInterrupt, HailerError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
