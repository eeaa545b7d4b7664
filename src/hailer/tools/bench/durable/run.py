"""All rounds: each store is started by itself, put under a durable load from another core, and stopped."""

from __future__ import annotations

import contextlib
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.durable.opening import open_filled
from hailer.tools.bench.durable.plan import READING
from hailer.tools.bench.durable.stores import at, build_delay, slowed
from hailer.tools.bench.machine import raise_descriptor_limit
from hailer.tools.bench.relay.meter import Outcome
from hailer.tools.bench.relay.peers import PeerError, filesystem, running
from hailer.tools.bench.relay.run import LOAD_TIMEOUT, outcomes_of, spawned, subject_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.tools.bench.durable.plan import Load, Plan
    from hailer.tools.bench.relay.peers import Peer
    from hailer.tools.bench.relay.run import Run

__all__ = ["measure"]

WINDOW: Final = 100
"""Messages that each sender keeps in flight."""
EVERY: Final = 0.01
"""Seconds from one window of stored messages to the next, beside live ones."""
SLOW: Final = 0.02
"""Seconds that a flush takes longer on a slow disk."""


def measure(plan: Plan, stores: Sequence[Peer], run: Run) -> bool:
    """All rounds of a plan; Ctrl-C ends it early.

    Returns:
        Whether it was not interrupted.
    """
    raise_descriptor_limit()
    results = run.results
    disk = filesystem(run.folder)
    results.conditions |= {
        "disk": disk,
        "rounds": f"{plan.rounds}, of which the median counts; stores in turn, one alive at a time",
        "length": f"about {plan.seconds:g} s a measurement, after a quarter of it that is not counted",
    }
    if "tmpfs" in disk:
        results.notes.append("the stores' files were in memory: name a folder on a disk with --folder")
    results.reading += READING
    results.subjects = [subject_of(store) for store in stores]
    delay = None
    if any(load.commits == "slow" for load in plan.loads):
        try:
            delay = build_delay(run.folder)
        except PeerError as error:
            results.notes.append(f"a slow disk was not measured: {error}")
    return run.through(
        [
            partial(measure_one, load, store, number, plan, run, delay)
            for number, load, store in plan.steps(stores)
            if load.commits != "slow" or delay is not None
        ]
    )


def measure_one(load: Load, store: Peer, number: int, plan: Plan, run: Run, delay: Path | None) -> None:
    """Measure one load on one store, and keep what comes of it."""
    cases = load.cases()
    with run.watching(store, load.title(), number):
        for outcome in under(load, store, plan.seconds, run, delay):
            run.keep(cases[outcome.part], store, number, outcome)


def under(load: Load, store: Peer, seconds: float, run: Run, delay: Path | None) -> list[Outcome]:
    """Start the store, put the load on it from the other core, stop the store.

    Raises:
        PeerError: the store did not start.
        LoadError: it did not do its work.
    """
    subject_core, load_core = (run.cores.subject, run.cores.load) if load.apart else (None, None)
    timeout = LOAD_TIMEOUT + 20 * seconds
    size = ["--size", load.size, "--seconds", seconds]
    if load.part == "opening" or not store.dialect:
        with tempfile.TemporaryDirectory(prefix="data-", dir=run.folder) as data:
            if load.part == "opening":
                return open_filled(store, subject_core, Path(data), load.count)
            module, *words = at(store, Path(data)).command[2:]
            return outcomes_of(spawned(module, [*words, *size], subject_core), timeout)
    if load.commits == "slow" and delay is not None:
        store = slowed(store, delay, SLOW)
    with running(store, subject_core, run.folder) as (port, pid):
        if load.part == "beside":
            return beside(load, store, port, pid, seconds, run)
        told: list[object] = [store.dialect, port, "--pid", pid, "--senders", load.count]
        told += ["--window", 1 if load.part == "alone" else WINDOW]
        told += ["--receive"] * (load.part == "receive")
        return outcomes_of(spawned("hailer.tools.bench.durable.load", [*told, *size], load_core), timeout)


def beside(load: Load, store: Peer, port: int, pid: int, seconds: float, run: Run) -> list[Outcome]:
    """Measure live messages while others are stored, and how long those take.

    Raises:
        LoadError: the store did not do its work.
    """
    timeout = LOAD_TIMEOUT + 20 * seconds
    with contextlib.ExitStack() as stack:
        commits = None
        if load.commits != "none":
            # It outlives the live load, which takes its logins and a trial first.
            told: list[object] = [
                store.dialect,
                port,
                "--window",
                WINDOW,
                "--every",
                EVERY,
                "--seconds",
                seconds * 2 + 2,
            ]
            commits = stack.enter_context(spawned("hailer.tools.bench.durable.load", told, run.cores.load))
            stack.callback(commits.kill)
        dialect = "nats" if store.dialect.startswith("nats") else store.dialect
        told = [load.live, dialect, port, "--pid", pid, "--count", load.count, "--seconds", seconds]
        outcomes = outcomes_of(spawned("hailer.tools.bench.relay.load", told, run.cores.load), timeout)
        if commits is not None:
            [stored] = outcomes_of(commits, timeout)
            latencies = {name: value for name, value in stored.figures.items() if name.startswith("p")}
            outcomes.append(Outcome(latencies, stored.curve, "commits"))
        return outcomes
