"""The services that are measured under every model: echo, one that computes, one that waits, or one given.

Whether threads or processes serve better depends on what a handler does, so there is one of each kind. They
are handlers for every model, and ``hailer serve hailer.tools.bench.models.services:compute`` serves one by
hand.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hailer.connection import sleep

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["OWN", "SERVICES", "Service", "compute", "seconds_of_work", "service_of", "wait"]

WAIT: Final = 0.005
"""Seconds: what a query to a database on the same machine may take."""

_STEPS: Final = 4000
"""Turns of a loop, a fixed amount of work: the time that it takes depends on the machine, and is stated."""

OWN: Final = "own"


async def compute(connection: Connection) -> None:
    """Send each message back after some hundred microseconds of Python."""
    async for message in connection:
        work()
        await connection.send(message)


async def wait(connection: Connection) -> None:
    """Send each message back after some milliseconds of doing nothing."""
    async for message in connection:
        await sleep(WAIT)
        await connection.send(message)


def work() -> int:
    """Compute something that no interpreter can leave out."""
    total = 0
    for number in range(_STEPS):
        total = (total * 31 + number) & 0xFFFFFFFF
    return total


def seconds_of_work(tries: int = 30) -> float:
    """How long `work` takes here, at best: the other tries were disturbed, or the first ones."""
    best = float("inf")
    for _ in range(tries):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best


@dataclass(frozen=True)
class Service:
    """A service to measure.

    Attributes:
        name: echo, compute, wait or own.
        argument: what ``hailer serve`` calls it.
        does: what a message costs, as the end of "a service that".
    """

    name: str
    argument: str
    does: str


SERVICES: Final = {
    "echo": Service("echo", "echo", "sends each message back"),
    "compute": Service(
        "compute", f"{__name__}:compute", "computes for some hundred microseconds and sends the message back"
    ),
    "wait": Service("wait", f"{__name__}:wait", f"waits {WAIT * 1000:g} ms and sends the message back"),
}


def service_of(text: str) -> Service:
    """One of `SERVICES`, or the reader's own by ``module:handler``."""
    return SERVICES.get(text) or Service(OWN, text, f"is {text}")
