"""A new token, in a file for its owner alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["write_token"]


def write_token(file: str, make: Callable[[], str], *, replace: bool) -> None:
    """Write a token where only its owner can read it.

    The file is there before the token is made: a token that could not be written would be lost.

    Args:
        file: the path.
        make: makes the token.
        replace: whether a file that is there already is replaced, in one step.

    Raises:
        StoreError: it cannot be written; no token was made then. Or what `make` raises.
    """
    path = Path(file)
    new = path.with_name(f".{path.name}.{os.getpid()}.new") if replace else path
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise StoreError(f"{new} is there already and was left alone: give another --token-file") from error
    except OSError as error:
        raise _trouble(file, error) from error
    done = False
    try:
        with os.fdopen(fd, "w", encoding="ascii") as opened:
            opened.write(make() + "\n")
            opened.flush()
            os.fsync(fd)
        if replace:
            new.replace(path)
        done = True
    except OSError as error:
        raise _trouble(file, error) from error
    finally:
        if not done:
            new.unlink(missing_ok=True)


def _trouble(file: str, error: OSError) -> StoreError:
    why = os.strerror(error.errno or 0).lower()
    return StoreError(f"the token cannot be written to {file} ({why}): give another --token-file")
