"""Real measurements, as short as can be, by the command that users type."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from hailer.cli import bench_models
from hailer.tools.bench.models.plan import MODELS, TRANSPORTS

if TYPE_CHECKING:
    from pathlib import Path

LONG = os.environ.get("HAILER_LONG") == "1"
# One of each kind; that all of them serve is tested beside.
SOME = tuple(MODELS) if LONG else ("iterative", "fork", "thread", "epoll", "uvloop")

COMMAND = [sys.executable, "-m", "hailer", "bench", "models", "--rounds", "1"]


def bench(*words: str, seconds: float = 0.2) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "--seconds", str(seconds), *words]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
        # A machine that is busy with other tests may leave a server no time at all.
        if "was not measured in round" not in done.stdout + done.stderr:
            break
    return done


def measured(done: subprocess.CompletedProcess[str]) -> dict[tuple[str, str], dict[str, float]]:
    assert done.returncode == 0, done.stderr
    document: Any = json.loads(done.stdout)
    return {(row["case"], row["subject"]): row["figures"] for row in document["rows"]}


def test_each_kind_of_model_has_every_figure() -> None:
    words = ("--service", "echo", "--transports", "tcp", "--clients", "12", "--only", ",".join(SOME))
    done = bench(*words, "--json", "-", seconds=0.4 if LONG else 0.2)
    rows = measured(done)
    for model in SOME:
        rest = rows["echo over tcp, at rest", model]
        assert rest["memory_kib"] > 1000
        clients = "1 client" if model == "iterative" else "12 clients"
        some = rows[f"echo over tcp, {clients}", model]
        assert {"messages_per_s", "p50_us", "max_us", "load_busy", "subject_busy", "memory_kib"} <= set(some)
        assert some["messages_per_s"] > 0
        assert 1 < some["cpu_us"] < 1e5
        connect = rows["echo over tcp, a connection a message", model]
        assert connect["accepts_per_s"] > 0
        if sys.platform == "linux":
            both = some["voluntary_switches"] + some["involuntary_switches"]
            assert some["context_switches"] == pytest.approx(both, abs=0.001)
    # A process of Python takes many times what a thread takes.
    each = {
        model: rows["echo over tcp, 12 clients", model]["kib_per_connection"] for model in ("fork", "thread")
    }
    assert each["fork"] > 5 * each["thread"]
    assert "measurements, about" in done.stderr


def test_every_transport() -> None:
    done = bench("--short", "--service", "echo", "--only", "uvloop", "--clients", "2", "--json", "-",
                 "--transports", ",".join(TRANSPORTS))  # fmt: skip
    rows = measured(done)
    notes = json.loads(done.stdout)["notes"]
    for transport in TRANSPORTS:
        if transport != "tcp6" or _has_ipv6():
            assert (f"echo over {transport}, 2 clients", "uvloop") in rows, notes


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_handler_of_ones_own_with_what_it_is_told(tmp_path: Path) -> None:
    handler = tmp_path / "own.py"
    handler.write_text("def reply(message):\n    return {b'hello': b'good day'}[message]\n")
    out, html = tmp_path / "out.json", tmp_path / "out.html"
    words = ("--service", f"{handler}:reply", "--message", "hello", "--only", "select", "--transports", "tcp")
    done = bench(*words, "--clients", "3", "--json", str(out), "--html", str(html))
    assert done.returncode == 0, done.stderr
    assert "own over tcp, 3 clients" in done.stdout
    assert json.loads(out.read_text())["kind"] == "models"
    assert "<svg" in html.read_text()


def test_a_handler_that_a_model_cannot_run_is_a_note(tmp_path: Path) -> None:
    handler = tmp_path / "own.py"
    handler.write_text(
        "def handle(connection):\n    for message in connection:\n        connection.send(message)\n"
    )
    words = ("--service", f"{handler}:handle", "--only", "thread,select", "--transports", "tcp")
    done = bench(*words, "--clients", "2", "--cores", "1")
    assert done.returncode == 0, done.stderr
    assert "select was not measured" in done.stderr
    assert "choose the model iterative, fork, prefork or thread" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--service", "nonsense"], "there is no service 'nonsense' here"),
        (["--service", "nowhere:handle"], "there is no module 'nowhere'"),
        (["--only", "spoon"], "--only: spoon is none of"),
        (["--transports", "pigeon"], "--transports: pigeon is none of"),
        (["--clients", "0"], "no numbers of clients"),
        (["--message", "x"], "--message is for a handler of your own"),
        (["--cores", "1000"], "--cores 1000 are more than there are here"),
    ],
)
def test_a_wrong_word_is_refused(words: list[str], says: str) -> None:
    done = bench(*words)
    assert done.returncode == 2, done.stderr
    assert says in " ".join(done.stderr.split())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_end_before_the_end(number: signal.Signals, code: int) -> None:
    """Ctrl-C shows what there is; after both nothing is left that runs."""
    words = ("--service", "echo", "--only", "select", "--transports", "tcp", "--clients", "1,2,3")
    command = [*COMMAND, "--seconds", "0.1", *words, "--rounds", "50", "-v"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        root = psutil.Process(process.pid)
        deadline = time.monotonic() + 30
        seen: set[psutil.Process] = set()
        # It serves, and so much is done that there is something to show.
        while time.monotonic() < deadline and len(seen) < 4:
            assert process.poll() is None
            seen |= set(root.children(recursive=True))
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert ("note: interrupted after" in out) is (number is signal.SIGINT)
    assert ("echo over tcp, 1 client" in out) is (number is signal.SIGINT)
    _, alive = psutil.wait_procs(seen, 10)
    assert not alive


def test_the_names_in_the_help_are_those_of_the_plan() -> None:
    assert tuple(MODELS) == bench_models._MODELS
    assert tuple(TRANSPORTS) == bench_models._TRANSPORTS


def test_the_help_imports_no_measurement() -> None:
    code = "import sys, hailer.cli.bench_models; sys.exit('hailer.tools.bench.machine' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
