"""``hailer bench relay``: the relay beside others that are on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from hailer.cli.bench import announce, bench, publish
from hailer.errors import UsageError

if TYPE_CHECKING:
    from hailer.cli.bench import Wanted
    from hailer.cli.notes import Notes

__all__ = ["command"]

_PEERS: Final = ("hailer", "hailer-2", "nats", "redis", "mosquitto", "ngircd", "floor")
_LOADS: Final = (
    *("pipeline", "scatter", "fanout", "pingpong"),
    *("mixed", "mixed-post", "paced", "idle", "start"),
)
"""The names of `hailer.tools.bench.relay`, without what that imports; a test compares them."""


@bench(
    "relay",
    known=_PEERS,
    example="""
hailer bench relay --short
hailer bench relay --html relays.html --json relays.json
hailer bench relay pipeline scatter --only hailer,nats --size 1024
hailer bench relay paced --nats ~/bin/nats-server
""",
)
@click.argument("loads", nargs=-1, metavar="[LOAD]...", type=click.Choice(_LOADS))
@click.option("--count", type=click.IntRange(1, 50_000), metavar="N",
              help="Pairs, receivers or connections of each load.")  # fmt: skip
@click.option("--size", type=click.IntRange(2, 1024 * 1024), metavar="BYTES",
              help="Of a message, in loads whose messages have one size.")  # fmt: skip
@click.option("--nats", metavar="PATH", help="The nats-server to use, if it is not on PATH.")
def command(
    loads: tuple[str, ...],
    count: int | None,
    size: int | None,
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
    """
    import tempfile  # noqa: PLC0415 (these are not for --help)
    from pathlib import Path  # noqa: PLC0415

    from hailer.tools.bench.progress import Progress  # noqa: PLC0415
    from hailer.tools.bench.relay.peers import PEER_NAMES, find_peers  # noqa: PLC0415
    from hailer.tools.bench.relay.plan import make_plan  # noqa: PLC0415
    from hailer.tools.bench.relay.run import Run, ending_at_sigterm, measure  # noqa: PLC0415
    from hailer.tools.bench.results import Results  # noqa: PLC0415

    _check_system()
    plan = make_plan(
        wanted.length, loads, count=count, size=size, seconds=wanted.seconds, rounds=wanted.rounds
    )
    results = Results("relay", wanted.command)
    with tempfile.TemporaryDirectory(prefix="hailer-bench-") as name, ending_at_sigterm():
        folder = Path(name)
        peers, missing = find_peers(wanted.only or PEER_NAMES, folder, nats)
        for peer, reason in missing.items():
            results.notes.append(f"{peer} was not measured: {reason}")
            notes.note(f"without {peer}: {reason}")
        if not peers:
            raise UsageError(
                "none of the relays that are wanted is here: install one, or name others by --only"
            )
        steps = plan.rounds * len(plan.loads) * len(peers)
        announce(plan.estimate(peers), steps, wanted, notes)
        with Progress(steps, quiet=notes.level < 0) as progress:
            run = Run(results, progress, folder)
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
