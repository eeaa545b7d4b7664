"""``hailer recv``: messages as lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from hailer.cli.group import verb
from hailer.cli.options import json_option, relay_options, verbosity_options
from hailer.errors import TimedOut, UsageError

if TYPE_CHECKING:
    from hailer.cli.notes import Notes
    from hailer.cli.options import RelayOptions
    from hailer.relay.client.events import Message

__all__ = ["command"]


@verb(
    "recv",
    example="""
hailer recv --name inbox --follow
hailer recv --name inbox --count 1 --timeout 30 --json
hailer recv --room lobby | grep -i lunch
""",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many messages.")
@click.option("--follow", is_flag=True, help="Connect again, for ever, when the connection is lost.")
@click.option(
    "--room", "rooms", multiple=True, metavar="#ROOM", help="Enter this room; several may be given."
)
@click.option("--ack", is_flag=True, help="Acknowledge stored mail; there is none yet.")
@relay_options()
@json_option
@verbosity_options
def command(
    count: int | None,
    follow: bool,
    rooms: tuple[str, ...],
    ack: bool,
    as_json: bool,
    options: RelayOptions,
    notes: Notes,
) -> None:
    r"""Receive messages: each is one line, "FROM TO TEXT", where TO is this name or a room.

    A backslash in the text is doubled, and line ends and other control characters are written as in
    \n, \x1b or \u202e, bytes that are no UTF-8 as \udcNN: every message is one line, and no two look
    the same. With --json each is {"from": ..., "to": ..., "text": ...}, or "base64" for bytes that are
    no text. Messages that were lost on the way are told on standard error, exactly counted.

    --timeout given on the command line also ends the wait for each message, with exit code 28.
    """
    if ack:
        raise UsageError("there is no stored mail to acknowledge yet: leave --ack out")
    from hailer.cli.login import as_room, logged_in  # noqa: PLC0415 (these are not for --help)
    from hailer.cli.output import Output, as_field, one_line  # noqa: PLC0415
    from hailer.cli.running import run  # noqa: PLC0415
    from hailer.cli.telling import Telling  # noqa: PLC0415

    def shown(message: Message) -> str:
        if not as_json:
            return f"{message.sender} {message.to} {one_line(message.payload)}\n"
        fields = {"from": message.sender, "to": message.to, **as_field(message.payload)}
        return json.dumps(fields, ensure_ascii=False) + "\n"

    async def work() -> None:
        output = Output()
        left = count
        tell = Telling(options.relay, notes.note)
        async with logged_in(options, notes, reconnect=follow, **tell.callbacks) as client:
            for room in rooms:
                await client.join(as_room(room))
            (notes.note if options.name is None else notes.detail)(f"receiving as {client.name}")
            while left is None or left > 0:
                try:
                    messages = await client.receive_many(None if follow else options.silence)
                except TimedOut:
                    raise TimedOut(
                        f"no message came for {options.silence:g} seconds: allow more with --timeout"
                    ) from None
                messages = messages[:left]
                if left is not None:
                    left -= len(messages)
                await output.write("".join(map(shown, messages)).encode("utf-8", "backslashreplace"))

    run(work())
