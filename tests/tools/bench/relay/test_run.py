"""All rounds, and the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil

from hailer.cli.exits import INTERRUPTED
from hailer.tools.bench.progress import Progress
from hailer.tools.bench.relay import run as run_module
from hailer.tools.bench.relay.peers import Peer
from hailer.tools.bench.relay.plan import Load, Plan
from hailer.tools.bench.relay.run import Run, measure
from hailer.tools.bench.results import Results, load

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.conftest import RequireProgram

COMMAND = (sys.executable, "-m", "hailer", "bench", "relay")


def a_run(folder: Path) -> Run:
    return Run(Results("relay", "hailer bench relay"), Progress(1, quiet=True), folder)


def test_what_fails_is_a_note_and_the_others_go_on(tmp_path: Path) -> None:
    dud = Peer("dud", "floor", "1", "", (sys.executable, "-c", "import sys; sys.exit('no such luck')"))
    run = a_run(tmp_path)
    assert measure(Plan((Load("pipeline", 2), Load("mixed-post", 2)), 2, 0.1), [dud], run)
    assert not run.clean
    assert run.results.rows == []
    notes = "\n".join(run.results.notes)
    assert "dud, pipeline, 2 pairs, round 1 FAILED: the relay ended with 1; it said: no such luck" in notes
    assert "round 2 FAILED" in notes
    assert "dud was not measured in mixed sizes to 2, 10 % stored" in notes
    assert "cores" in run.results.conditions


def test_an_interruption_keeps_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "measure_one", interrupt)
    run = a_run(tmp_path)
    assert not measure(Plan((Load("pipeline", 2),), 2, 0.1), [Peer("x", "floor", "1", "", ())], run)
    assert run.results.notes == ["interrupted when 0 of 2 measurements were made"]
    assert "cores" in run.results.conditions


def test_the_command_measures_the_floor_and_writes_its_files(
    tmp_path: Path, require_program: RequireProgram
) -> None:
    require_program("cc")
    page, figures, text = tmp_path / "page.html", tmp_path / "figures.json", tmp_path / "page.md"
    command = [*COMMAND, "pipeline", "paced", "idle", "--short", "--seconds", "0.1", "--only", "floor"]
    command += ["--json", str(figures), "--html", str(page), "--markdown", str(text), "--count", "12"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "for 3 measurements" in done.stderr
    assert "pipeline, 12 pairs" in done.stdout
    assert "| pipeline, 12 pairs |" in text.read_text()
    assert "<svg" in page.read_text()
    results = load(figures)
    assert results.median("pipeline, 12 pairs", "floor", "messages_per_s")
    assert results.median("idle, 12 connections", "floor", "logins_per_s")
    paced = "paced at 50 % of its pingpong, 12 pairs"
    assert results.median(paced, "floor", "late_us") is not None
    assert results.percentiles[paced, "floor"][-1][1] == results.median(paced, "floor", "max_us")
    assert json.loads(figures.read_text())["subjects"][0]["settings"] == "a relay in C without features"


def test_a_wrong_word_is_refused_with_the_right_ones() -> None:
    for words in (["--only", "flor"], ["pipelin"]):
        done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert words[-1] in done.stderr
        assert "mosquitto" in done.stderr or "fanout" in done.stderr


def test_being_told_to_end_stops_the_relay_that_runs(tmp_path: Path) -> None:
    command = [*COMMAND, "pipeline", "--only", "hailer", "--seconds", "60", "--short"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        try:
            while not list(tmp_path.glob("hailer-bench-*/hailer.log")):
                assert process.poll() is None
                time.sleep(0.01)
            relay = list(tmp_path.glob("hailer-bench-*/data-*"))
            assert relay
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    assert process.returncode == INTERRUPTED
    assert not list(tmp_path.iterdir())
    left = [each for each in psutil.process_iter(["cwd"]) if str(tmp_path) in (each.info["cwd"] or "")]
    assert not left
