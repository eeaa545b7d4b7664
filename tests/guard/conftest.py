"""What became much better is told at the end of a run: the committed figures are to be renewed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print it."""
    better = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for key, value in getattr(report, "user_properties", ())
        if key == "better" and getattr(report, "when", "") == "call"
    ]
    if better:
        terminalreporter.section("fewer instructions than committed: make guard-renew")
        for sentence in better:
            terminalreporter.line(str(sentence))
