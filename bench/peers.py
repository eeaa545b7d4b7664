"""Names of the relay's measurement that those here still use."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hailer.tools.bench.machine import pinned
from hailer.tools.bench.relay.peers import (
    STOP_TIMEOUT,
    Peer,
    PeerError,
    build_floor,
    find_mosquitto,
    find_nats,
    find_redis,
    free_port,
    output_of,
    program_at,
    running,
)

__all__ = [
    "STOP_TIMEOUT",
    "Cores",
    "Peer",
    "PeerError",
    "build_floor",
    "cores_to_use",
    "find_mosquitto",
    "find_nats",
    "find_redis",
    "free_port",
    "output_of",
    "pinned",
    "program_at",
    "running",
]


@dataclass(frozen=True)
class Cores:
    """Where the server and the load run; None where they are not kept to a core."""

    relay: int | None
    load: int | None

    def __str__(self) -> str:
        if self.relay is None:
            return "relay and load were not kept to cores of their own (this system cannot)"
        if self.relay == self.load:
            return f"relay and load shared core {self.relay}, the only one"
        return f"relay kept to core {self.relay}, load to core {self.load}"


def cores_to_use() -> Cores:
    """The first core for the server and the last for the load, of those that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[-1])
