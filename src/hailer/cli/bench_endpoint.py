"""``hailer bench endpoint``: load on a server of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from hailer.cli.bench import announce, bench, publish
from hailer.cli.group import GroupedOption
from hailer.cli.options import FRAMING, SECONDS, option, tls_file_options
from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.cli.bench import Wanted
    from hailer.cli.notes import Notes
    from hailer.endpoint import Endpoint
    from hailer.framing import Framing
    from hailer.tools.bench.endpoint import Run
    from hailer.tools.bench.wire import Interval
    from hailer.tools.bench.wire.load import Kind

__all__ = ["command"]

_LOAD: Final = "Load"
_MESSAGES: Final = "Messages"


@bench(
    "endpoint",
    known=(),
    example="""
hailer bench endpoint localhost:7000
hailer bench endpoint --kind pingpong --clients 100 --seconds 10 tls://localhost:7443 --ca certs/ca.pem
hailer bench endpoint --send 'PING\\r\\n' --expect line localhost:6379
hailer bench endpoint --rate 5000 --clients 20 udp://localhost:7000
hailer bench endpoint --reverse --seconds 10 --interval localhost:19
""",
)
@click.argument("words", metavar="ENDPOINT | HOST PORT", nargs=-1, required=True)
@click.option(
    "--kind",
    cls=GroupedOption,
    group=_LOAD,
    type=click.Choice(["pingpong", "stream", "open", "connect", "idle"]),
    help="pingpong: the next message leaves when an answer has come. stream: as fast as it goes."
    " open: by a schedule, see --rate. connect: connections, with one message each. idle:"
    " connections that say nothing.  [default: some of these, one after another]",
)
@click.option(
    "--clients",
    cls=GroupedOption,
    group=_LOAD,
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Connections, or sockets for datagrams.  [default: 1]",
)
@click.option(
    "--in-flight",
    cls=GroupedOption,
    group=_LOAD,
    type=click.IntRange(1, 4096),
    default=1,
    show_default=True,
    metavar="N",
    help="Messages that each client has under way (pingpong).",
)
@click.option(
    "--rate",
    cls=GroupedOption,
    group=_LOAD,
    type=click.FloatRange(0, 10_000_000, min_open=True),
    metavar="N",
    help="Send so many messages a second, all clients together, whether or not answers come. Their"
    " times count from when they were to leave.",
)
@click.option(
    "--reverse",
    is_flag=True,
    cls=GroupedOption,
    group=_LOAD,
    help="The server sends, and what is sent to it (--send) only asks for that.",
)
@click.option(
    "--turns",
    cls=GroupedOption,
    group=_LOAD,
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Connect anew after so many messages, for servers that serve one client at a time.",
)
@click.option(
    "--processes",
    cls=GroupedOption,
    group=_LOAD,
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Load from so many processes.",
)
@click.option(
    "--warmup",
    cls=GroupedOption,
    group=_LOAD,
    type=SECONDS,
    metavar="SECONDS",
    help="Before each measurement, and not counted.  [default: a tenth of it]",
)
@click.option(
    "--send",
    cls=GroupedOption,
    group=_MESSAGES,
    metavar="TEXT",
    help=r"What to send, with escapes (\r \n \t \0 \\ \xNN); a line, unless it has an end of line"
    " itself or --framing says otherwise.",
)
@click.option(
    "--file",
    cls=GroupedOption,
    group=_MESSAGES,
    metavar="FILE",
    help="Send what is in this file, as it is, as one message.",
)
@click.option(
    "--size",
    cls=GroupedOption,
    group=_MESSAGES,
    type=click.IntRange(0, 16 << 20),
    metavar="BYTES",
    help="Send lines of this length, their ends included.  [default: 64]",
)
@click.option(
    "--expect",
    cls=GroupedOption,
    group=_MESSAGES,
    metavar="WHAT",
    help="What answers a message: echo (the same), line, message (one of the framing), bytes:N,"
    " text:TEXT, http (a response), any (what the next read brings), eof (all until the server"
    " closes, with --kind connect), none.  [default: echo]",
)
@option(
    "--framing",
    cls=GroupedOption,
    group=_MESSAGES,
    type=FRAMING,
    metavar="FRAMING",
    help="How messages end: line, crlf, null, length, netstring, delimiter:TEXT, raw.  [default: line]",
)
@click.option(
    "--first",
    cls=GroupedOption,
    group=_MESSAGES,
    metavar="TEXT",
    help="Send this once on each connection, before all else; --greeting reads what answers it.",
)
@click.option(
    "--greeting",
    cls=GroupedOption,
    group=_MESSAGES,
    type=click.IntRange(0, 1000),
    default=0,
    metavar="LINES",
    help="Read so many lines first, as of a server that greets.",
)
@click.option("-4", "four", is_flag=True, help="Over IPv4 only.")
@click.option("-6", "six", is_flag=True, help="Over IPv6 only.")
@click.option(
    "--timeout",
    type=SECONDS,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up after so long: connecting, and each silence while an answer is due.",
)
@click.option(
    "--patience",
    type=SECONDS,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="A datagram that is not answered for so long is lost.",
)
@click.option("--interval", is_flag=True, help="Show a line for each second while it goes on.")
@click.option(
    "--pid",
    type=click.IntRange(1),
    metavar="PID",
    help="The server's process, whose processor time and memory are measured.  [default: who"
    " listens there, if the system tells]",
)
@click.option(
    "--yes", is_flag=True, help="Load a server on another machine. Only do that to one whose owner agrees."
)
@tls_file_options
def command(
    words: tuple[str, ...],
    kind: Kind | None,
    clients: int | None,
    in_flight: int,
    rate: float | None,
    reverse: bool,
    turns: int,
    processes: int,
    warmup: float | None,
    send: str | None,
    file: str | None,
    size: int | None,
    expect: str | None,
    framing: Framing | None,
    first: str | None,
    greeting: int,
    four: bool,
    six: bool,
    timeout: float,
    patience: float,
    interval: bool,
    pid: int | None,
    yes: bool,
    ca: str | None,
    cert: str | None,
    key: str | None,
    insecure: bool,
    server_name: str | None,
    wanted: Wanted,
    notes: Notes,
) -> None:
    """Put load on a server of yours, whatever it is: an echo, redis, a web server, over TCP, TLS, UDP, a Unix
    socket or WebSocket.

    Without --kind it is a short tour: how many connections a second, how long one client and several wait for
    an answer, how many bytes go through. Answers are compared with what was due, byte for byte: a wrong one
    ends it. Latencies are kept in a histogram that is exact to half a percent, up to the slowest.

    All runs on this machine, in as many processes as --processes says. A server on another machine is loaded
    only with --yes.
    """
    from hailer.endpoint import parse_words  # noqa: PLC0415 (these are not for --help)
    from hailer.net.resolve import resolve  # noqa: PLC0415
    from hailer.tools.bench.conditions import conditions  # noqa: PLC0415
    from hailer.tools.bench.endpoint import find_server, is_of_this_machine, measure  # noqa: PLC0415
    from hailer.tools.bench.endpoint_plan import Asked, plan  # noqa: PLC0415
    from hailer.tools.bench.machine import raise_descriptor_limit  # noqa: PLC0415
    from hailer.tools.bench.progress import Progress  # noqa: PLC0415
    from hailer.tools.bench.results import Results  # noqa: PLC0415
    from hailer.tools.bench.wire import TlsFiles  # noqa: PLC0415

    endpoint = _of_family(parse_words(words), four, six)
    if not timeout or not patience:
        raise UsageError("a load cannot wait for ever: give --timeout and --patience more than 0")
    tls = TlsFiles(ca, cert, key, insecure, server_name)
    if tls != TlsFiles() and endpoint.scheme not in ("tls", "wss"):
        raise UsageError(
            f"{endpoint} is not encrypted: write tls:// or wss://, or leave the certificates out"
        )
    asked = Asked(
        kind=kind,
        text=send,
        data=None if file is None else _read(file),
        size=size,
        expect=expect,
        framing=framing,
        clients=clients,
        in_flight=in_flight,
        rate=rate,
        reverse=reverse,
        first=first,
        greeting=greeting,
        turns=turns,
        timeout=timeout,
        patience=patience,
        tls=tls,
    )
    loads = plan(endpoint, asked)
    if not yes and not is_of_this_machine(resolve(endpoint, timeout=timeout)):
        raise UsageError(f"{endpoint} is not on this machine: give --yes if its owner agrees to being loaded")
    seconds = wanted.seconds or wanted.pick(1, 3, 10)
    rounds = wanted.rounds or int(wanted.pick(1, 1, 3))
    before = seconds / 10 if warmup is None else warmup
    raise_descriptor_limit()
    results = Results("endpoint", wanted.command)
    announce((seconds + before + 0.2) * len(loads) * rounds, len(loads) * rounds, wanted, notes)
    with Progress(len(loads) * rounds, quiet=notes.level < 0) as progress:
        run = measure(
            endpoint,
            loads,
            results,
            seconds=seconds,
            warmup=before,
            rounds=rounds,
            processes=processes,
            pid=pid or find_server(endpoint),
            progress=progress,
            report=_teller(wanted) if interval else None,
        )
    used = f"{processes} process{'es' * (processes != 1)} of the load, kept to no core"
    results.conditions = {
        **conditions(used, others=run.others),
        "measured": f"{seconds:g} s each after {before:g} s to warm up, {rounds} round{'s' * (rounds != 1)}",
    }
    _end(run, wanted, notes)


def _end(run: Run, wanted: Wanted, notes: Notes) -> None:
    """Show what there is, and end as what went wrong has it."""
    if run.results.rows:
        publish(run.results, wanted, notes, interrupted=run.interrupted and run.failure is None)
    elif run.interrupted:
        raise KeyboardInterrupt
    if run.failure is not None:
        raise run.failure


def _of_family(endpoint: Endpoint, four: bool, six: bool) -> Endpoint:
    """The endpoint over IPv4 or IPv6 only."""
    if not four and not six:
        return endpoint
    if four and six:
        raise UsageError("-4 and -6 exclude each other: leave one out, or both")
    if endpoint.scheme not in ("tcp", "udp"):
        raise UsageError(f"{endpoint} has no choice of the family: give an address in place of the name")
    from dataclasses import replace  # noqa: PLC0415

    return replace(endpoint, scheme=endpoint.scheme + ("4" if four else "6"))


def _read(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            return file.read((16 << 20) + 1)
    except OSError as error:
        raise UsageError(f"--file: {name} cannot be read ({error.strerror}): name another") from error


def _teller(wanted: Wanted) -> Callable[[Interval], None]:
    """What shows a second that has passed: with the results, unless those are for a program."""
    from hailer.tools.bench.figures import number  # noqa: PLC0415

    to_stderr = "-" in (wanted.json, wanted.markdown)

    def rate(value: float) -> str:
        for divisor, unit in ((2.0**30, "GiB/s"), (2.0**20, "MiB/s"), (2.0**10, "KiB/s")):
            if value >= divisor:
                return f"{number(value / divisor)} {unit}"
        return f"{value:.0f} B/s"

    def tell(interval: Interval) -> None:
        length = max(interval.end - interval.begin, 1e-9)
        click.echo(
            f"{interval.begin:5.1f}-{interval.end:5.1f} s {interval.messages / length:12,.0f} messages/s"
            f" {rate(interval.bytes_up / length):>11} up {rate(interval.bytes_down / length):>11} down"
            + (f" {interval.lost:6} lost" if interval.lost else ""),
            err=to_stderr,
        )
        (sys.stderr if to_stderr else sys.stdout).flush()

    return tell
