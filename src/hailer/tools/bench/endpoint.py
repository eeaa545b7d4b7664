"""Load on somebody's own server, and what came of it.

`measure` puts loads on the server, one after another, and fills `Results`. Where the server runs on this
machine, its processor time and memory are measured too.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from hailer.errors import HailerError
from hailer.net.resolve import resolve
from hailer.tools.bench.machine import Usage, Watch
from hailer.tools.bench.results import Subject
from hailer.tools.bench.wire import LoadProcesses, open_load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hailer.endpoint import Endpoint
    from hailer.net.address import Address
    from hailer.tools.bench.machine import Used
    from hailer.tools.bench.progress import Progress
    from hailer.tools.bench.results import Case, Results
    from hailer.tools.bench.wire import Interval, Load, Outcome
    from hailer.tools.bench.wire.drive import Drive

__all__ = ["Run", "find_server", "is_of_this_machine", "measure"]


def is_of_this_machine(addresses: Sequence[Address]) -> bool:
    """Say whether all of these are addresses of this machine; asking sends nothing."""
    import socket  # noqa: PLC0415 (only here)

    for address in addresses:
        if address.family == socket.AF_UNIX:
            continue
        try:
            with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
                probe.bind((address.sockaddr[0], 0, *address.sockaddr[2:]))
        except OSError:
            return False
    return True


def find_server(endpoint: Endpoint) -> int | None:
    """Look who listens there on this machine; the root of its processes, None where it is not told."""
    try:
        addresses = resolve(endpoint, timeout=5.0)
        if not is_of_this_machine(addresses):
            return None
        if endpoint.scheme.startswith("unix"):
            found = {each.pid for each in psutil.net_connections("unix") if str(each.laddr) == endpoint.path}
        else:
            ports = {address.sockaddr[1] for address in addresses}
            kind = "udp" if endpoint.is_datagram else "tcp"
            waits = psutil.CONN_NONE if endpoint.is_datagram else psutil.CONN_LISTEN
            found = {
                each.pid
                for each in psutil.net_connections(kind)
                if each.laddr and each.laddr.port in ports and each.status == waits and not each.raddr
            }
        pids = {pid for pid in found if pid}
        # Of a server that forks, the first holds the socket too.
        roots = {pid for pid in pids if psutil.Process(pid).ppid() not in pids}
    except (HailerError, psutil.Error, OSError):
        return None
    return roots.pop() if len(roots) == 1 else None


@dataclass
class Run:
    """A measurement of an endpoint: what it is, and how it went.

    Attributes:
        results: what was measured.
        failure: the error that ended it early.
        interrupted: whether Ctrl-C did.
        others: the share of other programs in each measurement.
    """

    results: Results
    failure: HailerError | None = None
    interrupted: bool = False
    others: list[float] = field(default_factory=list)


def measure(
    endpoint: Endpoint,
    loads: Sequence[tuple[Case, Load]],
    results: Results,
    *,
    seconds: float,
    warmup: float,
    rounds: int,
    processes: int,
    pid: int | None,
    progress: Progress,
    report: Callable[[Interval], None] | None,
) -> Run:
    """Put the loads on the server, one after another.

    What fails ends it; what was measured until then is there.

    Args:
        endpoint: where to.
        loads: what to do.
        results: where the figures go.
        seconds: of each measurement.
        warmup: seconds before each, which do not count.
        rounds: how often each.
        processes: of the load; fewer where there are not as many clients.
        pid: the server's process, None where it is not known.
        progress: told what is done now.
        report: called once a second.
    """
    run = Run(results)
    subject = Subject(str(endpoint), settings=_settings(pid))
    for case, load in loads:
        whole: Outcome | None = None
        try:
            for number in range(1, rounds + 1):
                progress.now(case.title if rounds == 1 else f"{case.title}, round {number}")
                outcome = _one(
                    endpoint, load, case, subject, number, run, seconds, warmup, processes, pid, report
                )
                progress.advance()
                if whole is None:
                    whole = outcome
                else:
                    whole.add(outcome)
                run.interrupted |= outcome.interrupted
                run.failure = run.failure or outcome.error
                if run.interrupted or run.failure is not None:
                    break
        except HailerError as error:
            run.failure = error
        except KeyboardInterrupt:
            run.interrupted = True
        if whole is not None:
            _note(case, whole, results)
            if len(whole.latency):
                curve = [(percent, round(time * 1e6, 1)) for percent, time in whole.latency.curve()]
                results.percentiles[case.title, subject.name] = curve
        if run.failure is not None:
            results.notes.append(f"{case.title}: {run.failure}")
        if run.interrupted:
            results.notes.append(f"{case.title}: ended early by Ctrl-C")
        if run.failure is not None or run.interrupted:
            break
    return run


@contextmanager
def _opened(endpoint: Endpoint, load: Load, processes: int) -> Iterator[LoadProcesses | Drive]:
    if processes == 1:
        with open_load(endpoint, load) as drive:
            yield drive
    else:
        with LoadProcesses(endpoint, load, processes) as children:
            children.connect()
            yield children


def _one(
    endpoint: Endpoint,
    load: Load,
    case: Case,
    subject: Subject,
    number: int,
    run: Run,
    seconds: float,
    warmup: float,
    processes: int,
    pid: int | None,
    report: Callable[[Interval], None] | None,
) -> Outcome:
    empty = Usage.of(pid) if pid is not None and load.kind == "idle" else None
    watch = Watch()
    with _opened(endpoint, load, min(processes, load.clients)) as party:
        # The load warms up by itself, so that the server's use of the processor is that of what counts.
        first = party.measure(warmup) if warmup else None
        if first is not None and (first.failure or first.interrupted):
            return first
        before = Usage.of(pid) if pid is not None else None
        if isinstance(party, LoadProcesses):
            outcome = party.measure(seconds, report=report)
        else:
            party.report = report
            outcome = party.measure(seconds)
        after = Usage.of(pid) if pid is not None else None
        if first is not None:
            outcome.connecting.add(first.connecting)
    others = watch.others()
    figures = _figures(load, outcome)
    if before is not None and after is not None:
        used = after.since(before)
        figures |= _of_server(outcome, used, after, empty)
        others = max(0.0, others - used.busy / (os.cpu_count() or 1))  # the server is no disturbance
    run.others.append(others)
    if outcome.seconds and not (outcome.failure and not outcome.messages):
        run.results.add(case, subject, number, figures)
    return outcome


def _figures(load: Load, outcome: Outcome) -> dict[str, float]:
    """What was seen, by the names of `hailer.tools.bench.figures`."""
    seconds = outcome.seconds
    if not seconds:
        return {}
    figures: dict[str, float] = {"load_busy": round(outcome.busy, 3)}
    if load.kind == "connect":
        figures["accepts_per_s"] = round(outcome.messages / seconds, 1)
        figures["errors"] = sum(outcome.errors.values())
        figures |= _times(outcome, "connect_p50_us", "connect_p99_us")
    elif load.kind != "idle":
        if not load.reverse and not (load.kind == "stream" and load.expect == "any"):
            figures["messages_per_s"] = round(outcome.messages / seconds, 1)
        figures["up_per_s"] = round(outcome.bytes_up / seconds)
        figures["down_per_s"] = round(outcome.bytes_down / seconds)
        if load.kind == "stream" and outcome.sent_again:
            figures["sent_again"] = outcome.sent_again
    else:
        figures["clients"] = outcome.clients
        figures |= _times(outcome, "connect_p50_us", "connect_p99_us")
    if len(outcome.latency):
        for name, percent in (
            ("p50_us", 50),
            ("p90_us", 90),
            ("p99_us", 99),
            ("p999_us", 99.9),
            ("max_us", 100),
        ):
            figures[name] = round(outcome.latency.percentile(percent) * 1e6, 1)
    if outcome.late:
        figures["late_us"] = round(outcome.late * 1e6, 1)
    if outcome.lost or outcome.doubled or outcome.reordered or outcome.jitter:
        figures |= {"lost": outcome.lost, "doubled": outcome.doubled, "reordered": outcome.reordered,
                    "jitter_us": round(outcome.jitter * 1e6, 1)}  # fmt: skip
    return figures


def _times(outcome: Outcome, median: str, most: str) -> dict[str, float]:
    if not len(outcome.connecting):
        return {}
    times = outcome.connecting
    return {median: round(times.percentile(50) * 1e6, 1), most: round(times.percentile(99) * 1e6, 1)}


def _of_server(outcome: Outcome, used: Used, after: Usage, empty: Usage | None) -> dict[str, float]:
    figures = used.figures(outcome.messages)
    figures["rss_kib"] = round(after.rss_kib)
    if empty is not None and outcome.clients:
        figures["kib_per_connection"] = round(max(0.0, after.rss_kib - empty.rss_kib) / outcome.clients, 2)
    return figures


def _settings(pid: int | None) -> str:
    if pid is None:
        return "a server whose processor time and memory are not known here"
    with suppress(psutil.Error):
        return f"process {pid} ({psutil.Process(pid).name()}) and those that it started"
    return f"process {pid}"


def _note(case: Case, outcome: Outcome, results: Results) -> None:
    """What the reader has to know about these figures."""
    for text, count in outcome.errors.items():
        results.notes.append(f"{case.title}: {count} of its connections failed: {text}")
    results.notes += [f"{case.title}: {note}" for note in outcome.notes]
    if outcome.busy >= 0.95 and case.load != "open":
        results.notes.append(
            f"{case.title}: the load was busy for {outcome.busy:.0%} of the time, so the server may be"
            " faster, and some of the latency is the load's: give it --processes, or fewer clients"
        )
    if case.load == "open" and outcome.late > 0.01:
        results.notes.append(
            f"{case.title}: messages left up to {outcome.late * 1000:.0f} ms after they were due, which"
            " counts as latency: other programs use the processor, or the rate is too high for this load"
        )
    if outcome.lost:
        results.notes.append(f"{case.title}: {outcome.lost} of {outcome.sent} datagrams were lost")
