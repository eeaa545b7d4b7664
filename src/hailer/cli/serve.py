"""``hailer serve``: a service or a handler of one's own, on any endpoint, under any model."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from hailer.cli.exits import INTERRUPTED
from hailer.cli.group import GroupedOption, verb
from hailer.cli.notes import output_error, warn
from hailer.cli.options import FRAMING, SECONDS, json_option, option, verbosity_options
from hailer.cli.serving import (
    announce,
    as_typed,
    checked_origins,
    drain_at_signals,
    log_option,
    log_to_standard_error,
)
from hailer.errors import UsageError
from hailer.matrix import MODELS, kind_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from hailer.cli.notes import Notes
    from hailer.endpoint import Endpoint
    from hailer.framing import Framing
    from hailer.handlers import AnyHandler
    from hailer.logs import LogFormat
    from hailer.runtime.aio import Loop

__all__ = ["command"]

DEFAULT_ENDPOINT: Final = "tcp://localhost:7000"


def _list(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from hailer.cli.matrix import tables  # noqa: PLC0415 (only for who asks)

        try:
            click.echo(tables(as_json="--json" in sys.argv))
        except OSError as error:
            raise output_error(error) from error
        context.exit()


@verb(
    "serve",
    example="""
hailer serve echo
hailer serve daytime tcp://localhost:1313 udp://localhost:1313 --model epoll
hailer serve chat.py:handle 'ws://localhost:7000/chat' --max-connections 200
hailer serve echo tls://localhost:7443 --cert localhost.pem --key localhost.key
""",
)
@click.argument("service", metavar="SERVICE|MODULE:HANDLER")
@click.argument("endpoints", metavar="[ENDPOINT]...", nargs=-1)
@option(
    "--model",
    type=click.Choice(tuple(MODELS)),
    default="asyncio",
    show_default=True,
    help="How several connections are served at once; --list tells more.",
)
@option(
    "--loop",
    type=click.Choice(["auto", "uvloop", "stock"]),
    default="auto",
    show_default=True,
    help="The event loop of the asyncio model; auto is uvloop where it is installed.",
)
@option(
    "--framing",
    type=FRAMING,
    metavar="FRAMING",
    help="How messages end in a stream: line, crlf, null, length, netstring, delimiter:TEXT, eof, raw,"
    " short-read.  [default: line, or the service's own]",
)
@option(
    "--max-message",
    type=click.IntRange(min=1),
    default=1 << 20,
    show_default=True,
    metavar="BYTES",
    help="Refuse longer messages.",
)
@option(
    "--max-connections",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Connections at once; above it new ones wait.",
)
@option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Processes of the prefork model.  [default: one a processor, at least 2]",
)
@option(
    "--backlog",
    type=click.IntRange(1, 65535),
    default=1024,
    show_default=True,
    metavar="N",
    help="Connections that the system keeps waiting.",
)
@option(
    "--idle-timeout",
    type=SECONDS,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="End a connection after so long a silence; 0 for never.",
)
@option(
    "--message-timeout",
    type=SECONDS,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for one whole message, however it drips; 0 for any.",
)
@option(
    "--drain",
    type=SECONDS,
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long connections have to end at SIGTERM or Ctrl-C.",
)
@click.option("--once", is_flag=True, help="Serve one connection, then end.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the service is told, such as directory=plans for finger; --list names them.",
)
@option(
    "--cert",
    cls=GroupedOption,
    group="TLS",
    metavar="FILE",
    help="The certificate and those that signed it, PEM, for tls:// and wss://.",
)
@option(
    "--key",
    cls=GroupedOption,
    group="TLS",
    metavar="FILE",
    help="Its private key.  [default: in the file of --cert]",
)
@option(
    "--client-ca",
    cls=GroupedOption,
    group="TLS",
    metavar="FILE",
    help="Only clients with a certificate that these authorities signed.",
)
@option(
    "--origin",
    "origins",
    cls=GroupedOption,
    group="Other transports",
    multiple=True,
    metavar="ORIGIN",
    help="Pages that may connect by WebSocket, such as https://example.org, or *."
    "  [default: of the same host]",
)
@option(
    "--amplification",
    cls=GroupedOption,
    group="Other transports",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="N",
    help="Bytes to a UDP peer for each byte from it; peers on this machine are exempt.",
)
@option(
    "--unix-mode",
    cls=GroupedOption,
    group="Other transports",
    default="600",
    show_default=True,
    metavar="OCTAL",
    help="The permissions of a Unix socket's path.",
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="Show the services, models, transports and what goes with what.",
)
@json_option
@log_option("plain")
@verbosity_options
def command(
    service: str,
    endpoints: tuple[str, ...],
    model: Any,
    loop: Loop,
    framing: Framing | None,
    max_message: int,
    max_connections: int,
    workers: int | None,
    backlog: int,
    idle_timeout: float,
    message_timeout: float,
    drain: float,
    once: bool,
    settings: tuple[str, ...],
    cert: str | None,
    key: str | None,
    client_ca: str | None,
    origins: tuple[str, ...],
    amplification: float,
    unix_mode: str,
    as_json: bool,  # noqa: ARG001 (for --list, which has ended before)
    log_format: LogFormat,
    notes: Notes,
) -> None:
    """Serve echo or another of the small services, or a handler of your own.

    SERVICE is echo, discard, chargen, qotd, daytime, time, finger, greet, hello or ack; module:handler and
    path/file.py:handler are a function of yours: async def handle(connection), def reply(message), or, under
    the models iterative, fork, prefork and thread, def handle(connection).

    Several endpoints are served at once. Prints "listening on ENDPOINT" for each once it does. SIGTERM and
    Ctrl-C let the connections end; a second one ends them at once.
    """
    from hailer.server import Server  # noqa: PLC0415 (not for --help)

    log_to_standard_error(notes, log_format)
    wanted = _endpoints(endpoints)
    if workers is not None and model != "prefork" and _was_typed("workers"):
        raise UsageError(f"the model {model} has no workers: leave --workers out, or take --model prefork")
    if loop != "auto" and model != "asyncio" and _was_typed("loop"):
        raise UsageError(f"the model {model} has no event loop of asyncio: leave --loop out")
    handler, own_framing = _handler(service, settings, wanted)
    chosen = own_framing if framing is None else framing
    server = Server(
        wanted,
        handler,
        model,
        framing=chosen,
        max_message=max_message,
        max_connections=max_connections,
        workers=workers,
        backlog=backlog,
        idle_timeout=idle_timeout or None,
        message_timeout=message_timeout or None,
        drain=drain,
        once=once,
        tls=_tls(cert, key, client_ca, wanted),
        origins=checked_origins(origins),
        amplification=amplification,
        unix_mode=_mode(unix_mode),
        loop=loop,
    )
    bound = server.bind()
    drain_at_signals(server)
    try:
        announce(bound)
    except BaseException:
        server.close()
        raise
    if notes.level >= 0 and sys.stderr is not None and sys.stderr.isatty() and sys.stdin.isatty():
        warn(_hint(bound[0], chosen), prefix="")
    server.serve()
    if server.ended_by == signal.SIGINT:
        raise click.exceptions.Exit(INTERRUPTED)


def _hint(endpoint: Endpoint, framing: Framing | None) -> str:
    """How to try it, for who has just started it by hand."""
    if endpoint.scheme == "stdio":
        return "what you type goes to the service; Ctrl-D ends it"
    from shlex import quote  # noqa: PLC0415 (only at a terminal)

    said = ""
    # Lines are what connect takes messages for.
    if framing is not None and framing.name not in ("line", "crlf") and not kind_of(endpoint).records:
        said = f" --framing {quote(framing.name)}"
    return f"try it with {as_typed()} connect {quote(str(endpoint))}{said}; Ctrl-C ends the server"


def _endpoints(words: Sequence[str]) -> list[Endpoint]:
    """Each word an endpoint; two words may also be HOST PORT."""
    from hailer.endpoint import Endpoint, parse_words  # noqa: PLC0415 (not for --help)

    if not words:
        return [Endpoint.parse(DEFAULT_ENDPOINT)]
    if len(words) == 2 and ":" not in words[1]:
        return [parse_words(words)]
    return [Endpoint.parse(word) for word in words]


def _was_typed(parameter: str) -> bool:
    """Whether it was given on the command line, rather than by a setting meant for several commands."""
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def _is_endpoint(text: str) -> bool:
    """Whether it is an endpoint and cannot be module:handler."""
    from hailer.endpoint import Endpoint  # noqa: PLC0415 (not for --help)

    if text.rpartition(":")[2].replace(".", "").isidentifier():
        return False
    try:
        Endpoint.parse(text)
    except UsageError:
        return False
    return True


def _handler(
    name: str, settings: Sequence[str], endpoints: Sequence[Endpoint]
) -> tuple[AnyHandler, Framing | None]:
    """The handler, and the framing of streams that its service is used to, where there are streams."""
    if ":" in name:
        from hailer.cli.loading import load_handler  # noqa: PLC0415 (only for handlers of one's own)

        if _is_endpoint(name):
            raise UsageError(
                f"{name} is where, not what: name a service first, as in hailer serve echo {name}"
            )
        if settings:
            raise UsageError("--set is for the built-in services: leave it out with a handler of your own")
        return load_handler(name), None
    from hailer.services import SERVICES  # noqa: PLC0415 (not for --help)

    service = SERVICES.get(name)
    if service is None:
        if name.endswith(".py"):
            raise UsageError(f"{name} is a file: name the function in it too, as in {name}:handle")
        raise UsageError(
            f"there is no service {name!r}: take one of {', '.join(SERVICES)}, or module:handler for your own"
        )
    for endpoint in endpoints:
        if endpoint.is_datagram and not service.datagram:
            raise UsageError(
                f"{name} is a conversation, which {endpoint} cannot carry: give a tcp:// or unix: one"
            )
    pairs = [each.partition("=") for each in settings]
    if wrong := [given for given, (_, equals, _) in zip(settings, pairs, strict=True) if not equals]:
        raise UsageError(f"{wrong[0]!r} sets nothing: write --set NAME=VALUE")
    streams = any(not kind_of(endpoint).records for endpoint in endpoints)
    return service.build(**{key: value for key, _, value in pairs}), service.framing if streams else None


def _tls(
    cert: str | None, key: str | None, client_ca: str | None, endpoints: Sequence[Endpoint]
) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None or client_ca is not None:
            raise UsageError("--key and --client-ca go with a certificate: give --cert too")
        for endpoint in endpoints:
            if endpoint.scheme in ("tls", "wss"):
                raise UsageError(
                    f"{endpoint} needs a certificate: give --cert and --key"
                    f" (hailer cert {endpoint.host or 'localhost'} makes both, for development)"
                )
        return None
    from hailer.net.certificates import server_context  # noqa: PLC0415 (only for TLS)

    return server_context(cert, key, client_ca=client_ca)


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise UsageError(f"{text!r} are no permissions: write them in octal, such as 660")
    return mode
