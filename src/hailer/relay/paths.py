"""Where a relay keeps what is to outlive it."""

from __future__ import annotations

import os
from pathlib import Path

from hailer.errors import UsageError

MEMORY = "memory"
"""Said in place of a path: nothing outlives the relay."""


def default_store() -> Path:
    """The store of a relay that was given none: ``hailer/relay.db`` in the user's state directory.

    That is $XDG_STATE_HOME, or ``~/.local/state`` (XDG Base Directory Specification; a relative path there
    does not count).

    Raises:
        UsageError: the user has no home directory.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise UsageError(
                "this user has no home directory to keep anything in: give --store PATH"
            ) from error
    return state / "hailer" / "relay.db"


def accounts_beside(store: str | None) -> Path:
    """The accounts of the relay that has this store.

    Args:
        store: its path. With ``memory``, or none, the accounts are beside the default store: accounts
            outlive a relay also when its mail does not.

    Raises:
        UsageError: it is no path of a file, or the user has no home directory.
    """
    path = default_store() if store is None or store == MEMORY else Path(store)
    if not path.name:
        raise UsageError(f"{store} is no file: give the store of the relay, such as relay.db")
    return path.with_name(path.name + ".accounts")
