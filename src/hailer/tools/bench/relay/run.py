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
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.conditions import conditions
from hailer.tools.bench.machine import Cores, Watch, cores_to_use, pinned, raise_descriptor_limit
from hailer.tools.bench.relay.meter import Outcome
from hailer.tools.bench.relay.party import LoadError
from hailer.tools.bench.relay.peers import PeerError, filesystem, running
from hailer.tools.bench.relay.plan import STARTS, Load, Plan, reason_against
from hailer.tools.bench.results import Case, Subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hailer.tools.bench.progress import Progress
    from hailer.tools.bench.relay.peers import Peer
    from hailer.tools.bench.results import Curve, Results

__all__ = ["Run", "ending_at_sigterm", "measure"]

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

    def fail(self, what: str, number: int, error: Exception) -> None:
        """Note that something could not be measured."""
        self.clean = False
        self.results.notes.append(f"{what}, round {number} FAILED: {error}")
        self.progress.tell(f"{what}: {error}")

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
    results.subjects = [subject_of(peer) for peer in peers]
    for load in plan.loads:
        for peer in peers:
            if reason := reason_against(peer, load, files):
                title = load.cases().get("", Case(load.name, load.name)).title
                results.notes.append(f"{peer.name} was not measured in {title}: {reason}")
    made = 0
    try:
        for number in range(1, plan.rounds + 1):
            for load in plan.loads:
                for peer in peers:
                    if reason_against(peer, load, files) is None:
                        measure_one(load, peer, number, plan, run)
                    made += 1
                    run.progress.advance()
    except KeyboardInterrupt:
        steps = plan.rounds * len(plan.loads) * len(peers)
        results.notes.append(f"interrupted when {made} of {steps} measurements were made")
        return False
    finally:
        run.finish()
    return True


def subject_of(peer: Peer) -> Subject:
    """A relay, for the reader of the results."""
    return Subject(peer.name, peer.version, peer.described())


def measure_one(load: Load, peer: Peer, number: int, plan: Plan, run: Run) -> None:
    """Measure one load on one relay, and keep what comes of it."""
    cases = load.cases()
    title = cases[""].title if "" in cases else load.name
    run.progress.now(f"round {number}, {title}: {peer.name}")
    watch = Watch()
    try:
        if load.name == "start":
            run.keep(cases[""], peer, number, start(peer, run))
            if peer.name == "hailer":
                run.keep(VERSION, peer, number, version_time(run))
            return
        for outcome in under(load, peer, plan, run):
            run.keep(cases[outcome.part], peer, number, outcome)
    except (LoadError, PeerError) as error:
        run.fail(f"{peer.name}, {title}", number, error)
    finally:
        run.others.append(watch.others())


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
        command = [sys.executable, "-m", "hailer.tools.bench.relay.load", load.name, peer.dialect, str(port)]
        command += ["--pid", str(pid), "--count", str(load.count), "--size", str(load.size)]
        command += ["--seconds", str(seconds)]
        with pinned(run.cores.load):
            try:
                done = subprocess.run(  # noqa: S603 (this package)
                    command,
                    capture_output=True,
                    text=True,
                    timeout=LOAD_TIMEOUT + 20 * plan.seconds,
                    check=False,
                )
            except subprocess.TimeoutExpired as late:
                raise LoadError(f"not done after {late.timeout:g} s") from None
    if done.returncode:
        raise LoadError((done.stderr.strip().splitlines() or ["the load died without a word"])[-1])
    return [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]


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
    """Let SIGTERM end the relay that runs, too, as Ctrl-C does."""

    def end(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
