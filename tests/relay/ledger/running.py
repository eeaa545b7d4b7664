"""A relay in a process of its own that is killed and started again on the same port and store."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Self

Address = tuple[str, int]

_PATIENCE = 20.0
"""Seconds for what takes less than one on a machine that does nothing else."""


class RelayProcess:
    """``hailer relay`` as a user runs it.

    Args:
        directory: where its log goes, and its store.
        store: what `--store` gets; None for a file in the directory.
        options: more of the command line.
        before: a program that runs it, with arguments, such as strace's.
        host: where it listens.

    Attributes:
        pid: of the relay, also where another program runs it.
        endpoints: all that it listens on, as it says.
        restarts: for each start the seconds until it greeted a client.
    """

    def __init__(
        self,
        directory: Path,
        store: str | None = None,
        *options: str,
        before: Sequence[str] = (),
        host: str = "127.0.0.1",
    ) -> None:
        self.store = store if store is not None else str(directory / "mail.db")
        self.options = options
        self.before = tuple(before)
        self.log = directory / "relay.log"
        self.address: Address = (host, 0)
        self.pid = 0
        self.endpoints: list[str] = []
        self.restarts: list[float] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._up = threading.Event()

    def start(self) -> float:
        """Start it, on the port that it had; gives the seconds until it greeted a client."""
        assert self._process is None
        host, port = self.address
        begun = time.monotonic()
        command = [sys.executable, "-m", "hailer", "relay", "--listen", f"tcp4://{host}:{port}"]
        command += ["--store", self.store, *self.options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.before, *command],
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,  # a buffer would hide from select that more lines are there
                start_new_session=True,
            )
        self.endpoints = [self._line() for _ in range(1 + self.options.count("--listen"))]
        self.address = (host, int(self.endpoints[0].rsplit(":", 1)[1]))
        self.pid = self._find_pid()
        try:
            with socket.create_connection(self.address, timeout=_PATIENCE) as sock:
                assert sock.recv(6).startswith(b"RELAY")
        except (OSError, AssertionError) as error:
            raise AssertionError(f"it does not answer: {self._process.poll()} {self.tail()}") from error
        taken = time.monotonic() - begun
        self.restarts.append(taken)
        self._up.set()
        return taken

    def _line(self) -> str:
        """The next endpoint that it says it listens on."""
        assert self._process is not None
        stdout = self._process.stdout
        assert stdout is not None
        ready, _, _ = select.select([stdout], [], [], _PATIENCE)
        line = stdout.readline().decode().strip() if ready else ""
        assert line.startswith("listening on "), f"it did not start: {line!r} {self.tail()}"
        return line.removeprefix("listening on ")

    def _find_pid(self) -> int:
        """The relay's own, which is a child's if a program before it does not become it."""
        assert self._process is not None
        pid = self._process.pid
        if not self.before:
            return pid
        name = f"/proc/{pid}/task/{pid}/children"
        with open(name, encoding="ascii") as children:  # noqa: PTH123 (a name, not a path of ours)
            first = children.read().split()
        return int(first[0]) if first else pid

    @property
    def running(self) -> bool:
        """Whether it is meant to be up, and is."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        assert self._process is not None
        assert self._process.poll() is None, f"it had ended by itself: {self.tail()}"
        self._up.clear()
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """End it by SIGTERM; gives its exit code."""
        assert self._process is not None
        self._up.clear()
        os.kill(self.pid, signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self._process is not None
        code = self._process.wait(_PATIENCE)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
        return code

    def dial(self, seconds: float = _PATIENCE) -> socket.socket:
        """Connect to it, waiting while it is down.

        Raises:
            OSError: it could not be reached.
        """
        if not self._up.wait(seconds):
            raise TimeoutError("the relay did not come up again")
        return socket.create_connection(self.address, timeout=seconds)

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-2000:].decode(errors="replace") if self.log.exists() else ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._reap()
