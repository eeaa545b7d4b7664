"""``hailer send``: one message, or each line of standard input, and what became of each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import click

from hailer.cli.exits import DONE, FAILED
from hailer.cli.group import verb
from hailer.cli.options import json_option, relay_options, verbosity_options
from hailer.errors import HailerError, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from hailer.cli.notes import Notes
    from hailer.cli.options import RelayOptions
    from hailer.relay.client.client import RelayClient

__all__ = ["command"]

_WINDOW_BYTES: Final = 64 * 1024
_WINDOW_LINES: Final = 1000
_MAX_LINE: Final = 1 << 20


@verb(
    "send",
    example="""
hailer send bob 'lunch?'
tail -f /var/log/syslog | hailer send '#ops' --name $HOSTNAME --json
""",
)
@click.argument("to")
@click.argument("text", required=False)
@click.option("--post", is_flag=True, help="Wait until it is stored; relays store nothing yet.")
@relay_options()
@json_option
@verbosity_options
def command(
    to: str, text: str | None, post: bool, as_json: bool, options: RelayOptions, notes: Notes
) -> None:
    """Send one message to a name or a #room, or without TEXT each line of standard input.

    Prints what became of each: "sent" once the relay has taken it, "refused: CODE explanation", or
    "unknown: explanation" if the connection was lost before the relay's word came. A room is entered
    first. With --json each is {"n": ..., "to": ..., "outcome": ...}. Exit code 1 if any was refused.
    """
    if post:
        raise HailerError(
            "relays store no mail yet, so --post cannot be kept: send without it, or wait for it"
        )
    from hailer.cli.login import logged_in  # noqa: PLC0415 (these are not for --help)
    from hailer.cli.running import run  # noqa: PLC0415

    async def work() -> int:
        async with logged_in(options, notes, reconnect=False) as client:
            if to.startswith("#"):
                await client.join(to)
            sender = _Sender(client, to, as_json)
            async for lines in _texts(text):
                await sender.send(lines)
        return sender.code

    run(work())


async def _texts(text: str | None) -> AsyncIterator[list[bytes]]:
    if text is not None:
        yield [text.encode("utf-8", "surrogateescape")]
        return
    from hailer.cli.lines import read_lines  # noqa: PLC0415 (only where there is no text)

    async for lines in read_lines(_MAX_LINE):
        for window in _windows(lines):
            yield window


def _windows(lines: list[bytes]) -> Iterator[list[bytes]]:
    """Lines in portions that a client hands over at once: past its limit their order is not sure."""
    window: list[bytes] = []
    size = 0
    for line in lines:
        if window and (size + len(line) > _WINDOW_BYTES or len(window) == _WINDOW_LINES):
            yield window
            window, size = [], 0
        window.append(line)
        size += len(line)
    if window:
        yield window


class _Sender:
    """Sends to one receiver and prints what became of it.

    Args:
        client: logged in.
        to: the receiver.
        as_json: print JSON objects.

    Attributes:
        code: the exit code so far.
    """

    def __init__(self, client: RelayClient, to: str, as_json: bool) -> None:
        from hailer.cli.output import Output  # noqa: PLC0415 (not for --help)

        self.code = DONE
        self._client = client
        self._to = to
        self._as_json = as_json
        self._output = Output()
        self._number = 0

    async def send(self, lines: list[bytes]) -> None:
        """Send these, in order, and print a line for each.

        Raises:
            HailerError: the connection is lost, or one cannot be sent at all.
        """
        outcomes = await asyncio.gather(
            *(self._client.send(self._to, line) for line in lines), return_exceptions=True
        )
        lost: BaseException | None = None
        for outcome in outcomes:
            self._number += 1
            if outcome is None:
                await self._print("sent")
            elif isinstance(outcome, Refused):
                self.code = FAILED
                await self._print("refused", code=outcome.code, explanation=outcome.explanation)
            elif isinstance(outcome, HailerError) and not isinstance(outcome, UsageError):
                lost = lost or outcome
                await self._print("unknown", explanation=str(outcome))
            else:
                lost = lost or outcome
        if lost is not None:
            raise lost

    async def _print(self, outcome: str, code: str = "", explanation: str = "") -> None:
        if self._as_json:
            more = {key: value for key, value in (("code", code), ("explanation", explanation)) if value}
            await self._output.object(n=self._number, to=self._to, outcome=outcome, **more)
        else:
            why = " ".join(part for part in (code, explanation) if part)
            await self._output.line(f"{outcome}: {why}" if why else outcome)
