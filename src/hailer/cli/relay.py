"""``hailer relay``: a relay in the foreground."""

from __future__ import annotations

import signal
import sys
import threading
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import click

from hailer.cli.exits import INTERRUPTED
from hailer.cli.group import GroupedOption, verb
from hailer.cli.notes import warn
from hailer.cli.options import DEFAULT_RELAY, ENDPOINT, SECONDS, option, verbosity_options
from hailer.cli.serving import (
    announce,
    as_typed,
    checked_origins,
    ignore_late_signals,
    log_option,
    log_to_standard_error,
)
from hailer.errors import UsageError
from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.cli.notes import Notes
    from hailer.endpoint import Endpoint
    from hailer.logs import LogFormat

__all__ = ["LIMITS", "command"]

LIMITS: Final = {
    "connections": ("N", "Connections at once; above it new ones wait."),
    "per_source": ("N", "Connections at once from one address; loopback is exempt."),
    "login_seconds": ("SECONDS", "Time to say HELLO."),
    "line_seconds": ("SECONDS", "Time for one whole line or payload."),
    "idle_seconds": ("SECONDS", "Silence before a PING; after as much again a peer is cut."),
    "ended_seconds": ("SECONDS", "How long a peer that has ended its input waits for answers."),
    "payload": ("BYTES", "The longest counted payload."),
    "rooms": ("N", "Rooms that one client is in at once."),
    "members": ("N", "Members that one room has at once."),
    "rate": ("N", "Commands a second of one client; more wait. 0 is no limit."),
    "watches": ("N", "Names that one client watches."),
    "asks": ("N", "Questions of one client that wait for an answer."),
    "waiting": ("BYTES", "Output that waits for one receiver before its senders wait."),
    "patience": ("SECONDS", "How long senders wait for a receiver before it loses messages."),
    "slow_seconds": ("SECONDS", "How long a receiver may leave a byte unread before it is cut."),
    "mail_entries": ("N", "Entries that wait in one mailbox."),
    "mail_bytes": ("BYTES", "Bytes that wait in one mailbox."),
    "mail_total": ("BYTES", "Bytes that wait in all mailboxes together."),
    "mail_seconds": ("SECONDS", "How long mail waits for its receiver before it expires."),
    "mailboxes": ("N", "Names that have a mailbox, those of accounts not counted."),
    "sessions": ("N", "Sessions of one name that have posted and can go on."),
    "parting_seconds": ("SECONDS", "Time for a leaving peer to take the last words."),
}
"""The fields of `Limits` as options: what they count in, and what they mean."""


def limit_options(function: Callable[..., None]) -> Callable[..., None]:
    """An option for each field of `Limits`, with its default."""
    for field in reversed(fields(Limits)):
        unit, meaning = LIMITS[field.name]
        function = option(
            "--" + field.name.replace("_", "-"),
            cls=GroupedOption,
            group="Limits",
            type=SECONDS if unit == "SECONDS" else click.IntRange(min=1 if field.default else 0),
            default=field.default,
            show_default=True,
            metavar=unit,
            help=meaning,
        )(function)
    return function


@verb(
    "relay",
    example="""
hailer relay
hailer relay --listen unix:/run/user/1000/hailer.sock --listen tcp://localhost:0
""",
)
@option(
    "--listen",
    type=ENDPOINT,
    multiple=True,
    default=[DEFAULT_RELAY],
    show_default=True,
    metavar="ENDPOINT",
    help="Where to listen; may be given several times.",
)
@option(
    "--model",
    type=click.Choice(["asyncio", "thread"]),
    default="asyncio",
    show_default=True,
    help="An event loop, or a thread for each client.",
)
@option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that share the event loop's work: about as many cores are used.",
)
@option(
    "--drain",
    type=SECONDS,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long clients have to take their leave at SIGTERM.",
)
@option("--insecure", is_flag=True, help="Listen on other addresses than loopback without TLS or accounts.")
@option(
    "--cert",
    cls=GroupedOption,
    group="TLS and WebSocket",
    metavar="FILE",
    help="The certificate and those that signed it, PEM, for tls:// and wss://; SIGHUP reads it again.",
)
@option(
    "--key",
    cls=GroupedOption,
    group="TLS and WebSocket",
    metavar="FILE",
    help="Its private key.  [default: in the file of --cert]",
)
@option(
    "--client-ca",
    cls=GroupedOption,
    group="TLS and WebSocket",
    metavar="FILE",
    help="A certificate that these authorities signed proves its owner's name.",
)
@option(
    "--client-certs",
    cls=GroupedOption,
    group="TLS and WebSocket",
    type=click.Choice(["optional", "required"]),
    default="optional",
    show_default=True,
    help="Whether clients may show such a certificate, or have to.",
)
@option(
    "--origin",
    "origins",
    cls=GroupedOption,
    group="TLS and WebSocket",
    multiple=True,
    metavar="ORIGIN",
    help="Pages that may connect by WebSocket, such as https://example.org, or *."
    "  [default: of the same host]",
)
@option(
    "--accounts/--open",
    default=None,
    help="Let in only names that have an account (hailer account), or guests too under other names."
    "  [default: accounts if there are any]",
)
@option(
    "--store",
    metavar="memory|PATH",
    help="The file that mail is kept in; in memory it is gone with the relay."
    "  [default: hailer/relay.db in your state directory, relay-PORT.db on another port]",
)
@option(
    "--web",
    default="none",
    show_default=True,
    metavar="ENDPOINT|none",
    help="Where the page is; only none yet.",
)
@limit_options
@log_option("text")
@verbosity_options
def command(
    listen: Sequence[Endpoint],
    model: Any,
    workers: int,
    drain: float,
    insecure: bool,
    cert: str | None,
    key: str | None,
    client_ca: str | None,
    client_certs: Any,
    origins: tuple[str, ...],
    accounts: bool | None,
    store: str | None,
    web: str,
    log_format: LogFormat,
    notes: Notes,
    **limits: Any,
) -> None:
    """Run a relay: programs and people connect to it and talk by name.

    Prints "listening on ENDPOINT" for each endpoint once it does. SIGTERM and Ctrl-C end it politely; a
    second one ends it at once. SIGHUP has it read the accounts and its certificate again, and only whoever
    has no account any more notices; SIGUSR1 has it log its counters.
    """
    if web != "none":
        raise UsageError(f"a relay has no page for {web} yet: leave --web out, or say --web none")
    from hailer.net.notify import notify  # noqa: PLC0415 (these are not for --help)
    from hailer.relay.accounts import accounts_beside  # noqa: PLC0415
    from hailer.relay.app import RelayServer, Settings  # noqa: PLC0415

    log_to_standard_error(notes, log_format)
    settings = Settings(
        listen=tuple(listen),
        model=model,
        workers=workers,
        limits=Limits(**limits),
        drain=drain,
        insecure=insecure,
        cert=cert,
        key=key,
        client_ca=client_ca,
        client_certs=client_certs,
        origins=checked_origins(origins),
        accounts=str(accounts_beside(store)),
        store=store,
        guests=None if accounts is None else not accounts,
    )
    server = RelayServer(settings)
    caught: list[int] = []

    def stop(number: int, _frame: object) -> None:
        caught.append(number)
        notify("STOPPING=1")
        server.stop()

    def reload() -> None:
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        server.reload()
        notify("READY=1")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    # In threads, for these read files and log, and a handler runs in the midst of anything.
    for number, task in ((signal.SIGHUP, reload), (signal.SIGUSR1, server.tell_counters)):
        signal.signal(number, lambda *_, task=task: threading.Thread(target=task, daemon=True).start())
    ignore_late_signals()
    endpoints = server.bind()
    try:
        announce(endpoints)
    except BaseException:
        server.close()
        raise
    if notes.level >= 0 and sys.stderr is not None and sys.stderr.isatty():
        warn(_hint(listen[0], endpoints[0], guests=server.guests), prefix="")
    server.serve()
    if caught[:1] == [signal.SIGINT]:
        raise click.exceptions.Exit(INTERRUPTED)


def _hint(wanted: Endpoint, bound: Endpoint, *, guests: bool) -> str:
    """Three ways to talk to the relay, for who has just started it."""
    default = str(wanted) == DEFAULT_RELAY
    where = wanted if default else bound
    relay = f" --relay {where}" if not default else ""
    command = as_typed()
    by_hand = f"{command} connect {where}" if where.path else f"telnet {where.host} {where.port}"
    argument = f", {str(where)!r}" if not default else ""
    credential = ""
    if not guests:
        relay += " --token-file FILE"
        argument += ", token=..."
        credential = " token=..."
    return (
        f"by hand:      {by_hand}    (then HELLO ann{credential}, HELP, QUIT)\n"
        f"as a person:  {command} chat ann{relay}\n"
        f"in Python:    async with hailer.RelayClient('ann'{argument}) as client: ...\n"
        "Ctrl-C ends the relay."
    )
