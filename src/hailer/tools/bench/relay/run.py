"""All rounds: each relay is started by itself, put under a load from another core, and stopped."""

from __future__ import annotations

import contextlib
import json
import signal
import statistics
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.conditions import conditions
from hailer.tools.bench.machine import Cores, Watch, cores_to_use, pinned, raise_descriptor_limit
from hailer.tools.bench.relay.meter import Outcome
from hailer.tools.bench.relay.party import LoadError
from hailer.tools.bench.relay.peers import PeerError, allowed_cores, filesystem, running
from hailer.tools.bench.relay.plan import STARTS, Load, Plan, reason_against
from hailer.tools.bench.results import Case, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hailer.tools.bench.progress import Progress
    from hailer.tools.bench.relay.peers import Peer
    from hailer.tools.bench.results import Curve, Results

__all__ = ["LOAD_TIMEOUT", "Run", "ending_at_sigterm", "measure", "outcomes_of", "spawned", "subject_of"]

LOAD_TIMEOUT: Final = 120.0
"""Seconds for one measurement, logins included; parts of a load and the seconds wanted come on top."""
VERSION: Final = Case("start", "hailer --version")


@dataclass
class Run:
    """What becomes of all measurements.

    Attributes:
        results: what is filled.
        progress: what is told meanwhile.
        folder: for the relays' files.
        cores: where relay and load run.
        clean: whether everything could be measured.
    """

    results: Results
    progress: Progress
    folder: Path
    cores: Cores = field(default_factory=cores_to_use)
    clean: bool = True
    others: list[float] = field(default_factory=list)
    curves: dict[tuple[str, str], list[Curve]] = field(default_factory=dict)

    def keep(self, case: Case, peer: Peer, number: int, outcome: Outcome) -> None:
        """Take one outcome into the results."""
        self.results.add(case, subject_of(peer), number, outcome.figures)
        if outcome.curve:
            self.curves.setdefault((case.title, peer.name), []).append(outcome.curve)

    @contextlib.contextmanager
    def watching(self, peer: Peer, title: str, number: int) -> Iterator[None]:
        """Tell what is measured meanwhile; note if it cannot be, and how much other programs used."""
        self.progress.now(f"round {number}, {title}: {peer.name}")
        watch = Watch()
        try:
            yield
        except (LoadError, PeerError) as error:
            self.clean = False
            self.results.notes.append(f"{peer.name}, {title}, round {number} FAILED: {error}")
            self.progress.tell(f"{peer.name}, {title}: {error}")
        finally:
            self.others.append(watch.others())

    def through(self, steps: Sequence[Callable[[], None]]) -> bool:
        """Do all steps, and put together what is known at the end; Ctrl-C ends it early.

        Returns:
            Whether it was not interrupted.
        """
        made = 0
        try:
            for step in steps:
                step()
                made += 1
                self.progress.advance()
        except KeyboardInterrupt:
            self.results.notes.append(f"interrupted when {made} of {len(steps)} measurements were made")
        finally:
            self.finish()
        return made == len(steps)

    def finish(self) -> None:
        """Put together what is known at the end: the conditions, and curves over all rounds."""
        known = conditions(self.cores, others=self.others)
        self.results.conditions = known | self.results.conditions
        for key, curves in self.curves.items():
            columns = zip(*curves, strict=True)
            self.results.percentiles[key] = [
                (column[0][0], statistics.median(latency for _, latency in column)) for column in columns
            ]


def measure(plan: Plan, peers: Sequence[Peer], run: Run) -> bool:
    """All rounds of a plan; Ctrl-C ends it early.

    Returns:
        Whether it was not interrupted.
    """
    files = raise_descriptor_limit()
    results = run.results
    results.conditions |= {
        "rounds": f"{plan.rounds}, of which the median counts; relays in turn, one alive at a time",
        "length": f"about {plan.seconds:g} s a measurement, after a trial that is not counted",
        "load": "plain sockets on 127.0.0.1 with TCP_NODELAY, in a process of its own; every byte compared",
        "stored messages": f"in files on {filesystem(run.folder)}",
    }
    if any(peer.cores > 1 for peer in peers) and len(allowed_cores() or ()) < 3:
        results.notes.append("hailer-2 shared its second core with the load: there are no three cores")
    results.subjects = [subject_of(peer) for peer in peers]
    for load in plan.loads:
        for peer in peers:
            if reason := reason_against(peer, load, files):
                title = load.cases().get("", Case(load.name, load.name)).title
                results.notes.append(f"{peer.name} was not measured in {title}: {reason}")
    return run.through(
        [
            partial(measure_one, load, peer, number, plan, run)
            for number, load, peer in plan.steps(peers, files)
        ]
    )


def subject_of(peer: Peer) -> Subject:
    """A relay, for the reader of the results."""
    return Subject(peer.name, peer.version, peer.described())


def measure_one(load: Load, peer: Peer, number: int, plan: Plan, run: Run) -> None:
    """Measure one load on one relay, and keep what comes of it."""
    cases = load.cases()
    title = cases[""].title if "" in cases else load.name
    with run.watching(peer, title, number):
        if load.name == "start":
            run.keep(cases[""], peer, number, start(peer, run))
            if peer.name == "hailer":
                run.keep(VERSION, peer, number, version_time(run))
            return
        for outcome in under(load, peer, plan, run):
            run.keep(cases[outcome.part], peer, number, outcome)


def under(load: Load, peer: Peer, plan: Plan, run: Run) -> list[Outcome]:
    """Start the relay, put the load on it from the other core, stop the relay.

    Raises:
        PeerError: the relay did not start.
        LoadError: it did not do its work.
    """
    if load.name == "mixed-post" and peer.storing is not None:
        peer = peer.storing
    paced = load.name == "paced"
    seconds = plan.seconds / 2 if paced else plan.seconds
    with running(peer, run.cores.subject, run.folder) as (port, pid):
        told = [load.name, peer.dialect, port, "--pid", pid, "--count", load.count, "--size", load.size]
        process = spawned("hailer.tools.bench.relay.load", [*told, "--seconds", seconds], run.cores.load)
        return outcomes_of(process, LOAD_TIMEOUT + 20 * plan.seconds)


def spawned(module: str, told: Sequence[object], core: int | None) -> subprocess.Popen[str]:
    """Start a load in a process of its own.

    Args:
        module: its name.
        told: the words of its command line.
        core: where it runs.
    """
    with pinned(core):
        return subprocess.Popen(  # noqa: S603 (this package)
            [sys.executable, "-m", module, *map(str, told)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def outcomes_of(process: subprocess.Popen[str], timeout: float) -> list[Outcome]:
    """Wait for a load, and end it if it takes longer.

    Raises:
        LoadError: it failed, or was not done in time.
    """
    with process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise LoadError(f"not done after {timeout:g} s") from None
        finally:
            process.kill()
    if process.returncode:
        raise LoadError((err.strip().splitlines() or ["the load died without a word"])[-1])
    return [Outcome(**json.loads(line)) for line in out.splitlines()]


def start(peer: Peer, run: Run) -> Outcome:
    """How long it takes until a relay accepts connections.

    Raises:
        PeerError: it does not start.
    """
    times = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        with running(peer, run.cores.subject, run.folder):
            times.append(time.perf_counter() - begin)
    return Outcome({"start_ms": round(statistics.median(times) * 1000, 1)})


def version_time(run: Run) -> Outcome:
    """How long ``hailer --version`` takes.

    Raises:
        PeerError: it fails.
    """
    script = Path(sysconfig.get_path("scripts"), "hailer")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "hailer"]
    times = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        with pinned(run.cores.subject):
            done = subprocess.run([*command, "--version"], capture_output=True, timeout=60, check=False)  # noqa: S603
        if done.returncode:
            raise PeerError(f"hailer --version ended with {done.returncode}")
        times.append(time.perf_counter() - begin)
    return Outcome({"start_ms": round(statistics.median(times) * 1000, 1)})


@contextlib.contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does: the relay that runs is ended, and what there is is shown."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
