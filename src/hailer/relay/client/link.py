"""One connection to a relay: what goes out in order, and what comes back handed to whom it concerns."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING

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
    Expired,
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
    Stored,
    Welcome,
)
from hailer.relay.client.exchanges import Exchanges, unknown
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from hailer.relay.client.inbox import Inbox
    from hailer.relay.client.mailbox import Mailbox
    from hailer.relay.client.posts import Poster
    from hailer.relay.client.protocol import ClientProtocol
    from hailer.transport import Transport

__all__ = ["Link"]

log = logging.getLogger("hailer.relay.client")

WRITE_HIGH = 256 * 1024
"""Bytes that wait to be handed to the transport before senders wait."""

_DIGITS = 18
"""Of the most bytes that a relay says that it takes; a longer number is none."""

_SIGN_OF_LIFE = 15.0
"""Seconds between the PONGs that tell the relay that a client which reads nothing is still there."""


class Link:
    """One connection, logged in or about to be.

    Args:
        transport: carries the bytes; owned by the link from now on.
        protocol: makes events of them.
        inbox: takes the messages, and has the link stop reading when it is full.
        mailbox: knows which mail is new.
        posts: what is posted, and told what became of it.
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
        mailbox: Mailbox,
        posts: Poster,
        *,
        on_event: Callable[[Event, Link], None],
        on_refused: Callable[[Refused], None],
        heartbeat: float | None,
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._inbox = inbox
        self._mailbox = mailbox
        self._posts = posts
        self._on_event = on_event
        self._heartbeat = heartbeat
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[HailerError] = loop.create_future()
        self._welcome: asyncio.Future[Welcome] | None = None
        self._exchanges = Exchanges(self.say, on_refused)
        self._asks: dict[str, asyncio.Future[bytes]] = {}
        self._asked = 0
        self._out: list[bytes] = []
        self._out_size = 0
        self._to_write = asyncio.Event()
        self._room = asyncio.Event()
        self._wait_for_room = 0
        self._stir = asyncio.Event()
        self._leaving = False
        mailbox.begin(self.say)
        self._tasks = [
            loop.create_task(self._until_it_ends(self._read()), name="hailer-relay-read"),
            loop.create_task(self._until_it_ends(self._write()), name="hailer-relay-write"),
        ]

    @property
    def unconfirmed(self) -> bool:
        """Whether something was sent without waiting of which it is not known that the relay took it."""
        return self._exchanges.unconfirmed

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
        answer = self._exchanges.call(line, verb)
        self._stir.set()
        return await answer

    def fence(self, on_pong: Callable[[], object]) -> None:
        """Have a function called once the relay has dealt with all that was sent before."""
        self._exchanges.fence(on_pong)

    async def ask(self, to: str, payload: bytes) -> bytes:
        """Ask and wait for the answer; `room` is to be waited for first.

        Raises:
            Refused: there will be none, and why.
            ConnectionLost: the connection is over.
        """
        self._asked += 1
        number = str(self._asked)
        self.say(commands.ask(number, to, payload))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asks[number] = future
        self._stir.set()
        try:
            return await future
        finally:
            self._asks.pop(number, None)

    def send(self, line: bytes) -> None:
        """Send a SEND for whose outcome nobody waits."""
        self._exchanges.unawaited(line)

    def say(self, line: bytes) -> None:
        """Have a line written, together with all that is said in this turn of the loop."""
        self._out.append(line)
        self._out_size += len(line)
        self._to_write.set()

    def say_if_room(self, line: bytes) -> None:
        """Send what may as well be left out when the relay does not read what it gets."""
        if self.has_room:
            self.say(line)

    def look(self) -> None:
        """Look again whether there is a reason to read: somebody began to wait for the relay's word."""
        self._stir.set()

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
            self._mailbox.flush()
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
        self._exchanges.end(error)
        for future in self._asks.values():
            if not future.done():
                future.set_exception(unknown("ASK", error))

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
                self._exchanges.beat()
                continue
            silent = False
            if not data:
                self._protocol.end()
                also = ", and whether it speaks the scheme of this address" if self._logging_in else ""
                raise ConnectionLost(
                    f"the relay ended the connection without a word: look whether it still runs{also}"
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
            or self._exchanges.awaited
            or self._posts.awaited
        )

    def _disappoint(self) -> None:
        """Tell those who wait for an answer that it stands behind too many messages that nobody receives."""
        error = UsageError(
            "the relay's answer stands behind too many messages that were not received:"
            " receive them in another task while you wait, or allow more with queue_limit"
        )
        for future in self._asks.values():
            if not future.done():
                future.set_exception(error)
        self._exchanges.disappoint(error)
        self._posts.disappoint(error)

    # what the relay says

    def _take_all(self, events: list[Event | FramingError]) -> None:
        messages: list[Message] = []
        try:
            for event in events:
                if type(event) is Message:
                    if event.number is None or self._is_new(event.number):
                        messages.append(event)
                else:
                    if messages:
                        self._hand_over(messages)
                        messages = []
                    self._take(event)
        finally:
            if messages:
                self._hand_over(messages)

    def _is_new(self, number: int) -> bool:
        return not self._leaving and self._mailbox.take(number)

    def _hand_over(self, messages: list[Message]) -> None:
        if not self._leaving:
            self._inbox.put(messages)

    def _take(self, event: Event | FramingError) -> None:
        match event:
            case Pong():
                self._exchanges.pong(event.token)
            case Fail():
                self._fail(event)
            case Answered():
                future = self._asks.get(event.id)
                if future is not None and not future.done():
                    future.set_result(event.payload)
            case Here():
                self._exchanges.listed(event)
            case Stored():
                self._posts.stored(event.number)
            case Expired():
                if self._is_new(event.number):
                    self._on_event(event, self)
            case Ping():
                self.say_if_room(f"PONG {event.token}".rstrip().encode() + b"\n")
            case Welcome():
                self._mailbox.count_in(event.store)
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_result(event)
            case Bye():
                raise RelayClosed(printable(event.reason))
            case Asked() | Gap() | Joined() | Left() | Online() | Offline():
                self._on_event(event, self)
            case FramingError():
                raise event

    def _fail(self, event: Fail) -> None:
        if event.command == "ASK":
            future = self._asks.get(event.id)
            if future is not None and not future.done():
                future.set_exception(Refused(event.code, "ASK", printable(event.explanation)))
        elif event.command == "POST":
            self._posts.refused(event)
        elif event.code == "too-long" and (most := re.search(r"\d+", event.explanation)):
            self._posts.too_long(event, int(most[0][:_DIGITS]))
            self._exchanges.refused(event)
        elif self._welcome is not None and not self._welcome.done():
            self._welcome.set_exception(Refused(event.code, event.command, printable(event.explanation)))
        else:
            self._exchanges.refused(event)
