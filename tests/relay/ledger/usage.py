"""What a process holds: memory, descriptors and threads (Linux)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """What a process holds at one moment.

    Attributes:
        kib: memory that is its own, in KiB.
        descriptors: open files and sockets.
        threads: its threads.
    """

    kib: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        """Look at a process."""
        folder = Path(f"/proc/{pid}")
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text(encoding="ascii").splitlines()
        )
        return cls(
            int(status["RssAnon"].split()[0]), len(list((folder / "fd").iterdir())), int(status["Threads"])
        )

    def __str__(self) -> str:
        return f"{self.kib / 1024:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads"
