"""The figures of tests of loss: each test writes down a row, and a run that shows them prints the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_COLUMNS = ("kills", "acknowledged", "once", "lost", "doubled", "disordered", "unknown")


class TakeDown(Protocol):
    """The type of the fixture `take_down`."""

    def __call__(self, figures: dict[str, int], note: str = "") -> None: ...


@pytest.fixture
def take_down(record_property: Callable[[str, object], None], request: pytest.FixtureRequest) -> TakeDown:
    """Writes down the figures of a test, and a note, for the table at the end of the run."""

    def write(figures: dict[str, int], note: str = "") -> None:
        record_property("ledger", (request.node.name.removeprefix("test_"), figures, note))

    return write


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for key, value in getattr(report, "user_properties", ())
        if key == "ledger" and getattr(report, "when", "") == "call"
    ]
    if not rows:
        return
    terminalreporter.section("what became of what was posted")
    width = max(len(name) for name, _, _ in rows)
    terminalreporter.line(" ".join(["".ljust(width), *(column.rjust(12) for column in _COLUMNS), " note"]))
    for name, figures, note in sorted(rows):
        cells = [str(figures.get(column, "-")).rjust(12) for column in _COLUMNS]
        terminalreporter.line(" ".join([name.ljust(width), *cells, f" {note}"]))
