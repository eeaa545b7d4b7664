"""What a client says about rooms and presence, and how it waits for the relay's word."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hailer.errors import TimedOut
from hailer.relay.client import commands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hailer.relay.client.keeper import Keeper

__all__ = ["Places"]


class Places:
    """The part of a client that is about rooms and presence."""

    _keeper: Keeper
    _timeout: float | None

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms that this client is in."""
        return frozenset(self._keeper.rooms.values())

    async def join(self, room: str) -> None:
        """Enter a room; its messages come from now on, also after a new connection.

        Raises:
            Refused: the relay does not let this client in.
            ConnectionLost: the connection was lost; the client is not in the room.
            TimedOut: no word came in time.
            UsageError: it is no room.
        """
        await self._call(commands.join(room), "JOIN")
        self._keeper.rooms[room.lower()] = room

    async def leave(self, room: str) -> None:
        """Leave a room.

        Raises:
            Refused: this client was not in it.
            TimedOut: no word came in time.
            UsageError: it is no room.
        """
        line = commands.leave(room)
        self._keeper.rooms.pop(room.lower(), None)  # whatever comes, it is not to be entered again
        await self._call(line, "LEAVE")

    async def who(self, room: str | None = None) -> list[str]:
        """List who is logged in, or who is in a room.

        Raises:
            ConnectionLost: the connection was lost.
            TimedOut: no word came in time.
            UsageError: it is no room.
        """
        return await self._call(commands.who(room), "WHO")

    async def watch(self, *names: str) -> None:
        """Be told who comes and goes, by `on_presence`; what was watched before is watched no more.

        Args:
            names: whom to watch; none means everybody.

        Raises:
            Refused: these are too many.
            ConnectionLost: the connection was lost.
            TimedOut: no word came in time.
            UsageError: one of these is no name.
        """
        await self._call(commands.watch(names), "WATCH")
        self._keeper.watching = names

    async def unwatch(self) -> None:
        """Be told no more who comes and goes.

        Raises:
            ConnectionLost: the connection was lost.
            TimedOut: no word came in time.
        """
        self._keeper.watching = None
        await self._call(b"UNWATCH\n", "UNWATCH")

    async def ping(self) -> float:
        """Ask the relay for a sign of life.

        Returns:
            Seconds that it took, behind all that was sent before.

        Raises:
            ConnectionLost: the connection was lost.
            TimedOut: no word came in time.
        """
        started = time.monotonic()
        await self._call(b"", "PING")
        return time.monotonic() - started

    async def _call(self, line: bytes, verb: str) -> list[str]:
        async with self._in_time(verb):
            link = await self._keeper.ready()
            return await link.call(line, verb)

    @asynccontextmanager
    async def _in_time(self, verb: str) -> AsyncIterator[None]:
        """Allow the relay the client's timeout."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError:
            if self._keeper.link is None:
                where = self._keeper.relay
                raise TimedOut(f"the relay at {where} was not there in time: look whether it runs") from None
            raise TimedOut(
                f"the relay gave no answer to {verb} in time: look whether it runs, or allow more time"
            ) from None
