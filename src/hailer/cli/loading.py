"""A handler that a person names on the command line: ``module:handler`` or ``path/file.py:handler``."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["load_handler"]


def load_handler(text: str) -> object:
    """Import a handler.

    A module is looked for in the standard library, the current directory, and what is installed. Importing
    runs it.

    Args:
        text: a module and a name in it, which may have dots, or a file in place of the module.

    Raises:
        UsageError: it cannot be imported, with the place in the file that failed.
    """
    where, _, name = text.rpartition(":")
    is_file = where.endswith(".py")
    if not name or not (is_file or _is_name(where)):
        raise UsageError(f"{text!r} names no handler: write module:handler, or path/file.py:handler")
    module = _from_file(where) if is_file else _from_module(where)
    found: object = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UsageError(
                f"{where} has no {name!r}: name a function that is in it{_hint(where, name, module)}"
            ) from None
    return found


def _is_name(where: str) -> bool:
    """Whether it can be the name of a module; ``-`` is there for files that a package may hold."""
    return all(part.replace("-", "_").isidentifier() for part in where.split("."))


def _hint(where: str, name: str, module: ModuleType) -> str:
    """The file that was meant, where an installed module of that name comes before it."""
    here = Path(where.replace(".", "/") + ".py")
    loaded = getattr(module, "__file__", None)
    if where.endswith(".py") or not here.is_file() or (loaded and here.resolve() == Path(loaded).resolve()):
        return ""
    return f", or {here}:{name} for the file here ({where} is {loaded or 'a part of Python'})"


def _from_module(name: str) -> ModuleType:
    _look_in(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"there is no module {name!r} here or among the installed ones: write module:handler,"
                " or path/file.py:handler"
            ) from None
        raise _failed(name, error) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _from_file(path: str) -> ModuleType:
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"there is no file {path}: write the path of the one that has the handler")
    _look_in(file.parent.resolve())  # what lies beside it can be imported, as when it is run
    # Not in place of a module that others import: the file may be called json.py, or hailer.py.
    taken = file.stem in sys.modules or file.stem in sys.stdlib_module_names
    name = f"_served_{file.stem}" if taken else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _failed(path, error) from error
    return module


def _look_in(folder: Path) -> None:
    """Have modules looked for in a folder, too: before the installed ones, but after the standard library.

    A script's folder comes before that. Here much of hailer is imported later than the handler, and a
    ``queue.py`` beside it must not be taken for Python's.
    """
    if str(folder) in sys.path:
        return
    library = Path(sysconfig.get_path("stdlib"))
    own = [at for at, each in enumerate(sys.path) if Path(each) in (library, library / "lib-dynload")]
    sys.path.insert(max(own, default=-1) + 1, str(folder))


def _failed(what: str, error: Exception | SystemExit) -> UsageError:
    """The innermost line of the person's own file, rather than a traceback through the import system."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename
    ]
    place = f"line {line}" if line else ""
    if not place and frames:
        place = f"{Path(frames[-1].filename).name} line {frames[-1].lineno}"
    if isinstance(error, SystemExit):
        return UsageError(
            f"{what} ended the program while it was imported ({place}): put what it does when it is run"
            ' under if __name__ == "__main__"'
        )
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    return UsageError(f"{what} cannot be imported ({place}: {type(error).__name__}: {reason}): mend it first")
