"""A relay on real sockets under each model, and a watch over what it logs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from hailer.endpoint import Endpoint
from hailer.relay.app import RelayServer, Settings
from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hailer.relay.app import ModelName
    from hailer.runtime.aio import Loop

MODELS: dict[str, tuple[ModelName, Loop, int]] = {
    "uvloop": ("asyncio", "uvloop", 1),
    "stock": ("asyncio", "stock", 1),
    "thread": ("thread", "auto", 1),
    "workers": ("asyncio", "uvloop", 2),
}
"""The model, the event loop, and how many processes: of two, each has every second client."""


class Start(Protocol):
    """The type of the fixture `start`."""

    def __call__(self, **limits: float) -> RelayServer: ...


def limits_of(values: dict[str, float]) -> Limits:
    """Limits with some of them changed."""
    return Limits(**values)  # type: ignore[arg-type]  # whole numbers where they belong: the tests write them so


LONG = os.environ.get("HAILER_LONG") == "1"
SLACK = 1 if LONG else 10
"""How many times its figure something may take: a short run shares its machine with other tests."""


def pytest_configure(config: pytest.Config) -> None:
    """Name the mark of this suite."""
    config.addinivalue_line("markers", "heavy: takes its time; under one event loop only, but in long runs")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test under each model; what is heavy under one event loop only, but in long runs."""
    if "model" in metafunc.fixturenames:
        heavy = metafunc.definition.get_closest_marker("heavy") is not None
        names = [name for name in MODELS if LONG or not heavy or name != "stock"]
        metafunc.parametrize("model", names, indirect=True)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """The model that the relay runs under."""
    return str(request.param)


@pytest.fixture(params=["tcp", "unix"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Endpoint:
    """What the relay listens on."""
    if request.param == "unix":
        return Endpoint.parse(f"unix:{tmp_path}/relay.sock")
    return Endpoint.parse("tcp4://127.0.0.1:0")


@pytest.fixture
def tcp() -> Endpoint:
    """A free TCP port."""
    return Endpoint.parse("tcp4://127.0.0.1:0")


class MakeSettings(Protocol):
    """The type of the fixture `settings_for`."""

    def __call__(self, *endpoints: Endpoint, drain: float = 1.0, **limits: float) -> Settings: ...


@pytest.fixture
def settings_for(model: str) -> MakeSettings:
    """Makes the settings of a relay under each model."""
    kind, loop, workers = MODELS[model]

    def make(*endpoints: Endpoint, drain: float = 1.0, **limits: float) -> Settings:
        return Settings(
            listen=endpoints, model=kind, loop=loop, workers=workers, limits=limits_of(limits), drain=drain
        )

    return make


@pytest.fixture
def start_on(settings_for: MakeSettings) -> Iterator[Callable[..., RelayServer]]:
    """Starts relays on endpoints, and stops them at the end."""
    with contextlib.ExitStack() as stack:

        def start(endpoint: Endpoint, *, drain: float = 0.2, **limits: float) -> RelayServer:
            return stack.enter_context(RelayServer(settings_for(endpoint, drain=drain, **limits)))

        yield start


@pytest.fixture
def start(where: Endpoint, start_on: Callable[..., RelayServer]) -> Start:
    """Starts a relay under each model on TCP and on a Unix socket."""

    def start_there(**limits: float) -> RelayServer:
        return start_on(where, **limits)

    return start_there


@pytest.fixture
def start_one(model: str, tmp_path: Path, start_on: Callable[..., RelayServer]) -> Start:
    """Starts a relay under each model, on one kind of socket, for what takes its time."""
    endpoint = Endpoint.parse("tcp4://127.0.0.1:0" if model != "stock" else f"unix:{tmp_path}/relay.sock")

    def start_there(**limits: float) -> RelayServer:
        return start_on(endpoint, **limits)

    return start_there


@pytest.fixture
def start_tcp(tcp: Endpoint, start_on: Callable[..., RelayServer]) -> Start:
    """Starts a relay under each model, on TCP only."""

    def start_there(**limits: float) -> RelayServer:
        return start_on(tcp, **limits)

    return start_there


@pytest.fixture
def quick_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have relays in this process look at the clocks of all sessions twenty times a second."""
    monkeypatch.setattr("hailer.relay.core.relay._SCAN", 0.05)


@pytest.fixture(autouse=True)
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test in which the relay, or its event loop, logged an error: each is a fault of ours."""
    caplog.set_level(logging.INFO)
    yield
    errors = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not errors


class RelayProcess:
    """A relay in a process of its own: its endpoint, its memory, its log."""

    def __init__(self, process: subprocess.Popen[bytes], endpoint: Endpoint, log: Path) -> None:
        self.process = process
        self.endpoint = endpoint
        self._log = log

    @property
    def log_lines(self) -> list[str]:
        """What it has written to standard error."""
        return self._log.read_text().splitlines()

    def rss(self) -> int:
        """Its resident memory in bytes."""
        with open(f"/proc/{self.process.pid}/statm") as statm:  # noqa: PTH123
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def descriptors(self) -> int:
        """How many descriptors it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    def threads(self) -> int:
        """How many threads it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))  # noqa: PTH208

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        with open(f"/proc/{self.process.pid}/stat") as stat:  # noqa: PTH123
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """End it by SIGTERM; gives its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


_SCRIPT = """
    import logging, resource, signal, sys
    from hailer.endpoint import Endpoint
    from hailer.relay.app import RelayServer, Settings
    from hailer.relay.core.limits import Limits
    from hailer.relay.core import relay as core
    from hailer.relay.edge import base

    model, loop, workers, endpoint, drain, descriptors, spare, scan, limits = sys.argv[1:]
    if int(descriptors):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(descriptors), int(descriptors)))
    base._SPARE_DESCRIPTORS = int(spare)
    core._SCAN = float(scan)
    logging.basicConfig(level=logging.WARNING)
    relay = RelayServer(
        Settings(
            listen=(Endpoint.parse(endpoint),),
            model=model,
            loop=loop,
            workers=int(workers),
            limits=Limits(**eval(limits)),
            drain=float(drain),
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    print(relay.bind()[0], flush=True)
    relay.serve()
"""


class StartProcess(Protocol):
    """The type of the fixture `start_process`."""

    def __call__(
        self,
        model: str,
        *,
        drain: float = 2.0,
        descriptors: int = 0,
        spare: int = 32,
        scan: float = 1.0,
        **limits: float,
    ) -> RelayProcess: ...


@pytest.fixture
def start_process(tmp_path: Path) -> Iterator[StartProcess]:
    """Starts relays in processes of their own, on TCP."""
    with contextlib.ExitStack() as stack:

        def start(
            model: str,
            *,
            drain: float = 2.0,
            descriptors: int = 0,
            spare: int = 32,
            scan: float = 1.0,
            **limits: float,
        ) -> RelayProcess:
            kind, loop, workers = MODELS[model]
            arguments = (
                kind,
                loop,
                str(workers),
                "tcp4://127.0.0.1:0",
                str(drain),
                str(descriptors),
                str(spare),
                str(scan),
                repr(limits),
            )
            log = tmp_path / f"log-{time.monotonic_ns()}"
            with log.open("wb") as stderr:
                process = subprocess.Popen(
                    [sys.executable, "-c", textwrap.dedent(_SCRIPT), *arguments],
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                )
            stack.callback(_end, process)
            assert process.stdout is not None
            line = process.stdout.readline().decode().strip()
            assert line, f"the relay did not start: {log.read_text()}"
            return RelayProcess(process, Endpoint.parse(line), log)

        yield start


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Waits until something holds; the limit is for what hangs."""

    def wait(holds: Callable[[], bool], seconds: float = 30.0) -> None:
        give_up = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < give_up, "it did not come to be in time"
            time.sleep(0.005)

    return wait


@pytest.fixture
def can_connect() -> Callable[[Endpoint], bool]:
    """Tells whether somebody listens on an endpoint."""

    def can(endpoint: Endpoint) -> bool:
        with socket.socket(socket.AF_UNIX if endpoint.scheme == "unix" else socket.AF_INET) as sock:
            address = endpoint.path if endpoint.scheme == "unix" else (endpoint.host, endpoint.port)
            return sock.connect_ex(address) == 0

    return can
