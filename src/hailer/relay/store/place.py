"""Where a store's file is, and that nobody else can read it."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from hailer.errors import StoreError

__all__ = ["default_path", "flush_again", "lengthen", "prepare"]

_PIECE = 1 << 20


def default_path(of: str = "") -> Path:
    """The file of the user's own relay: ``relay.db`` in their state directory.

    Args:
        of: what tells a relay from the user's usual one, such as its port: no two can share a file.

    That is ``$XDG_STATE_HOME/hailer``, else ``~/.local/state/hailer`` (XDG Base Directory Specification
    0.8; a relative path in the variable is ignored, as it says).

    Raises:
        StoreError: this user has no home.
    """
    home = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not home.is_absolute():
        try:
            home = Path.home() / ".local" / "state"
        except RuntimeError:
            raise StoreError(
                "this user has no home directory to keep mail in: set HOME or name a file for it"
            ) from None
    own = re.sub(r"[^A-Za-z0-9.]+", "-", of).strip("-")[-100:]
    return home / "hailer" / (f"relay-{own}.db" if own else "relay.db")


def prepare(path: Path) -> int | None:
    """Make a file that only its owner can read, and the directories on the way to it, if they are not there.

    Nothing is ever open to others, not for a moment: the mode is given when it is made. What was made
    is flushed, so that a power cut cannot take away the directory in which mail was stored.

    Args:
        path: an absolute one.

    Returns:
        The mode that the file had when others could read it, to give it back if it is not ours.

    Raises:
        StoreError: it cannot be made, or is there and is no file of this user.
    """
    try:
        _make_directories(path.parent)
        try:
            # Never opened if it is there: closing it again would take away the locks on it that another
            # store in this process may have (fcntl(2): all locks of the process on that file).
            made = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return _close_to_others(path)
        else:
            os.close(made)
            _flush(path.parent)
            return None
    except OSError as error:
        raise StoreError(
            f"mail cannot be kept in {path} ({error.strerror or error}): correct that, or name another file"
        ) from None


def flush_again(path: Path) -> None:
    """Write all that a file holds once more, and flush it.

    The process that wrote it may have been killed before its flush, or just after one that failed. In the
    second case the system takes what it did not write for written: it can be read, a flush works, and yet
    it is gone when the power goes.

    Args:
        path: of a file that nobody else writes now; if it is not there, there is nothing to do.

    Raises:
        OSError: it is not on disk.
    """
    try:
        opened = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        at = 0
        while piece := os.pread(opened, _PIECE, at):
            at += os.pwrite(opened, piece, at)
        if at:
            os.fsync(opened)
            if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync stops at the disk's own cache
                fcntl.fcntl(opened, fcntl.F_FULLFSYNC)
    finally:
        os.close(opened)


def lengthen(path: Path, size: int) -> None:
    """Have a file be so long at least, by zeros behind what it holds, if its disk has room for them.

    A flush of a file that has grown waits for the file system's own journal, in which everybody's changes
    stand; of one that is only written over it does not: that takes half the time.

    Args:
        path: of a write-ahead log, for which zeros are no more than its end.
        size: bytes.
    """
    with suppress(OSError):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            missing = size - os.fstat(opened).st_size
            if missing > 0:
                os.pwrite(opened, bytes(missing), size - missing)
                os.fsync(opened)
        finally:
            os.close(opened)


def _make_directories(directory: Path) -> None:
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for each in reversed(missing):
        each.mkdir(0o700, exist_ok=True)
        _flush(each.parent)


def _close_to_others(path: Path) -> int | None:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"mail cannot be kept in {path}, which is no regular file: name another file")
    if not found.st_mode & 0o077:
        return None
    path.chmod(found.st_mode & 0o700)
    return stat.S_IMODE(found.st_mode)


def _flush(directory: Path) -> None:
    """Put a directory's new entry on disk."""
    opened = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
