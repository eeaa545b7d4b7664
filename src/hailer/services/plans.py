"""A directory of plan files, for the finger service."""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.errors import UsageError
from hailer.services.finger import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FingerDirectory"]

# No slash, no leading dot: a name can lead nowhere but to a file in the directory, and to no hidden one.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LARGEST_PLAN = 16 * 1024
# A FIFO must not be waited for, nor a link followed out of the directory.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FingerDirectory:
    """Knows a user for each file in a directory, whose text is what they say of themselves.

    Only plain files whose names are 1 to 64 of ``A-Z a-z 0-9 . _ -``, without a dot at the start, are users:
    no links, folders or devices. They are read anew for each query, at most 16 KiB of each.

    Args:
        path: the directory.

    Raises:
        UsageError: there is none, or it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            self._files()
        except OSError as error:
            raise UsageError(
                f"the plans in {self._path} cannot be read ({error.strerror}): give a directory that can"
            ) from error

    async def names(self) -> Sequence[str]:
        """See `FingerSource.names`."""
        try:
            return self._files()
        except OSError as error:
            raise SourceError("The users cannot be listed now, try again later.") from error

    async def about(self, name: str, *, wide: bool) -> Sequence[str] | None:
        """See `FingerSource.about`: the plan; ``/W`` adds its size and age."""
        found = self._read(name)
        if found is None:
            return None
        data, status = found
        lines = [f"Login: {name}"]
        if wide:
            changed = datetime.fromtimestamp(status.st_mtime, UTC)
            lines.append(f"Changed: {changed:%Y-%m-%d %H:%M} UTC ({status.st_size} bytes)")
        text = data[:_LARGEST_PLAN].decode("utf-8", "replace").rstrip()
        if not text:
            return [*lines, "No plan."]
        lines += ["Plan:", *(line.removesuffix("\r") for line in text.split("\n"))]
        if len(data) > _LARGEST_PLAN:
            lines.append(f"(The rest is left out: a plan has at most {_LARGEST_PLAN} bytes here.)")
        return lines

    def _read(self, name: str) -> tuple[bytes, os.stat_result] | None:
        if not _NAME.fullmatch(name):
            return None
        try:
            plan = os.open(self._path / name, _FLAGS)
        except OSError:
            return None  # nobody, a link, or not for us to read: to the peer it is all the same
        try:
            status = os.fstat(plan)
            return (os.read(plan, _LARGEST_PLAN + 1), status) if stat.S_ISREG(status.st_mode) else None
        except OSError as error:
            raise SourceError("This plan cannot be read now, try again later.") from error
        finally:
            os.close(plan)

    def _files(self) -> list[str]:
        with os.scandir(self._path) as entries:
            return sorted(
                entry.name
                for entry in entries
                if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            )
