"""A share of what `make soak` feeds to everything that parses, and that the fuzzer finds what is wrong."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import fuzz.__main__ as fuzzing
from fuzz import targets

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", targets.TARGETS)
def test_arbitrary_bytes_are_survived(name: str) -> None:
    fuzzing.by_chance(name, runs=300, seconds=20, seed=1)


@pytest.mark.parametrize("fault", ["raises", "slow"])
def test_a_fault_is_found_and_its_input_kept(
    fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def run(data: bytes) -> None:
        if b"evil" in data:
            assert fault == "slow", "not slow but wrong"
            begun = time.process_time()
            while time.process_time() < begun + 0.01:
                pass

    monkeypatch.setitem(targets.TARGETS, "planted", targets.Target(run, (b"good", b"evil"), 0.005))
    monkeypatch.setattr(fuzzing, "FOUND", tmp_path / "found")
    with pytest.raises(AssertionError, match="took" if fault == "slow" else "slow"):
        fuzzing.by_chance("planted", runs=1000, seconds=20, seed=1)
    (kept,) = (tmp_path / "found").iterdir()
    assert b"evil" in kept.read_bytes()
