"""A directory of plans: what is in it, and that nothing else can be reached."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from hailer.errors import UsageError
from hailer.runtime.blocking import run_to_end
from hailer.services import SERVICES
from hailer.services.plans import FingerDirectory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.services.conftest import Serve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("not yours")
    plans = tmp_path / "plans"
    plans.mkdir()
    (plans / "alice").write_bytes(b"Write more\r\ntests.\n\n")
    (plans / "bob-2.x").write_bytes(b"")
    return plans


def about(folder: Path, name: str, *, wide: bool = False) -> Sequence[str] | None:
    return run_to_end(FingerDirectory(folder).about(name, wide=wide))


def names(folder: Path) -> Sequence[str]:
    return run_to_end(FingerDirectory(folder).names())


def test_plans(folder: Path) -> None:
    assert names(folder) == ["alice", "bob-2.x"]
    assert about(folder, "alice") == ["Login: alice", "Plan:", "Write more", "tests."]
    assert about(folder, "bob-2.x") == ["Login: bob-2.x", "No plan."]
    assert about(folder, "carol") is None


def test_more_if_wished(folder: Path) -> None:
    lines = about(folder, "alice", wide=True)
    assert lines is not None
    assert re.fullmatch(r"Changed: \d{4}-\d\d-\d\d \d\d:\d\d UTC \(20 bytes\)", lines[1])


def test_they_are_read_anew(folder: Path) -> None:
    source = FingerDirectory(folder)
    (folder / "carol").write_text("New here.")
    (folder / "alice").unlink()
    assert run_to_end(source.names()) == ["bob-2.x", "carol"]
    assert run_to_end(source.about("carol", wide=False)) == ["Login: carol", "Plan:", "New here."]


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "..", ".", ".hidden", "", "alice/", "alice\0", "a" * 65, "alïce", "alice\n"],
)
def test_names_that_lead_elsewhere(folder: Path, name: str) -> None:
    (folder / ".hidden").write_text("hidden")
    (folder / ("a" * 65)).write_text("long")
    assert about(folder, name) is None
    assert names(folder) == ["alice", "bob-2.x"]


def test_what_is_no_plain_file(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "inner").symlink_to(folder / "alice")
    (folder / "box").mkdir()
    os.mkfifo(folder / "pipe")
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 (Path.iterdir would be counted differently)
    for name in ("link", "inner", "box", "pipe"):
        assert about(folder, name) is None, name
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
    assert names(folder) == ["alice", "bob-2.x"]


def test_a_large_plan_is_cut_with_a_word(folder: Path) -> None:
    (folder / "alice").write_bytes(b"line\n" * 100_000)
    lines = about(folder, "alice")
    assert lines is not None
    assert sum(map(len, lines)) < 17_000
    assert "at most 16384 bytes" in lines[-1]


def test_no_directory(folder: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        SERVICES["finger"].build(directory=str(folder / "none"))
    with pytest.raises(UsageError, match="Not a directory"):
        SERVICES["finger"].build(directory=str(folder / "alice"))


def test_a_directory_that_vanishes(folder: Path, serve: Serve) -> None:
    served = serve(SERVICES["finger"].build(directory=str(folder)), SERVICES["finger"].framing)
    assert served.ask(b"\r\n") == b"alice\r\nbob-2.x\r\n"
    folder.rename(folder.with_name("moved"))
    assert served.ask(b"\r\n") == b"The users cannot be listed now, try again later.\r\n"
    assert served.ask(b"alice\r\n") == b"alice: no such user.\r\n"
    assert served.server.counters.handler_failures == 0


def test_a_plan_that_would_move_the_cursor(folder: Path, serve: Serve) -> None:
    (folder / "alice").write_bytes(b"\x1b[2J\xff\xc3\xa9\n\x9b\rforged\n")
    served = serve(SERVICES["finger"].build(directory=str(folder)), SERVICES["finger"].framing)
    answer = served.ask(b"alice\r\n")
    assert answer == (
        b"Login: alice\r\nPlan:\r\n" + rb"\x1b[2J\ufffd\xe9" + b"\r\n" + rb"\ufffd\rforged" + b"\r\n"
    )
