"""A disk that can lose power: what a process did to its files, recorded, and what of it a cut leaves.

The record is strace's, so that it is what the very store and its SQLite asked of the system. The disk keeps
all that was flushed, and of the rest whatever it likes: each sector of 512 bytes that was written since may
be there or not, in no order; a file's new length, a new file and the end of one too. After a flush that
failed it never gets what was to be flushed, though the process goes on reading it, from the system's cache.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from random import Random

SECTOR = 512
WRITER = Path(__file__).with_name("writer.py")
_CALL = re.compile(r"^(\w+)\((.*)\) += (-?\d+)(?: .*)?$")
_CALLS = "openat,close,write,pwrite64,fsync,fdatasync,ftruncate,unlink"


class Call(NamedTuple):
    """One call of the system that worked; or a flush that did not."""

    name: str
    result: int
    fd: int = -1
    path: str = ""
    data: bytes = b""
    number: int = 0


def record(strace: str, into: Path, file: Path, *options: object, inject: str = "") -> str:
    """Run the writer with a file and options, and write down its calls; gives what it said."""
    if subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    injected = ["-e", f"inject={inject}"] if inject else []
    command = [strace, "-qq", "-xx", "-s", "2000000", "-o", str(into), "-e", f"trace={_CALLS}", *injected]
    done = subprocess.run(
        [*command, sys.executable, str(WRITER), str(file), *map(str, options)],
        capture_output=True,
        text=True,
        check="KILL" not in inject,
        timeout=300,
    )
    return done.stdout


def calls(recorded: Path) -> list[Call]:
    """What concerns files that are written, and the standard output."""
    found = []
    for line in recorded.read_text().splitlines():
        if line.endswith("= ?"):
            break  # it was killed in this one
        match = _CALL.match(line)
        assert match, f"strace says {line[:200]!r}"
        name, text, result = match[1], match[2], int(match[3])
        parts = text.split(", ")
        if result < 0 and name not in ("fsync", "fdatasync"):
            continue
        if name == "openat":
            found.append(Call(name, result, path=_text(parts[1]).decode()))
        elif name == "unlink":
            found.append(Call(name, result, path=_text(parts[0]).decode()))
        elif name in ("write", "pwrite64"):
            data = _text(parts[1])
            assert len(data) == int(parts[2]) == result
            found.append(Call(name, result, int(parts[0]), data=data, number=int(parts[-1])))
        else:
            found.append(Call(name, result, int(parts[0]), number=int(parts[-1])))
    return found


def _text(quoted: str) -> bytes:
    assert quoted[0] == quoted[-1] == '"', f"strace cut {quoted[:50]!r}"
    return bytes.fromhex(quoted[1:-1].replace("\\x", ""))


class _File:
    def __init__(self) -> None:
        self.flushed = bytearray()
        self.pending: list[tuple[int, bytes] | int] = []
        """Writes at an offset, and new lengths."""

    def flush(self) -> None:
        for change in self.pending:
            _apply(self.flushed, change)
        self.pending.clear()

    def after_a_cut(self, random: Random) -> bytes:
        content = bytearray(self.flushed)
        # All kept, none, the first ones, or any.
        kept = random.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        upto = len(self.pending) if random.random() < 0.7 else random.randint(0, len(self.pending))
        for change in self.pending[:upto]:
            if isinstance(change, int):
                if random.random() < kept:
                    _apply(content, change)
                continue
            at, data = change
            start = 0
            while start < len(data):
                end = start + SECTOR - (at + start) % SECTOR
                if random.random() < kept:
                    _apply(content, (at + start, data[start:end]))
                start = end
        return bytes(content)


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    size = change if isinstance(change, int) else change[0] + len(change[1])
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if isinstance(change, int):
        del content[size:]
    else:
        content[change[0] : size] = change[1]


class Disk:
    """The files of one directory.

    Args:
        directory: its path.
        random: decides what a flush that failed has kept.
    """

    def __init__(self, directory: Path, random: Random) -> None:
        self.directory = str(directory)
        self.said = ""
        self._random = random
        self._files: dict[str, _File] = {}
        self._flushed_names: dict[str, _File] = {}
        self._pending_names: list[tuple[str, _File | None]] = []
        self._open: dict[int, _File | str] = {}

    def start(self) -> None:
        """The calls that follow are those of another process: what the last one had open is closed."""
        self._open.clear()

    def do(self, call: Call) -> None:
        """Go on by one call."""
        if call.name == "openat":
            self._do_open(call)
        elif call.name == "unlink":
            if call.path in self._files:
                del self._files[call.path]
                self._pending_names.append((call.path, None))
        elif call.name == "write" and call.fd == 1:
            self.said += call.data.decode()
        elif call.name == "close":
            self._open.pop(call.fd, None)
        else:
            self._do_file(call)

    def _do_open(self, call: Call) -> None:
        self._open.pop(call.result, None)
        if call.path == self.directory:
            self._open[call.result] = call.path
        elif str(Path(call.path).parent) == self.directory:
            if call.path not in self._files:
                self._files[call.path] = _File()
                self._pending_names.append((call.path, self._files[call.path]))
            self._open[call.result] = self._files[call.path]

    def _do_file(self, call: Call) -> None:
        file = self._open.get(call.fd)
        if isinstance(file, str):
            if call.result == 0:
                for name, named in self._pending_names:
                    _name(self._flushed_names, name, named)
                self._pending_names.clear()
        elif file is not None:
            if call.name == "pwrite64":
                file.pending.append((call.number, call.data))
            elif call.name == "ftruncate":
                file.pending.append(call.number)
            elif call.result == 0:
                file.flush()
            else:
                file.flushed = bytearray(file.after_a_cut(self._random))
                file.pending.clear()

    def after_a_cut(self, random: Random) -> dict[str, bytes]:
        """The files by name, as they are found when power is back."""
        names = dict(self._flushed_names)
        for name, named in self._pending_names[: random.randint(0, len(self._pending_names))]:
            _name(names, name, named)
        return {Path(name).name: file.after_a_cut(random) for name, file in names.items()}


def _name(names: dict[str, _File], name: str, named: _File | None) -> None:
    if named is None:
        names.pop(name, None)
    else:
        names[name] = named
