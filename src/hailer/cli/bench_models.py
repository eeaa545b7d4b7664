"""``hailer bench models``: one service under every model and transport."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from hailer.cli.bench import bench, chosen, publish
from hailer.errors import UsageError

if TYPE_CHECKING:
    from hailer.cli.bench import Wanted
    from hailer.cli.notes import Notes

__all__ = ["command"]

_MODELS: Final = ("iterative", "fork", "prefork", "thread", "select", "epoll", "uvloop", "asyncio")
_TRANSPORTS: Final = ("tcp", "tcp6", "tls", "unix", "udp", "ws")
"""The names of `hailer.tools.bench.models.plan`, without what that imports; a test compares them."""


def _numbers(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        found = tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        found = ()
    if not found or found[0] < 1 or found[-1] > 20_000:
        raise click.BadParameter(
            f"{text!r} are no numbers of clients; write some from 1 to 20000, such as 1,64"
        )
    return found


@bench(
    "models",
    known=_MODELS,
    example="""
hailer bench models --short
hailer bench models --html models.html
hailer bench models --service wait --only thread,fork,epoll --clients 10,100
hailer bench models --service chat.py:handle --cores 4
""",
)
@click.option(
    "--service",
    "services",
    metavar="A,B",
    help="What is served: echo, compute (some hundred microseconds of Python a message), wait (5 ms), or"
    " module:handler for your own.  [default: all three]",
)
@click.option("--transports", metavar="A,B", help=f"Over these of {', '.join(_TRANSPORTS)}.  [default: all]")
@click.option(
    "--clients", callback=_numbers, metavar="N,M", help="So many clients at once.  [default: 1,64,1000]"
)
@click.option("--size", type=click.IntRange(16, 65507), default=64, show_default=True, metavar="BYTES",
              help="Of a message, its newline included.")  # fmt: skip
@click.option("--message", metavar="TEXT", help="What clients say to a handler of your own.")
@click.option(
    "--cores",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    metavar="N",
    help="Let the server use N cores. Handlers that compute are measured on all, too.",
)
def command(
    services: str | None,
    transports: str | None,
    clients: tuple[int, ...] | None,
    size: int,
    message: str | None,
    cores: int,
    wanted: Wanted,
    notes: Notes,
) -> None:
    """Measure one service under every model of concurrency and transport: threads or processes?

    Starts hailer serve, on one core of its own, for each model and transport, and puts clients on it from
    another: rates, latencies, processor time, memory of all its processes, context switches, and what it
    costs to accept a connection. An echo over every transport, and over the first of them a handler that
    computes, on one core and on all, and one that waits: the answer depends on which one yours is like.

    At the end it says in sentences what the figures mean for this machine. Nothing leaves the machine.
    """
    from hailer.tools.bench.models.measure import all_cores, measure  # noqa: PLC0415 (not for --help)
    from hailer.tools.bench.models.plan import make_plan  # noqa: PLC0415
    from hailer.tools.bench.models.services import SERVICES, service_of  # noqa: PLC0415
    from hailer.tools.bench.progress import Progress, duration  # noqa: PLC0415
    from hailer.tools.bench.results import Results  # noqa: PLC0415

    names = list(SERVICES) if services is None else [word.strip() for word in services.split(",")]
    for name in names:
        _check_service(name)
    if message is not None and all(name in SERVICES for name in names):
        raise UsageError("--message is for a handler of your own: give it by --service module:handler too")
    most = all_cores()
    if cores > most:
        raise UsageError(f"--cores {cores} are more than there are here: give {most} at most")
    limits: dict[str, Any] = {"models": wanted.only} if wanted.only is not None else {}
    if transports is not None:
        limits["transports"] = chosen(transports, _TRANSPORTS, "--transports")
    plan = make_plan(
        wanted.length,
        services=[service_of(name) for name in names],
        clients=clients,
        cores=cores,
        all_cores=most,
        size=size,
        seconds=wanted.seconds,
        rounds=wanted.rounds,
        **limits,
    )
    loads = plan.rounds * sum(len(setup.loads) for setup in plan.setups)
    if not loads:
        raise UsageError("nothing is left to measure: give other --only, --transports or --clients")
    notes.note(
        f"{loads} measurements, about {duration(plan.estimate())}; Ctrl-C ends it and shows what there is"
    )
    results = Results("models", wanted.command)
    # Told to end, it has to end the servers first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with Progress(loads, quiet=notes.level < 0) as progress:
        said = None if message is None else message.encode() + b"\n"
        interrupted = not measure(plan, results, progress, message=said)
    if interrupted and not results.rows:
        raise KeyboardInterrupt
    publish(results, wanted, notes, interrupted=interrupted, failed=not results.rows)


def _check_service(name: str) -> None:
    """Refuse what cannot be served before anything is measured.

    Raises:
        UsageError: there is no such service or handler.
    """
    from hailer.tools.bench.models.services import SERVICES  # noqa: PLC0415 (not for --help)

    if name in SERVICES:
        return
    if ":" not in name:
        raise UsageError(f"there is no service {name!r} here: give {', '.join(SERVICES)}, or module:handler")
    from hailer.cli.loading import load_handler  # noqa: PLC0415 (only for handlers of one's own)

    load_handler(name)
