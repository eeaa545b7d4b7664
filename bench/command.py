"""What the commands of this package share: words on the command line, and who else uses the machine."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["Watch", "words"]


class Watch:
    """What share of all cores others use while we measure: they are the noise."""

    def __init__(self) -> None:
        self.machine = busy_seconds()
        self.ours = own_seconds()
        self.start = time.monotonic()

    def others(self) -> float | None:
        """The share since the start, 0 to 1; None where the system does not tell."""
        machine = busy_seconds()
        if machine is None or self.machine is None:
            return None
        spent = machine - self.machine - (own_seconds() - self.ours)
        return max(0.0, spent / (time.monotonic() - self.start) / (os.cpu_count() or 1))


def busy_seconds() -> float | None:
    """Processor seconds that the whole machine has spent, by proc(5): all of "cpu" but idle and iowait."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def words(text: str, known: Sequence[str], option: str, parser: argparse.ArgumentParser) -> list[str]:
    chosen = [word.strip() for word in text.split(",") if word.strip()]
    for word in chosen:
        if word not in known:
            parser.error(f"{option}: {word} is none of {', '.join(known)}")
    if not chosen:
        parser.error(f"{option}: name at least one of {', '.join(known)}")
    return [word for word in known if word in chosen]
