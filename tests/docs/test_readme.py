"""The README's three terminals: its telnet lines, its chat and its Python program, in one room."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hailer
from tests.docs.test_pages import BLOCK, Relay, commands, environment, free_port, on_port

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parents[2] / "README.md"
SAID_BY_THE_RELAY = ("RELAY ", "WELCOME ", "JOINED ", "MSG ")


@pytest.fixture
def relay() -> Iterator[Relay]:
    """A relay as ``make run`` starts it, on another port."""
    relay = Relay()
    yield relay
    relay.stop()


def blocks(language: str) -> list[str]:
    """The README's code blocks of a language."""
    text = README.read_text(encoding="utf-8")
    return [block[2] for block in BLOCK.finditer(text) if block[1] == language]


def test_three_terminals_meet(relay: Relay, tmp_path: Path) -> None:
    telnet = next(block for block in blocks("console") if block.startswith("$ telnet")).splitlines()
    [program] = [block for block in blocks("python") if "RelayClient" in block]
    assert len([line for line in program.splitlines() if line]) <= 10, "ten lines, the README says"
    (tmp_path / "echo.py").write_text(on_port(program, relay), encoding="utf-8")
    settings = environment(relay, tmp_path)
    command = [sys.executable, "-m", "hailer", "chat", "ben"]
    joined = 0
    with (
        socket.create_connection(("127.0.0.1", int(relay.port)), timeout=20) as ann,
        ann.makefile("rb") as heard,
    ):
        started: list[subprocess.Popen[str]] = []

        def start(*words: str) -> subprocess.Popen[str]:
            pipe = subprocess.PIPE
            started.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, env=settings))
            return started[-1]

        try:
            for line in telnet[1:]:
                if not line.startswith(SAID_BY_THE_RELAY):
                    ann.sendall(line.encode() + b"\r\n")
                    continue
                if line.startswith("JOINED"):
                    joined += 1
                    if joined == 2:
                        ben = start(*command)
                    elif joined == 3:
                        start(sys.executable, str(tmp_path / "echo.py"))
                if line.startswith("MSG ben"):
                    assert ben.stdin is not None
                    ben.stdin.write(line.partition(" :")[2] + "\n")
                    ben.stdin.flush()
                said = heard.readline().decode().rstrip("\r\n")
                pattern, actual = (
                    re.sub(r"((session|store)=|hailer/)\S+", r"\1X", text) for text in (line, said)
                )
                assert actual == pattern
        finally:
            for process in started:
                process.terminate()
                process.communicate(timeout=20)


def test_one_handler_serves_as_the_readme_says(tmp_path: Path) -> None:
    [handler] = [block for block in blocks("python") if "def handle" in block]
    shown = [block for block in blocks("console") if "hailer serve" in block or "localhost:700" in block]
    ports = {port: free_port() for port in ("7000", "7001")}
    for old, new in ports.items():
        shown = [block.replace(old, new) for block in shown]
    served, *others = shown
    command, *listening = served.splitlines()
    (tmp_path / "shout.py").write_text(handler, encoding="utf-8")
    whole = [sys.executable, "-m", "hailer"]
    words = command.removeprefix("$ hailer ").split()
    process = subprocess.Popen([*whole, *words], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in listening] == listening
        for endpoint in (line.removeprefix("listening on ") for line in listening):
            with hailer.connect(endpoint, receive_timeout=20) as connection:
                connection.send(b"hello")
                assert connection.receive() == b"HELLO"
        for command, said in commands("".join(f"```console\n{block}```\n" for block in others)):
            client = [*whole, *shlex.split(command)[1:]]
            done = subprocess.run(client, capture_output=True, text=True, timeout=20, check=False)
            assert (done.returncode, done.stdout.splitlines()) == (0, said)
        assert len(others) == 1
    finally:
        process.terminate()
        process.communicate(timeout=20)
