"""``hailer recv``: messages as lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from hailer.cli.group import verb
from hailer.cli.options import json_option, relay_options, verbosity_options
from hailer.errors import TimedOut

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
hailer recv --name shop --ack --follow --json >> orders
""",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many messages.")
@click.option("--follow", is_flag=True, help="Connect again, for ever, when the connection is lost.")
@click.option(
    "--room", "rooms", multiple=True, metavar="#ROOM", help="Enter this room; several may be given."
)
@click.option("--ack", is_flag=True, help="Take mail out of the mailbox, each once its line is written.")
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
    the same. With --json each is {"kind": "message", "from": ..., "to": ..., "text": ...}, or "base64" for
    bytes that are no text; mail is of the kind "mail" and has its "number". Messages that were lost on the
    way are told on standard error, exactly counted.

    Mail that waits in the mailbox comes first, and stays there unless --ack is given: then each entry leaves
    it once its line is written, and comes again if this program is ended in between.

    --timeout given on the command line also ends the wait for each message, with exit code 28.
    """
    from hailer.cli.login import as_room, logged_in  # noqa: PLC0415 (these are not for --help)
    from hailer.cli.output import Output, as_field, one_line  # noqa: PLC0415
    from hailer.cli.running import run  # noqa: PLC0415
    from hailer.cli.telling import Telling  # noqa: PLC0415

    def shown(message: Message) -> str:
        if not as_json:
            return f"{message.sender} {message.to} {one_line(message.payload)}\n"
        kind = {"kind": "message"} if message.number is None else {"kind": "mail", "number": message.number}
        fields = {**kind, "from": message.sender, "to": message.to, **as_field(message.payload)}
        return json.dumps(fields, ensure_ascii=False) + "\n"

    async def work() -> None:
        output = Output()
        left = count
        told = ack
        tell = Telling(options.relay, notes.note, again=follow)
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
                if ack:
                    for message in messages:
                        await message.ack()
                elif not told and any(message.number is not None for message in messages):
                    told = True
                    notes.note("mail stays in the mailbox until it is received with --ack")

    run(work())
