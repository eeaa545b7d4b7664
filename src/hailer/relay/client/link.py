"""One connection to a relay: what goes out in order, and what comes back matched to it.

The relay answers the commands of one client in the order in which they were sent, and says nothing of a
SEND that it took. So each command whose outcome somebody awaits is followed by a PING of its own, the
fence: a FAIL that comes between the PONG before it and its own PONG belongs to it, and no FAIL until
then means that it was done. The fences travel with the commands; none waits for another. Commands that
nobody waits for share one fence, which is added when the next awaited command comes.

One fence for several awaited SENDs would tell whether all were taken, but not which one was refused.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hailer.connection import READ_SIZE
from hailer.errors import (
    ConnectionClosed,
    ConnectionLost,
    FramingError,
    HailerError,
    Refused,
    RelayClosed,
    TimedOut,
    UsageError,
)
from hailer.relay.client import commands
from hailer.relay.client.events import (
    Answered,
    Asked,
    Bye,
    Event,
    Fail,
    Gap,
    Here,
    Joined,
    Left,
    Message,
    Offline,
    Online,
    Ping,
    Pong,
    Welcome,
)
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hailer.relay.client.inbox import Inbox
    from hailer.relay.client.protocol import ClientProtocol
    from hailer.transport import Transport

__all__ = ["Link"]

log = logging.getLogger("hailer.relay.client")

WRITE_HIGH = 256 * 1024
"""Bytes that wait to be handed to the transport before senders wait."""

_SIGN_OF_LIFE = 15.0
"""Seconds between the PONGs that tell the relay that a client which reads nothing is still there."""


@dataclass(slots=True, eq=False)
class _Exchange:
    """A command and what the relay says to it, up to the PONG that ends it."""

    verb: str
    token: str = ""  # "" as long as its PING has not been sent
    answer: asyncio.Future[list[str]] | None = None
    names: list[str] = field(default_factory=list)
    refusal: Refused | None = None


class Link:
    """One connection, logged in or about to be.

    Args:
        transport: carries the bytes; owned by the link from now on.
        protocol: makes events of them.
        inbox: takes the messages, and has the link stop reading when it is full.
        on_event: called with each event that answers nothing, Asked, Gap and presence, and this link.
        on_refused: called with the refusals of what nobody waits for.
        heartbeat: seconds of silence after which the relay is asked whether it is there, and as long
            again until it is given up; None never asks.

    Attributes:
        ended: done when the connection is over, with the reason.
    """

    def __init__(
        self,
        transport: Transport,
        protocol: ClientProtocol,
        inbox: Inbox,
        *,
        on_event: Callable[[Event, Link], None],
        on_refused: Callable[[Refused], None],
        heartbeat: float | None,
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._inbox = inbox
        self._on_event = on_event
        self._on_refused = on_refused
        self._heartbeat = heartbeat
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[HailerError] = loop.create_future()
        self._welcome: asyncio.Future[Welcome] | None = None
        self._exchanges: deque[_Exchange] = deque()
        self._asks: dict[str, asyncio.Future[bytes]] = {}
        self._count = 0
        self._out: list[bytes] = []
        self._out_size = 0
        self._to_write = asyncio.Event()
        self._room = asyncio.Event()
        self._wait_for_room = 0
        self._stir = asyncio.Event()
        self._leaving = False
        self._tasks = [
            loop.create_task(self._until_it_ends(self._read()), name="hailer-relay-read"),
            loop.create_task(self._until_it_ends(self._write()), name="hailer-relay-write"),
        ]

    @property
    def unconfirmed(self) -> bool:
        """Whether something was sent without waiting of which it is not known that the relay took it."""
        return any(exchange.answer is None and exchange.verb == "SEND" for exchange in self._exchanges)

    @property
    def has_room(self) -> bool:
        """Whether something may be sent without waiting for `room`."""
        return self._out_size < WRITE_HIGH and not self.ended.done()

    @property
    def _logging_in(self) -> bool:
        return self._welcome is not None and not self._welcome.done()

    # what the client says

    async def login(self, line: bytes) -> Welcome:
        """Log in.

        Raises:
            Refused: the name is taken, or not ours.
            RelayClosed: the relay does not take anybody at the moment.
            ConnectionLost: it ended the connection, or vanished.
            FramingError: it is no relay.
        """
        self._welcome = asyncio.get_running_loop().create_future()
        self.say(line)
        return await self._welcome

    async def call(self, line: bytes, verb: str) -> list[str]:
        """Send a command and wait until the relay has done it; `room` is to be waited for first.

        Args:
            line: the command; empty to wait only for all that was sent before.
            verb: its verb, by which its FAIL is known.

        Returns:
            The names that it listed, if it is a WHO.

        Raises:
            Refused: it was not done, and why.
            ConnectionLost: the connection is over, and it is unknown whether it was done.
        """
        exchange = _Exchange(verb, answer=asyncio.get_running_loop().create_future())
        self._fence(exchange, line)
        self._stir.set()
        assert exchange.answer is not None
        return await exchange.answer

    async def ask(self, to: str, payload: bytes) -> bytes:
        """Ask and wait for the answer; `room` is to be waited for first.

        Raises:
            Refused: there will be none, and why.
            ConnectionLost: the connection is over.
        """
        self._count += 1
        number = str(self._count)
        self.say(commands.ask(number, to, payload))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asks[number] = future
        self._stir.set()
        try:
            return await future
        finally:
            self._asks.pop(number, None)

    def post(self, line: bytes) -> None:
        """Send a SEND for whose outcome nobody waits."""
        if not self._exchanges or self._exchanges[-1].token:
            self._exchanges.append(_Exchange("SEND"))
        self.say(line)

    def say(self, line: bytes) -> None:
        """Have a line written, together with all that is said in this turn of the loop."""
        self._out.append(line)
        self._out_size += len(line)
        self._to_write.set()

    def say_if_room(self, line: bytes) -> None:
        """Send what may as well be left out when the relay does not read what it gets."""
        if self.has_room:
            self.say(line)

    async def room(self) -> None:
        """Wait until the relay has read enough of what was sent: back-pressure; or until the end."""
        while not (self.has_room or self.ended.done()):
            self._room.clear()
            self._wait_for_room += 1
            self._stir.set()
            try:
                await self._room.wait()
            finally:
                self._wait_for_room -= 1

    async def leave(self, seconds: float) -> None:
        """Say QUIT, and wait for the relay's BYE for at most some seconds."""
        self._leaving = True
        self._stir.set()
        if not self.ended.done():
            self.say(commands.quit_line())
            await asyncio.wait([self.ended], timeout=seconds)

    def end(self, error: HailerError) -> None:
        """End the connection; whoever waits for an answer gets the error. May be called twice."""
        if self.ended.done():
            return
        self.ended.set_result(error)
        self._room.set()
        if self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(error)
        for exchange in self._exchanges:
            if exchange.answer is not None and not exchange.answer.done():
                exchange.answer.set_exception(_unknown(exchange.verb, error))
        for future in self._asks.values():
            if not future.done():
                future.set_exception(_unknown("ASK", error))

    async def close(self) -> None:
        """Release everything, at once; an error or the relay's BYE has ended the link before."""
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.wait(self._tasks)
        finally:
            if not (self.ended.done() and isinstance(self.ended.result(), RelayClosed)):
                self._transport.abort()  # what it may still hold would be waited for
            self.end(ConnectionClosed("this client was closed"))
            await self._transport.close()

    # the two tasks

    async def _until_it_ends(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except HailerError as error:
            self.end(error)
        except Exception as error:
            log.exception("the relay client failed")
            self.end(HailerError(f"the relay client failed ({type(error).__name__}); its log says more"))

    async def _write(self) -> None:
        while True:
            # what is said in one turn of the loop is written at once
            await self._to_write.wait()
            self._to_write.clear()
            data = b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            self._room.set()
            await self._transport.push(data)

    async def _read(self) -> None:
        silent = False
        while True:
            await self._until_wanted()
            deadline = None if self._heartbeat is None else time.monotonic() + self._heartbeat
            try:
                data = await self._transport.pull(READ_SIZE, deadline)
            except TimedOut:
                if silent:
                    raise ConnectionLost(
                        f"nothing was heard of the relay for {2 * (self._heartbeat or 0):g} seconds: look"
                        " whether it runs and the network is there"
                    ) from None
                silent = True
                self._fence(_Exchange("PING"), b"")
                continue
            silent = False
            if not data:
                self._protocol.end()
                raise ConnectionLost(
                    "the relay ended the connection without a word: look whether it still runs"
                )
            self._take_all(self._protocol.feed(data))

    async def _until_wanted(self) -> None:
        """Wait while there is no room for messages, unless somebody waits for what comes behind them."""
        inbox = self._inbox
        while inbox.full and not self._leaving:
            if self._awaited():
                if not inbox.overfull or self._logging_in:
                    return
                self._disappoint()
            inbox.on_room = self._stir.set
            self._stir.clear()
            try:
                async with asyncio.timeout(self._heartbeat or _SIGN_OF_LIFE):
                    await self._stir.wait()
            except TimeoutError:
                # The relay's PING may stand unread behind the messages, and it cuts whom it does not hear.
                self.say_if_room(b"PONG idle\n")

    def _awaited(self) -> bool:
        return (
            self._logging_in
            or self._wait_for_room > 0
            or any(not future.done() for future in self._asks.values())
            or any(e.answer is not None and not e.answer.done() for e in self._exchanges)
        )

    def _disappoint(self) -> None:
        """Tell those who wait for an answer that it stands behind too many messages that nobody receives."""
        waiting: list[asyncio.Future[Any]] = [*self._asks.values()]
        waiting += [e.answer for e in self._exchanges if e.answer is not None]
        for future in waiting:
            if not future.done():
                future.set_exception(
                    UsageError(
                        "the relay's answer stands behind too many messages that were not received:"
                        " receive them in another task while you wait, or allow more with queue_limit"
                    )
                )

    # what the relay says

    def _take_all(self, events: list[Event | FramingError]) -> None:
        messages: list[Message] = []
        try:
            for event in events:
                if type(event) is Message:
                    messages.append(event)
                else:
                    if messages:
                        self._hand_over(messages)
                        messages = []
                    self._take(event)
        finally:
            if messages:
                self._hand_over(messages)

    def _hand_over(self, messages: list[Message]) -> None:
        if not self._leaving:
            self._inbox.put(messages)

    def _take(self, event: Event | FramingError) -> None:
        match event:
            case Pong():
                self._pong(event.token)
            case Fail():
                self._fail(event)
            case Answered():
                future = self._asks.get(event.id)
                if future is not None and not future.done():
                    future.set_result(event.payload)
            case Here():
                if self._exchanges and self._exchanges[0].verb == "WHO":
                    self._exchanges[0].names.extend(event.names)
            case Ping():
                self.say_if_room(f"PONG {event.token}".rstrip().encode() + b"\n")
            case Welcome():
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_result(event)
            case Bye():
                raise RelayClosed(printable(event.reason))
            case Asked() | Gap() | Joined() | Left() | Online() | Offline():
                self._on_event(event, self)
            case FramingError():
                raise event

    def _pong(self, token: str) -> None:
        if not token or not self._exchanges or self._exchanges[0].token != token:
            return
        exchange = self._exchanges.popleft()
        answer = exchange.answer
        if answer is None or answer.done():
            return
        if exchange.refusal is not None:
            answer.set_exception(exchange.refusal)
        else:
            answer.set_result(exchange.names)

    def _fail(self, event: Fail) -> None:
        refusal = Refused(event.code, event.command, printable(event.explanation))
        if event.command == "ASK":
            future = self._asks.get(event.id)
            if future is not None and not future.done():
                future.set_exception(refusal)
            return
        if self._logging_in and self._welcome is not None:
            self._welcome.set_exception(refusal)
            return
        exchange = self._exchanges[0] if self._exchanges else None
        # A line or payload that was too long for the relay is refused under these names, before the BYE.
        if exchange is None or event.command not in (exchange.verb, "LINE", "PAYLOAD"):
            log.debug("the relay refused %s: %s", event.command, refusal)
        elif exchange.answer is not None:
            exchange.refusal = refusal
        elif exchange.verb == "SEND":
            self._on_refused(refusal)

    # inside

    def _fence(self, exchange: _Exchange, line: bytes) -> None:
        if self._exchanges and not self._exchanges[-1].token:
            self.say(self._ping(self._exchanges[-1]))
        self._exchanges.append(exchange)
        self.say(line + self._ping(exchange))

    def _ping(self, exchange: _Exchange) -> bytes:
        self._count += 1
        exchange.token = str(self._count)
        return b"PING %d\n" % self._count


def _unknown(verb: str, error: HailerError) -> HailerError:
    """What somebody gets who waits for an answer when the connection ends."""
    if verb == "PING":
        return ConnectionLost(f"the connection to the relay is over ({error}): try again")
    lost = ConnectionLost(
        f"the connection to the relay is over ({error}) and it is unknown whether {verb} was done: ask the"
        " receiver or send it again"
    )
    lost.__cause__ = error
    return lost
