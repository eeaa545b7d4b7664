"""``hailer listen``: show what comes, as datagrams or over one connection."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING

import click

from hailer.cli.exits import DONE, FAILED
from hailer.cli.group import verb
from hailer.cli.notes import OutputError, warn
from hailer.cli.options import FRAMING, SECONDS, json_option, option, verbosity_options
from hailer.cli.output import Output, as_field, on_terminal
from hailer.errors import EndOfStream, MessageTooLong, TimedOut, UsageError

if TYPE_CHECKING:
    from hailer.cli.notes import Notes
    from hailer.connection import Connection
    from hailer.endpoint import Endpoint
    from hailer.framing import Framing
    from hailer.handlers import AnyHandler

__all__ = ["command"]


@verb(
    "listen",
    example="""
hailer listen localhost 4950
hailer listen --count 1 --json udp://localhost:4950
hailer listen tcp://localhost:7000
""",
)
@click.argument("words", metavar="ENDPOINT | HOST PORT", nargs=-1, required=True)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many datagrams.")
@click.option("--connected", is_flag=True, help="Hear only the sender of the first datagram.")
@option(
    "--timeout",
    type=SECONDS,
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up when nothing comes for so long; 0 for never.",
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
    "--framing",
    type=FRAMING,
    metavar="FRAMING",
    help="How messages end in a stream, as for connect.  [default: line]",
)
@json_option
@verbosity_options
def command(
    words: tuple[str, ...],
    count: int | None,
    connected: bool,
    timeout: float,
    max_message: int,
    framing: Framing | None,
    as_json: bool,
    notes: Notes,
) -> None:
    """Show each datagram that comes as a line: the sender's address, a space, and what it sent. If that has
    several lines, the further ones are indented.

    Without a kind before it, HOST:PORT is udp://. Over tcp://, unix: and other kinds with connections one is
    taken: each line of input is a message to the peer, each message from it a line of output, until it ends.
    Tells "listening on ENDPOINT" on standard error once it does.
    """
    from hailer.cli.running import run  # noqa: PLC0415 (not for --help)
    from hailer.endpoint import parse_words  # noqa: PLC0415

    endpoint = parse_words(words, default_scheme="udp")
    if endpoint.is_datagram:

        async def listen() -> int:
            datagrams = _Datagrams(count, connected, timeout or None, as_json)
            return await datagrams.listen(endpoint, framing, max_message, notes)

        run(listen())
    if count is not None or connected:
        raise UsageError(
            f"--count and --connected are for datagrams, and {endpoint} takes one connection: leave them out"
        )
    if endpoint.scheme in ("tls", "wss"):
        raise UsageError(
            f"{endpoint} needs a certificate, which hailer listen has none of: take another endpoint, or"
            " hailer serve with --cert"
        )
    run(_converse(endpoint, framing, max_message, timeout or None, as_json, notes))


class _Datagrams:
    """What came so far, and what is still wanted.

    Args:
        count: how many datagrams, None for any number.
        connected: whether to hear only the sender of the first.
        timeout: seconds of silence to bear, None for any.
        as_json: show each as a JSON object.
    """

    def __init__(self, count: int | None, connected: bool, timeout: float | None, as_json: bool) -> None:
        self._left = math.inf if count is None else count
        self._connected = connected
        self._timeout = timeout
        self._as_json = as_json
        self._only: Endpoint | None = None
        self._output = Output()
        self._silence = asyncio.timeout(None)
        self._enough = asyncio.Event()
        self._code = DONE
        self._failure: OutputError | None = None

    async def listen(
        self, endpoint: Endpoint, framing: Framing | None, max_message: int, notes: Notes
    ) -> int:
        """Show datagrams until there were enough."""
        serving = await _serve(endpoint, self._show_all, framing, max_message, notes)
        try:
            async with self._silence:
                self._expect()
                enough = asyncio.create_task(self._enough.wait())
                await asyncio.wait((serving, enough), return_when=asyncio.FIRST_COMPLETED)
                enough.cancel()
                if serving.done():
                    serving.result()  # its error
                if self._failure is not None:
                    raise self._failure
        except TimeoutError:
            raise _nothing_came(endpoint, self._timeout) from None
        finally:
            await _end(serving)
        return self._code

    async def _show_all(self, connection: Connection) -> None:
        """Show what one peer sends."""
        peer = connection.peer
        if self._only is None:
            self._only = peer
        while True:
            try:
                messages = await connection.receive_many()
            except EndOfStream:
                return
            except MessageTooLong as error:
                warn(f"{peer.address_text}: {error}")
                self._code = FAILED
                continue
            if self._connected and peer != self._only:
                continue
            shown = messages[: int(min(self._left, len(messages)))]
            self._left -= len(shown)
            self._expect()
            if shown:
                try:
                    await self._output.write(b"".join(self._line(peer, each) for each in shown))
                except OutputError as error:
                    # The end of the command, and not only of what this peer says.
                    self._failure = error
                    self._left = 0
            if not self._left:
                self._enough.set()

    def _line(self, peer: Endpoint, message: bytes) -> bytes:
        if self._as_json:
            row = {"from": str(peer), "bytes": len(message), **as_field(message)}
            return json.dumps(row, ensure_ascii=False).encode() + b"\n"
        # Further lines are indented, so that none of them can pass for what somebody else sent.
        text = message.removesuffix(b"\n").replace(b"\n", b"\n    ")
        line = peer.address_text.encode() + b" " + text + b"\n"
        return on_terminal(line) if self._output.is_terminal else line

    def _expect(self) -> None:
        """Begin to wait for the next datagram."""
        if self._timeout is not None and not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + self._timeout)


async def _converse(
    endpoint: Endpoint,
    framing: Framing | None,
    max_message: int,
    timeout: float | None,
    as_json: bool,
    notes: Notes,
) -> int:
    """Take one connection: input to it, output from it."""
    from hailer.cli.connect import AS_IT_IS, Talk  # noqa: PLC0415 (only for connections)

    came = asyncio.Event()
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def converse(connection: Connection) -> None:
        came.set()
        notes.note(f"{connection.peer} connected")
        as_it_is = framing is not None and framing.name in AS_IT_IS
        try:
            ended.set_result(await Talk(connection, as_it_is, None, as_json).both_ways(max_message, notes))
        except Exception as error:
            ended.set_exception(error)

    serving = await _serve(endpoint, converse, framing, max_message, notes, once=True)
    try:
        waiting = asyncio.create_task(came.wait())
        await asyncio.wait((serving, waiting), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done() and not came.is_set():
            serving.result()
        if not came.is_set():
            raise _nothing_came(endpoint, timeout)
        return await ended
    finally:
        await _end(serving)


async def _serve(
    endpoint: Endpoint,
    handler: AnyHandler,
    framing: Framing | None,
    max_message: int,
    notes: Notes,
    *,
    once: bool = False,
) -> asyncio.Task[None]:
    """Begin to serve, for one person: nothing is idle for too long."""
    from hailer.server import Server  # noqa: PLC0415 (not for --help)

    server = Server(
        endpoint, handler, framing=framing, max_message=max_message, idle_timeout=None, drain=0.5, once=once
    )
    for bound in server.bind():
        notes.note(f"listening on {bound}")
    return asyncio.create_task(server.serve_async())


async def _end(serving: asyncio.Task[None]) -> None:
    serving.cancel()
    await asyncio.wait((serving,))


def _nothing_came(endpoint: Endpoint, timeout: float | None) -> TimedOut:
    return TimedOut(
        f"nothing came to {endpoint} within {timeout:g} seconds: look whether anybody sends there,"
        " or allow more with --timeout"
    )
