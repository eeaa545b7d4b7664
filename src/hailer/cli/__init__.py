"""The command ``hailer``: one module a verb, each a thin layer over the library.

    group      the verbs, imported when used, and what their help looks like
    exits      exit codes, and which error has which
    errors     an error as one sentence on standard error
    options    options that several verbs have
    settings   hailer.toml
    output     standard output
    notes      standard error
    lines      lines from standard input, or typed at a prompt (prompt)
    running    a verb's coroutine as the whole program
    login      a client of a relay: its name, its token, retries

Nothing is imported here before it is needed: ``hailer --version`` is to be quick.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from hailer._version import __version__

__all__ = ["main"]


def _open_what_is_closed() -> None:
    """Take the numbers of standard streams that are closed, lest a socket gets one and is written to."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def main() -> NoReturn:
    """Run the command line of this process and exit with its code."""
    if sys.argv[1:] == ["--version"]:
        print(f"hailer {__version__}")  # without click, whose import is most of the time
        sys.exit(0)
    _open_what_is_closed()
    try:
        from hailer.cli.group import run_command  # noqa: PLC0415 (Ctrl-C while it is imported is quiet too)

        code = run_command(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            # Nobody reads it any more; what is left in its buffer must not fail again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
