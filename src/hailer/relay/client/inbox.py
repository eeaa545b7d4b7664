"""Messages that have come and wait to be received: bounded, and the reason to stop reading the socket."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.errors import HailerError
    from hailer.relay.client.events import Message

__all__ = ["QUEUE_BYTES", "Inbox"]

QUEUE_BYTES = 16 << 20
"""Bytes of payloads that wait before the inbox is full, however few messages they are."""

_HARD = 4
"""Where even those who await an answer are not read for any more, in units of the limits."""


class Inbox:
    """A queue of messages that knows when it is full.

    Args:
        limit: messages from which it is full.

    Attributes:
        on_room: called once when it has drained to half of its limits; set by who waits for that.
        error: why no more messages will come, once that is so.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[Message] = deque()
        self._size = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self.on_room: Callable[[], None] | None = None
        self.error: HailerError | None = None

    @property
    def full(self) -> bool:
        """More need not be read from the relay."""
        return len(self._messages) >= self._limit or self._size >= QUEUE_BYTES

    @property
    def overfull(self) -> bool:
        """More must not be read from the relay."""
        return len(self._messages) >= self._limit * _HARD or self._size >= QUEUE_BYTES * _HARD

    def put(self, messages: list[Message]) -> None:
        """Append messages and wake whoever waits for them."""
        self._messages.extend(messages)
        self._size += sum([len(message.payload) for message in messages])
        self._wake()

    def end(self, error: HailerError) -> None:
        """Take note that no more messages will come.

        Args:
            error: what is raised once those that are here have been received.
        """
        self.error = error
        self._wake()

    def clear(self) -> None:
        """Forget the messages that are here."""
        self._messages.clear()
        self._size = 0

    async def wait(self) -> None:
        """Wait until there is a message.

        Raises:
            HailerError: none will come any more; it is `error`.
        """
        while not self._messages:
            if self.error is not None:
                raise self.error.with_traceback(None)
            future = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)

    def take(self) -> Message | None:
        """Take the oldest message, None if there is none."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._size -= len(message.payload)
        if self.on_room is not None:
            self._look_for_room(self.on_room)
        return message

    def take_all(self) -> list[Message]:
        """Take all that there are."""
        messages = list(self._messages)
        self._messages.clear()
        self._size = 0
        if self.on_room is not None:
            self._look_for_room(self.on_room)
        return messages

    def _look_for_room(self, on_room: Callable[[], None]) -> None:
        if len(self._messages) * 2 <= self._limit and self._size * 2 <= QUEUE_BYTES:
            self.on_room = None
            on_room()

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
