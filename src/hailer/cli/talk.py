"""``hailer talk``: datagrams to anybody, whether or not somebody listens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from hailer.cli.exits import DONE
from hailer.cli.group import verb
from hailer.cli.options import DEFAULT_TIMEOUT, dial_options, json_option, verbosity_options
from hailer.cli.output import Output, as_field, on_terminal
from hailer.errors import ConnectionLost, DialError, EndpointError, TimedOut, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hailer.cli.notes import Notes
    from hailer.connection import Connection
    from hailer.endpoint import Endpoint

__all__ = ["command"]

_ANSWERS_WITHIN: Final = 1.0
"""Seconds of silence after which no more answers are waited for, unless --timeout says another time."""

_REFUSALS: Final = 5
"""Answers of the network to earlier datagrams, at most, that can come in the way of one."""

_MAX_LINE: Final = 65536


@verb(
    "talk",
    example="""
hailer talk localhost 4950 'hello there'
hailer talk udp://localhost:4950 --connected ping
seq 100 | hailer talk unix+dgram:/tmp/log.sock
""",
)
@click.argument("words", metavar="ENDPOINT | HOST PORT  [TEXT]", nargs=-1, required=True)
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, metavar="N", help="Send it so often."
)
@click.option(
    "--connected",
    is_flag=True,
    help="Hear only that peer: show its answers, and say so when nobody listens there.",
)
@dial_options("Look the name up, and wait for each answer, so long.  [default: 10, answers 1]")
@json_option
@verbosity_options
def command(
    words: tuple[str, ...],
    count: int,
    connected: bool,
    timeout: float | None,
    retries: int,
    retry_delay: float,
    as_json: bool,
    notes: Notes,
) -> None:
    """Send TEXT as one datagram, or each line of standard input as one.

    Without a kind before it, HOST:PORT is udp://. Nobody needs to listen there: that a datagram was sent
    says nothing about whether it came, unless --connected shows an answer.
    """
    from hailer.cli.running import run  # noqa: PLC0415 (not for --help)
    from hailer.connecting import connect  # noqa: PLC0415

    endpoint, text = _parse(words)

    async def work() -> int:
        limit = DEFAULT_TIMEOUT if timeout is None else timeout or None
        output = Output()
        async with connect(
            endpoint, timeout=limit, retries=retries, retry_delay=retry_delay, max_message=_MAX_LINE
        ) as connection:
            async for message in _messages(text):
                for _ in range(count):
                    await _send(connection, message, connected=connected)
                    await _tell(output, connection.peer, len(message), as_json=as_json)
            if connected:
                patience = _ANSWERS_WITHIN if timeout is None else limit
                await _answers(connection, output, patience, as_json=as_json)
        return DONE

    del notes
    run(work())


def _parse(words: tuple[str, ...]) -> tuple[Endpoint, bytes | None]:
    """Tell endpoint and text apart: ENDPOINT, ENDPOINT TEXT, HOST PORT TEXT."""
    from hailer.endpoint import parse_words  # noqa: PLC0415 (not for --help)

    if len(words) > 3:
        raise UsageError("TEXT is one word of the command line: put quotation marks round it")
    at = 1 if ":" in words[0] else 2
    endpoint = parse_words(words[:at], default_scheme="udp")
    if len(words) > at + 1:
        raise UsageError("TEXT is one word of the command line: put quotation marks round it")
    if not endpoint.is_datagram:
        raise EndpointError(f"{endpoint} carries no datagrams: use hailer connect, or name a udp:// one")
    text = words[at].encode("utf-8", "surrogateescape") if len(words) > at else None
    return endpoint, text


async def _messages(text: bytes | None) -> AsyncIterator[bytes]:
    if text is not None:
        yield text
        return
    from hailer.cli.lines import open_console  # noqa: PLC0415 (only for standard input)

    async with open_console(_MAX_LINE) as console:
        async for batch in console.batches():
            for line in batch:
                yield line


async def _send(connection: Connection, message: bytes, *, connected: bool) -> None:
    """Send a datagram, whether or not those before it found somebody."""
    for _ in range(_REFUSALS):
        try:
            return await connection.send(message)
        except ConnectionLost as error:
            # The network's word on an earlier datagram; this one was not sent.
            if connected:
                raise DialError(str(error)) from None
    return await connection.send(message)


async def _tell(output: Output, peer: Endpoint, size: int, *, as_json: bool) -> None:
    if as_json:
        line = json.dumps({"sent": size, "to": str(peer)})
    else:
        line = f"sent {size} bytes to {peer.address_text}"
    await output.write(f"{line}\n".encode())


async def _answers(connection: Connection, output: Output, patience: float | None, *, as_json: bool) -> None:
    """Show what comes back until nothing does."""
    heard = False
    while True:
        try:
            message = await connection.receive(patience)
        except TimedOut:
            if heard:
                return
            raise TimedOut(
                f"{connection.peer} did not answer within {patience:g} seconds: look whether it answers,"
                " or allow it more with --timeout"
            ) from None
        except ConnectionLost as error:
            raise DialError(str(error)) from None
        heard = True
        if as_json:
            shown = json.dumps(as_field(message), ensure_ascii=False).encode() + b"\n"
        else:
            shown = message.removesuffix(b"\n") + b"\n"
        await output.write(on_terminal(shown) if output.is_terminal else shown)
