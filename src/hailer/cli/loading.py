"""A handler that a person names on the command line: ``module:handler`` or ``path/file.py:handler``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["load_handler"]


def load_handler(text: str) -> object:
    """Import a handler.

    The current directory is looked in first, as by ``python -m``. Importing runs the module.

    Args:
        text: a module and a name in it, which may have dots, or a file in place of the module.

    Raises:
        UsageError: it cannot be imported, with the place in the file that failed.
    """
    where, _, name = text.rpartition(":")
    if not where or not name:
        raise UsageError(f"{text!r} names no handler: write module:handler, or path/file.py:handler")
    found: object = _from_file(where) if where.endswith(".py") else _from_module(where)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UsageError(f"{where} has no {name!r}: name a function that is in it") from None
    return found


def _from_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"there is no module {name!r} here or among the installed ones: write module:handler,"
                " or path/file.py:handler"
            ) from None
        raise _failed(name, error) from error
    except Exception as error:
        raise _failed(name, error) from error


def _from_file(path: str) -> ModuleType:
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"there is no file {path}: write the path of the one that has the handler")
    folder = str(file.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # what lies beside it can be imported, as when it is run
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _failed(path, error) from error
    return module


def _failed(what: str, error: Exception) -> UsageError:
    """The innermost line of the person's own file, rather than a traceback through the import system."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename
    ]
    place = f"line {line}" if line else ""
    if not place and frames:
        place = f"{Path(frames[-1].filename).name} line {frames[-1].lineno}"
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    return UsageError(f"{what} cannot be imported ({place}: {type(error).__name__}: {reason}): mend it first")
