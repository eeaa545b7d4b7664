"""``hailer who``: who is on the relay, or in a room."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hailer.cli.group import verb
from hailer.cli.options import json_option, relay_options, verbosity_options

if TYPE_CHECKING:
    from hailer.cli.notes import Notes
    from hailer.cli.options import RelayOptions

__all__ = ["command"]


@verb(
    "who",
    example="""
hailer who
hailer who lobby --json
""",
)
@click.argument("room", metavar="[#ROOM]", required=False)
@relay_options()
@json_option
@verbosity_options
def command(room: str | None, as_json: bool, options: RelayOptions, notes: Notes) -> None:
    """Show who is on the relay, or in a room, one name a line.

    The # of a room may be left out, for shells take it as the start of a comment. The name under which
    this command itself asks is not shown. With --json each line is {"name": ...}.
    """
    from hailer.cli.login import as_room, logged_in  # noqa: PLC0415 (these are not for --help)
    from hailer.cli.output import Output  # noqa: PLC0415
    from hailer.cli.running import run  # noqa: PLC0415

    async def work() -> None:
        async with logged_in(options, notes, reconnect=False) as client:
            names = await client.who(as_room(room) if room is not None else None)
        output = Output()
        for name in names:
            if name == client.name:
                continue
            if as_json:
                await output.object(name=name)
            else:
                await output.line(name)

    run(work())
