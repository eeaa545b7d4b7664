"""Carry out a plan: start each server, put each load on it, and keep the figures."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import psutil

from hailer.errors import HailerError, TimedOut, UsageError
from hailer.tools.bench.conditions import conditions
from hailer.tools.bench.machine import Usage, Watch, raise_descriptor_limit
from hailer.tools.bench.models.plan import MODELS
from hailer.tools.bench.models.reading import read
from hailer.tools.bench.models.served import NotMeasured, serving
from hailer.tools.bench.models.services import WAIT, seconds_of_work
from hailer.tools.bench.results import Results, Subject
from hailer.tools.bench.wire import Histogram, LoadProcesses, TlsFiles, numbered_lines
from hailer.tools.bench.wire import Load as WireLoad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.net.development import Made
    from hailer.tools.bench.models.plan import Load, Plan, Setup
    from hailer.tools.bench.models.served import Served
    from hailer.tools.bench.progress import Progress
    from hailer.tools.bench.results import Case
    from hailer.tools.bench.wire import Outcome

__all__ = ["all_cores", "measure"]

_WARM_UP: Final = 0.2
"""Seconds of load that do not count: first pages, caches, threads that begin."""

_MOST_WARM_UPS: Final = 5
"""Times that clients who have had no answer yet are waited for, some 10 seconds each."""

_MOST_LOADS: Final = 4
"""Processes of the load, each on a core of its own, where there are as many."""

_ENOUGH_TO_TELL: Final = 10
"""Connections from which on what they take can be told from what memory varies by itself, mostly."""

_MOST_MEMORY: Final = 0.7
"""The share of the memory that is free which the processes of connections may take."""


def all_cores() -> int:
    """How many cores a server can have to itself and share with none but the load.

    One is left to the load where there are more than two; with two, the load takes its share of one.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    count = len(os.sched_getaffinity(0))
    return count - 1 if count > 2 else count


def measure(plan: Plan, results: Results, progress: Progress, *, message: bytes | None = None) -> bool:
    """Measure everything; what fails becomes a note, and Ctrl-C keeps what there is.

    Args:
        plan: what.
        results: where the figures go, its conditions and its reading too.
        progress: told about each load.
        message: what clients send, None for numbered lines.

    Returns:
        Whether it came to its end, rather than to Ctrl-C.
    """
    raise_descriptor_limit()
    run = _Run(plan, results, progress, message)
    try:
        run.all()
    except KeyboardInterrupt:
        results.notes.append(f"interrupted after {run.done} of {run.total} measurements: those are here")
        return False
    finally:
        run.conclude()
    return True


@dataclass
class _Run:
    plan: Plan
    results: Results
    progress: Progress
    message: bytes | None
    done: int = 0
    total: int = field(init=False)
    _others: list[float] = field(default_factory=list)
    _times: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    _failed: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.total = self.plan.rounds * sum(len(setup.loads) for setup in self.plan.setups)
        self._work = seconds_of_work()
        self.results.notes += self.plan.notes

    def all(self) -> None:
        """Measure, round by round."""
        with TemporaryDirectory(prefix="hailer-bench-") as folder:
            certificate = self._certificate(Path(folder))
            for number in range(1, self.plan.rounds + 1):
                # Forwards and backwards, so that a drift of the machine does not favour a place in the row.
                for setup in self.plan.setups[:: 1 if number % 2 else -1]:
                    without = setup.transport == "tls" and certificate is None
                    if without or (setup.at_rest().title, setup.model) in self._failed:
                        self._advance(len(setup.loads))
                        continue
                    self._one_server(setup, number, Path(folder), certificate)

    def _certificate(self, folder: Path) -> Made | None:
        if all(setup.transport != "tls" for setup in self.plan.setups):
            return None
        from hailer.net.development import make_certificate  # noqa: PLC0415 (only for TLS)

        try:
            return make_certificate(["127.0.0.1"], folder / "certificate")
        except UsageError as error:
            self.results.notes.append(f"tls was not measured: {error}")
            return None

    def _one_server(self, setup: Setup, number: int, folder: Path, certificate: Made | None) -> None:
        """Start a server, measure it at rest and under each load, and end it."""
        left = len(setup.loads)
        self.progress.now(f"round {number}, {setup.case(setup.loads[0]).title}: {setup.model}")
        try:
            with serving(setup, _cores(setup.cores), folder, certificate) as served:
                resting = served.data_kib()
                self._add(setup, setup.at_rest(), number, {"memory_kib": served.memory_kib()})
                for load in setup.loads:
                    self._one_load(setup, load, number, served, resting, certificate)
                    left -= 1
                    self._advance()
                    served.rest()
        except NotMeasured as error:
            self._note(setup, setup.at_rest().title, str(error))
        self._advance(left)

    def _one_load(
        self, setup: Setup, load: Load, number: int, served: Served, resting: float, certificate: Made | None
    ) -> None:
        case = setup.case(load)
        self.progress.now(f"round {number}, {case.title}: {setup.model}")
        if (case.title, setup.model) in self._failed:
            return  # it will fail again, and take its time for that
        if load.clients >= _ENOUGH_TO_TELL and (reason := self._too_much(setup, load)):
            self._note(setup, case.title, reason)
            return
        watch = Watch()
        try:
            cores = _load_cores(setup.cores)
            wire = self._wire_load(setup, load, certificate)
            with LoadProcesses(served.endpoint, wire, min(len(cores), load.clients), cores=cores) as clients:
                clients.connect()
                _warm_up(clients)
                before = served.usage()
                outcome = clients.measure(self.plan.seconds)
                used = served.usage().since(before)
                if load.kind == "rounds":
                    memory, data = served.memory_kib(), served.data_kib()
        except TimedOut as error:  # the machine may have been too busy with something else
            self._note(setup, case.title, str(error), number)
            return
        except HailerError as error:
            self._note(setup, case.title, str(error))
            return
        if outcome.interrupted:
            raise KeyboardInterrupt
        if outcome.error is not None or not outcome.messages:
            self._note(setup, case.title, str(outcome.error or "no message was answered in the time"), number)
            return
        figures = _figures(load, outcome) | used.figures(max(outcome.sent, outcome.messages))
        figures["others"] = watch.others()
        self._others.append(figures["others"])
        if load.kind == "rounds":
            figures["memory_kib"] = memory
            # With few connections the memory may have varied by more than they take.
            if load.clients >= _ENOUGH_TO_TELL and setup.transport != "udp" and data > resting:
                figures["kib_per_connection"] = (data - resting) / load.clients
        self._add(setup, case, number, figures)
        self._times.setdefault((case.title, setup.model), Histogram()).add(outcome.latency)

    def _wire_load(self, setup: Setup, load: Load, certificate: Made | None) -> WireLoad:
        echoes = setup.service.name != "own"
        streams = setup.transport not in ("udp", "ws")
        return WireLoad(
            kind="connect" if load.kind == "connect" else "pingpong",
            messages=numbered_lines(setup.size) if self.message is None else (self.message,),
            expect="echo" if echoes else "line" if streams else "any",
            clients=load.clients,
            tls=TlsFiles(ca=str(certificate.authority)) if certificate is not None else TlsFiles(),
        )

    def _too_much(self, setup: Setup, load: Load) -> str:
        """Why so many processes would be too many for this machine's memory; empty when they would not."""
        if setup.model != "fork":
            return ""
        known = [
            value
            for case in self.results.cases
            for value in self.results.values(case.title, "fork", "kib_per_connection")
        ]
        needed = load.clients * (max(known) if known else 3000.0)
        free = psutil.virtual_memory().available / 1024
        if needed <= free * _MOST_MEMORY:
            return ""
        return (
            f"{load.clients:,} processes would take some {needed / 2**20:.1f} GiB, and {free / 2**20:.1f} GiB"
            " are free: give fewer clients (--clients)"
        )

    def _add(self, setup: Setup, case: Case, number: int, figures: dict[str, float]) -> None:
        model, loop = MODELS[setup.model]
        settings = f"--model {model}" + (f" --loop {loop}" if model == "asyncio" else "")
        self.results.add(case, Subject(setup.model, settings=settings), number, figures)

    def _note(self, setup: Setup, title: str, reason: str, number: int | None = None) -> None:
        """Tell why something was not measured: in that round, or at all."""
        if number is None:
            self._failed.add((title, setup.model))
        in_round = "" if number is None else f" in round {number}"
        note = f"{title}: {setup.model} was not measured{in_round}: {reason}"
        if note not in self.results.notes:
            self.results.notes.append(note)
            self.progress.tell(note)

    def _advance(self, steps: int = 1) -> None:
        self.done += steps
        if steps:
            self.progress.advance(steps)

    def conclude(self) -> None:
        """Say under which conditions it was, and what the figures mean."""
        results = self.results
        for key, times in self._times.items():
            results.percentiles[key] = [(percent, seconds * 1e6) for percent, seconds in times.curve()]
        # In the order of the plan, whatever was measured first.
        order = [
            case.title
            for setup in self.plan.setups
            for case in (setup.at_rest(), *(setup.case(load) for load in setup.loads))
        ]
        places = {title: at for at, title in enumerate(dict.fromkeys(order))}
        results.cases.sort(key=lambda case: places[case.title])
        results.subjects.sort(key=lambda subject: list(MODELS).index(subject.name))
        results.conditions |= conditions(_where(self.plan), others=self._others)
        # Once more: what else the machine does may have left no quiet moment at the beginning.
        work = min(self._work, seconds_of_work()) * 1e6
        results.conditions["compute"] = f"{work:.0f} µs of Python a message when nothing disturbs it"
        results.conditions["wait"] = f"{WAIT * 1000:g} ms a message"
        told = Usage.of(os.getpid(), shared=True).pss_kib is not None
        results.conditions["memory of servers"] = (
            "what processes share is divided among them (PSS)"
            if told
            else "resident memory: what processes share counts for each, as the system tells no more"
        )
        results.conditions["measurement"] = (
            f"{self.plan.rounds} round{'s' * (self.plan.rounds != 1)} of {self.plan.seconds:g} s; each client"
            " waits for its answer before it sends again; each server is started anew for each round"
        )
        results.reading = read(results)


def _warm_up(clients: LoadProcesses) -> None:
    """Load the server until each client has had an answer: a thousand processes take their time to begin."""
    for _ in range(_MOST_WARM_UPS):
        outcome = clients.measure(_WARM_UP)
        if outcome.interrupted:
            raise KeyboardInterrupt
        if outcome.error is not None and not isinstance(outcome.error, TimedOut):
            raise outcome.error
        if outcome.messages and not outcome.notes:  # that some still wait
            return


def _figures(load: Load, outcome: Outcome) -> dict[str, float]:
    """What the clients saw."""
    rate = "accepts_per_s" if load.kind == "connect" else "messages_per_s"
    figures = {rate: outcome.messages_per_s, "load_busy": outcome.busy}
    for percent, name in ((50, "p50_us"), (90, "p90_us"), (99, "p99_us"), (99.9, "p999_us"), (100, "max_us")):
        # A percentile needs some that are beyond it.
        if percent in (50, 100) or outcome.messages * (100 - percent) >= 1000:
            figures[name] = outcome.latency.percentile(percent) * 1e6
    if outcome.lost:
        figures["lost"] = outcome.lost
    return figures


def _cores(count: int) -> Sequence[int] | None:
    """The cores for a server: the first ones."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    return sorted(os.sched_getaffinity(0))[:count]


def _load_cores(servers: int) -> Sequence[int | None]:
    """The cores for the load: the last ones, of those that the server has not."""
    if not hasattr(os, "sched_getaffinity"):
        return (None,)
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[servers:][-_MOST_LOADS:] or allowed[-1:]


def _where(plan: Plan) -> str:
    if _cores(1) is None:
        return "server and load were not kept to cores (this system cannot)"
    texts = []
    for count in sorted({setup.cores for setup in plan.setups}):
        servers, loads = _cores(count) or (), _load_cores(count)
        shared = ", which they share" if set(servers) & set(loads) else ""
        where = f"with {count} cores: " if count > 1 else ""
        texts.append(f"{where}server on {_named(servers)}, load on {_named(loads)}{shared}")
    return "; ".join(texts)


def _named(cores: Sequence[int | None]) -> str:
    names = [str(core) for core in cores]
    return f"core {names[0]}" if len(names) == 1 else f"cores {', '.join(names)}"
