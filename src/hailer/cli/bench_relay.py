"""``hailer bench relay``: the relay beside others that are on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from hailer.cli.bench import announce, bench, chosen, publish
from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hailer.cli.bench import Wanted
    from hailer.cli.notes import Notes
    from hailer.tools.bench.relay.peers import Peer
    from hailer.tools.bench.relay.run import Run

__all__ = ["command"]

_PEERS: Final = ("hailer", "hailer-2", "nats", "redis", "mosquitto", "ngircd", "floor")
_LOADS: Final = (
    *("pipeline", "scatter", "fanout", "pingpong"),
    *("mixed", "mixed-post", "paced", "idle", "start"),
)
_STORES: Final = (
    *("hailer", "hailer-memory", "nats-always", "nats-always-one", "nats", "nats-one", "redis"),
    *("redis-everysec", "mosquitto", "sqlite-1", "sqlite-1000", "redis-memory", "sink"),
)
_PARTS: Final = ("post", "receive", "alone", "beside", "opening")
"""The names of `hailer.tools.bench.relay` and `.durable`, without what these import; a test compares them."""
_DISK: Final = "/var/tmp"  # noqa: S108 (a folder of its own is made there; /tmp is often in memory)


@bench(
    "relay",
    known=(*_PEERS, *(name for name in _STORES if name not in _PEERS)),
    example="""
hailer bench relay --short
hailer bench relay --html relays.html --json relays.json
hailer bench relay pipeline scatter --only hailer,nats --size 1024
hailer bench relay paced --nats ~/bin/nats-server
hailer bench relay --durable --only hailer,nats,redis --parts post,alone
""",
)
@click.argument("loads", nargs=-1, metavar="[LOAD]...", type=click.Choice(_LOADS))
@click.option("--count", type=click.IntRange(1, 50_000), metavar="N",
              help="Pairs, receivers or connections of each load.")  # fmt: skip
@click.option("--size", type=click.IntRange(2, 1024 * 1024), metavar="BYTES",
              help="Of a message, in loads whose messages have one size.")  # fmt: skip
@click.option("--durable", is_flag=True, help="Measure messages that are stored.")
@click.option("--parts", metavar="A,B", help=f"With --durable, only these of {', '.join(_PARTS)}.")
@click.option("--folder", metavar="DIR", type=click.Path(file_okay=False, exists=True, writable=True),
              help="Where files go that relays keep.  [default: /var/tmp with --durable]")  # fmt: skip
@click.option("--nats", metavar="PATH", help="The nats-server to use, if it is not on PATH.")
def command(
    loads: tuple[str, ...],
    count: int | None,
    size: int | None,
    durable: bool,
    parts: str | None,
    folder: str | None,
    nats: str | None,
    wanted: Wanted,
    notes: Notes,
) -> None:
    """Measure this relay beside others that are on this machine, and beside a floor in C.

    Starts each by itself on a free port of loopback, with the settings that the results tell, kept to one
    core, and puts the same loads on it from another: nats-server, redis-server, mosquitto and ngircd where
    they are installed, and a relay without features where there is a C compiler. Every byte that comes back
    is compared.

    Loads: pipeline (senders that stream to their receivers), scatter (one to many by chance), fanout (to a
    room), pingpong (one message in flight for each pair), mixed (16 B to 64 KiB), mixed-post (a tenth of them
    stored), paced (at fixed rates, so that a stop shows in the latencies), idle (memory of a connection),
    start. At the end stands what this relay ought to reach, beside what it did.

    With --durable, messages that are stored: mailboxes beside JetStream, redis streams, MQTT at QoS 1 and
    plain SQLite. Parts: post (1 to 100 senders), receive (with receivers), alone (one message at a time),
    beside (live messages while others are stored, also on a slow disk), opening (a million messages wait).
    """
    _check_system()
    if durable:
        from hailer.tools.bench.durable import plan as durable_plan  # noqa: PLC0415 (these are not for --help)
        from hailer.tools.bench.durable import run as durable_run  # noqa: PLC0415
        from hailer.tools.bench.durable.stores import find_stores  # noqa: PLC0415

        if loads or count or size:
            raise UsageError("with --durable there are no loads, --count and --size: name --parts instead")
        stores = chosen(",".join(wanted.only or _STORES), _STORES, "--only")
        stored = durable_plan.make_plan(
            wanted.length,
            chosen(parts or ",".join(_PARTS), _PARTS, "--parts"),
            seconds=wanted.seconds,
            rounds=wanted.rounds,
        )
        folder = folder or _DISK
        _measure(stored, lambda _: find_stores(stores, nats), durable_run.measure, folder, wanted, notes)
        return
    from hailer.tools.bench.relay import plan as relay_plan  # noqa: PLC0415
    from hailer.tools.bench.relay import run as relay_run  # noqa: PLC0415
    from hailer.tools.bench.relay.peers import find_peers  # noqa: PLC0415

    if parts is not None:
        raise UsageError("--parts is of --durable: give that, too")
    peers = chosen(",".join(wanted.only or _PEERS), _PEERS, "--only")
    plan = relay_plan.make_plan(
        wanted.length, loads, count=count, size=size, seconds=wanted.seconds, rounds=wanted.rounds
    )
    _measure(plan, lambda data: find_peers(peers, data, nats), relay_run.measure, folder, wanted, notes)


def _measure(
    plan: Any,
    find: Callable[[Path], tuple[list[Peer], dict[str, str]]],
    measure: Callable[[Any, Sequence[Peer], Run], bool],
    folder: str | None,
    wanted: Wanted,
    notes: Notes,
) -> None:
    """Find the relays, measure them as planned, and publish what comes of it."""
    import tempfile  # noqa: PLC0415 (these are not for --help)
    from pathlib import Path  # noqa: PLC0415

    from hailer.tools.bench.progress import Progress  # noqa: PLC0415
    from hailer.tools.bench.relay.run import Run, ending_at_sigterm  # noqa: PLC0415
    from hailer.tools.bench.results import Results  # noqa: PLC0415

    results = Results("relay", wanted.command)
    with tempfile.TemporaryDirectory(prefix="hailer-bench-", dir=folder) as name, ending_at_sigterm():
        peers, missing = find(Path(name))
        for peer, reason in missing.items():
            results.notes.append(f"{peer} was not measured: {reason}")
            notes.note(f"without {peer}: {reason}")
        steps = len(plan.steps(peers))
        if not steps:
            raise UsageError(
                "nothing that is wanted can be measured here: install it, or name others by --only"
            )
        announce(plan.estimate(peers), steps, wanted, notes)
        with Progress(steps, quiet=notes.level < 0) as progress:
            run = Run(results, progress, Path(name))
            complete = measure(plan, peers, run)
    publish(results, wanted, notes, interrupted=not complete, failed=not run.clean)


def _check_system() -> None:
    """Refuse to measure where it cannot be done.

    Raises:
        UsageError: here it cannot.
    """
    import select  # noqa: PLC0415 (not for --help)

    if not hasattr(select, "epoll"):
        raise UsageError("the load waits with epoll, which only Linux has: measure there")
