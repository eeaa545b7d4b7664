"""Plans of durable measurements, and hailer bench relay --durable."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hailer.cli import bench_relay
from hailer.tools.bench.durable.plan import PARTS, Load, make_plan
from hailer.tools.bench.durable.stores import STORES
from hailer.tools.bench.relay.peers import Peer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RequireProgram

BENCH = (sys.executable, "-m", "hailer", "bench", "relay", "--durable")


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*BENCH, "--folder", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_knows_all_names() -> None:
    assert bench_relay._STORES == STORES
    assert bench_relay._PARTS == PARTS


@pytest.mark.parametrize("length", ["short", "normal", "long"])
def test_no_two_cases_are_called_the_same(length: str) -> None:
    loads = make_plan(length).loads  # type: ignore[arg-type]
    titles = [case.title for load in loads for case in load.cases().values()]
    assert len(set(titles)) == len(titles)
    assert {load.part for load in loads} == set(PARTS)


@pytest.mark.parametrize(
    ("load", "titles"),
    [
        (Load("post", 1), ["stored, 1 sender"]),
        (Load("post", 100, 1024, apart=False), ["stored, 100 senders, 1 KiB, any core"]),
        (Load("receive", 100), ["stored and taken, 100 senders"]),
        (Load("alone", size=1024), ["one message alone, 1 KiB"]),
        (Load("beside", 10, live="pingpong", commits="none"), ["pingpong, 10 pairs"]),
        (
            Load("beside", 10, live="pingpong", commits="slow"),
            ["pingpong, 10 pairs, commits on a slow disk beside", "commit on a slow disk beside pingpong"],
        ),
    ],
)
def test_the_titles_of_cases(load: Load, titles: list[str]) -> None:
    assert [case.title for case in load.cases().values()] == titles


def test_what_is_measured_of_each_store() -> None:
    def parts(name: str, dialect: str) -> set[str]:
        store = Peer(name, dialect, "", "", ())
        return {f"{load.part} {load.commits}".strip() for _, load, _ in make_plan("long").steps([store])}

    assert parts("hailer", "hailer") == {
        *("post", "receive", "alone", "opening"),
        *("beside none", "beside fast", "beside slow"),
    }
    assert parts("nats-always", "nats") == {"post", "receive", "alone", "beside none", "beside fast"}
    assert parts("sqlite-1", "") == {"alone"}
    assert parts("sqlite-1000", "") == {"post"}
    assert parts("sink", "hailer") == {"post", "alone"}


def test_the_command_measures_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    file = tmp_path / "figures.json"
    words = ["--short", "--seconds", "0.1", "--only", "hailer,sink,sqlite-1,sqlite-1000"]
    done = bench(folder, *words, "--parts", "post,alone", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "Messages stored" in done.stdout
    rows = json.loads(file.read_text())["rows"]
    measured = {(row["case"], row["subject"]) for row in rows}
    posts = {(f"stored, {n} senders", name) for n in (10, 100) for name in ("hailer", "sink", "sqlite-1000")}
    assert measured == posts | {("one message alone", name) for name in ("hailer", "sink", "sqlite-1")}
    assert all(("p99_us" if "alone" in row["case"] else "stored_per_s") in row["figures"] for row in rows)
    assert [*folder.iterdir()] == []


def test_live_messages_beside_commits_on_a_slow_disk(tmp_path: Path, require_program: RequireProgram) -> None:
    require_program("cc")
    done = bench(
        tmp_path, "--short", "--seconds", "0.1", "--only", "hailer", "--parts", "beside", "--json", "-"
    )
    assert done.returncode == 0, done.stderr
    median = {row["case"]: row["figures"].get("p50_us", 0) for row in json.loads(done.stdout)["rows"]}
    assert median["commit on a slow disk beside pingpong"] > 20_000
    assert median["pingpong, 10 pairs, commits on a slow disk beside"] < 20_000, "live ones do not wait"
    assert len(median) == 10


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--only", "nobody"], "nobody is none of"),
        (["--only", "ngircd"], "ngircd is none of hailer, hailer-memory"),
        (["--parts", "post,pot"], "pot is none of"),
        (["--folder", "/dev/null/nowhere"], "--folder"),
        (["pipeline"], "name --parts instead"),
        (["--only", "sink", "--parts", "opening"], "nothing that is wanted"),
    ],
)
def test_a_wrong_word_is_refused(words: list[str], complaint: str, tmp_path: Path) -> None:
    done = bench(tmp_path, *words)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_parts_are_of_durable_alone() -> None:
    command = [*BENCH[:-1], "--parts", "post"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--parts is of --durable" in done.stderr
