"""The options that all of hailer bench has, what becomes of results, and the progress."""

from __future__ import annotations

import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from fcntl import ioctl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from hailer.cli.bench import BENCHES, Wanted, announce, bench, publish
from hailer.cli.bench_show import command as show
from hailer.cli.group import run_command
from hailer.errors import HailerError, UsageError
from hailer.tools.bench.progress import Progress, duration
from hailer.tools.bench.results import Case, Results, Subject, load

if TYPE_CHECKING:
    import click

    from hailer.cli.notes import Notes

RATES = {"thread": 1000.0, "epoll": 3000.0}


def measuring(rates: dict[str, float], *, interrupted: bool = False, failed: bool = False) -> click.Command:
    """A subcommand that measures nothing and finds these rates."""

    @bench("endpoint", known=("thread", "epoll"), example="hailer bench endpoint")
    def command(wanted: Wanted, notes: Notes) -> None:
        """Measure."""
        conditions = {"length": wanted.length, "seconds": str(wanted.seconds)}
        results = Results("endpoint", wanted.command, conditions)
        for name in wanted.only or rates:
            for number in range(1, (wanted.rounds or 2) + 1):
                results.add(Case("echo", "echo"), Subject(name), number, {"messages_per_s": rates[name]})
        publish(results, wanted, notes, interrupted=interrupted, failed=failed)

    return command


def run(*args: str, command: click.Command | None = None) -> Result:
    return CliRunner().invoke(command or measuring(RATES), args)


def test_results_are_tables_on_standard_output() -> None:
    done = run()
    assert done.exit_code == 0
    assert "length: normal\n" in done.stdout
    assert "echo   1,000  3,000\n" in done.stdout
    assert done.stderr == ""


def test_options_say_what_to_measure() -> None:
    done = run("--short", "--only", "epoll", "--seconds", "0.5", "--rounds", "3")
    assert "length: short\nseconds: 0.5\n" in done.stdout
    assert "thread" not in done.stdout
    assert "Medians of 3 rounds" not in run("--rounds", "1").stdout


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--short", "--long"], "leave one out"),
        (["--only", "thread,fork"], "fork is none of thread, epoll"),
        (["--only", " , "], "names nothing"),
        (["--json", "-", "--markdown", "-"], "exclude each other"),
        (["--json", "/no/such/place.json"], "cannot be written"),
        (["--html", "/"], "is a directory"),
        (["--html", "-"], "name one, such as"),
        (["--svg", "/dev/null/plots"], "nothing can be written into /dev/null/plots"),
        (["--compare", "/no/such/file.json"], "cannot be read"),
        (["--fail-below", "0.9"], "give --compare"),
    ],
)
def test_what_cannot_be_is_told_before_the_work_begins(args: list[str], sentence: str) -> None:
    error = run(*args).exception
    assert isinstance(error, UsageError)
    assert sentence in str(error)


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="there is no place that not even root may write to"
)
@pytest.mark.parametrize("option", ["--json", "--html", "--markdown", "--svg"])
def test_where_nothing_can_be_written_is_found_out_before_the_work_begins(option: str) -> None:
    name = "/proc/self" if option == "--svg" else "/proc/self/results"
    error = run(option, name).exception
    assert isinstance(error, UsageError)
    assert f"{name} cannot be written" in str(error) or f"nothing can be written into {name}" in str(error)


def test_what_is_there_stays_until_there_is_something_new(tmp_path: Path) -> None:
    old = tmp_path / "old.html"
    old.write_text("what was there")
    error = run("--html", str(old), "--json", str(tmp_path / "new.json"), "--markdown", "/").exception
    assert isinstance(error, UsageError)
    assert old.read_text() == "what was there"
    assert [each.name for each in tmp_path.iterdir()] == ["old.html"]


def test_who_reads_a_pipe_gets_the_results(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(pipe.read_text)
        run("--json", str(pipe))
        assert json.loads(reading.result(10))["kind"] == "endpoint"


def test_a_full_disk_does_not_cost_the_results() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    done = run("--html", "/dev/full")
    assert isinstance(done.exception, HailerError)
    assert "/dev/full could not be written (No space left on device)" in str(done.exception)
    assert "3,000" in done.stdout


def test_files_are_written(tmp_path: Path) -> None:
    files = {name: str(tmp_path / f"results.{name}") for name in ("json", "html", "markdown")}
    args = [word for name, path in files.items() for word in (f"--{name}", path)]
    assert run(*args, "--svg", str(tmp_path / "new" / "plots")).exit_code == 0
    assert load(files["json"]).values("echo", "epoll", "messages_per_s") == [3000, 3000]
    assert "<!doctype html>" in (tmp_path / "results.html").read_text()
    assert "| echo | 1,000 | **3,000** |" in (tmp_path / "results.markdown").read_text()
    assert [each.name for each in (tmp_path / "new" / "plots").iterdir()] == ["messages-delivered.svg"]


def test_json_or_markdown_may_be_all_of_standard_output() -> None:
    assert json.loads(run("--json", "-").stdout)["kind"] == "endpoint"
    assert run("--markdown", "-").stdout.startswith("# An endpoint under load\n")


def test_a_file_that_cannot_be_written_does_not_cost_the_results(tmp_path: Path) -> None:
    wanted: list[Wanted] = []

    @bench("endpoint", known=(), example="hailer bench endpoint")
    def command(wanted: Wanted, notes: Notes) -> None:
        """Measure."""
        (tmp_path / "gone").rmdir()
        results = Results("endpoint", "")
        results.add(Case("echo", "echo"), Subject("thread"), 1, {"messages_per_s": 1})
        publish(results, wanted, notes)

    (tmp_path / "gone").mkdir()
    html, other = str(tmp_path / "gone" / "page.html"), str(tmp_path / "results.json")
    done = run("--html", html, "--json", other, command=command)
    assert isinstance(done.exception, HailerError)
    assert "page.html could not be written" in str(done.exception)
    assert "Messages delivered" in done.stdout
    assert load(other).rows
    assert wanted == []


def test_older_results_are_compared_with(tmp_path: Path) -> None:
    old = str(tmp_path / "old.json")
    run("--json", old)
    faster = run("--compare", old, command=measuring({"thread": 2000.0, "epoll": 3000.0}))
    assert "thread: echo  1,000  2,000     2.00   ± 2%  better\n" in faster.stdout
    assert "Messages delivered: 1 of 2 within the noise" in faster.stdout
    assert faster.exit_code == 0
    assert "length differs: normal then, short now" in run("--short", "--compare", old).stderr


@pytest.mark.parametrize(("share", "code"), [("0.9", 1), ("0.5", 0)])
def test_what_became_worse_than_is_allowed_fails(tmp_path: Path, share: str, code: int) -> None:
    old = str(tmp_path / "old.json")
    run("--json", old)
    slower = measuring({"thread": 700.0, "epoll": 3000.0})
    done = run("--compare", old, "--fail-below", share, command=slower)
    assert done.exit_code == code
    assert ("Messages delivered of thread, echo is 0.70 of what it was" in done.stderr) == bool(code)


def test_results_of_another_kind_are_refused_before_the_work_begins(tmp_path: Path) -> None:
    Results("relay", "").save(tmp_path / "relay.json")
    error = run("--compare", str(tmp_path / "relay.json")).exception
    assert isinstance(error, UsageError)
    assert "no results of hailer bench endpoint" in str(error)


def test_an_early_end_and_failures_show_what_there_is_and_have_their_codes() -> None:
    done = run(command=measuring(RATES, interrupted=True))
    assert (done.exit_code, "3,000" in done.stdout) == (130, True)
    assert run(command=measuring(RATES, failed=True)).exit_code == 1


def test_the_command_to_repeat_it_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hailer", "bench", "endpoint", "--html", "a page.html"])
    done = run("--json", "-")
    assert json.loads(done.stdout)["command"] == "hailer bench endpoint --html 'a page.html'"


def test_how_long_it_will_take_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    @bench("endpoint", known=(), example="x")
    def command(wanted: Wanted, notes: Notes) -> None:
        """Measure."""
        announce(150, 60, wanted, notes)

    assert "about 2 minutes for 60 measurements; --short takes less; Ctrl-C" in run(command=command).stderr
    assert run("-q", command=command).stderr == ""
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", BENCHES)
def test_each_subcommand_can_be_asked_for_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", name, "--help"]) == 0
    told = capsys.readouterr().out
    for option in ("--json", "--html", "--svg", "--markdown", "--compare", "Example:"):
        assert option in told


def test_without_a_subcommand_they_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("hailer: say what to measure: one of relay, models, endpoint, show, such as ")
    assert told.count("\n") == 1


def test_a_subcommand_that_there_is_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", "everything"]) == 2
    assert "everything" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "drawn"), [("--plots", True), ("--no-plots", False)])
def test_a_terminal_gets_bars_and_tables_that_fit(tmp_path: Path, option: str, drawn: bool) -> None:
    path = tmp_path / "results.json"
    run("--json", str(path))
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        set_size(theirs, 60)
        command = [sys.executable, "-m", "hailer", "bench", "show", str(path), option]
        environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
        with subprocess.Popen(
            command, stdout=theirs, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            os.close(theirs)
            shown = b""
            try:
                while data := screen.read(4096):
                    shown += data
            except OSError:  # Linux says so that the other side is closed
                pass
            assert process.wait() == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
    text = shown.decode()
    assert "echo   1,000  3,000" in text
    assert ("█" in text) is drawn
    assert all(len(line) <= 60 for line in text.splitlines() if "█" in line)


def set_size(terminal: int, columns: int) -> None:
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_shows_how_far_it_is_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    with Progress(4) as progress:
        progress.now("round 1, a name that goes on and on and on\x1b[31m")
        progress.advance()
        progress.tell("nats FAILED\x07: gone")
        progress.now("round 2")
        progress.advance(3)
    shown = screen.getvalue().replace("\x1b[?25l", "").replace("\x1b[?25h", "")
    assert "1/4" in shown
    assert "4/4" in shown
    assert "round 1, a name that goes on and …" in shown
    assert "hailer: nats FAILED\\x07: gone" in shown
    assert "\x07" not in shown
    assert "\x1b[31m" not in shown
    assert max(map(len, shown.replace("\r", "\n").splitlines())) <= 80


def test_elsewhere_only_what_is_told_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with Progress(2, quiet=quiet) as progress:
            progress.now("round 1")
            progress.tell("nats FAILED")
            progress.advance(2)
    assert capsys.readouterr().err == "hailer: nats FAILED\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 second"), (45, "45 seconds"), (150, "2 minutes"), (5000, "83 minutes"), (9000, "2.5 hours")],
)
def test_durations_are_said_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_results_are_shown_again(tmp_path: Path) -> None:
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    first = run("--json", old).stdout
    run("--json", new, command=measuring({"thread": 2000.0, "epoll": 3000.0}))
    assert run(old, command=show).stdout == first
    again = run(new, "--compare", old, "--fail-below", "0.5", command=show)
    assert "new/old" in again.stdout
    assert again.exit_code == 0
    assert isinstance(run(str(tmp_path / "none.json"), command=show).exception, UsageError)
    assert run(old, "--short", command=show).exit_code == 2
