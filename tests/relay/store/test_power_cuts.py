"""What was acknowledged is there, whole, whenever the power goes and whatever the disk then has."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from hailer.relay.store.sqlite import SqliteStore
from tests.relay.store.disk import Disk, calls, record
from tests.relay.store.writer import newest, state, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hailer.relay.core.batch import Loaded, Page
    from tests.conftest import RequireProgram
    from tests.relay.store.disk import Call

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


def cut(directory: Path, recorded: list[Path], place: Path, cuts: int, seed: int, late: int = 0) -> Found:
    """Cut the power at random calls of processes that ran one after the other, and look what is there.

    Args:
        directory: where they ran.
        recorded: what they did.
        place: where the files are made again.
        cuts: how many.
        seed: of what is random.
        late: cut among so many last calls only.
    """
    random = Random(seed)
    done: list[Call | None] = []
    for each in recorded:
        done += [None, *calls(each)]
    first = next(at for at, call in enumerate(done) if call and call.path.endswith("relay.db"))
    if late:
        first = len(done) - late
    expected = states(COMMITS)
    disk, found = Disk(directory, random), Found()
    at = 0
    for until in sorted(random.randint(first, len(done)) for _ in range(cuts)):
        for call in done[at:until]:
            if call is None:
                disk.start()
            else:
                disk.do(call)
        at = until
        _look(disk, random, place, expected, found)
    return found


def _look(
    disk: Disk, random: Random, place: Path, expected: list[tuple[Loaded, list[Page]]], found: Found
) -> None:
    for file in place.iterdir():
        file.unlink()
    for name, content in disk.after_a_cut(random).items():
        (place / name).write_bytes(content)
    begun, acknowledged = _most("begin", disk.said), _most("did|held", disk.said)
    found.cuts += 1
    store = SqliteStore(place / "relay.db")
    try:
        held = newest(store.load())
        [verdict] = store._one("PRAGMA integrity_check")
        if verdict != "ok" or held > begun or state(store) != expected[held]:
            found.corrupt.append(f"cut {found.cuts}: {verdict}, {held} of {begun} held")
        found.lost += held < acknowledged
        found.more += held > acknowledged
    finally:
        store.close()


def _most(word: str, said: str) -> int:
    return max((int(number) for number in re.findall(rf"^(?:{word}) (\d+)$", said, re.MULTILINE)), default=0)


@pytest.fixture
def fast() -> Iterator[Path]:
    """Where files are made again after a cut: in memory, if this system has such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        yield Path(place)


@pytest.mark.timeout(1800 if LONG else 400)
def test_nothing_acknowledged_is_lost(tmp_path: Path, fast: Path, require_program: RequireProgram) -> None:
    file = tmp_path / "relay.db"
    said = record(require_program("strace"), tmp_path / "calls", file, COMMITS, "FULL")
    assert said.endswith(f"did {COMMITS}\n")
    found = cut(tmp_path, [tmp_path / "calls"], fast, CUTS, seed=1)
    assert not found.corrupt
    assert (found.cuts, found.lost) == (CUTS, 0)
    assert found.more, "no cut came between a commit and its acknowledgement: is this a test?"


@pytest.mark.timeout(400)
def test_the_control_loses_some(tmp_path: Path, fast: Path, require_program: RequireProgram) -> None:
    """With synchronous=NORMAL no commit is flushed. SQLite then promises that nothing is corrupt, no more."""
    file = tmp_path / "relay.db"
    record(require_program("strace"), tmp_path / "calls", file, COMMITS, "NORMAL")
    found = cut(tmp_path, [tmp_path / "calls"], fast, 200, seed=2)
    assert not found.corrupt
    assert found.lost > 50


# A flush that fails is as good as a power cut for what was to be flushed, and the process goes on. The second
# number makes each so many of them fail: those of commits, of checkpoints and of attempts to recover.
@pytest.mark.parametrize("when", ["12+7", "14+4", "11+9"])
@pytest.mark.timeout(600 if LONG else 400)
def test_flushes_that_fail_and_then_the_power(
    tmp_path: Path, fast: Path, require_program: RequireProgram, when: str
) -> None:
    file = tmp_path / "relay.db"
    inject = f"fdatasync,fsync:error=EIO:when={when}"
    said = record(require_program("strace"), tmp_path / "calls", file, COMMITS, "FULL", inject=inject)
    assert said.count("\nnot ") > 5
    assert said.endswith(f"did {COMMITS}\n")
    found = cut(tmp_path, [tmp_path / "calls"], fast, CUTS // 5, seed=3)
    assert not found.corrupt
    assert (found.cuts, found.lost) == (CUTS // 5, 0)


# What the first process did not flush, or could not, is still read by the second as if it were there. What
# this one says that it holds has to be.
@pytest.mark.parametrize("fate", ["signal=KILL", "error=EIO"])
@pytest.mark.timeout(600 if LONG else 400)
def test_a_relay_that_follows_a_killed_one_and_then_the_power(
    tmp_path: Path, fast: Path, require_program: RequireProgram, fate: str
) -> None:
    strace, file = require_program("strace"), tmp_path / "relay.db"
    lost = {"FULL": 0, "ONCE": 0}
    for when in range(11, 31, 1 if LONG else 4):
        for how in lost:
            for old in tmp_path.glob("relay.db*"):
                old.unlink()
            records = [tmp_path / "first", tmp_path / "second"]
            inject = f"fdatasync,fsync:{fate}:when={when}"
            begun = _most("begin", record(strace, records[0], file, COMMITS, "FULL", "", 0, inject=inject))
            record(strace, records[1], file, begun, how)
            found = cut(tmp_path, records, fast, CUTS // 50, seed=when, late=3)
            lost[how] += found.lost
            assert how == "ONCE" or not found.corrupt
    assert lost["FULL"] == 0
    assert lost["ONCE"], "the control lost nothing"
