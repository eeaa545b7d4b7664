"""A relay as people start it, and programs that know nothing of it."""

from __future__ import annotations

import os
import pty
import selectors
import signal
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest

from hailer.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Places(NamedTuple):
    """Where the relay listens."""

    tcp: Endpoint
    unix: Endpoint

    @property
    def port(self) -> str:
        """The TCP port, for a command line."""
        return str(self.tcp.port)


@pytest.fixture(scope="module", params=["asyncio", "thread"])
def relay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """`hailer relay` in a process of its own, on TCP and on a Unix socket; it must end well."""
    folder: Path = tmp_path_factory.mktemp("relay")
    path = f"unix:{folder}/relay.sock"
    where = ("--listen", "tcp4://127.0.0.1:0", "--listen", path)
    with subprocess.Popen(
        [sys.executable, "-m", "hailer", "relay", *where, "--model", request.param, "--drain", "1"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().strip() for _ in range(2)]
            assert lines[1] == f"listening on {path}", lines
            yield Places(Endpoint.parse(lines[0].removeprefix("listening on ")), Endpoint.parse(path))
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()


class Program:
    """A program with pipes, or on a terminal."""

    def __init__(self, command: tuple[str, ...], *, terminal: bool) -> None:
        if terminal:
            self._input, end = pty.openpty()
            attributes = termios.tcgetattr(end)
            attributes[3] &= ~termios.ECHO  # what is typed is not read back
            termios.tcsetattr(end, termios.TCSANOW, attributes)
            self._output = self._input
            self.process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, close_fds=True)
            os.close(end)
        else:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self._input, self._output = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._terminal = terminal
        self._got = b""

    def type(self, text: str | bytes) -> None:
        """Give it input."""
        os.write(self._input, text.encode() if isinstance(text, str) else text)

    def end_input(self) -> None:
        """Let its input end, if that is a pipe."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def until(self, wanted: str, seconds: float = 5.0) -> str:
        """Read its output up to and with this text."""
        give_up = time.monotonic() + seconds
        while wanted.encode() not in self._got:
            data = self._read(give_up - time.monotonic())
            assert data, f"{wanted!r} did not come, but {self._got!r}"
            self._got += data
        before, found, self._got = self._got.partition(wanted.encode())
        return (before + found).decode()

    def rest(self, seconds: float = 5.0) -> str:
        """Read its output to the end, and wait for it to end."""
        give_up = time.monotonic() + seconds
        while data := self._read(give_up - time.monotonic()):
            self._got += data
        self.process.wait(max(0.1, give_up - time.monotonic()))
        return self._got.decode()

    def _read(self, seconds: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            if not selector.select(max(0.0, seconds)):
                raise TimeoutError(f"no output came after {self._got!r}")
        try:
            return os.read(self._output, 65536)
        except OSError:
            return b""  # a terminal whose other end is closed

    def close(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._terminal:
            os.close(self._input)
        else:
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()


class Run(Protocol):
    """The type of the fixture `run`."""

    def __call__(self, *command: str, terminal: bool = False) -> Program: ...


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts programs, and ends them."""
    programs: list[Program] = []

    def start(*command: str, terminal: bool = False) -> Program:
        programs.append(Program(command, terminal=terminal))
        return programs[-1]

    yield start
    for program in programs:
        program.close()
