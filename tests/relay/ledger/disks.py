"""Disks that are small, broken or slow, for a relay in a process of its own (Linux)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_PATIENCE = 20.0


class SmallDisk:
    """A tmpfs of so many bytes in a mount namespace that lives until the end of the test.

    Attributes:
        path: where it is mounted, as programs see it that `before` runs.
        before: runs a program that sees it.
    """

    def __init__(self, path: Path, size: int) -> None:
        if not shutil.which("unshare") or not shutil.which("nsenter"):
            pytest.skip("unshare and nsenter are needed for a small disk")
        path.mkdir()
        self.path = path
        as_root = os.geteuid() == 0
        namespaces = ["--mount"] if as_root else ["--user", "--map-root-user", "--mount"]
        mount = f'mount -t tmpfs -o size={size} small "$1" && echo mounted && read -r _'
        self._holder = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", mount, "sh", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self.__exit__()
            pytest.skip("a file system of one's own cannot be mounted here")
        entered = ["--mount"] if as_root else ["--user", "--preserve-credentials", "--mount"]
        self.before = ("nsenter", "--target", str(self._holder.pid), *entered, "--")
        self._filler = Path(f"/proc/{self._holder.pid}/root{path}/filler")

    def fill(self) -> None:
        """Leave no byte free; again, if something was given back since."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        filler.write(bytes(size))
                except OSError:
                    continue

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate(b"\n")


def slow_from_the_start(seconds: float) -> tuple[str, ...]:
    """What runs a program for which each flush lasts so much longer."""
    if not shutil.which("strace"):
        pytest.skip("strace is needed to tamper with system calls")
    inject = f"--inject=fsync,fdatasync:delay_enter={seconds * 1e6:.0f}"
    before = ("strace", "--follow-forks", "--output=/dev/null", "--trace=fsync,fdatasync", inject)
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    return before


class Tampering:
    """Makes flushing to disk fail or last in a running process, by strace, as long as the block lasts.

    Args:
        pid: of the process.
        how: such as ``error=EIO`` or ``delay_enter=200000`` (microseconds).
        log: where strace writes what it did.
    """

    def __init__(self, pid: int, how: str, log: Path) -> None:
        if not shutil.which("strace"):
            pytest.skip("strace is needed to tamper with system calls")
        self._command = ["strace", "--follow-forks", "--attach", str(pid), "--output", str(log)]
        self._command += ["--trace=fsync,fdatasync", f"--inject=fsync,fdatasync:{how}"]
        self._log = log
        self._strace: subprocess.Popen[bytes] | None = None

    @property
    def count(self) -> int:
        """How many calls were tampered with so far."""
        return self._log.read_bytes().count(b"(INJECTED)") + self._log.read_bytes().count(b"(DELAYED)")

    def __enter__(self) -> Self:
        self._strace = subprocess.Popen(self._command, stderr=subprocess.PIPE, bufsize=0)
        assert self._strace.stderr is not None
        line = self._strace.stderr.readline()
        if b"attached" not in line:
            self.__exit__()
            pytest.skip(f"strace may not attach to other processes here: {line.decode().strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._strace is not None
        self._strace.send_signal(signal.SIGTERM)
        self._strace.communicate(timeout=_PATIENCE)


def wait_until(holds: Callable[[], object], what: str, seconds: float = _PATIENCE) -> None:
    """Wait until a call gives something true; for what no condition is notified of."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, f"it did not come to be in time: {what}"
        time.sleep(0.005)
