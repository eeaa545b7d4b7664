"""A server under measurement: ``hailer serve`` on cores of its own, with all of its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, Final

import psutil

from hailer.endpoint import Endpoint
from hailer.errors import HailerError
from hailer.tools.bench.machine import Usage, pinned
from hailer.tools.bench.models.plan import MODELS, TRANSPORTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import IO

    from hailer.net.development import Made
    from hailer.tools.bench.models.plan import Setup

__all__ = ["NotMeasured", "Served", "command_of", "serving"]

_START_TIMEOUT: Final = 30.0
"""Seconds until a server must listen."""

_STOP_TIMEOUT: Final = 5.0
"""Seconds that a server that was told to stop is given before it is killed."""

_REST_TIMEOUT: Final = 10.0
"""Seconds for the processes of connections that have ended to end too."""

_SPARE: Final = 64
"""Connections above those of the load that a server takes: one that ends and one that begins overlap."""


class NotMeasured(HailerError):
    """Something cannot be measured here; the message says why."""


@dataclass
class Served:
    """A server that listens.

    Attributes:
        pid: its first process.
        endpoint: where it listens.
        resting: how many processes it has without connections.
    """

    pid: int
    endpoint: Endpoint
    resting: int = 1

    def usage(self, *, memory: bool = False) -> Usage:
        """What all of its processes have used until now."""
        return Usage.of(self.pid, shared=memory)

    def memory_kib(self) -> float:
        """The memory of all its processes: what they share is counted once where the system tells it."""
        usage = self.usage(memory=True)
        return usage.rss_kib if usage.pss_kib is None else usage.pss_kib

    def data_kib(self) -> float:
        """The part of that memory which holds data.

        What one connection more takes is seen in this alone: the pages of programs and libraries weigh
        less (PSS) as soon as any other program begins that maps them too, such as the load.
        """
        with contextlib.suppress(psutil.Error, OSError):
            root = psutil.Process(self.pid)
            found = [_anonymous_kib(each.pid) for each in (root, *root.children(recursive=True))]
            if any(found):
                return sum(found)
        return self.memory_kib()

    def processes(self) -> int:
        """How many processes it has, 0 once it has ended."""
        try:
            return 1 + len(psutil.Process(self.pid).children(recursive=True))
        except psutil.Error:
            return 0

    def rest(self) -> None:
        """Wait until the processes of the connections that were there have ended."""
        deadline = time.monotonic() + _REST_TIMEOUT
        while self.processes() > self.resting and time.monotonic() < deadline:
            time.sleep(0.02)


def _anonymous_kib(pid: int) -> float:
    """Of one process, by proc_pid_smaps(5); 0 where the system does not tell it, or the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith("Pss_Anon:")), 0.0)


def command_of(setup: Setup, folder: Path, certificate: Made | None = None) -> list[str]:
    """The words after ``hailer`` that serve this."""
    model, loop = MODELS[setup.model]
    words = [
        "serve",
        setup.service.argument,
        TRANSPORTS[setup.transport].format(folder=folder),
        "--model",
        model,
    ]
    if model == "asyncio":
        words += ["--loop", loop]
    if setup.transport not in ("udp", "ws"):
        words += ["--framing", "line"]
    # Twice as many: the workers of prefork share the number, but not evenly the connections.
    most = 2 * max(load.clients for load in setup.loads) + _SPARE
    words += ["--max-connections", str(most), "--backlog", "4096", "--idle-timeout", "0", "--drain", "0"]
    if setup.transport == "tls":
        assert certificate is not None
        words += ["--cert", str(certificate.certificate), "--key", str(certificate.key)]
    return words


@contextmanager
def serving(
    setup: Setup, cores: Collection[int] | None, folder: Path, certificate: Made | None = None
) -> Iterator[Served]:
    """Serve as long as the block lasts.

    Args:
        setup: what, and how.
        cores: the cores that it may use, None for all.
        folder: for its log and its Unix socket.
        certificate: for tls.

    Raises:
        NotMeasured: it does not start here; the message says why.
    """
    log = folder / "log"
    # What is set for the reader's own servers is not for these.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HAILER_")}
    with log.open("w") as sink, pinned(cores):
        # A group of its own: a Ctrl-C in the terminal goes to us alone, and we stop it.
        process = subprocess.Popen(  # noqa: S603 (this program itself)
            [sys.executable, "-m", "hailer", *command_of(setup, folder, certificate)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            env=environment,
            start_new_session=True,
        )
    try:
        served = Served(process.pid, _endpoint(process, log))
        served.resting = _at_rest(served, setup)
        yield served
    finally:
        _stop(process)


def _endpoint(process: subprocess.Popen[str], log: Path) -> Endpoint:
    assert process.stdout is not None
    line = _line(process.stdout, _START_TIMEOUT)
    where = line.strip().removeprefix("listening on ")
    if not where:
        said = log.read_text(errors="replace").strip().splitlines()
        raise NotMeasured(said[-1].removeprefix("hailer: ") if said else "it did not listen in time")
    return Endpoint.parse(where)


def _line(pipe: IO[str], seconds: float) -> str:
    with DefaultSelector() as selector:
        selector.register(pipe, EVENT_READ)
        return pipe.readline() if selector.select(seconds) else ""


def _at_rest(served: Served, setup: Setup) -> int:
    """The processes before the first connection; those of prefork begin after it listens."""
    if setup.model != "prefork":
        return served.processes()
    deadline = time.monotonic() + _STOP_TIMEOUT
    while (count := served.processes()) < 1 + max(2, setup.cores) and time.monotonic() < deadline:
        time.sleep(0.01)
    return count


def _stop(process: subprocess.Popen[str]) -> None:
    """End it and all that it started."""
    for number, seconds in ((signal.SIGTERM, _STOP_TIMEOUT), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=seconds)
            if number is signal.SIGTERM:
                continue  # children that outlive their parent are killed too
