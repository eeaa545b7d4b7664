"""Handlers named on the command line: what is found, in which place, and what is said where nothing is."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Process, Run

    Start = Callable[..., Process]

REPLY = 'def reply(message): return b"own " + message\n'


def ask(process: Process) -> bytes:
    """What it answers to a line."""
    line = process.read_until(b"\n").decode()
    endpoint = Endpoint.parse(line.strip().removeprefix("listening on "))
    with socket.create_connection((endpoint.host, int(endpoint.port or 0)), 10) as client:
        client.sendall(b"hello\n")
        return client.recv(100)


@pytest.mark.parametrize("file", ["json.py", "hailer.py", "with-dash.py", "a.b.py", "in/it.py", "socket.py"])
def test_a_file_may_be_called_as_it_likes(start: Start, tmp_path: Path, file: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / file).write_text(f"import json, hailer\njson.loads, hailer.Server\n{REPLY}")
    process = start("serve", f"{file}:reply", "tcp4://127.0.0.1:0", "--model", "thread", PYTHONSAFEPATH="1")
    assert ask(process) == b"own hello\n"


def test_files_beside_it_take_no_place_of_the_standard_library(start: Start, tmp_path: Path) -> None:
    for name in ("queue", "random", "secrets", "statistics", "selectors"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this is not the one')\n")
    (tmp_path / "beside.py").write_text(REPLY)
    (tmp_path / "own.py").write_text("import statistics\nfrom beside import reply\n")
    for named in ("own:reply", "own.py:reply"):
        process = start("serve", named, "tcp4://127.0.0.1:0", "--model", "prefork", PYTHONSAFEPATH="1")
        assert ask(process) == b"own hello\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["own.py"], b"own.py is a file: name the function in it too, as in own.py:handle"),
        (["own:"], b"names no handler"),
        (["..:reply"], b"names no handler"),
        (["in/own:reply"], b"names no handler"),
        (["tcp://localhost:7000"], b"name a service first, as in hailer serve echo tcp://localhost:7000"),
        (["localhost:7000"], b"name a service first, as in hailer serve echo localhost:7000"),
        (["stdio:"], b"name a service first, as in hailer serve echo stdio:"),
        (["unix:/tmp/x"], b"name a service first"),
        (
            ["json:reply"],
            b"json has no 'reply': name a function that is in it, or json.py:reply for the file",
        ),
        (["ends:reply"], b"ended the program while it was imported (ends.py line 2)"),
        (["ends.py:reply"], b'under if __name__ == "__main__"'),
        (["own:Kind"], b"Kind is a class: name an object made of it"),
        (["own:reply", "--workers", "2"], b"leave --workers out, or take --model prefork"),
        (["echo", "ws://localhost:0", "--origin", "example.org"], b"is no origin"),
        (["echo", "ws://localhost:0", "--origin", "https://example.org/chat"], b"is no origin"),
        (["echo", "--idle-timeout", "1e300"], b"write at most 1000000000"),
        (["echo", "--backlog", "99999999999"], b"--backlog"),
        (["echo", "--model", "prefork", "--workers", "100000"], b"--workers"),
        (["echo", "tls://localhost:0"], b"give --cert and --key (hailer cert localhost makes both"),
    ],
)
def test_refusals(hailer: Run, tmp_path: Path, words: list[str], says: bytes) -> None:
    (tmp_path / "own.py").write_text(REPLY + "class Kind: pass\n")
    (tmp_path / "json.py").write_text(REPLY)
    (tmp_path / "ends.py").write_text("import sys\nsys.exit()\n")
    done = hailer("serve", *words, env={"PYTHONSAFEPATH": "1"})
    assert says in done.stderr
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)


def test_a_setting_for_several_commands_is_no_mistake(start: Start) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", HAILER_WORKERS="3")
    assert ask(process) == b"hello\n"
