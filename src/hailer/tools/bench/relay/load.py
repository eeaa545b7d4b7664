"""A load for message relays that costs the same whatever it talks to.

Every message is made before the clock starts, goes out over plain sockets and is compared, byte for byte,
with what must come back: numbered messages in runs of 16 that repeat, so that the comparison is one `memcmp`
for each read, and a message that is lost, doubled, out of order or damaged ends the measurement.

    python -m hailer.tools.bench.relay.load LOAD DIALECT PORT [--count N] [--size BYTES] [--seconds S]
        [--pid PID]

prints one JSON object for each part of the load. The loads, each with `count` receivers:

    pipeline     as many senders, each streaming to its own receiver as fast as the relay takes it
    scatter      one sender; its messages go to the receivers in a shuffled order
    fanout       one sender; every message goes to all receivers, by a room
    pingpong     as many senders; the next message leaves when the last one has arrived
    mixed        four senders; sizes from 16 B to 64 KiB, half of them any bytes, to receivers by chance
    mixed-post   the same, and a tenth of them are to be stored, and acknowledged to the sender
    paced        as many senders; messages leave when they are due, at shares of what the relay can do
    idle         logged-in connections that say nothing: the relay's memory for each

It runs in a process of its own so that it can be kept to a core of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.machine import Usage, raise_descriptor_limit
from hailer.tools.bench.relay import mixed, paced, streams
from hailer.tools.bench.relay.dialects import DIALECTS
from hailer.tools.bench.relay.meter import Outcome
from hailer.tools.bench.relay.party import LoadError, Party
from hailer.tools.bench.relay.posting import POSTING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.tools.bench.relay.dialects import Dialect
    from hailer.tools.bench.relay.posting import Posting

__all__ = ["LOADS", "measure", "tell"]

LOADS: Final = ("pipeline", "scatter", "fanout", "pingpong", "mixed", "mixed-post", "paced", "idle")
PAIRED: Final = ("pipeline", "pingpong", "paced")


def measure(
    load: str,
    dialect: Dialect,
    port: int,
    *,
    count: int,
    size: int = 64,
    seconds: float = 2.0,
    pid: int | None = None,
    stall: float = 10.0,
    posting: Posting | None = None,
) -> list[Outcome]:
    """Put one load on the relay at a port of loopback and say what it did.

    Args:
        load: one of `LOADS`.
        dialect: what the relay speaks.
        port: where it listens, on 127.0.0.1.
        count: receivers, or for idle connections.
        size: bytes of each message's text, 2 at least; the mixed loads have their own.
        seconds: about how long to measure; the number of messages is chosen for it in a trial first.
        pid: the relay's process, for its processor time and memory; None leaves them out.
        stall: seconds without a byte after which the relay has failed.
        posting: how it stores messages, for the load mixed-post.

    Returns:
        The outcome of each part of the load; all but paced have one.

    Raises:
        LoadError: the relay refused, lost, doubled, reordered or damaged something, or stopped.
    """
    if load.startswith("mixed"):
        return [mixed.measure(dialect, port, count, posting, seconds, pid, stall)]
    party = Party(dialect, port, stall)
    try:
        empty = Usage.of(pid).rss_kib if pid is not None else 0.0
        start = time.perf_counter()
        for n in range(count):
            name = f"r{n:05d}"
            party.receivers.append(party.log_in(name, dialect.room if load == "fanout" else name))
        took = time.perf_counter() - start
        hears = dialect.room if load == "fanout" and dialect.sender_joins else None
        for n in range(count if load in PAIRED else 0 if load == "idle" else 1):
            party.senders.append(party.log_in(f"s{n:05d}", hears))
        party.settle()
        if load == "idle":
            figures = {"logins_per_s": round(count / took, 1)}
            if pid is not None:
                figures["kib_per_connection"] = round((Usage.of(pid).rss_kib - empty) / count, 3)
            outcomes = [Outcome(figures)]
        elif load == "pingpong":
            outcomes = [streams.measure_passages(party, size, seconds, pid)]
        elif load == "paced":
            outcomes = paced.measure(party, size, seconds, pid)
        else:
            outcomes = [streams.measure_stream(party, load, size, seconds, pid)]
        party.expect_silence()
    except OSError as error:
        raise LoadError(f"the relay, or a connection to it, is gone: {error}") from None
    finally:
        party.close()
    return outcomes


def main() -> None:
    """Measure once, as told on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hailer.tools.bench.relay.load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("dialect", choices=DIALECTS)
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=10, help="receivers (default 10)")
    parser.add_argument("--size", type=int, default=64, help="bytes of text in a message (default 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long to measure (default 2)")
    parser.add_argument("--pid", type=int, help="the relay's process: adds its processor time and memory")
    options = parser.parse_args()
    if options.count < 1 or options.count > 99_999 or options.size < 2 or options.seconds <= 0:
        parser.error("--count is 1 to 99999, --size at least 2, --seconds more than 0")
    if options.load == "mixed-post" and options.dialect not in POSTING:
        parser.error(f"mixed-post is for {', '.join(POSTING)}")
    tell(
        lambda: measure(
            options.load,
            DIALECTS[options.dialect],
            options.port,
            count=options.count,
            size=options.size,
            seconds=options.seconds,
            pid=options.pid,
            posting=POSTING[options.dialect] if options.load == "mixed-post" else None,
        )
    )


def tell(measure: Callable[[], list[Outcome]]) -> None:
    """Measure in this process, which is there for nothing else, and print what comes of it.

    Raises:
        SystemExit: the load did not do its work, with the reason.
    """
    if not hasattr(select, "epoll"):
        sys.exit("the load waits with epoll, which only Linux has: run it there")
    raise_descriptor_limit()
    gc.disable()  # a collection in the middle would be taken for the relay's delay
    try:
        outcomes = measure()
    except LoadError as error:
        sys.exit(str(error))
    for outcome in outcomes:
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")


if __name__ == "__main__":
    main()
