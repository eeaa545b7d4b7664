"""hailer.toml: settings that are neither on the command line nor in a variable.

    [client]                          # all verbs that connect
    relay = "tcp://chat.example:16273"
    name = "ann"

    [connect]                         # one verb
    framing = "netstring"

An option can be set here if it has a HAILER_... variable; its key is its name without the dashes in front.
"""

from __future__ import annotations

import os
import stat
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.cli.group import VERBS
from hailer.cli.notes import warn
from hailer.cli.options import CLIENT_SETTINGS
from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

__all__ = ["find_settings", "read_settings"]

FILE = "hailer.toml"


def find_settings() -> Path | None:
    """The file that counts: the one in the current directory, else the one in the user's config directory.

    One in the current directory counts only if it belongs to the user or to root: in a directory that
    all can write to, somebody else could otherwise choose where a token is sent.
    """
    here = Path(FILE)
    try:
        status = here.stat()
    except OSError:
        pass
    else:
        if status.st_uid in (os.geteuid(), 0) and stat.S_ISREG(status.st_mode):
            return here
        warn(f"{FILE} in this directory is somebody else's and was not read: copy it to use it")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    mine = config / "hailer" / FILE
    return mine if mine.is_file() else None


def read_settings(command: click.Command) -> dict[str, object]:
    """Read what the file says for one verb; keys that mean nothing are told on standard error.

    Args:
        command: the verb.

    Returns:
        Values by the names of the verb's parameters.

    Raises:
        UsageError: the file is not TOML, or holds what no setting is.
    """
    path = find_settings()
    if path is None:
        return {}
    import tomllib  # noqa: PLC0415 (most people have no such file)

    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}): correct it or move it away") from error
    options = {param.name: param for param in command.params if param.envvar and param.name}
    values: dict[str, object] = {}
    for key in [key for key, value in tables.items() if not isinstance(value, dict)]:
        warn(f"{path}: {key} stands in no table and was passed over: put it under [client]")
        del tables[key]
    _tell_unknown(path, "table ", tables, ("client", *VERBS))
    for name, known in (("client", CLIENT_SETTINGS), (command.name or "", tuple(options))):
        table = tables.get(name, {})
        _tell_unknown(path, f"[{name}] ", table, known)
        for key, value in table.items():
            param = options.get(_plain(key))
            if param is not None:
                values[_plain(key)] = _checked(path, key, value, param)
    return values


def _checked(path: Path, key: str, value: object, param: click.Parameter) -> object:
    many = isinstance(value, list)
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, (str, int, float)):
            raise UsageError(f"{path}: {key} takes a text or a number: correct it")
    if many and not param.multiple:
        raise UsageError(f"{path}: {key} takes one value: take it out of its brackets")
    return value if many or not param.multiple else [value]


def _tell_unknown(path: Path, where: str, keys: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for key in keys:
        if _plain(key) not in known:
            close = get_close_matches(_plain(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            warn(f"{path}: {where}{key} is no setting and was passed over: {hint}")


def _plain(key: str) -> str:
    return key.replace("-", "_")
