"""A guard against slower hot paths without a clock: instructions for each message, by valgrind.

Held against figures.json, which `make guard-renew` writes. See docs/design/guard.md.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.guard import paths
from tests.guard.counting import BUILD, COMMAND, ENVIRONMENT, Count, compare, count, known

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import RequireProgram


def test_no_hot_path_needs_more_instructions(
    tmp_path: Path, require_program: RequireProgram, record_property: Callable[[str, object], None]
) -> None:
    require_program("valgrind")
    committed = known().get(BUILD)
    if committed is None:
        pytest.skip(f"no figures were committed for {BUILD}: see docs/design/guard.md")
    worse, better = compare(committed, count(tmp_path))
    for sentence in better:
        record_property("better", sentence)
    assert not worse, "\n".join(["if that has to be, make guard-renew:", *worse])


def test_the_paths_do_their_work_without_valgrind_too() -> None:
    done = subprocess.run(COMMAND, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True)
    assert len(done.stdout.splitlines()) == len(paths.UNITS) + len(paths.PATHS)


def test_what_is_worse_better_and_missing_is_told() -> None:
    committed = {
        "same": Count(100, 1.0),
        "slower": Count(100, 1.0),
        "faster": Count(9, 2.0),
        "gone": Count(1, 1),
    }
    now = {"same": Count(109, 1.09), "slower": Count(112, 1.12), "faster": Count(8, 1.7), "new": Count(1, 1)}
    worse, better = compare(committed, now)
    assert [sentence.split(":")[0] for sentence in worse] == ["slower", "gone", "new"]
    assert "1.12 times" in worse[0]
    assert [sentence.split(":")[0] for sentence in better] == ["faster"]
