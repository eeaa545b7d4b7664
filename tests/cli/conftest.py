"""The real command in a process of its own, on pipes or on a pseudo-terminal, and servers for it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager
from fcntl import ioctl
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "hailer"]
PATIENCE = 20.0


_SEQUENCE = re.compile(rb"\x1b(?:\[(?P<args>[0-9;?<>=]*)(?P<final>[@-~])|[()][A-Z0-9]|\][^\x07]*\x07|[=>78])")
_PARTIAL = re.compile(rb"\x1b(?:\[[0-9;?<>=]*|[()]|\][^\x07]*)?\Z")


class Screen:
    """Text as it stands on a screen of so many columns and rows; rows that scrolled off are kept."""

    def __init__(self, width: int, height: int) -> None:
        self._width = width
        self._height = height
        self._rows = [[" "] * width for _ in range(height)]
        self._above: list[str] = []
        self._row = 0
        self._column = 0
        self._rest = b""
        self.raw = b""

    @property
    def lines(self) -> list[str]:
        """All rows, those above included, without trailing spaces."""
        return [*self._above, *("".join(row).rstrip() for row in self._rows)]

    @property
    def current(self) -> str:
        """The row in which the cursor is."""
        return "".join(self._rows[self._row]).rstrip()

    def feed(self, data: bytes) -> bytes:
        """Take output; give what a terminal would answer to its questions."""
        self.raw += data
        data = self._rest + data
        self._rest = b""
        cut = _PARTIAL.search(data)
        if cut:
            self._rest = data[cut.start() :]
            data = data[: cut.start()]
        answer = b""
        at = 0
        for match in _SEQUENCE.finditer(data):
            self._text(data[at : match.start()])
            at = match.end()
            if match["final"]:
                answer += self._control(match["args"].decode(), match["final"].decode())
        self._text(data[at:])
        return answer

    def _text(self, data: bytes) -> None:
        for character in data.decode("utf-8", "replace"):
            if character == "\r":
                self._column = 0
            elif character == "\n":
                self._down()
            elif character == "\b":
                self._column = max(0, self._column - 1)
            elif character >= " ":
                if self._column >= self._width:
                    self._column = 0
                    self._down()
                self._rows[self._row][self._column] = character
                self._column += 1

    def _down(self) -> None:
        if self._row + 1 < self._height:
            self._row += 1
        else:
            self._above.append("".join(self._rows.pop(0)).rstrip())
            self._rows.append([" "] * self._width)

    def _control(self, args: str, final: str) -> bytes:
        numbers = [int(number) for number in args.split(";") if number.isdigit()]
        count = numbers[0] if numbers else 0
        step = max(1, count)
        if final == "A":
            self._row = max(0, self._row - step)
        elif final == "B":
            self._row = min(self._height - 1, self._row + step)
        elif final == "C":
            self._column = min(self._width - 1, self._column + step)
        elif final == "D":
            self._column = max(0, min(self._column, self._width - 1) - step)
        elif final == "G":
            self._column = step - 1
        elif final == "H":
            self._row = min(self._height, step) - 1
            self._column = (numbers[1] if len(numbers) > 1 else 1) - 1
        elif final == "K":
            self._blank(self._row, self._column if count == 0 else 0)
        elif final == "J":
            if count == 0:
                self._blank(self._row, self._column)
            for row in range(self._row + 1 if count == 0 else 0, self._height):
                self._blank(row, 0)
        elif final == "n" and count == 6:
            return b"\x1b[%d;%dR" % (self._row + 1, self._column + 1)
        return b""

    def _blank(self, row: int, start: int) -> None:
        for column in range(start, self._width):
            self._rows[row][column] = " "


class Run(Protocol):
    """Run the command to its end."""

    def __call__(
        self, *args: str, data: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]: ...


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment without settings."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HAILER_", "_HAILER"))}
    own = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state")}
    return {**clean, **own, "TERM": "xterm", "COLUMNS": "80"}


@pytest.fixture
def hailer(tmp_path: Path, env: dict[str, str]) -> Run:
    """Run ``hailer …`` in an empty directory, with pipes."""
    clean = env

    def run(
        *args: str, data: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*COMMAND, *args],
            input=data,
            capture_output=True,
            timeout=PATIENCE,
            cwd=tmp_path,
            env={**clean, **(env or {})},
            check=False,
        )

    return run


class Process:
    """The command while it runs, on pipes."""

    def __init__(self, args: tuple[str, ...], cwd: Path, env: dict[str, str]) -> None:
        self.popen = subprocess.Popen(
            [*COMMAND, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=env,
        )
        self._seen = {"out": b"", "err": b""}

    def read_until(self, text: bytes, stream: str = "out") -> bytes:
        """Wait until a stream has said this; give all that it has said so far."""
        pipe = self.popen.stdout if stream == "out" else self.popen.stderr
        assert pipe is not None
        end = time.monotonic() + PATIENCE
        while text not in self._seen[stream]:
            ready, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
            data = os.read(pipe.fileno(), 65536) if ready else b""
            assert data, f"{text!r} did not come, but {self._seen}; stderr: {self._rest_of_errors()!r}"
            self._seen[stream] += data
        return self._seen[stream]

    def read_more(self, stream: str = "out") -> bytes:
        """Wait until a stream says more; give all that it has said so far."""
        pipe = self.popen.stdout if stream == "out" else self.popen.stderr
        assert pipe is not None
        ready, _, _ = select.select([pipe], [], [], PATIENCE)
        data = os.read(pipe.fileno(), 65536) if ready else b""
        assert data, f"no more came than {self._seen}; stderr: {self._rest_of_errors()!r}"
        self._seen[stream] += data
        return self._seen[stream]

    def write(self, data: bytes) -> None:
        """Write to standard input."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(data)
        self.popen.stdin.flush()

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.popen.send_signal(number)

    def end(self) -> tuple[int, bytes, bytes]:
        """Close standard input and wait for the end: exit code, all of stdout and of stderr."""
        out, err = self.popen.communicate(timeout=PATIENCE)
        return self.popen.returncode, self._seen["out"] + out, self._seen["err"] + err

    def close(self) -> None:
        """End it if need be."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()

    def _rest_of_errors(self) -> bytes:
        self.popen.kill()
        return self.popen.communicate()[1]


@pytest.fixture
def start(tmp_path: Path, env: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Start ``hailer …`` with pipes, and be sure that it ends."""
    processes: list[Process] = []

    def begin(*args: str, **more: str) -> Process:
        process = Process(args, tmp_path, {**env, **more})
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.close()


class Terminal:
    """The command on a pseudo-terminal, with a small model of what is on its screen."""

    def __init__(self, args: tuple[str, ...], cwd: Path, env: dict[str, str]) -> None:
        self.screen = Screen(80, 24)
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        try:
            self.popen = subprocess.Popen(
                [*COMMAND, *args],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
        finally:
            os.close(slave)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def wait_for(self, seen: Callable[[Screen], bool]) -> None:
        """Wait until the screen shows something."""
        end = time.monotonic() + PATIENCE
        while not seen(self.screen):
            assert self._read(max(0, end - time.monotonic())), "the screen stays:\n" + "\n".join(
                self.screen.lines
            )

    def shows(self, text: str) -> None:
        """Wait until the screen shows this text."""
        self.wait_for(lambda screen: any(text in line for line in screen.lines))

    def end(self) -> int:
        """Wait for its end; give the exit code."""
        end = time.monotonic() + PATIENCE
        while self._read(max(0, end - time.monotonic())):
            pass
        return self.popen.wait(PATIENCE)

    def close(self) -> None:
        """End it if need be."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        os.close(self._master)

    def _read(self, timeout: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], timeout)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux's way to say that nobody has the terminal open any more
            return False
        answer = self.screen.feed(data)
        if answer:
            os.write(self._master, answer)
        return bool(data)


@pytest.fixture
def terminal(tmp_path: Path, env: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    """Start ``hailer …`` on a pseudo-terminal."""
    terminals: list[Terminal] = []

    def begin(*args: str, **more: str) -> Terminal:
        one = Terminal(args, tmp_path, {**env, **more})
        terminals.append(one)
        return one

    yield begin
    for one in terminals:
        one.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Serve one connection with a function of its socket; gives the port on 127.0.0.1."""
    threads: list[threading.Thread] = []
    listeners: list[socket.socket] = []
    failures: list[BaseException] = []

    def begin(handle: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        listeners.append(listener)

        def run() -> None:
            try:
                peer, _ = listener.accept()
                peer.settimeout(PATIENCE)
                with peer:
                    handle(peer)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
        port = listener.getsockname()[1]
        assert isinstance(port, int)
        return port

    yield begin
    for thread in threads:
        thread.join(PATIENCE)
    for listener in listeners:
        listener.close()
    assert not failures


@contextmanager
def running_relay(tmp_path: Path, *args: str) -> Iterator[str]:
    """A relay on a free port of 127.0.0.1; gives its endpoint."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HAILER_")}
    relay = Process(
        ("relay", "--listen", "tcp4://127.0.0.1:0", "--listen", f"unix:{tmp_path}/relay.sock", *args),
        tmp_path,
        {**clean, "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
    )
    try:
        line = relay.read_until(b"\nlistening on unix:").splitlines()[0]
        yield line.removeprefix(b"listening on ").decode()
        relay.signal(signal.SIGTERM)
        code, _, errors = relay.end()
        unexpected = [line for line in errors.splitlines() if b" warning denied " not in line]
        assert (code, unexpected) == (0, [])
    finally:
        relay.close()


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One relay for the tests of a module; its endpoint."""
    with running_relay(tmp_path_factory.mktemp("relay")) as endpoint:
        yield endpoint
