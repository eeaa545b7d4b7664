"""The examples as people run them: in a process of their own, with real sockets."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.interop.conftest import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"


class Start(Protocol):
    """The type of the fixture `start`."""

    def __call__(self, *command: str, terminal: bool = False) -> Program: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts an example (`echo_server.py …`) or another program (`telnet …`), and ends it."""
    programs: list[Program] = []

    def run(*command: str, terminal: bool = False) -> Program:
        if command[0].endswith(".py"):
            command = (sys.executable, "-X", "dev", str(EXAMPLES / command[0]), *command[1:])
        programs.append(Program(command, terminal=terminal))
        return programs[-1]

    yield run
    for program in programs:
        program.close()


Finished = subprocess.CompletedProcess[str]


def finish(*command: str, text: str = "") -> Finished:
    """Run an example to its end; its output and its errors come apart."""
    whole = [sys.executable, "-X", "dev", str(EXAMPLES / command[0]), *command[1:]]
    return subprocess.run(whole, input=text, capture_output=True, text=True, timeout=20, check=False)


def interrupt(program: Program) -> str:
    """Press Ctrl-C; gives what else it said. It must end well, and without complaints."""
    program.process.send_signal(signal.SIGINT)
    said = program.rest()
    assert program.process.returncode == 0, said
    assert "Traceback" not in said
    assert "Warning" not in said
    return said


@pytest.fixture
def port() -> str:
    """A port that is free for TCP and UDP, below those that the system gives to clients."""
    return free_port()


def free_port() -> str:
    """See `port`."""
    while True:
        number = random.randrange(20000, 32000)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                    with socket.socket(family, kind) as probe:
                        probe.bind((host, number))
        except OSError:
            continue
        return str(number)


def dial(port: str, seconds: float = 5.0) -> socket.socket:
    """Connect by hand, as soon as somebody listens."""
    return until(lambda: socket.create_connection(("127.0.0.1", int(port)), 5), seconds)


def dial_unix(path: str, seconds: float = 5.0) -> socket.socket:
    """Connect to a Unix socket by hand, as soon as somebody listens."""

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(5)
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        return sock

    return until(connect, seconds)


def until(connect: Callable[[], socket.socket], seconds: float) -> socket.socket:
    """Connect until it works."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return connect()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)  # nothing tells when a server that prints nothing listens


def all_of(sock: socket.socket) -> bytes:
    """What comes until the other side closes."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def children_of(program: Program) -> list[int]:
    """The child processes that there are now, zombies too."""
    path = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
    if not path.exists():
        pytest.skip("this system does not tell of child processes")
    return [int(word) for word in path.read_text().split()]


@pytest.fixture
def tmp_path_str(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder whose name is short enough for the path of a Unix socket."""
    return str(tmp_path_factory.mktemp("x"))
