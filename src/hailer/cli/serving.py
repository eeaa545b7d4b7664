"""What the verbs that serve have in common: where the log goes, what is printed once they listen, Ctrl-C."""

from __future__ import annotations

import atexit
import logging
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from hailer.cli.notes import output_error
from hailer.cli.options import option
from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.cli.notes import Notes
    from hailer.endpoint import Endpoint
    from hailer.logs import LogFormat
    from hailer.server import Server

__all__ = [
    "announce",
    "as_typed",
    "checked_origins",
    "drain_at_signals",
    "ignore_late_signals",
    "log_option",
    "log_to_standard_error",
]

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)
_LEVELS: Final = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


def log_option(default: LogFormat) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """--log-format; the function gets it as ``log_format``."""
    return option(
        "--log-format",
        type=click.Choice(["plain", "text", "json"]),
        default=default,
        show_default=True,
        help="How the log on standard error is written: for a person, or one event a line with its fields.",
    )


def log_to_standard_error(notes: Notes, form: LogFormat) -> None:
    """Have the log written to standard error, as much of it as -v and -q ask for."""
    from hailer.logs import make_formatter  # noqa: PLC0415 (not for --help)

    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(form, sys.stderr))
    logging.basicConfig(level=_LEVELS[max(-1, min(notes.level, 2))], handlers=[handler])


def drain_at_signals(server: Server) -> None:
    """Let SIGTERM and Ctrl-C drain a server also before it serves and when it has ended.

    While it serves it sees to them itself. Whoever has read ``listening on`` may send one at once, and some
    (timeout, a terminal with a whole job) send two.
    """

    def on_signal(number: int, _frame: object) -> None:
        if server.ended_by is None:
            server.ended_by = number
        server.drain()

    for number in _ENDING:
        signal.signal(number, on_signal)
    ignore_late_signals()


def ignore_late_signals() -> None:
    """Ignore SIGTERM and Ctrl-C once the interpreter ends: it takes handlers away before it is gone.

    A signal then would make of a good end a bad one.
    """
    atexit.register(lambda: [signal.signal(number, signal.SIG_IGN) for number in _ENDING])


def announce(endpoints: Sequence[Endpoint]) -> None:
    """Print ``listening on ENDPOINT`` for each; on standard error where standard output is served itself.

    systemd is told that the service is ready, where it started it.

    Raises:
        HailerError: nobody reads it.
    """
    from hailer.net.notify import notify  # noqa: PLC0415 (not for --help)

    taken = any(endpoint.scheme == "stdio" for endpoint in endpoints)
    try:
        for endpoint in endpoints:
            print(f"listening on {endpoint}", flush=True, file=sys.stderr if taken else sys.stdout)
    except OSError as error:
        raise output_error(error) from error
    notify("READY=1")


def checked_origins(origins: tuple[str, ...]) -> tuple[str, ...] | None:
    """What browsers send (RFC 6454 section 7): anything else would never be met.

    Raises:
        UsageError: one is no origin.
    """
    for origin in origins:
        scheme, mark, host = origin.partition("://")
        if origin not in ("*", "null") and (not (scheme and mark and host) or "/" in host or " " in origin):
            raise UsageError(
                f"{origin!r} is no origin: write the page's scheme and host alone, such as https://example.org"
            )
    return origins or None


def as_typed() -> str:
    """What to type for this command: its name where the shell finds it, else its path."""
    called = Path(sys.argv[0])
    found = shutil.which("hailer")
    if called.name != "hailer":
        return "python3 -m hailer"
    if found is not None and Path(found).resolve() == called.resolve():
        return "hailer"
    with suppress(ValueError):
        return str(called.absolute().relative_to(Path.cwd()))
    return str(called)
