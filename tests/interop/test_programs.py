"""A program that is missing skips its own test on a developer's machine, and fails it in CI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import RequireProgram


def test_a_missing_program_skips(require_program: RequireProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAILER_NO_SKIP", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed: install it"):
        require_program("no-such-program")


def test_a_missing_program_fails_in_ci(
    require_program: RequireProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAILER_NO_SKIP", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed: install it"):
        require_program("no-such-program")


def test_a_program_that_is_there(require_program: RequireProgram) -> None:
    assert require_program("sh").endswith("/sh")
