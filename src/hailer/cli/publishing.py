"""What ``hailer bench`` does with results: tables and plots on standard output, and files."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hailer.cli.notes import OutputError, output_error
from hailer.errors import StoreError, UsageError
from hailer.text import printable
from hailer.tools.bench.results import load
from hailer.tools.bench.tables import as_markdown, as_text, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.cli.bench import Wanted
    from hailer.cli.notes import Notes
    from hailer.tools.bench.compare import Comparison
    from hailer.tools.bench.results import Results

__all__ = ["check", "publish"]


def check(wanted: Wanted, kind: str) -> None:
    """See before the work begins that its results can be written and compared.

    Raises:
        UsageError: they cannot.
    """
    if wanted.json == wanted.markdown == "-":
        raise UsageError("--json - and --markdown - exclude each other: name a file for one of them")
    for option in ("json", "html", "markdown"):
        name = getattr(wanted, option)
        if name == "-" and option == "html":
            raise UsageError("--html writes a file: name one, such as bench.html")
        if name in {None, "-"}:
            continue
        path = Path(name)
        if path.is_dir():
            raise UsageError(f"--{option}: {name} is a directory: name a file")
        try:
            _try_to_write(path)
        except OSError as error:
            raise UsageError(
                f"--{option}: {name} cannot be written ({error.strerror}): name another file"
            ) from error
    if wanted.svg is not None:
        try:
            Path(wanted.svg).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=wanted.svg):
                pass
        except OSError as error:
            raise UsageError(
                f"--svg: nothing can be written into {wanted.svg} ({error.strerror}): name another directory"
            ) from error
    if wanted.compare is None:
        if wanted.fail_below is not None:
            raise UsageError("--fail-below needs something to compare with: give --compare OLD.json, too")
    elif load(wanted.compare).kind != kind:
        raise UsageError(f"{wanted.compare} holds no results of hailer bench {kind}: name another")


def _try_to_write(path: Path) -> None:
    """See whether a file can be written, and leave it, or its absence, as it is.

    Raises:
        OSError: it cannot.
    """
    new = not path.exists()
    if not new and not path.is_file():
        return  # who reads a pipe would take it for the end
    with path.open("ab"):
        pass
    if new:
        path.unlink()


def publish(results: Results, wanted: Wanted, notes: Notes) -> bool:
    """Show and write what is wanted.

    Returns:
        Whether nothing is worse than --fail-below allows.

    Raises:
        StoreError: a file could not be written; everything else was done.
        OutputError: standard output could not be written.
    """
    comparison = _comparison(results, wanted)
    failures: list[StoreError] = []

    def write(path: Path | str, text: Callable[[], str]) -> None:
        try:
            Path(path).write_text(text(), encoding="utf-8")
        except OSError as error:
            failures.append(StoreError(f"{path} could not be written ({error.strerror}): name another file"))
        else:
            notes.detail(f"wrote {path}")

    # Files first: a reader of the output that goes away does not lose them.
    if wanted.json not in {None, "-"}:
        write(str(wanted.json), results.as_text)
    if wanted.markdown not in {None, "-"}:
        write(str(wanted.markdown), lambda: as_markdown(results, comparison))
    if wanted.html is not None:
        from hailer.tools.bench.page import page  # noqa: PLC0415 (only where it is wanted)

        write(wanted.html, lambda: page(results, comparison))
    if wanted.svg is not None:
        from hailer.tools.bench.pictures import key_pictures, pictures  # noqa: PLC0415

        for each in (*key_pictures(results), *pictures(results)):
            write(Path(wanted.svg) / f"{each.name}.svg", lambda svg=each.svg: svg)  # type: ignore[misc]
    if wanted.json == "-":
        _print(results.as_text())
    elif wanted.markdown == "-":
        _print(as_markdown(results, comparison))
    else:
        _show(results, comparison, wanted, notes)
    if failures:
        raise failures[0]
    worst = comparison.worst() if comparison is not None and wanted.fail_below is not None else None
    if worst is None or wanted.fail_below is None or worst.gain >= wanted.fail_below:
        return True
    notes.note(
        f"{worst.figure.title} of {worst.subject}, {worst.case} is {worst.gain:.2f} of what it was,"
        f" below {wanted.fail_below:g}"
    )
    return False


def _comparison(results: Results, wanted: Wanted) -> Comparison | None:
    if wanted.compare is None:
        return None
    from hailer.tools.bench.compare import compare  # noqa: PLC0415

    return compare(load(wanted.compare), results)


def _show(results: Results, comparison: Comparison | None, wanted: Wanted, notes: Notes) -> None:
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    columns = shutil.get_terminal_size().columns
    width = columns if on_terminal else None
    _print(as_text(results, width))
    if comparison is not None:
        for warning in comparison.warnings:
            notes.note(warning)
        _print("".join("\n" + text_of(table, width) for table in comparison.tables()))
        same = comparison.unchanged()
        if same:
            _print("\n".join(["", *map(printable, same), ""]))
    if not wanted.plots or not on_terminal:
        return
    from hailer.tools.bench import terminal  # noqa: PLC0415 (only there)

    _print("\n" + terminal.bars(results, columns))
    curves = terminal.curves(results, columns, colour="NO_COLOR" not in os.environ)
    if curves is None:
        notes.note(terminal.HOW_TO_GET_CURVES)
    elif curves:
        _print("\n" + curves)


def _print(text: str) -> None:
    if sys.stdout is None:
        raise OutputError("standard output is closed: send it elsewhere, such as to /dev/null")
    try:
        # A subject's name may have characters that the terminal's encoding has not.
        click.echo(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace"), nl=False)
    except OSError as error:
        raise output_error(error) from error
