"""The echo measurements: a few tiny cells, servers that fail, and the page that is made of them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.echo import build_load
from bench.echo_report import EchoCell, EchoResults, Slice, render
from bench.echo_servers import GROUPS, reason_against
from hailer.tools.bench.machine import Cores

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        reason = "no C compiler to build the load with: install gcc"
        if os.environ.get("HAILER_NO_SKIP") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return build_load(tmp_path_factory.mktemp("load"))


def bench(*arguments: str, seconds: float = 0.1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "echo", *arguments, "--rounds", "1", "--seconds", str(seconds)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.usefixtures("program")
def test_each_model_beside_its_floor(tmp_path: Path) -> None:
    out = tmp_path / "echo.json"
    done = bench("--connections", "3", "--sizes", "100", "--pipeline", "4", "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    measured = {(one["model"], one["server"]) for one in json.loads(out.read_text())["slices"]}
    wanted = {(model, name) for model, names in GROUPS.items() for name in names}
    # What is missing is said, not left out.
    assert measured == {(model, name) for model, name in wanted if reason_against(name) is None}
    for name in itertools.chain.from_iterable(GROUPS.values()):
        if reason := reason_against(name):
            assert f"{name} was not measured: {reason}" in done.stdout
    assert "| asyncio |" in done.stdout


@pytest.mark.usefixtures("program")
def test_large_messages_and_turns(tmp_path: Path) -> None:
    out = tmp_path / "echo.json"
    arguments = ("--models", "iterative,thread", "--servers", "hailer:iterative,hailer:thread")
    done = bench(*arguments, "--connections", "2", "--sizes", "300000", "--json", str(out), seconds=0.5)
    assert done.returncode == 0, done.stdout + done.stderr
    slices = json.loads(out.read_text())["slices"]
    assert len(slices) == 4
    assert all(one["messages_per_s"] > 0 for one in slices)


CHEATS = {
    "it sent other bytes than it was sent": "while d := c.recv(9999): c.sendall(d.replace(b'1', b'2'))",
    "it sent more than it was sent": "d = c.recv(9999); c.sendall(d + d); c.recv(9999)",
    "it closed a connection": "c.recv(9999)",
}


@pytest.mark.parametrize("said", CHEATS)
def test_a_server_that_cheats_is_found_out(said: str, program: Path) -> None:
    code = (
        "import socket; l = socket.create_server(('127.0.0.1', 0)); print(l.getsockname()[1], flush=True)\n"
    )
    code += f"c, _ = l.accept()\n{CHEATS[said]}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        done = subprocess.run(
            [program, port, "1", "10", "3", "0"],
            input="0.1\n",
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        server.kill()
    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.parametrize(
    "arguments", [("--models", "fork,spoon"), ("--sizes", "0"), ("--servers", "nobody"), ("--sizes", "x")]
)
def test_a_wrong_word_is_refused(arguments: tuple[str, str]) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert "error:" in done.stderr


def test_the_page_has_medians_and_ratios_of_what_was_side_by_side() -> None:
    cell = EchoCell(65536, 1000, 32)
    results = EchoResults([cell], ["thread"], Cores(0, 1), 3, 0.1)
    results.slices["thread", cell, "floor:thread"] = [Slice(n, 10.0, 0.9, 0.5) for n in (1e5, 2e5, 4e5)]
    results.slices["thread", cell, "hailer:thread"] = [Slice(n, 20.0, 0.5, 0.99) for n in (8e4, 1e5, 4e5)]
    results.notes.append("trio was not measured: trio is not installed")
    page = render(results)
    assert "| server | 64 KiB × 32, 1,000 |" in page
    assert "| thread | 0.80 |" in page
    assert "| floor:thread (thread) | 200 |" in page
    assert "| hailer:thread (thread) | 100 \\* |" in page, "the load was the limit"
    assert "| hailer:thread (thread) | 0.50 |" in page
    assert "- trio was not measured: trio is not installed" in page
