"""The load in processes of its own, so that it has cores of its own and leaves the caller's loop alone.

What is ordered and what came of it pass as JSON, one object a line, on its standard input and output: first
``{"endpoint": ..., "load": ...}``, answered by ``{"ready": true}`` once all clients are connected; then
``{"seconds": ..., "warmup": ..., "report": ...}``, answered by ``{"outcome": ...}``, as often as wanted. The
end of its input ends it. Instead of an answer there may be ``{"error": ..., "kind": ...}``, its last word.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from threading import Lock
from typing import IO, TYPE_CHECKING, Any, Final

from hailer.endpoint import Endpoint
from hailer.errors import HailerError, TimedOut, UsageError
from hailer.tools.bench.machine import pinned
from hailer.tools.bench.wire.load import Interval, Load, Outcome
from hailer.tools.bench.wire.session import check_load, open_load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

__all__ = ["LoadProcess", "LoadProcesses", "divide", "run_in_processes", "serve_orders"]

_SLACK: Final = 30.0
"""Seconds that a process gets beyond what it was told, to start or to end."""

MOST_PROCESSES: Final = 64


class LoadProcess:
    """A load in a child process, which keeps its clients connected between measurements.

    Use it as a context manager, or close it. `connect` has to come first.

    Args:
        endpoint: where to.
        load: what to do.
        core: the core to keep to; None for any.
    """

    def __init__(self, endpoint: Endpoint, load: Load, *, core: int | None = None) -> None:
        check_load(endpoint, load)
        self._load = load
        self._lines: list[dict[str, Any]] = []
        self._rest = b""
        with pinned(core):
            self._child = subprocess.Popen(
                [sys.executable, "-m", "hailer.tools.bench.wire"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                # Ctrl-C of a terminal is for us alone: we tell it to whom it concerns.
                process_group=0,
            )
        self._order({"endpoint": str(endpoint), "load": load.as_json()})

    def __enter__(self) -> LoadProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's number."""
        return self._child.pid

    def connect(self) -> None:
        """Wait until all clients are connected.

        Raises:
            HailerError: one could not be.
        """
        # Each client that comes in gives the others another while.
        self._answer("ready", _SLACK + self._load.timeout * (1 + self._load.clients / 10))

    def measure(
        self, seconds: float, *, warmup: float = 0.2, report: Callable[[Interval], None] | None = None
    ) -> Outcome:
        """See `hailer.tools.bench.wire.run_load`."""
        self.begin(seconds, warmup=warmup, report=report is not None)
        return self.finish(seconds + warmup, report)

    def begin(self, seconds: float, *, warmup: float, report: bool) -> None:
        """Order a measurement, and do not wait for it."""
        self._order({"seconds": seconds, "warmup": warmup, "report": report})

    def finish(self, seconds: float, report: Callable[[Interval], None] | None = None) -> Outcome:
        """Wait for the end of a measurement that takes so long; Ctrl-C ends it early.

        Raises:
            TimedOut: the process does not end.
        """
        limit = seconds + 2 * self._load.timeout + _SLACK
        try:
            found = self._answer("outcome", limit, report)
        except KeyboardInterrupt:
            self.interrupt()
            found = self._answer("outcome", limit)
        return Outcome.from_json(found)

    def close(self) -> None:
        """End it, and wait for that."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        with suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(_SLACK)
        except BaseException:
            self._child.kill()
            self._child.wait()
            raise
        finally:
            self._child.stdout.close()

    def interrupt(self) -> None:
        """Have the measurement end now, with what was seen until now."""
        with suppress(OSError):
            self._child.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it without its doing."""
        self._child.kill()

    def _order(self, order: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and its last line says why
            self._child.stdin.write(json.dumps(order).encode() + b"\n")

    def _answer(self, key: str, limit: float, report: Callable[[Interval], None] | None = None) -> Any:
        deadline = time.monotonic() + limit
        while True:
            line = self._line(deadline)
            if "interval" in line:
                if report is not None:
                    report(Interval(**line["interval"]))
                continue
            if "error" in line:
                failure = Outcome(failure=line["error"], failure_kind=line["kind"]).error
                assert failure is not None
                raise failure
            if key in line:
                return line[key]

    def _line(self, deadline: float) -> dict[str, Any]:
        assert self._child.stdout is not None
        fd = self._child.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(fd, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimedOut("the load said nothing more: stop what else keeps this machine busy")
                data = os.read(fd, 1 << 20)
                if not data:
                    code = self._child.wait()
                    raise HailerError(
                        f"the load ended by itself (exit code {code}): look at what it said above, or at the"
                        " memory of this machine"
                    )
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found


def divide(load: Load, processes: int) -> list[Load]:
    """Give each of so many processes its part of the clients and of the rate.

    Raises:
        UsageError: there are not as many clients.
    """
    if not 1 <= processes <= MOST_PROCESSES:
        raise UsageError(f"{processes} processes cannot be: give 1 to {MOST_PROCESSES}")
    if processes > load.clients:
        raise UsageError(
            f"{processes} processes for {load.clients} clients: give each process a client at least"
        )
    parts = [load.clients // processes + (n < load.clients % processes) for n in range(processes)]
    return [replace(load, clients=part, rate=load.rate * part / load.clients) for part in parts]


class LoadProcesses:
    """A load that several processes put on a server together. Use it as a context manager.

    Args:
        endpoint: where to.
        load: what to do, all together.
        processes: how many.
        cores: which core each keeps to, again from the first when there are more processes.

    Raises:
        UsageError: such a load cannot be put on such an endpoint.
    """

    def __init__(
        self, endpoint: Endpoint, load: Load, processes: int, *, cores: Sequence[int | None] = (None,)
    ) -> None:
        self._children: list[LoadProcess] = []
        with ExitStack() as stack:
            for n, part in enumerate(divide(load, processes)):
                child = LoadProcess(endpoint, part, core=cores[n % len(cores)])
                self._children.append(stack.enter_context(child))
            self._stack = stack.pop_all()

    def __enter__(self) -> LoadProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for child in self._children:
                child.kill()
        self._stack.close()

    def connect(self) -> None:
        """Wait until all clients are connected.

        Raises:
            HailerError: one could not be.
        """
        for child in self._children:
            child.connect()

    def measure(
        self, seconds: float, warmup: float = 0.0, *, report: Callable[[Interval], None] | None = None
    ) -> Outcome:
        """Have them begin together, and add up what they saw; see `run_load`."""
        children = self._children
        for child in children:
            child.begin(seconds, warmup=warmup, report=report is not None)
        if len(children) == 1:
            return children[0].finish(seconds + warmup, report)
        sums: list[list[Interval]] = [[] for _ in children]
        told = 0
        turn = Lock()

        def take(which: int) -> Callable[[Interval], None]:
            def taken(interval: Interval) -> None:
                nonlocal told
                with turn:
                    sums[which].append(interval)
                    while report is not None and all(len(each) > told for each in sums):
                        report(_together([each[told] for each in sums]))
                        told += 1

            return taken

        # Each is read by a thread, as each may say something at any time.
        with ThreadPoolExecutor(len(children)) as pool:
            waiting = [
                pool.submit(child.finish, seconds + warmup, take(which))
                for which, child in enumerate(children)
            ]
            try:
                outcomes = [each.result() for each in waiting]
            except KeyboardInterrupt:
                for child in children:
                    child.interrupt()
                outcomes = [each.result() for each in waiting]
        whole = outcomes[0]
        for each in outcomes[1:]:
            whole.add(each)
        return whole


def run_in_processes(
    endpoint: Endpoint,
    load: Load,
    seconds: float,
    *,
    warmup: float = 0.2,
    processes: int = 1,
    cores: Sequence[int | None] = (None,),
    report: Callable[[Interval], None] | None = None,
) -> Outcome:
    """Load a server for so long from other processes, which begin together, and add up what they saw.

    Args:
        endpoint: where to.
        load: what to do, all processes together.
        seconds: how long to measure.
        warmup: seconds before that, which do not count.
        processes: how many.
        cores: which core each keeps to, again from the first when there are more processes.
        report: called once a second with what passed in it.

    Raises:
        UsageError: such a load cannot be put on such an endpoint.
        HailerError: a client could not be connected.
    """
    with LoadProcesses(endpoint, load, processes, cores=cores) as children:
        children.connect()
        return children.measure(seconds, warmup, report=report)


def _together(parts: Sequence[Interval]) -> Interval:
    return Interval(
        parts[0].begin,
        parts[0].end,
        *(
            sum(getattr(part, name) for part in parts)
            for name in ("messages", "bytes_up", "bytes_down", "lost")
        ),
    )


def serve_orders(orders: IO[str], answers: IO[str]) -> None:
    """What the child process does: see above.

    Args:
        orders: where they come from, a line each.
        answers: where the answers go.
    """

    def say(**fields: object) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    first = json.loads(orders.readline() or "{}")
    if not first:
        return
    try:
        with open_load(Endpoint.parse(first["endpoint"]), Load.from_json(first["load"])) as drive:
            say(ready=True)
            while line := orders.readline():
                order = json.loads(line)
                drive.report = (lambda interval: say(interval=vars(interval))) if order["report"] else None
                say(outcome=drive.measure(order["seconds"], order["warmup"]).as_json())
    except HailerError as error:
        say(error=str(error), kind=type(error).__name__)
