"""Instructions for each message on the hot paths, counted by valgrind's callgrind.

    python -m tests.guard.counting

counts them and writes them, for this build of Python, into the file that `test_instructions` holds later
counts against: `make guard-renew`.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

import hailer
from tests.guard.paths import STEPS

__all__ = ["BUILD", "COMMAND", "ENVIRONMENT", "Count", "compare", "count", "known"]

FIGURES = Path(__file__).with_name("figures.json")
BUILD = str(sysconfig.get_config_var("SOABI"))
"""What instructions depend on most: the implementation, its minor version, the kind of machine."""

ROOM = 0.1
"""The share by which a figure may differ: another build of the same Python comes to up to 7 %."""

TIMEOUT = 110.0  # seconds

# The C library chooses its string functions by the processor. Those for AVX2, which any of the last ten years
# has, are to be counted everywhere: valgrind knows no AVX512, and the others are turned off.
ALIKE = "glibc.cpu.hwcaps=-ERMS,-FSRM,-RTM,-EVEX,-AVX512F,-AVX512VL,-AVX512BW"


COMMAND = (sys.executable, "-S", str(Path(__file__).with_name("paths.py")))
ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "PYTHONPATH": str(Path(hailer.__file__).parents[1]),
    "PYTHONHASHSEED": "0",
    "GLIBC_TUNABLES": ALIKE,
}


class Count(NamedTuple):
    """What one message costs on one path.

    Attributes:
        instructions: here.
        units: the same divided by those of a message of its unit (`UNITS`).
    """

    instructions: int
    units: float


def count(directory: Path) -> dict[str, Count]:
    """Count all paths.

    Args:
        directory: an empty one, for what callgrind writes.

    Raises:
        RuntimeError: valgrind did not do it, or a path not its work.
    """
    out = directory / "callgrind.out"
    valgrind = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}"]
    valgrind += ["--dump-line=no", "--dump-before=getppid"]
    done = subprocess.run(
        [*valgrind, *COMMAND], env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"valgrind ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    counts: dict[str, Count] = {}
    for number, line in enumerate(done.stdout.splitlines()):
        name, unit, messages = line.split("\t")
        # Dump 1 is of all before the first mark, dump 2 of what came between the first two, and so on.
        each = _total(Path(f"{out}.{number * 2 + 2}")) / (STEPS * int(messages))
        one = each if name == unit else counts[unit].instructions
        counts[name] = Count(round(each), float(f"{each / one:.4g}"))
    return counts


def _total(dump: Path) -> int:
    """The instructions of one of callgrind's dumps."""
    try:
        lines = dump.read_text().splitlines()
    except FileNotFoundError:
        raise RuntimeError(f"callgrind wrote no {dump.name}: it saw too few calls of getppid(2)") from None
    return next(int(line.split()[1]) for line in lines if line.startswith("totals:"))


def known() -> dict[str, dict[str, Count]]:
    """The committed counts, by build and path."""
    if not FIGURES.exists():
        return {}
    return {
        build: {name: Count(**figures) for name, figures in counts.items()}
        for build, counts in json.loads(FIGURES.read_text()).items()
    }


def compare(committed: dict[str, Count], now: dict[str, Count]) -> tuple[list[str], list[str]]:
    """Say what became worse and what better by more than `ROOM`, or is not in both, in sentences."""
    worse: list[str] = []
    better: list[str] = []
    for name in {**committed, **now}:
        before, after = committed.get(name), now.get(name)
        if before is None or after is None:
            worse.append(f"{name}: {'not in' if before is None else 'only in'} the committed figures")
        elif abs(after.units / before.units - 1) > ROOM:
            times = f"{after.units / before.units:.2f} times the committed instructions a message"
            sentence = (
                f"{name}: {times} ({before.units:g} units, now {after.units:g}; {after.instructions:,} here)"
            )
            (worse if after.units > before.units else better).append(sentence)
    return worse, better


def main() -> None:
    """Count here, write the figures and tell what changed."""
    with tempfile.TemporaryDirectory() as directory:
        now = count(Path(directory))
    figures = known()
    for sentence in itertools.chain(*compare(figures.get(BUILD, {}), now)):
        print(sentence)
    figures[BUILD] = now
    written = {
        build: {name: counts._asdict() for name, counts in counts_of.items()}
        for build, counts_of in figures.items()
    }
    FIGURES.write_text(json.dumps(written, indent=1, sort_keys=False) + "\n")
    print(f"{len(now)} figures for {BUILD} written to {FIGURES}")


if __name__ == "__main__":
    main()
