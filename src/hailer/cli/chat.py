"""``hailer chat``: a person at a relay, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hailer.cli.group import verb
from hailer.cli.options import relay_options, verbosity_options

if TYPE_CHECKING:
    from hailer.cli.notes import Notes
    from hailer.cli.options import RelayOptions

__all__ = ["command"]


@verb(
    "chat",
    example="""
hailer chat ann
hailer chat ann --room kitchen --relay tcp://chat.example:16273
""",
)
@click.argument("own_name", metavar="NAME")
@click.option("--room", default="#lobby", show_default=True, metavar="#ROOM", help="The room to enter first.")
@relay_options(name=False)
@verbosity_options
def command(own_name: str, room: str, options: RelayOptions, notes: Notes) -> None:
    """Talk under a NAME: what is typed goes to the room, or to whom /to names.

    \b
    /join #ROOM      enter a room and talk there
    /leave [#ROOM]   leave it
    /to NAME|#ROOM   talk there from now on
    /msg NAME TEXT   one message to somebody
    /post TO TEXT    leave a message in the mailbox, also of all in a room
    /who [#ROOM]     who is here
    /help, /quit     this list; the end (Ctrl-D ends too)
    //TEXT           a text that starts with a slash

    What waits in the mailbox is shown first, marked [mail], and leaves it then. What is said to somebody who
    is away goes to that mailbox. A connection that is lost is made again. Without a terminal, lines are read
    and written plainly.
    """
    from dataclasses import replace  # noqa: PLC0415 (these are not for --help)

    from hailer.cli.conversation import Talk  # noqa: PLC0415
    from hailer.cli.login import as_room  # noqa: PLC0415
    from hailer.cli.running import run  # noqa: PLC0415

    run(Talk(replace(options, name=own_name), as_room(room), notes).run())
