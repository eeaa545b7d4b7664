"""``hailer ask``: a question and its answer."""

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
    "ask",
    example="""
hailer ask weather 'will it rain?'
hailer ask build status --timeout 60 --json
""",
)
@click.argument("to")
@click.argument("text")
@relay_options()
@json_option
@verbosity_options
def command(to: str, text: str, as_json: bool, options: RelayOptions, notes: Notes) -> None:
    """Ask a program on the relay and print its answer.

    The answer's bytes are not changed, but on a terminal control characters in it are shown escaped.
    Exit code 28 if no answer came in time, 1 if there will be none. With --json the answer is
    {"from": ..., "text": ...}, or "base64" for bytes that are no text.
    """
    from hailer.cli.login import logged_in  # noqa: PLC0415 (these are not for --help)
    from hailer.cli.output import Output, as_field, on_terminal  # noqa: PLC0415
    from hailer.cli.running import run  # noqa: PLC0415

    async def work() -> None:
        async with logged_in(options, notes, reconnect=False) as client:
            answer = await client.ask(to, text.encode("utf-8", "surrogateescape"))
        output = Output()
        if as_json:
            await output.object(**{"from": to}, **as_field(answer))
            return
        shown = on_terminal(answer) if output.is_terminal else answer
        await output.write(shown if shown.endswith(b"\n") else shown + b"\n")

    run(work())
