"""Options that several verbs have, each with its variable, and the types of their values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from hailer.cli.notes import Notes
from hailer.errors import UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from hailer.framing import Framing

__all__ = [
    "CLIENT_SETTINGS",
    "DEFAULT_RELAY",
    "DEFAULT_TIMEOUT",
    "ENDPOINT",
    "FRAMING",
    "SECONDS",
    "RelayOptions",
    "dial_options",
    "json_option",
    "message_options",
    "option",
    "relay_options",
    "timeout_was_typed",
    "tls_file_options",
    "tls_options",
    "verbosity_options",
]

DEFAULT_RELAY: Final = "tcp://localhost:16273"

_MOST_SECONDS: Final = 1_000_000_000
"""What the timers of every system can be set to."""

DEFAULT_TIMEOUT: Final = 10.0
"""Seconds for connecting, and for each answer of a relay."""

CLIENT_SETTINGS: Final = (
    "relay",
    "name",
    "token_file",
    "timeout",
    "retries",
    "retry_delay",
    "framing",
    "max_message",
)
"""What may stand under [client] in hailer.toml, for all verbs that connect."""

_Function = TypeVar("_Function", bound="Callable[..., None]")


class _EndpointType(click.ParamType):  # type: ignore[type-arg] # no generic before click 8.4
    """An endpoint as a person writes it."""

    name = "endpoint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        from hailer.endpoint import Endpoint  # noqa: PLC0415 (not for --help)

        if isinstance(value, Endpoint):
            return value
        try:
            return Endpoint.parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class _FramingType(click.ParamType):  # type: ignore[type-arg] # no generic before click 8.4
    """The name of a framing."""

    name = "framing"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Framing:
        from hailer.framing import framing  # noqa: PLC0415 (not for --help)

        if not isinstance(value, str):
            return value  # type: ignore[no-any-return] # converted already
        try:
            return framing(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class _SecondsType(click.ParamType):  # type: ignore[type-arg] # no generic before click 8.4
    """A number of seconds, 0 or more."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            self.fail(f"{value!r} is no number of seconds; write one such as 2.5", param, ctx)
        if seconds > _MOST_SECONDS:
            self.fail(
                f"{value!r} is more than 30 years of seconds; write at most {_MOST_SECONDS}", param, ctx
            )
        return seconds


ENDPOINT: Final = _EndpointType()
FRAMING: Final = _FramingType()
SECONDS: Final = _SecondsType()


def option(*names: str, **attributes: Any) -> Callable[[_Function], _Function]:
    """An option that can also be set by a variable and in hailer.toml.

    The variable is HAILER_ and the long name in capitals, such as HAILER_RETRY_DELAY.

    Args:
        names: such as ``--retry-delay``; the first long one counts.
        attributes: what `click.option` takes.
    """
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = "HAILER_" + long[2:].replace("-", "_").upper()
    return click.option(*names, envvar=variable, **attributes)


def verbosity_options(function: Callable[..., None]) -> Callable[..., None]:
    """-v and -q; the function gets them as ``notes``, a `Notes`."""

    @click.option("-v", "--verbose", count=True, help="Tell more, on standard error.")
    @click.option("-q", "--quiet", is_flag=True, help="Tell only errors.")
    @wraps(function)
    def wrapped(*args: Any, verbose: int, quiet: bool, **kwargs: Any) -> None:
        function(*args, notes=Notes(-1 if quiet else verbose), **kwargs)

    return wrapped


def dial_options(timeout: str) -> Callable[[_Function], _Function]:
    """--timeout, --retries, --retry-delay.

    Args:
        timeout: what the time-out is for and its default, for the help.
    """

    def decorate(function: _Function) -> _Function:
        for each in (
            option("--retry-delay", type=SECONDS, default=0.5, show_default=True, metavar="SECONDS",
                   help="Wait so long before the first retry; each next wait is twice as long."),
            option("--retries", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
                   help="Try again so often when nobody listens there yet."),
            option("--timeout", type=SECONDS, metavar="SECONDS", help=timeout),
        ):  # fmt: skip
            function = each(function)
        return function

    return decorate


def message_options(function: _Function) -> _Function:
    """--framing and --max-message."""
    function = option(
        "--max-message", type=click.IntRange(min=1), default=1 << 20, show_default=True, metavar="BYTES",
        help="Refuse longer messages.",
    )(function)  # fmt: skip
    return option(
        "--framing", type=FRAMING, metavar="FRAMING",
        help="How messages end in a stream: line, crlf, null, length, netstring, delimiter:TEXT, eof, raw,"
        " short-read.  [default: line]",
    )(function)  # fmt: skip


def tls_file_options(function: _Function) -> _Function:
    """--ca, --cert, --key, --insecure, --server-name, each as it is given."""
    for each in (
        option("--server-name", metavar="NAME",
               help="The name that the certificate has to have.  [default: the host]"),
        click.option("--insecure", is_flag=True, help="Trust any certificate: encrypted, but with whom?"),
        option("--key", metavar="FILE", help="Its private key.  [default: in the file of --cert]"),
        option("--cert", metavar="FILE", help="The certificate to show to the server, PEM."),
        option("--ca", metavar="FILE",
               help="The authorities to trust, PEM.  [default: the system's]"),
    ):  # fmt: skip
        function = each(function)
    return function


def tls_options(function: Callable[..., None]) -> Callable[..., None]:
    """The same; the function gets ``tls`` and ``server_name``.

    ``tls`` makes an `ssl.SSLContext` when called, or gives None where none of them was given.
    """

    @wraps(function)
    def wrapped(
        *args: Any, ca: str | None, cert: str | None, key: str | None, insecure: bool, **kwargs: Any
    ) -> None:
        def tls() -> ssl.SSLContext | None:
            if ca is None and cert is None and key is None and not insecure:
                return None
            from hailer.net.certificates import client_context  # noqa: PLC0415 (only for TLS)

            return client_context(ca=ca, cert=cert, key=key, verify=not insecure)

        function(*args, tls=tls, **kwargs)

    return tls_file_options(wrapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayOptions:
    """What was said about the relay.

    Attributes:
        relay: where it is.
        name: who to be, None for a name that is made up.
        token_file: where the token is; see `hailer.cli.login.read_token`.
        patience: seconds for connecting and for each answer, None for ever.
        silence: the same if it was given on the command line, else None.
        retries: how often to try again.
        retry_delay: seconds before the first retry.
        tls: makes the context for TLS, or gives None; see `tls_options`.
        server_name: the name that the relay's certificate has to have, None for the host.
    """

    relay: Endpoint
    name: str | None
    token_file: str | None
    patience: float | None
    silence: float | None
    retries: int
    retry_delay: float
    tls: Callable[[], ssl.SSLContext | None]
    server_name: str | None


def relay_options(*, name: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """What every verb has that talks to a relay; the function gets it as ``options``, a `RelayOptions`.

    Args:
        name: whether --name is one of them.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def wrapped(
            *args: Any,
            relay: Endpoint,
            token_file: str | None,
            timeout: float | None,
            retries: int,
            retry_delay: float,
            tls: Callable[[], ssl.SSLContext | None],
            server_name: str | None,
            name: str | None = None,
            **kwargs: Any,
        ) -> None:
            options = RelayOptions(
                relay=relay,
                name=name,
                token_file=token_file,
                patience=DEFAULT_TIMEOUT if timeout is None else timeout or None,
                silence=(timeout or None) if timeout_was_typed() else None,
                retries=retries,
                retry_delay=retry_delay,
                tls=tls,
                server_name=server_name,
            )
            function(*args, options=options, **kwargs)

        with_dial = dial_options("Give up after so long; 0 for never.  [default: 10]")(tls_options(wrapped))
        parameters = [
            option("--token-file", metavar="FILE",
                   help="Read the token from here (- asks for it); else it is in HAILER_TOKEN."),
            option("--name", metavar="NAME", help="Who to be there; made up when not given."),
            option("--relay", type=ENDPOINT, default=DEFAULT_RELAY, show_default=True, metavar="ENDPOINT",
                   help="Where the relay is."),
        ]  # fmt: skip
        if not name:
            del parameters[1]
        for each in parameters:
            with_dial = each(with_dial)
        return with_dial

    return decorate


def timeout_was_typed() -> bool:
    """Whether --timeout is on the command line: then it also ends a wait that otherwise has no end."""
    source = click.get_current_context().get_parameter_source("timeout")
    return source is click.core.ParameterSource.COMMANDLINE


def json_option(function: _Function) -> _Function:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")(function)
