"""``hailer connect``: lines to and from any server."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import click

from hailer.cli.exits import DONE, FAILED
from hailer.cli.group import verb
from hailer.cli.lines import at_terminal, open_console
from hailer.cli.notes import warn
from hailer.cli.options import (
    DEFAULT_TIMEOUT,
    dial_options,
    json_option,
    message_options,
    timeout_was_typed,
    tls_options,
    verbosity_options,
)
from hailer.cli.output import Output, as_field, on_terminal
from hailer.errors import (
    ConnectionEnded,
    ConnectionLost,
    DialError,
    EndOfStream,
    HailerError,
    MessageError,
    MessageTooLong,
    TimedOut,
    TruncatedMessage,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from hailer.cli.lines import Console
    from hailer.cli.notes import Notes
    from hailer.connection import Connection
    from hailer.framing import Framing

__all__ = ["AS_IT_IS", "Talk", "command"]

AS_IT_IS: Final = ("raw", "eof")
"""Framings without marks of their own: input and output are passed on as they are, not by lines."""


@verb(
    "connect",
    example="""
hailer connect localhost 7000
printf 'GET / HTTP/1.0\\r\\n\\r\\n' | hailer connect --framing raw example.org:80
hailer connect --framing netstring --send hello tcp://localhost:7000
hailer connect --ca ca.pem tls://localhost:7443
hailer connect wss://example.org/chat
""",
)
@click.argument("words", metavar="ENDPOINT | HOST PORT", nargs=-1, required=True)
@click.option("--send", metavar="TEXT", help="Send this one message, print one answer, and end.")
@message_options
@dial_options(
    "Give up after so long, 0 for never: connecting, and waiting for the answer to --send; given on the"
    " command line, also each silence once input has ended.  [default: 10]"
)
@tls_options
@json_option
@verbosity_options
def command(
    words: tuple[str, ...],
    send: str | None,
    framing: Framing | None,
    max_message: int,
    timeout: float | None,
    retries: int,
    retry_delay: float,
    tls: Callable[[], ssl.SSLContext | None],
    server_name: str | None,
    as_json: bool,
    notes: Notes,
) -> None:
    """Connect to a server: each line of input is a message, each message received a line of output.

    At end of input the sending side is closed, and what the server still says is read until it ends too.
    With --framing raw or eof both directions are passed on as they are. Bytes are not changed, but on a
    terminal control characters from the server are shown escaped.

    Datagrams (udp://, unix+dgram:) have no end: once input has ended, answers are waited for as long as
    they come within a second of each other, or within --timeout.
    """
    from hailer.cli.running import run  # noqa: PLC0415 (these are not for --help)
    from hailer.connecting import connect  # noqa: PLC0415
    from hailer.endpoint import parse_words  # noqa: PLC0415

    endpoint = parse_words(words)
    limit = DEFAULT_TIMEOUT if timeout is None else timeout or None
    patience = limit if send is not None or timeout_was_typed() else None
    if endpoint.is_datagram and patience is None:
        patience = _ANSWERS_WITHIN
    as_it_is = framing is not None and framing.name in AS_IT_IS

    async def work() -> int:
        connection = await connect(
            endpoint,
            framing=framing,
            timeout=limit,
            retries=retries,
            retry_delay=retry_delay,
            max_message=max_message,
            tls=tls(),
            server_name=server_name,
        )
        async with connection:
            notes.detail(f"connected to {connection.peer} from {connection.local.address_text}")
            talk = Talk(connection, as_it_is, patience, as_json)
            if send is not None:
                finish = framing is not None and framing.name == "eof"
                return await talk.exchange(send.encode("utf-8", "surrogateescape"), finish)
            return await talk.both_ways(max_message, notes)

    run(work())


_ANSWERS_WITHIN: Final = 1.0
"""Seconds of silence after which datagrams, which have no end, are taken to have come to theirs."""


_INPUT_WITHIN: Final = 1.0
"""Seconds without input after which nothing more is sent to a server that has ended its own side."""

_TAKEN_WITHIN: Final = 10.0
"""Seconds in which such a server has to take a part of the input."""


class Talk:
    """One connection and what the person at it wants.

    Args:
        connection: to the server.
        as_it_is: pass both directions on unchanged, not by lines.
        patience: seconds of silence that are allowed, None for any.
        as_json: show each message as a JSON object.
    """

    def __init__(self, connection: Connection, as_it_is: bool, patience: float | None, as_json: bool) -> None:
        self._connection = connection
        self._as_it_is = as_it_is
        self._patience = patience
        self._as_json = as_json
        self._input_ended = False
        self._silence: asyncio.Timeout = asyncio.timeout(None)
        self._failed = False
        self._batches = 0  # of input that were sent
        self._sending = False  # the next one
        self._unsent: ConnectionEnded | None = None

    async def exchange(self, message: bytes, finish: bool) -> int:
        """Send one message and show one answer.

        Args:
            message: what to send.
            finish: close the sending side after it, for a framing in which that ends the message.
        """
        connection = self._connection
        try:
            await connection.send(message, self._patience)
            if finish:
                await connection.finish()
            answer = await self._answer()
        except ConnectionLost as error:
            raise self._lost(error) from None
        output = Output()
        shown = self._shown([answer])
        await output.write(on_terminal(shown) if output.is_terminal else shown)
        return DONE

    async def _answer(self) -> bytes:
        try:
            return await self._connection.receive(self._patience)
        except EndOfStream:
            raise EndOfStream(
                f"{self._connection.peer} ended the connection without an answer: look at what it expects"
            ) from None
        except TimedOut:
            raise self._silent() from None

    async def both_ways(self, max_line: int, notes: Notes) -> int:
        """Send input and show what arrives, until the server ends.

        Args:
            max_line: the most bytes of a line of input.
            notes: where to tell about the end.
        """
        try:
            async with (
                open_console(max_line, keep_ends=self._as_it_is) as console,
                self._silence,
                asyncio.TaskGroup() as tasks,
            ):
                sending = tasks.create_task(self._send_input(console))
                await self._receive_all(console)
                if not at_terminal():
                    await self._send_rest(sending)
                sending.cancel()
        except TimeoutError as error:
            if isinstance(error, TimedOut) or not self._silence.expired():
                raise
            if not self._connection.peer.is_datagram:
                raise self._silent() from None
        tell = notes.note if at_terminal() else notes.detail
        if not self._connection.peer.is_datagram:
            tell(f"{self._connection.peer} ended the connection")
        if self._unsent is not None:
            raise self._lost(self._unsent)
        return FAILED if self._failed else DONE

    async def _send_input(self, console: Console) -> None:
        try:
            async with aclosing(console.batches()) as batches:
                async for batch in batches:
                    self._sending = True
                    await self._send(batch)
                    self._sending = False
                    self._batches += 1
            await self._connection.finish()
        except ConnectionEnded as error:
            self._unsent = error  # what the server said before it went can still be read
        self._input_ended = True
        self._expect_something()

    async def _send_rest(self, sending: asyncio.Task[None]) -> None:
        """Send on when the server has ended its side: it may still read, and no input is lost unseen."""
        while not sending.done():
            before = self._batches, self._sending
            await asyncio.wait((sending,), timeout=_TAKEN_WITHIN if self._sending else _INPUT_WITHIN)
            if before == (self._batches, self._sending):
                break
        if self._unsent is not None or (self._sending and not sending.done()):
            self._unsent = ConnectionLost(
                f"{self._connection.peer} ended the connection and took only a part of the input:"
                " look at what it expects"
            )

    async def _send(self, batch: list[bytes]) -> None:
        try:
            await self._connection.send_many(batch)
        except MessageError:
            for message in batch:  # those that come before the one that cannot be sent
                await self._connection.send(message)

    async def _receive_all(self, console: Console) -> None:
        while True:
            try:
                messages = await self._connection.receive_many()
            except EndOfStream:
                return
            except ConnectionLost as error:
                raise self._lost(error) from None
            except TruncatedMessage as error:
                if error.partial:
                    await console.show(self._shown([error.partial]))
                raise
            except MessageTooLong as error:
                if error.fatal:
                    raise
                warn(str(error))
                self._failed = True
                continue
            self._expect_something()
            await console.show(self._shown(messages))

    def _expect_something(self) -> None:
        """Begin the wait for what the server says next, once it cannot be waiting for us."""
        if self._input_ended and self._patience is not None and not self._silence.expired():
            self._silence.reschedule(asyncio.get_running_loop().time() + self._patience)

    def _lost(self, error: ConnectionEnded) -> HailerError:
        """The error itself; but who refuses datagrams was never connected."""
        refused = isinstance(error, ConnectionLost) and self._connection.peer.is_datagram
        return DialError(str(error)) if refused else error

    def _silent(self) -> TimedOut:
        return TimedOut(
            f"{self._connection.peer} said nothing for {self._patience:g} seconds:"
            " look whether it waits for more, or allow it more with --timeout"
        )

    def _shown(self, messages: list[bytes]) -> bytes:
        if self._as_json:
            objects = (json.dumps(as_field(message), ensure_ascii=False) for message in messages)
            return "".join(f"{each}\n" for each in objects).encode()
        if self._as_it_is:
            return b"".join(messages)
        return b"".join(message + b"\n" for message in messages)
