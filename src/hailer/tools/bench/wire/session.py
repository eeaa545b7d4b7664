"""One process' load on one server: connect, measure once or often, close."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from hailer.errors import UsageError
from hailer.tools.bench.wire.connects import Connecting, Idling
from hailer.tools.bench.wire.datagrams import DatagramOpenLoop, DatagramPingPong, DatagramPouring
from hailer.tools.bench.wire.schedule import OpenLoop
from hailer.tools.bench.wire.streams import PingPong, Pouring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hailer.endpoint import Endpoint
    from hailer.tools.bench.wire.drive import Drive
    from hailer.tools.bench.wire.load import Interval, Load, Outcome

__all__ = ["check_load", "open_load", "run_load"]

_STREAMS: Final[dict[str, type[Drive]]] = {
    "pingpong": PingPong,
    "stream": Pouring,
    "open": OpenLoop,
    "connect": Connecting,
    "idle": Idling,
}
_DATAGRAMS: Final[dict[str, type[Drive]]] = {
    "pingpong": DatagramPingPong,
    "stream": DatagramPouring,
    "open": DatagramOpenLoop,
    "idle": Idling,
}


def check_load(endpoint: Endpoint, load: Load) -> type[Drive]:
    """Say what drives this load, once it is known to fit the endpoint.

    Raises:
        UsageError: it does not.
    """
    if endpoint.is_datagram:
        if load.kind == "connect":
            raise UsageError(f"{endpoint} has no connections: give another kind of load")
        if load.reverse or load.turns or load.greeting or load.first:
            raise UsageError(
                f"{endpoint} has no connections: it can neither be reversed, nor take turns or greet"
            )
        if load.expect in ("http", "mark") or load.bytes_expected:
            raise UsageError(f"one datagram is one answer: expect echo, exact, any or none of {endpoint}")
        return _DATAGRAMS[load.kind]
    if (load.greeting or load.first) and endpoint.scheme in ("ws", "wss"):
        raise UsageError(f"{endpoint} opens its connections itself: leave out what is said first")
    records = endpoint.scheme in ("ws", "wss", "unix+seqpacket")
    if records and (load.expect in ("http", "mark", "eof") or load.bytes_expected):
        raise UsageError(f"one message is one answer: expect echo, exact, any or none of {endpoint}")
    return _STREAMS[load.kind]


@contextmanager
def open_load(
    endpoint: Endpoint, load: Load, report: Callable[[Interval], None] | None = None
) -> Iterator[Drive]:
    """Connect all clients; what comes out has `measure`, to be called once or often, and is closed then.

    Args:
        endpoint: where to; tcp, tls, udp, unix or ws in any of their forms.
        load: what to do.
        report: called once a second with what passed in it.

    Raises:
        UsageError: such a load cannot be put on such an endpoint.
        HailerError: a client could not be connected.
    """
    drive = check_load(endpoint, load)(endpoint, load, report)
    try:
        drive.connect()
        yield drive
    finally:
        drive.close()


def run_load(
    endpoint: Endpoint,
    load: Load,
    seconds: float,
    *,
    warmup: float = 0.2,
    report: Callable[[Interval], None] | None = None,
) -> Outcome:
    """Load a server for so long, in this process.

    Args:
        endpoint: where to.
        load: what to do.
        seconds: how long to measure.
        warmup: seconds before that, which do not count.
        report: called once a second with what passed in it.

    Returns:
        What was seen. What went wrong once it had begun stands in its `failure`.

    Raises:
        UsageError: such a load cannot be put on such an endpoint.
        HailerError: a client could not be connected.
    """
    with open_load(endpoint, load, report) as drive:
        return drive.measure(seconds, warmup)
