"""A disk that is full or fails: sentences, nothing acknowledged that is not there, and a way back."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hailer.relay.store.sqlite import SqliteStore
from tests.relay.store.disk import WRITER, record
from tests.relay.store.writer import newest, state, states

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RequireProgram

COMMITS = 60


def check(file: Path, said: str) -> int:
    """That what was acknowledged is in the file, in order and once; gives how much."""
    acknowledged = [int(number) for number in re.findall(r"^did (\d+)$", said, re.MULTILINE)]
    assert acknowledged == sorted(set(acknowledged))
    for sentence in re.findall(r"^(?:not \d+|still|untidy|unopened) (.*)$", said, re.MULTILINE):
        assert str(file) in sentence
        assert re.search(r": (make room|look at its disk|correct that)", sentence), sentence
    store = SqliteStore(file)
    try:
        held = newest(store.load())
        assert store._one("PRAGMA integrity_check") == ("ok",)
        assert state(store) == states(held)[held]
    finally:
        store.close()
    assert held >= max(acknowledged, default=0)
    return len(acknowledged)


# The first number is about the first call after the file was made; the second leaves enough calls between two
# that fail for a recovery and a large commit.
@pytest.mark.parametrize(
    "inject",
    [
        "fdatasync,fsync:error=EIO:when=12+7",
        "fdatasync,fsync:error=EIO:when=12+6",
        "pwrite64:error=EIO:when=40+67",
        "pwrite64:error=ENOSPC:when=40+71",
        "ftruncate:error=EIO:when=1+2",
    ],
)
def test_calls_that_fail_now_and_then(tmp_path: Path, require_program: RequireProgram, inject: str) -> None:
    file = tmp_path / "relay.db"
    said = record(require_program("strace"), tmp_path / "calls", file, COMMITS, "FULL", inject=inject)
    assert "not " in said or "untidy " in said
    assert "back " in said
    assert said.endswith(f"did {COMMITS}\n")
    check(file, said)


@pytest.mark.parametrize("first", range(1, 30, 4))
def test_flushes_that_fail_for_good(tmp_path: Path, require_program: RequireProgram, first: int) -> None:
    """From any of them on: nothing is acknowledged any more, and it does not recover."""
    file = tmp_path / "relay.db"
    inject = f"fdatasync,fsync:error=EIO:when={first}+"
    said = record(require_program("strace"), tmp_path / "calls", file, COMMITS, "FULL", inject=inject)
    assert "back " not in said
    assert re.search(r"^(unopened .*|lost patience)$", said.splitlines()[-1])
    assert "did" not in said.partition("\nnot ")[2]
    assert check(file, said) < 20


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    file = tmp_path / "relay.db"
    command = [sys.executable, str(WRITER), str(file), str(COMMITS), "FULL", "150000"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    _full_and_back(file, said)


def test_a_disk_that_is_full(tmp_path: Path, require_program: RequireProgram) -> None:
    """A small one of its own, of which a large file takes most until it is removed."""
    require_program("unshare")
    place = tmp_path / "small"
    place.mkdir()
    script = (
        f"mount -t tmpfs -o size=1m none {place} && head -c 800000 /dev/zero >{place}/ballast && "
        f"{sys.executable} {WRITER} {place}/relay.db {COMMITS} FULL {place}/ballast && "
        f"cp {place}/relay.db* {tmp_path}"
    )
    try:
        subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=True, timeout=30)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this system lets nobody mount: {error.stderr.decode()}")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    said = done.stdout.replace(str(place), str(tmp_path))
    assert f"the disk of {tmp_path}/relay.db is full: make room, and mail is taken again" in said
    _full_and_back(tmp_path / "relay.db", said)


def _full_and_back(file: Path, said: str) -> None:
    before, _, after = said.partition("\nroom\n")
    assert "\ndid " in before
    assert before.splitlines()[-1].startswith("still ")
    assert after.startswith("back ")
    assert after.endswith(f"did {COMMITS}\n")
    # What was refused and yet held is not acknowledged; nothing else is missing.
    assert check(file, said) >= COMMITS - said.count("\nback ")
