"""What is measured, in which order, and how long it takes: pure, so that it can be said before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from hailer.matrix import why_not
from hailer.tools.bench.models.services import SERVICES, Service
from hailer.tools.bench.results import Case

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CLIENTS", "MODELS", "TRANSPORTS", "Length", "Load", "Plan", "Setup", "make_plan"]

Length = Literal["short", "normal", "long"]

MODELS: Final = {
    "iterative": ("iterative", "auto"),
    "fork": ("fork", "auto"),
    "prefork": ("prefork", "auto"),
    "thread": ("thread", "auto"),
    "select": ("select", "auto"),
    "epoll": ("epoll", "auto"),
    "uvloop": ("asyncio", "uvloop"),
    "asyncio": ("asyncio", "stock"),
}
"""Each model as it is called here (the columns): the model of `hailer.matrix` and its event loop."""

TRANSPORTS: Final = {
    "tcp": "tcp4://127.0.0.1:0",
    "tcp6": "tcp6://[::1]:0",
    "tls": "tls://127.0.0.1:0",
    "unix": "unix:{folder}/socket",
    "udp": "udp4://127.0.0.1:0",
    "ws": "ws://127.0.0.1:0/",
}
"""Each transport and where it is listened on."""

CLIENTS: Final = (1, 64, 1000)
"""Clients at once: nobody else there, some, many."""

_ACCEPTED: Final = 8
"""Clients at once that connect anew for each message: enough for the server not to wait for one."""

_TYPICAL: Final = ("thread", "epoll", "uvloop")
"""The models under which a short run looks at what other transports cost: one of each kind."""

MANY: Final = 64
"""Clients of the loads that are there to compare services and transports."""

_FEW_PROCESSES: Final = (
    f"fork was measured with {MANY} clients at most: to begin {CLIENTS[-1]:,} processes takes longer than"
    " a short run"
)

_SERVER: Final = 0.5
_LOAD: Final = 0.7
"""Seconds that a server takes to start and to stop, and a load beside what is measured, about."""

_CONNECT: Final = {"fork": 0.006, "thread": 0.0008, "prefork": 0.0008}
_CONNECT_OTHERS: Final = 0.0004
"""Seconds that a connection takes, about."""


@dataclass(frozen=True)
class Load:
    """What clients do with a server.

    Attributes:
        kind: ``rounds`` is one message after another on open connections; ``connect`` is a connection, one
            exchange, and its end, again and again.
        clients: how many do so at once.
    """

    kind: Literal["rounds", "connect"]
    clients: int


@dataclass(frozen=True)
class Setup:
    """One server to start, and the loads that it gets one after another.

    Attributes:
        model: one of `MODELS`.
        transport: one of `TRANSPORTS`.
        service: what it serves.
        cores: how many cores it may use.
        size: bytes of a message.
        loads: with fewer clients first, so that memory only grows.
    """

    model: str
    transport: str
    service: Service
    cores: int
    size: int
    loads: tuple[Load, ...]

    def case(self, load: Load) -> Case:
        """The row of the tables that a load belongs to."""
        where = f"{self.service.name} over {self.transport}"
        if load.kind == "connect":
            what = "a connection a message"
        else:
            what = f"{load.clients:,} client{'' if load.clients == 1 else 's'}"
        return self._case(
            f"{where}, {what}", "connect" if load.kind == "connect" else self.service.name, load.clients
        )

    def at_rest(self) -> Case:
        """The row for a server that nobody has connected to."""
        return self._case(f"{self.service.name} over {self.transport}, at rest", "rest", 0)

    def _case(self, title: str, load: str, clients: int) -> Case:
        cores = f", {self.cores} cores" if self.cores > 1 else ""
        values: dict[str, str | int | float] = {
            "service": self.service.name,
            "transport": self.transport,
            "clients": clients,
            "cores": self.cores,
            "size": self.size,
        }
        return Case(load, title + cores, values)

    def estimate(self, seconds: float) -> float:
        """Seconds that all of it takes, about."""
        each = _CONNECT.get(self.model, _CONNECT_OTHERS)
        return _SERVER + sum(seconds + _LOAD + load.clients * each for load in self.loads)


@dataclass(frozen=True)
class Plan:
    """Everything to be measured.

    Attributes:
        setups: the servers of one round, in order.
        rounds: how often all of them are measured.
        seconds: the length of one measurement.
        notes: what is left out, and why.
    """

    setups: tuple[Setup, ...]
    rounds: int
    seconds: float
    notes: tuple[str, ...]

    def estimate(self) -> float:
        """Seconds that all of it takes, about."""
        return self.rounds * sum(setup.estimate(self.seconds) for setup in self.setups)


def make_plan(
    length: Length,
    *,
    models: Sequence[str] = tuple(MODELS),
    transports: Sequence[str] | None = None,
    services: Sequence[Service] = tuple(SERVICES.values()),
    clients: Sequence[int] | None = None,
    cores: int = 1,
    all_cores: int = 1,
    size: int = 64,
    seconds: float | None = None,
    rounds: int | None = None,
) -> Plan:
    """Decide what is measured.

    The first service is measured over every transport; the others, which are there for what differs between
    handlers, over the first transport with some clients; one that computes also on all cores, for that is
    what processes are for.

    Args:
        length: how thorough.
        models: of `MODELS`.
        transports: of `TRANSPORTS`; None for all, or with a short length for those that differ most.
        services: the services.
        clients: how many at once; None for `CLIENTS`, and fewer where the length is less than long.
        cores: how many cores the server may use.
        all_cores: how many there are for it.
        size: bytes of a message.
        seconds: the length of one measurement, None for what the length says.
        rounds: how often each is measured, None for what the length says.
    """
    typical = tuple(models)
    if transports is None:
        transports = [name for name in TRANSPORTS if length != "short" or name != "tcp6"]
        if length == "short" and tuple(models) == tuple(MODELS):
            typical = _TYPICAL
    setups: list[Setup] = []
    notes: list[str] = []
    for service in services:
        places = transports if service is services[0] else transports[:1]
        for transport in places:
            numbers = tuple(clients or CLIENTS)
            if clients is None and (
                service is not services[0] or (transport != places[0] and length != "long")
            ):
                numbers = (MANY,) if length == "short" or service is not services[0] else (1, MANY)
            connect = (
                service is services[0]
                and transport != "udp"
                and (transport == places[0] or length != "short")
            )
            counts = sorted({cores, all_cores}) if service.name in ("compute", "own") else [cores]
            for count in counts:
                for model in models:
                    if transport != places[0] and model not in typical:
                        continue
                    reason = why_not(MODELS[model][0], transport.rstrip("46"))
                    if reason is not None:
                        notes.append(f"{model} was not measured over {transport}: {reason}")
                        continue
                    few = clients is None and length == "short" and model == "fork"
                    wanted = [number for number in numbers if number <= MANY or not few]
                    if len(wanted) < len(numbers):
                        notes.append(_FEW_PROCESSES)
                    loads = [*_loads(model, transport, sorted(set(wanted)))]
                    if connect and count == cores:
                        loads.append(Load("connect", _ACCEPTED))
                    if loads:
                        setups.append(Setup(model, transport, service, count, size, tuple(loads)))
    if "iterative" in models:
        notes.append(
            "iterative serves one connection at a time, and the others wait until that one ends: it is"
            " measured with one client alone, but over udp"
        )
    return Plan(
        tuple(setups),
        rounds or {"short": 1, "normal": 3, "long": 5}[length],
        seconds or {"short": 0.4, "normal": 0.7, "long": 2.0}[length],
        tuple(dict.fromkeys(notes)),
    )


def _loads(model: str, transport: str, clients: Sequence[int]) -> Iterator[Load]:
    if model == "iterative" and transport != "udp":
        clients = [1] if clients else []
    for number in clients:
        yield Load("rounds", number)
