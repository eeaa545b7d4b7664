"""A client of a relay as the options say: who, with which token, and how often to try."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import re
import secrets
import stat
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hailer.cli.telling import LogTelling
from hailer.errors import DialError, HailerError, Refused, UsageError
from hailer.net import backoff
from hailer.relay.client.client import RelayClient
from hailer.relay.client.keeper import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hailer.cli.notes import Notes
    from hailer.cli.options import RelayOptions

__all__ = ["as_room", "logged_in", "made_up_name", "read_token"]

_TOKEN_LIMIT: Final = 4096
_NAMES_TRIED: Final = 5
_PARTING: Final = 1.0


@asynccontextmanager
async def logged_in(
    options: RelayOptions, notes: Notes, *, tell: Callable[[str], object] | None = None, **client: Any
) -> AsyncIterator[RelayClient]:
    """Log in, and out at the end.

    Args:
        options: where, as whom, and how often to try.
        notes: where retries are told.
        tell: called with what the client would log; None is `notes`.
        client: more arguments of `RelayClient`, its timeout once it is connected among them.

    Raises:
        The same as `RelayClient.connect`, after the last retry.
    """
    token = read_token(options.token_file)
    warnings = LogTelling(tell or notes.note)
    logging.getLogger("hailer").addHandler(warnings)
    taken = 0
    retried = 0
    pauses = backoff.delays(options.retry_delay, most=10 * options.retry_delay, jitter=0.25)
    while True:
        one = RelayClient(
            options.name or made_up_name(),
            options.relay,
            token=token,
            tls=options.tls(),
            server_name=options.server_name,
            retry_delay=options.retry_delay,
            **{"timeout": options.patience, **client},
        )
        late = f"the relay at {options.relay} did not let {one.name} in in time: look whether it runs"
        try:
            async with within(options.patience, late):
                await one.connect()
            break
        except Refused as error:
            taken += 1
            if error.code != "taken" or options.name or taken == _NAMES_TRIED:
                raise
        except DialError as error:
            retried += 1
            if retried > options.retries:
                raise
            pause = next(pauses)
            notes.detail(f"{error}; trying again in {pause:.1f} seconds")
            await asyncio.sleep(pause)
    try:
        notes.detail(f"{one.name} is logged in at {options.relay}")
        yield one
    finally:
        if options.name is None:
            await _leave_for_good(one)
        warnings.tell = None  # each line's outcome has been told
        await one.close()


async def _leave_for_good(client: RelayClient) -> None:
    """Leave the rooms, which would post to the mailbox of a made-up name that nobody will have again."""
    with suppress(HailerError, TimeoutError):
        async with asyncio.timeout(_PARTING):
            for room in client.rooms if client.connected else ():
                await client.leave(room)


def as_room(word: str) -> str:
    """A room as people write it: the # may be left out, for shells take it as the start of a comment."""
    return word if word.startswith("#") else f"#{word}"


def made_up_name() -> str:
    """A readable name for who gave none: the user's and a number, such as ``ann-4711``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = ""
    user = re.sub(r"[^A-Za-z0-9._-]", "", user)[:32] or "guest"
    return f"{user}-{secrets.randbelow(9000) + 1000}"


def read_token(file: str | None) -> str | None:
    """Find the token: in a file that only its owner can read, at a prompt, or in HAILER_TOKEN.

    Args:
        file: the file's path, ``-`` to be asked, or None for the variable.

    Returns:
        The token, or None when there is none.

    Raises:
        UsageError: the file cannot be read, others can read it too, or nobody can be asked.
    """
    if file is None:
        return os.environ.get("HAILER_TOKEN", "").strip() or None
    if file == "-":
        if sys.stdin is None or not (sys.stdin.isatty() or sys.stderr.isatty()):
            raise UsageError(
                "there is no terminal to ask for the token: give --token-file FILE or HAILER_TOKEN"
            )
        token = getpass.getpass("Token: ")
    else:
        token = _from_file(Path(file))
    token = token.strip()
    if not token:
        raise UsageError("the token is empty: give the one that the relay's owner made for this name")
    return token


def _from_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())  # of what was opened: the path may change meanwhile
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                raise UsageError(f"{path} can be read by others: make it yours alone with chmod 600 {path}")
            return file.read(_TOKEN_LIMIT)
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "not UTF-8"
        raise UsageError(f"the token cannot be read from {path} ({why}): correct --token-file") from error
