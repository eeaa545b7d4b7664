"""The receiver's side of durable mail: what has come, what is dealt with, and when the relay is told."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from hailer.errors import UsageError
from hailer.relay.client import commands

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Mailbox"]

log = logging.getLogger("hailer.relay.client")


class Mailbox:
    """Which entries of the mailbox have come over all connections of one client, and which are dealt with.

    The relay sends everything after the last ACK that it knows again on each new connection; what came
    before is known by its number. An ACK covers all entries before its own, so it is said only up to the
    first entry that is not dealt with; and only up to what came on the present connection, for the relay
    takes no ACK of what it has not sent there.

    Numbers count in one store of the relay. If it has another one than before, it has lost what it had, and
    its mail is numbered anew.

    Args:
        cursor: entries up to this one are dealt with already: a number, or `Message.cursor` of the last one,
            which also tells the store; empty for none.

    Raises:
        UsageError: it is neither.
    """

    def __init__(self, cursor: int | str = "") -> None:
        self._store, number = _parse(cursor)
        self._received = number  # entries up to this one have been handed over
        self._floor = number  # entries up to this one are dealt with
        self._open: deque[int] = deque()  # those after the floor that were handed over
        self._done: set[int] = set()  # those among them that are dealt with, behind one that is not
        self._seen = 0  # the last that came on this connection
        self._said = 0  # the last ACK on this connection
        self._say: Callable[[bytes], None] | None = None
        self._due = False
        self._began_anew = False

    def count_in(self, store: str) -> None:
        """Take note of the store in which what comes from now on is numbered."""
        if self._store and store != self._store:
            log.warning("the relay has another store than before: what that one kept is lost")
            self._received = self._floor = 0
            self._open.clear()
            self._done.clear()
            self._began_anew = True
        self._store = store

    def begin(self, say: Callable[[bytes], None]) -> None:
        """Begin a new connection.

        Args:
            say: has a line written to it.
        """
        self._say = say
        self._seen = self._said = 0

    def take(self, number: int) -> bool:
        """Take note of an entry that came.

        Returns:
            Whether it is to be handed over: it was not before, and lies beyond the cursor.
        """
        self._seen = max(self._seen, number)
        new = number > self._received
        if new:
            self._received = number
            self._open.append(number)
        self._acknowledge_soon()
        return new

    def ack(self, number: int) -> None:
        """Take note that an entry is dealt with.

        Raises:
            UsageError: no such entry came.
        """
        if number > self._received:
            if self._began_anew:
                return  # it was of the store that is lost
            raise UsageError(f"mail {number} has not come: acknowledge what was received")
        if number <= self._floor:
            return
        self._done.add(number)
        while self._open and self._open[0] in self._done:
            self._floor = self._open.popleft()
            self._done.discard(self._floor)
        self._acknowledge_soon()

    def flush(self) -> None:
        """Tell the relay how far it is dealt with, if it has not been told."""
        self._due = False
        number = min(self._floor, self._seen)
        if number > self._said and self._say is not None:
            self._said = number
            self._say(commands.ack(number))

    def _acknowledge_soon(self) -> None:
        """Say one ACK for all that is acknowledged in this turn of the loop."""
        if not self._due and min(self._floor, self._seen) > self._said:
            self._due = True
            asyncio.get_running_loop().call_soon(self.flush)


def _parse(cursor: int | str) -> tuple[str, int]:
    """The store and the number of a cursor."""
    store, _, number = str(cursor).rpartition(":")
    if not (number or store):
        return "", 0
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise UsageError(f"{cursor!r} is no cursor: give Message.cursor of the last message dealt with")
    return store, int(number)
