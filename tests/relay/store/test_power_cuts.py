"""What was acknowledged is there, whole, whenever the power goes and whatever the disk then has."""

from __future__ import annotations

import os
import re
from random import Random
from typing import TYPE_CHECKING

import pytest

from hailer.relay.store.sqlite import SqliteStore
from tests.relay.store.disk import Disk, calls, record
from tests.relay.store.writer import state, states

if TYPE_CHECKING:
    from pathlib import Path

    from hailer.relay.core.batch import Loaded, Page
    from tests.conftest import RequireProgram

LONG = os.environ.get("HAILER_LONG") == "1"
CUTS = 20_000 if LONG else 1_000
COMMITS = 60


class Found:
    """What the cuts left."""

    def __init__(self) -> None:
        self.cuts = 0
        self.lost = 0
        self.more = 0
        """Cuts after which a batch was held that had not been acknowledged."""
        self.corrupt: list[str] = []


def cut(directory: Path, recorded: Path, place: Path, cuts: int, seed: int) -> Found:
    """Cut the power at random calls of a record, and look what is there."""
    random = Random(seed)
    done = calls(recorded)
    first = next(at for at, call in enumerate(done) if call.path.endswith("relay.db"))
    expected = states(COMMITS)
    disk, found = Disk(directory, random), Found()
    at = 0
    for until in sorted(random.randint(first, len(done)) for _ in range(cuts)):
        while at < until:
            disk.do(done[at])
            at += 1
        _look(disk, random, place, expected, found)
    return found


def _look(
    disk: Disk, random: Random, place: Path, expected: list[tuple[Loaded, list[Page]]], found: Found
) -> None:
    for file in place.iterdir():
        file.unlink()
    for name, content in disk.after_a_cut(random).items():
        (place / name).write_bytes(content)
    begun, acknowledged = _last("begin", disk.said), _last("did", disk.said)
    found.cuts += 1
    store = SqliteStore(place / "relay.db")
    try:
        held = store.load().age
        [verdict] = store._one("PRAGMA integrity_check")
        if verdict != "ok" or held > begun or state(store) != expected[held]:
            found.corrupt.append(f"cut {found.cuts}: {verdict}, {held} of {begun} held")
        found.lost += held < acknowledged
        found.more += held > acknowledged
    finally:
        store.close()


def _last(word: str, said: str) -> int:
    numbers = re.findall(rf"^{word} (\d+)$", said, re.MULTILINE)
    return int(numbers[-1]) if numbers else 0


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    """Where files are made again after a cut; nothing there needs a disk."""
    place = tmp_path / "after"
    place.mkdir()
    return place


@pytest.mark.timeout(1800 if LONG else 120)
def test_nothing_acknowledged_is_lost(tmp_path: Path, fast: Path, require_program: RequireProgram) -> None:
    file = tmp_path / "relay.db"
    said = record(require_program("strace"), tmp_path / "calls", file, COMMITS)
    assert said.endswith(f"did {COMMITS}\n")
    found = cut(tmp_path, tmp_path / "calls", fast, CUTS, seed=1)
    assert not found.corrupt
    assert (found.cuts, found.lost) == (CUTS, 0)
    assert found.more, "no cut came between a commit and its acknowledgement: is this a test?"


@pytest.mark.timeout(120)
def test_the_control_loses_some(tmp_path: Path, fast: Path, require_program: RequireProgram) -> None:
    """With synchronous=NORMAL no commit is flushed. SQLite then promises that nothing is corrupt, no more."""
    file = tmp_path / "relay.db"
    record(require_program("strace"), tmp_path / "calls", file, COMMITS, "NORMAL")
    found = cut(tmp_path, tmp_path / "calls", fast, 200, seed=2)
    assert not found.corrupt
    assert found.lost > 50


# A flush that fails is as good as a power cut for what was to be flushed, and the process goes on. The second
# number makes each so many of them fail: those of commits, of checkpoints and of attempts to recover.
@pytest.mark.parametrize("when", ["12+7", "14+4", "11+3"])
@pytest.mark.timeout(600 if LONG else 120)
def test_flushes_that_fail_and_then_the_power(
    tmp_path: Path, fast: Path, require_program: RequireProgram, when: str
) -> None:
    file = tmp_path / "relay.db"
    inject = f"fdatasync,fsync:error=EIO:when={when}"
    said = record(require_program("strace"), tmp_path / "calls", file, COMMITS, inject=inject)
    assert said.count("\nnot ") > 5
    assert said.endswith(f"did {COMMITS}\n")
    found = cut(tmp_path, tmp_path / "calls", fast, CUTS // 5, seed=3)
    assert not found.corrupt
    assert (found.cuts, found.lost) == (CUTS // 5, 0)
