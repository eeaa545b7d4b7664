"""Servers of the command at their beginning and their end: signals that come early, late or twice."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from hailer.matrix import MODELS
from tests.cli.conftest import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Process, Terminal

    Start = Callable[..., Process]


def redirected(
    env: dict[str, str], how: str, *args: str, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run the command with a shell's redirections."""
    command = ["sh", "-c", f'exec "$@" {how}', "sh", *COMMAND, *args]
    return subprocess.run(command, input=data, capture_output=True, timeout=20, env=env, check=False)


@pytest.mark.parametrize(
    "words", [["serve", "--list"], ["serve", "--help"], ["serve", "echo", "tcp4://127.0.0.1:0"]]
)
def test_a_full_disk_is_no_bug(env: dict[str, str], words: list[str]) -> None:
    done = redirected(env, ">/dev/full", *words)
    assert done.returncode == 1
    assert done.stderr == (
        b"hailer: standard output cannot be written (no space left on device): send it elsewhere\n"
    )


def test_a_closed_output_is_not_the_socket(env: dict[str, str]) -> None:
    """The next descriptor that is opened has the number of the one that is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "connect", f"127.0.0.1:{server.getsockname()[1]}"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
        )
        with server.accept()[0] as peer, process:
            peer.sendall(b"for standard output\n")
            peer.settimeout(10)
            assert peer.recv(100) == b"", "it came back"
            assert process.stderr is not None
            assert b"standard output is closed: send it elsewhere" in process.stderr.read()
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["greet", "tcp4://127.0.0.1:0"], r"connect tcp4://127\.0\.0\.1:\d+ --framing null; Ctrl-C ends"),
        (["daytime", "tcp4://127.0.0.1:0"], r"connect tcp4://127\.0\.0\.1:\d+; Ctrl-C ends"),
        (["echo", "udp4://127.0.0.1:0"], r"connect udp4://127\.0\.0\.1:\d+; Ctrl-C ends"),
        (
            ["echo", "tcp4://127.0.0.1:0", "--framing", r"delimiter:\r\n"],
            r"--framing 'delimiter:\\r\\n'; Ctrl-C ends",
        ),
        (["hello", "stdio:"], "what you type goes to the service; Ctrl-D ends it"),
    ],
)
def test_how_to_try_it_is_told_at_a_terminal(
    terminal: Callable[..., Terminal], words: list[str], says: str
) -> None:
    process = terminal("serve", *words)
    process.wait_for(lambda screen: re.search(says.encode(), screen.raw) is not None)


def test_an_input_that_cannot_be_read(env: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = redirected(env, f"0>{tmp_path}/out", "connect", f"127.0.0.1:{server.getsockname()[1]}")
    assert done.returncode == 2
    assert b"standard input cannot be read (bad file descriptor): take it from elsewhere" in done.stderr


def test_a_closed_input_has_ended(env: dict[str, str]) -> None:
    done = redirected(env, "<&-", "serve", "echo", "stdio:")
    assert (done.returncode, done.stdout) == (0, b"")


@pytest.mark.parametrize("model", MODELS)
def test_a_signal_at_the_moment_at_which_it_listens_is_a_polite_end(start: Start, model: str) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "--model", model)
    process.read_until(b"\n")
    process.signal(signal.SIGTERM)
    code, _, errors = process.end()
    assert (code, errors) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("gap", [0, 0.003, 0.006, 0.012, 0.024])
def test_a_second_signal_makes_no_bad_end_of_a_good_one(start: Start, gap: float, number: int) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "--model", "epoll")
    process.read_until(b"\n")
    process.signal(number)
    time.sleep(gap)  # what is looked for is a moment of the end, and there is nothing to tell it by
    process.signal(signal.SIGTERM)
    code, _, errors = process.end()
    assert code in ({0} if number == signal.SIGTERM else {0, 130})
    assert errors == b""


def test_a_failing_handler_in_each_form_of_the_log(start: Start, tmp_path: Path) -> None:
    handler = tmp_path / "bad.py"
    handler.write_text("async def handle(connection):\n    raise ValueError(await connection.receive())\n")
    told = {}
    for form in ("plain", "text", "json"):
        process = start("serve", f"{handler}:handle", "tcp4://127.0.0.1:0", HAILER_LOG_FORMAT=form)
        port = int(process.read_until(b"\n").rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"why\x1b[2J\n")
            assert client.recv(10) == b""
        process.signal(signal.SIGTERM)
        code, _, errors = process.end()
        assert code == 0
        assert b"\x1b" not in errors
        told[form] = errors.decode().splitlines()
    assert told["plain"][0].startswith("hailer: the handler failed")
    assert f'  File "{handler}", line 2, in handle' in told["plain"]
    assert len(told["text"]) == len(told["json"]) == 1
    assert ' error log logger=hailer.server message="the handler failed' in told["text"][0]
    assert json.loads(told["json"][0])["level"] == "error"
