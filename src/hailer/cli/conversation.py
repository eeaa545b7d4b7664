"""The conversation behind ``hailer chat``: what is typed, what arrives, and what happens meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from hailer.cli.lines import open_console
from hailer.cli.login import as_room, logged_in
from hailer.cli.telling import Telling
from hailer.errors import ConnectionLost, Refused, TimedOut, UsageError
from hailer.relay.client.events import Joined, Left
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hailer.cli.lines import Console
    from hailer.cli.notes import Notes
    from hailer.cli.options import RelayOptions
    from hailer.relay.client.client import RelayClient
    from hailer.relay.client.events import Expired, Message, Presence, RefusedPost

__all__ = ["HELP", "Talk", "shown"]

HELP: Final = (
    "/join #ROOM      enter a room and talk there",
    "/leave [#ROOM]   leave it",
    "/to NAME|#ROOM   talk there from now on",
    "/msg NAME TEXT   one message to somebody",
    "/post TO TEXT    leave a message in the mailbox, also of all in a room",
    "/who [#ROOM]     who is here",
    "/help, /quit     this list; the end (Ctrl-D ends too)",
    "//TEXT           a text that starts with a slash",
)

_MAX_LINE: Final = 1 << 20
_LINES_AHEAD: Final = 100
"""Typed lines that wait for the relay before typing, or reading input, waits for them."""

_EVENTS_AHEAD: Final = 1000
"""Lines about who comes and goes that wait to be shown; more are only counted."""


def shown(message: Message) -> str:
    """A message as lines: who, where, and its text with what is no text escaped.

    The lines of a text with several are indented, so that none of them can pass for a line of somebody
    else's or of this program.
    """
    where = f"{message.to} {message.sender}" if message.to.startswith("#") else f"{message.sender} (to you)"
    if message.number is not None:
        where = f"[mail] {where}"
    text = message.payload.decode("utf-8", "surrogateescape").replace("\r\n", "\n").expandtabs(4)
    return f"{where}: " + "\n    ".join(printable(line) for line in text.split("\n"))


class Talk:
    """One person's conversation.

    Args:
        options: where the relay is, and as whom.
        room: the room to enter first.
        notes: where retries are told.
    """

    def __init__(self, options: RelayOptions, room: str, notes: Notes) -> None:
        self._options = options
        self._notes = notes
        self._target = room
        self._events: asyncio.Queue[str] = asyncio.Queue(_EVENTS_AHEAD)
        self._passed_over = 0
        self._typed: asyncio.Queue[str | None] = asyncio.Queue(_LINES_AHEAD)
        self._commands: dict[str, Callable[[RelayClient, str], Awaitable[None]]] = {
            "join": self._join,
            "leave": self._leave,
            "to": self._to,
            "msg": self._msg,
            "post": self._post,
            "who": self._who,
            "help": self._help,
        }

    async def run(self) -> None:
        """Talk until the end of input, /quit, or the relay's last word."""
        callbacks = Telling(self._options.relay, self._tell).callbacks
        async with (
            open_console(_MAX_LINE, prompt=self._prompt) as console,
            logged_in(
                self._options,
                self._notes,
                tell=self._tell,
                on_presence=self._on_presence,
                on_expired=self._on_expired,
                on_refused=self._on_refused,
                **callbacks,
            ) as client,
        ):
            await client.join(self._target)
            self._tell(
                f"you are {client.name} in {self._target} at {self._options.relay}; /help tells what to type"
            )
            self._console = console
            async with asyncio.TaskGroup() as tasks:
                others = [
                    tasks.create_task(self._show_messages(client)),
                    tasks.create_task(self._show_events()),
                    tasks.create_task(self._read(console)),
                ]
                await self._obey(client)
                for task in others:
                    task.cancel()
            while not self._events.empty():
                await self._show(f"* {self._events.get_nowait()}")

    # what is shown

    def _prompt(self) -> str:
        return f"{self._target or '(nobody)'}> "

    async def _show(self, text: str) -> None:
        await self._console.show(text.encode("utf-8", "backslashreplace") + b"\n")

    def _tell(self, text: str) -> None:
        """Have a line of our own shown; from callbacks, which cannot wait."""
        try:
            self._events.put_nowait(text)
        except asyncio.QueueFull:
            self._passed_over += 1

    async def _show_events(self) -> None:
        while True:
            await self._show(f"* {await self._events.get()}")
            if self._passed_over:
                count, self._passed_over = self._passed_over, 0
                await self._show(
                    f"* {count} more events were not shown: they came faster than they were read"
                )

    async def _show_messages(self, client: RelayClient) -> None:
        while True:
            for message in await client.receive_many():
                await self._show(shown(message))
                await message.ack()

    def _on_expired(self, expired: Expired) -> None:
        self._tell(f"{expired.count} messages that waited for {expired.to} were not fetched in time")

    def _on_refused(self, post: RefusedPost) -> None:
        self._tell(
            f"refused ({post.code}): {post.explanation}: {printable(post.payload.decode('utf-8', 'replace'))}"
        )

    def _on_presence(self, event: Presence) -> None:
        if isinstance(event, (Joined, Left)):
            self._tell(f"{event.name} {'joined' if isinstance(event, Joined) else 'left'} {event.room}")

    # what is typed

    async def _read(self, console: Console) -> None:
        async with aclosing(console.batches()) as batches:
            async for lines in batches:
                for line in lines:
                    await self._typed.put(line.decode("utf-8", "surrogateescape"))
        await self._typed.put(None)

    async def _obey(self, client: RelayClient) -> None:
        """Do what was typed, line after line, until the end or /quit."""
        while (line := await self._typed.get()) is not None:
            if not line.strip():
                continue
            try:
                if not line.startswith("/") or line.startswith("//"):
                    await self._say(client, line.removeprefix("/"))
                    continue
                word, _, rest = line[1:].partition(" ")
                if word == "quit":
                    return
                command = self._commands.get(word)
                if command is None:
                    self._tell(f"there is no /{printable(word)}: /help lists what there is")
                else:
                    await command(client, rest.strip())
            except Refused as error:
                self._tell(f"refused ({error.code}): {error}")
            except (ConnectionLost, TimedOut, UsageError) as error:
                self._tell(printable(str(error)))

    async def _say(self, client: RelayClient, text: str) -> None:
        if not self._target:
            self._tell("you talk to nobody: /join #ROOM or /to NAME first")
            return
        await self._send(client, self._target, text)

    async def _send(self, client: RelayClient, to: str, text: str) -> None:
        """Send, or leave it in the mailbox of who is away."""
        payload = text.encode("utf-8", "surrogateescape")
        try:
            await client.send(to, payload)
        except Refused as error:
            if error.code != "offline":
                raise
            await client.post(to, payload)
            self._tell(f"{to} is away: it waits in the mailbox")

    async def _join(self, client: RelayClient, rest: str) -> None:
        if not rest:
            raise UsageError("name the room: /join #kitchen")
        room = as_room(rest)
        await client.join(room)
        self._target = room
        self._tell(f"you are in {room}")

    async def _leave(self, client: RelayClient, rest: str) -> None:
        room = as_room(rest) if rest else self._target
        if not room.startswith("#"):
            raise UsageError("name the room: /leave #kitchen")
        await client.leave(room)
        if room.lower() == self._target.lower():
            self._target = min(client.rooms, default="")
        self._tell(f"you left {room}" + (f" and talk to {self._target} now" if self._target else ""))

    async def _to(self, client: RelayClient, rest: str) -> None:
        if not rest or " " in rest:
            raise UsageError("name somebody or a room: /to bob or /to #kitchen")
        if rest.startswith("#") and rest.lower() not in map(str.lower, client.rooms):
            raise UsageError(f"you are not in {printable(rest)}: /join it")
        self._target = rest
        self._tell(f"what you type goes to {printable(rest)}")

    async def _msg(self, client: RelayClient, rest: str) -> None:
        name, _, text = rest.partition(" ")
        if not text:
            raise UsageError("name somebody and say something: /msg bob hello")
        await self._send(client, name, text)

    async def _post(self, client: RelayClient, rest: str) -> None:
        to, _, text = rest.partition(" ")
        if not text:
            raise UsageError("name somebody or a room, and say something: /post bob hello")
        await client.post(to, text.encode("utf-8", "surrogateescape"))
        self._tell(f"it waits in the mailbox of {'all in ' if to.startswith('#') else ''}{to}")

    async def _who(self, client: RelayClient, rest: str) -> None:
        room = as_room(rest) if rest else self._target if self._target.startswith("#") else None
        names = await client.who(room)
        self._tell(f"in {room or 'all'}: {', '.join(names) or 'nobody'}")

    async def _help(self, _client: RelayClient, _rest: str) -> None:
        for line in HELP:
            self._tell(line)
