"""How a client gives what it received, and takes note of what is dealt with."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hailer.errors import ConnectionClosed, RelayClosed
from hailer.relay.client.keeper import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hailer.relay.client.events import Message
    from hailer.relay.client.inbox import Inbox
    from hailer.relay.client.keeper import Keeper
    from hailer.relay.client.mailbox import Mailbox

__all__ = ["Receiving"]

_TURN = 64
"""Messages that an iteration gives before it lets other tasks run, PINGs be answered and more be read."""


class Receiving:
    """The part of a client that is about receiving."""

    _inbox: Inbox
    _keeper: Keeper
    _mailbox: Mailbox
    _turn = 0

    def __aiter__(self) -> AsyncIterator[Message]:
        """Give the messages as they come, until the relay says BYE for good or the client is closed.

        Raises:
            ConnectionLost: the connection was lost and `reconnect` is off.
            Refused: the relay did not let this client in again.
            FramingError: what came is nothing that a relay says.
        """
        return self

    async def __anext__(self) -> Message:
        self._turn += 1
        if self._turn >= _TURN:
            self._turn = 0
            await asyncio.sleep(0)
        try:
            return await self.receive()
        except (RelayClosed, ConnectionClosed):
            raise StopAsyncIteration from None

    async def receive(self, timeout: float | None = None) -> Message:
        """Wait for the next message.

        A cancelled or timed out receive loses nothing. Several tasks may receive: each message goes to one.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            TimedOut: none came in time.
            ConnectionClosed: the client was closed.
            RelayClosed: the relay said BYE, for good.
            ConnectionLost: the connection was lost and `reconnect` is off.
            Refused: the relay did not let this client in again.
            FramingError: what came is nothing that a relay says.
        """
        message = self._inbox.take()
        if message is None:
            async with within(timeout, "no message came in time: receive again"):
                while message is None:
                    await self._inbox.wait()
                    message = self._inbox.take()
        return message

    async def receive_many(self, timeout: float | None = None) -> list[Message]:
        """Wait for messages and take all that have come, at least one.

        Args and errors are those of `receive`.
        """
        async with within(timeout, "no message came in time: receive again"):
            await self._inbox.wait()
            while not (messages := self._inbox.take_all()):  # another task was quicker
                await self._inbox.wait()
        return messages

    async def ack(self, number: int) -> None:
        """Say that one entry of the mailbox is dealt with; `Message.ack` does it.

        The relay drops entries from the front of the mailbox: those behind one that is not acknowledged yet
        wait for it. It is told of many together, and again after a new connection. If the program ends
        before the relay knows, the entry comes again: keep a `cursor` to tell.

        Raises:
            HailerError: the client will not connect again; the entry comes again to the next one.
            UsageError: no such entry was received.
        """
        self._keeper.check()
        self._mailbox.ack(number)
