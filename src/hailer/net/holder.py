"""Who has a port: the answer to "address already in use", where it is cheap (Linux's /proc)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["holder_of_port"]

_LISTEN = "0A"


def holder_of_port(port: int, proc: Path = Path("/proc"), *, udp: bool = False) -> str | None:
    """Say which process listens on a TCP port, or has a UDP one.

    Args:
        port: the number.
        proc: where the kernel's tables are.
        udp: a UDP port is meant.

    Returns:
        Such as `nginx (process 123)`; None when that cannot be seen, as for other users' processes.
    """
    inodes = _inodes(port, proc, udp=udp)
    if not inodes:
        return None
    links = {f"socket:[{inode}]" for inode in inodes}
    with suppress(OSError):
        for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
            if _has(process, links):
                return _named(process)
    return None


def _inodes(port: int, proc: Path, *, udp: bool) -> set[str]:
    """The numbers of the sockets that have a port (proc_pid_net(5), /proc/net/tcp and /proc/net/udp)."""
    found = set()
    for table in ("udp", "udp6") if udp else ("tcp", "tcp6"):
        with suppress(OSError, IndexError), (proc / "net" / table).open(encoding="ascii") as lines:
            next(lines, None)
            for line in lines:
                fields = line.split()
                if (udp or fields[3] == _LISTEN) and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _has(process: Path, links: set[str]) -> bool:
    with suppress(OSError), os.scandir(process / "fd") as entries:
        for entry in entries:
            with suppress(OSError):
                if os.readlink(entry.path) in links:  # noqa: PTH115 (thousands of them)
                    return True
    return False


def _named(process: Path) -> str:
    if int(process.name) == os.getpid():
        return f"this program itself (process {process.name})"
    try:
        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = ""
    return f"{ascii(name)[1:-1]} (process {process.name})" if name else f"process {process.name}"
