"""Who this program is to a relay, and the secret that proves it."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import stat
import sys
from pathlib import Path

from hailer.errors import UsageError

__all__ = ["checked_name", "made_up_name", "read_token"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOKEN_LIMIT = 4096


def checked_name(name: str) -> str:
    """Give a name back if a relay can take it.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name: a name is 1 to 64 letters, digits, dots, _ and -")
    return name


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
        return os.environ.get("HAILER_TOKEN") or None
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
