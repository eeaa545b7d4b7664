"""What several parts of the suite share: programs that may be missing, and a plain client of the relay."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import time
from typing import TYPE_CHECKING, Protocol

import pytest
from hypothesis import settings

# The default run asks hypothesis' same questions each time, so that a red run is about the change at hand;
# the long one asks new questions. How long an example takes says more of what else the machine does.
settings.register_profile("default-run", derandomize=os.environ.get("HAILER_LONG") != "1", deadline=None)
settings.load_profile("default-run")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hailer.endpoint import Endpoint

    RequireProgram = Callable[[str], str]


class Connect(Protocol):
    """The type of the fixture `connect`."""

    def __call__(
        self, endpoint: Endpoint, name: str = "", *, eol: str = "\n", small: bool = False
    ) -> Wire: ...


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep relays of the tests away from the accounts and the mail of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        # several relays of one user run at the same time here, and only one can have the user's own store
        patch.setenv("HAILER_STORE", "memory")
        yield


@pytest.fixture
def require_program() -> RequireProgram:
    """Gives the path of a program; without it the test is skipped, or fails where HAILER_NO_SKIP=1 (CI)."""

    def require(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            sentence = f"{name} is not installed: install it to run this test"
            if os.environ.get("HAILER_NO_SKIP") == "1":
                pytest.fail(sentence)
            pytest.skip(sentence)
        return path

    return require


class Wire:
    """A client that speaks the relay's protocol by hand: bytes out, lines in, nothing kept back.

    Args:
        endpoint: where the relay listens.
        timeout: seconds that any call may wait.
        small: have the system keep little of what is not read yet.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 30.0, small: bool = False) -> None:
        if endpoint.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX)
            address: str | tuple[str, int] = endpoint.path
        else:
            self.sock = socket.socket(socket.AF_INET)
            assert isinstance(endpoint.port, int)
            address = (endpoint.host, endpoint.port)
        if small:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        self.sock.settimeout(timeout)
        self.eol = "\n"
        self.got = bytearray()
        try:
            self.sock.connect(address)
        except BaseException:
            self.sock.close()
            raise

    def send(self, data: str | bytes) -> None:
        """Send these bytes, or these lines."""
        if isinstance(data, str):
            data = data.encode().replace(b"\n", self.eol.encode()) + self.eol.encode()
        self.sock.sendall(data)

    def raw_line(self) -> bytes:
        """The next line with its end; what there is before the end of the stream, b"" at it."""
        while b"\n" not in self.got:
            data = self.sock.recv(65536)
            if not data:
                rest, self.got = bytes(self.got), bytearray()
                return rest
            self.got += data
        line, _, rest = bytes(self.got).partition(b"\n")
        self.got = bytearray(rest)
        return line + b"\n"

    def line(self) -> str:
        """The next line without its end."""
        line = self.raw_line()
        assert line.endswith(self.eol.encode()), f"the stream ended with {line!r}"
        return line.decode().removesuffix(self.eol)

    def expect(self, *starts: str) -> list[str]:
        """The next lines, which must start with these."""
        lines = []
        for start in starts:
            line = self.line()
            assert line.startswith(start), f"{line!r} came where {start!r} was expected"
            lines.append(line)
        return lines

    def raw(self, count: int) -> bytes:
        """The next so many bytes."""
        while len(self.got) < count:
            data = self.sock.recv(65536)
            assert data, "the stream ended"
            self.got += data
        taken = bytes(self.got[:count])
        del self.got[:count]
        return taken

    def until(self, start: str) -> list[str]:
        """The next lines up to the one that starts so, with it."""
        lines = [self.line()]
        while not lines[-1].startswith(start):
            lines.append(self.line())
        return lines

    def sync(self) -> list[str]:
        """What has come before the answer to a PING that is sent now."""
        self.send("PING sync")
        return self.until("PONG sync")[:-1]

    def login(self, name: str, options: str = "") -> str:
        """Read the banner, say HELLO; gives WELCOME's line."""
        self.expect("RELAY ")
        return self.hello(name, options)

    def hello(self, name: str, options: str = "") -> str:
        """Say HELLO; gives WELCOME's line."""
        deadline = time.monotonic() + 30
        while True:
            self.send(f"HELLO {name}{options}")
            line = self.line()
            # who had this name in an earlier test may have closed a moment ago
            if not line.startswith("FAIL taken ") or time.monotonic() > deadline:
                break
        assert line.startswith(f"WELCOME {name} "), line
        return line

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        parts = [bytes(self.got)]
        self.got = bytearray()
        while data := self.sock.recv(1 << 20):
            parts.append(data)
        return b"".join(parts)

    def half_close(self) -> None:
        """Send no more."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish: by RST on TCP."""
        if self.sock.family == socket.AF_INET:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects plain clients, logged in if they get a name, and closes them at the end."""
    wires: list[Wire] = []

    def connect_to(endpoint: Endpoint, name: str = "", *, eol: str = "\n", small: bool = False) -> Wire:
        wire = Wire(endpoint, small=small)
        wires.append(wire)
        if name:
            wire.expect("RELAY ")
            wire.eol = eol
            wire.hello(name)
        wire.eol = eol
        return wire

    yield connect_to
    for wire in wires:
        wire.close()
