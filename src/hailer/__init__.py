"""Programs that talk over sockets: a relay, a library and a command.

The public names are imported when first used, so that ``hailer --version`` stays quick and a
program that only parses endpoints does not load an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer._version import __version__

if TYPE_CHECKING:
    from hailer.endpoint import Endpoint as Endpoint

_HOME = {
    "Endpoint": "hailer.endpoint",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 (the names of the table above)


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'hailer' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
