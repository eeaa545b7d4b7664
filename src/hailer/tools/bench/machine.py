"""The machine under a measurement: cores and pinning, limits, and what processes use."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["Cores", "Usage", "Used", "Watch", "cores_to_use", "pinned", "raise_descriptor_limit"]


@dataclass(frozen=True)
class Cores:
    """Where the subject and the load run; None where they are not kept to a core."""

    subject: int | None
    load: int | None

    def __str__(self) -> str:
        if self.subject is None or self.load is None:
            return "not kept to cores of their own (this system cannot)"
        if self.subject == self.load:
            return f"what is measured and the load shared core {self.subject}, the only one"
        return f"what is measured was kept to core {self.subject}, the load to core {self.load}"


def cores_to_use() -> Cores:
    """The first core for the subject and the last for the load, of those that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[-1])


@contextlib.contextmanager
def pinned(cores: int | Collection[int] | None) -> Iterator[None]:
    """What is started meanwhile runs on these cores alone from its first instruction; None: on any."""
    if cores is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores} if isinstance(cores, int) else cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_descriptor_limit() -> int:
    """Raise the limit of open files to the most that is allowed; what is started later inherits it.

    Returns:
        The limit now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft  # macOS has a lower limit than the one that it tells
    return hard


@dataclass(frozen=True)
class Used:
    """What a tree of processes used between two instants.

    Attributes:
        seconds: between them.
        user: processor seconds in the programs.
        system: processor seconds in the kernel.
        switches: context switches of the threads that lived at the second instant: those by which they
            began to wait, and those by which others got their turn; None where it is not told.
    """

    seconds: float
    user: float
    system: float
    switches: tuple[int, int] | None

    @property
    def cpu(self) -> float:
        """All processor seconds."""
        return self.user + self.system

    @property
    def busy(self) -> float:
        """The share of one core, 0 to 1; more with several."""
        return self.cpu / self.seconds if self.seconds > 0 else 0.0

    def figures(self, messages: int) -> dict[str, float]:
        """As figures of a measurement that passed so many messages; without a message, only busy."""
        figures: dict[str, float] = {"subject_busy": round(self.busy, 3)}
        if messages > 0:
            figures |= {
                "cpu_us": round(self.cpu / messages * 1e6, 4),
                "cpu_user_us": round(self.user / messages * 1e6, 4),
                "cpu_system_us": round(self.system / messages * 1e6, 4),
            }
            if self.switches is not None:
                voluntary, involuntary = self.switches
                figures |= {
                    "context_switches": round((voluntary + involuntary) / messages, 4),
                    "voluntary_switches": round(voluntary / messages, 4),
                    "involuntary_switches": round(involuntary / messages, 4),
                }
        return figures


@dataclass(frozen=True)
class Usage:
    """What a process and all that it started have used until now.

    Processor time of children that ended is counted once their parent has waited for them (Linux).

    Attributes:
        at: when, by `time.monotonic`.
        user: processor seconds in the programs.
        system: processor seconds in the kernel.
        rss_kib: memory that is resident now, what processes share counted for each of them.
        pss_kib: the same with what is shared divided among them; None where it was not asked or not told.
        processes: how many there are.
        switches: context switches of each thread, voluntary and not, by process and thread; empty where
            it is not told.
        precise: processor seconds to the nanosecond where the system tells it: `user` and `system` are
            rounded down to hundredths of a second for each process.
    """

    at: float
    user: float
    system: float
    rss_kib: float
    pss_kib: float | None
    processes: int
    switches: dict[tuple[int, int], tuple[int, int]] = field(repr=False)
    precise: float

    @classmethod
    def of(cls, pid: int, *, shared: bool = False, switches: bool = True) -> Usage:
        """Ask the system; processes that end meanwhile or may not be asked count nothing.

        Args:
            pid: the root of the tree.
            shared: also ask for `pss_kib`, which takes milliseconds with large processes.
            switches: also count context switches.
        """
        user = system = rss = pss = precise = 0.0
        told, found = shared, 0
        counted: dict[tuple[int, int], tuple[int, int]] = {}
        for process in _tree(pid):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    rss += process.memory_info().rss / 1024
            except psutil.Error:
                continue
            found += 1
            user += times.user + times.children_user
            system += times.system + times.children_system
            own = times.user + times.system
            # Threads that have ended are in `own` alone.
            precise += max(own, _precise_seconds(process.pid)) + times.children_user + times.children_system
            if told:
                try:
                    pss += process.memory_full_info().pss / 1024
                except (psutil.Error, AttributeError):  # only Linux tells it, and only to the owner
                    told = False
            if switches:
                counted |= _switches(process.pid)
        return cls(time.monotonic(), user, system, rss, pss if told else None, found, counted, precise)

    def since(self, before: Usage) -> Used:
        """What was used from `before` until this."""
        first = before.switches
        voluntary, involuntary = (
            sum(counts[which] - first.get(key, (0, 0))[which] for key, counts in self.switches.items())
            for which in (0, 1)
        )
        user, system = max(0.0, self.user - before.user), max(0.0, self.system - before.system)
        # The whole from what is precise, its parts from what is not.
        precise = max(0.0, self.precise - before.precise)
        share = user / (user + system) if user + system else 1.0
        return Used(
            self.at - before.at,
            precise * share,
            precise * (1 - share),
            (voluntary, involuntary) if self.switches else None,
        )


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _switches(pid: int) -> dict[tuple[int, int], tuple[int, int]]:
    """Of each thread, by proc(5): psutil gives those of a process's first thread alone."""
    counts = {}
    for task in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            lines = task.read_text().splitlines()
        except OSError:
            continue  # that thread has ended
        found = [int(line.split()[1]) for line in lines if "ctxt_switches" in line]
        if len(found) == 2:
            counts[pid, int(task.parent.name)] = (found[0], found[1])
    return counts


def _precise_seconds(pid: int) -> float:
    """What the threads of a process have used, by /proc/PID/task/TID/schedstat; 0 where it is not told.

    The hundredths of a second of psutil are too coarse for a thousand processes with a few milliseconds each.
    """
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except (OSError, IndexError, ValueError):
            continue  # that thread has ended
    return total / 1e9


class Watch:
    """What share of all cores other programs use while we measure: they are the noise.

    Ours are this process and all that it started.
    """

    def __init__(self) -> None:
        self._machine = _machine_seconds()
        self._ours = Usage.of(os.getpid(), switches=False)

    def others(self) -> float:
        """The share since the start, 0 to 1."""
        machine = _machine_seconds() - self._machine
        ours = Usage.of(os.getpid(), switches=False).since(self._ours)
        if ours.seconds <= 0:
            return 0.0
        return min(1.0, max(0.0, (machine - ours.cpu) / ours.seconds / (os.cpu_count() or 1)))


def _machine_seconds() -> float:
    """Processor seconds that the whole machine has spent, also those that its host took from it."""
    times = psutil.cpu_times()._asdict()
    # Linux counts what guests take in user and nice already.
    idle = ("idle", "iowait", "guest", "guest_nice")
    return float(sum(seconds for name, seconds in times.items() if name not in idle))
