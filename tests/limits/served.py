"""Servers in processes of their own, and what the system says about these."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hailer.endpoint import Endpoint
from hailer.matrix import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = os.environ.get("HAILER_LONG") == "1"
PATIENCE = 20.0
ALL_MODELS = tuple(MODELS)


def until(condition: Callable[[], object], seconds: float = PATIENCE, what: object = "") -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come: {what() if callable(what) else what}"
        select.select([], [], [], 0.01)


class Served:
    """A server in a process of its own, seen from outside."""

    def __init__(self, model: str, folder: Path, options: dict[str, Any]) -> None:
        self.model = model
        self._log = folder / "log"
        with self._log.open("ab") as log:
            self.popen = subprocess.Popen(
                [
                    *(sys.executable, "-W", "error", str(Path(__file__).with_name("serving.py"))),
                    *(model, json.dumps(options)),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            self.kill()
            raise AssertionError(self.log())
        self.endpoints = {endpoint.scheme: endpoint for endpoint in map(Endpoint.parse, json.loads(line))}

    @property
    def concurrent(self) -> bool:
        return self.model != "iterative"

    def dial(self, scheme: str = "tcp") -> socket.socket:
        """Connect a plain socket; for TLS and WebSocket it has not said anything yet."""
        endpoint = self.endpoints[scheme]
        if scheme == "unix":
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(PATIENCE)
            client.connect(endpoint.path)
        elif scheme == "udp":
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            client.settimeout(PATIENCE)
            client.connect((endpoint.host, int(endpoint.port or 0)))
        else:
            client = socket.create_connection((endpoint.host, int(endpoint.port or 0)), PATIENCE)
        return client

    def assert_alive(self) -> None:
        """It still serves."""
        assert self.popen.poll() is None, self.log()
        with self.dial() as client:
            client.sendall(b"still there\n")
            assert client.recv(100) == b"still there\n", self.log()

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text()

    def lines(self, start: int = 0) -> list[str]:
        """The lines of the log, from a place on; the server's own greeting left out."""
        return [line for line in self.log()[start:].splitlines() if "listening on" not in line]

    def processes(self) -> list[int]:
        """The process and all its children, their children too."""
        found = [self.popen.pid]
        for pid in found:
            for task in _listed(f"/proc/{pid}/task"):
                try:
                    found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
                except OSError:
                    continue
        return found

    def zombies(self) -> list[int]:
        """Children that have ended and that nobody has taken note of."""
        return [pid for pid in self.processes()[1:] if _state(pid) == "Z"]

    def held(self) -> list[tuple[int, int]]:
        """How many descriptors and threads each process has; the main one first."""
        return [
            (len(_listed(f"/proc/{pid}/fd")), len(_listed(f"/proc/{pid}/task"))) for pid in self.processes()
        ]

    def descriptors(self) -> int:
        """How many descriptors all processes have."""
        return sum(count for count, _ in self.held())

    def memory(self) -> int:
        """Bytes of memory that are this process' own, its first child's too where there is one."""
        return sum(_anonymous(pid) for pid in self.processes()[:3])

    def end(self, seconds: float = PATIENCE) -> dict[str, int]:
        """Have it drain; give its counters."""
        self.popen.send_signal(signal.SIGTERM)
        output, _ = self.popen.communicate(timeout=seconds)
        assert self.popen.returncode == 0, self.log()
        counters: dict[str, int] = json.loads(output)
        return counters

    def kill(self) -> None:
        """End it in any case."""
        self.popen.kill()
        self.popen.communicate()


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)  # noqa: PTH208 (names are enough)
    except OSError:
        return []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


@contextmanager
def serving(model: str, folder: Path, **options: Any) -> Iterator[Served]:
    """A server until the end of the block."""
    options.setdefault("endpoints", "tcp://127.0.0.1:0")
    served = Served(model, folder, options)
    try:
        yield served
    finally:
        served.kill()
