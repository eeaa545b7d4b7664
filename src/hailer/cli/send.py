"""``hailer send``: one message, or each line of standard input, and what became of each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click

from hailer.cli.exits import DONE, FAILED
from hailer.cli.group import verb
from hailer.cli.options import json_option, relay_options, verbosity_options
from hailer.errors import HailerError, Refused, StoreError, TimedOut, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from hailer.cli.notes import Notes
    from hailer.cli.options import RelayOptions
    from hailer.relay.client.client import RelayClient
    from hailer.relay.client.events import RefusedPost

__all__ = ["command"]

_WINDOW_BYTES: Final = 64 * 1024
_WINDOW_LINES: Final = 1000
_MAX_LINE: Final = 1 << 20


@verb(
    "send",
    example="""
hailer send bob 'lunch?'
hailer send bob 'call me back' --post
tail -f /var/log/syslog | hailer send '#ops' --name $HOSTNAME --json
make-orders | hailer send shop --post --name till --outbox ~/orders.outbox
""",
)
@click.argument("to")
@click.argument("text", required=False)
@click.option(
    "--post", is_flag=True, help="Leave it in the mailbox, also of who is away; wait until it is stored."
)
@click.option(
    "--outbox",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep here what is not stored yet; the next run with it goes on. With --post; needs --name.",
)
@relay_options()
@json_option
@verbosity_options
def command(
    to: str,
    text: str | None,
    post: bool,
    outbox: str | None,
    as_json: bool,
    options: RelayOptions,
    notes: Notes,
) -> None:
    """Send one message to a name or a #room, or without TEXT each line of standard input.

    Prints what became of each: "sent" once the relay has taken it, or with --post "stored" once it is on
    the relay's disk, "refused: CODE explanation", or "unknown: explanation" if the connection was lost
    before the relay's word came. A room is entered first. With --json each is {"n": ..., "to": ...,
    "outcome": ...}. Exit code 1 if any was refused.

    With --post a lost connection is made again, and each line is stored once. With --outbox a line is in
    that file before it is sent and until it is stored, so that it survives the end of this program, too: what
    is left there goes first the next time, whatever TO is then, even with empty input. Without --timeout it
    waits as long as it takes; else what stays in the file is "kept: explanation", with exit code 28.
    """
    if outbox is not None and not (post and options.name):
        raise UsageError("an outbox is of one name, for posts: give --post and --name with --outbox")
    from hailer.cli.login import logged_in  # noqa: PLC0415 (these are not for --help)
    from hailer.cli.running import run  # noqa: PLC0415

    async def work() -> int:
        sender = _Sender(to, as_json, post=post, outbox=outbox, notes=notes)
        async with logged_in(options, notes, **sender.client_options(options)) as client:
            await sender.begin(client)
            async for lines in _texts(text):
                await sender.send(lines)
            await sender.end()
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


def _count(messages: int, which: str = "") -> str:
    return f"1 message{which} is" if messages == 1 else f"{messages} messages{which} are"


class _Sender:
    """Sends to one receiver and prints what became of it.

    Args:
        to: the receiver.
        as_json: print JSON objects.
        post: leave it in the mailbox.
        outbox: keeps posts that are not stored yet.
        notes: where is told what is no outcome of a line.

    Attributes:
        code: the exit code so far.
    """

    def __init__(self, to: str, as_json: bool, *, post: bool, outbox: str | None, notes: Notes) -> None:
        from hailer.cli.output import Output  # noqa: PLC0415 (not for --help)

        self.code = DONE
        self._to = to
        self._as_json = as_json
        self._post = post
        self._outbox = outbox
        self._notes = notes
        self._output = Output()
        self._number = 0
        self._hinted = False

    def client_options(self, options: RelayOptions) -> dict[str, Any]:
        """What the client has to be told, beside what all are told."""
        if not self._post:
            return {"reconnect": False}
        from hailer.cli.telling import Telling  # noqa: PLC0415 (not for --help)

        more = {**Telling(options.relay, self._notes.note).callbacks, "on_refused": self._told_late}
        if self._outbox is not None:
            more.update(outbox=self._outbox, timeout=options.silence)
        return more

    async def begin(self, client: RelayClient) -> None:
        """Get ready, once the client is logged in."""
        self._client = client
        if client.posts_waiting:
            waiting = _count(client.posts_waiting, " from before")
            self._notes.note(f"{waiting} in {self._outbox}: what is there goes first")
        if self._to.startswith("#"):
            await client.join(self._to)

    async def send(self, lines: list[bytes]) -> None:
        """Send these, in order, and print a line for each.

        Raises:
            HailerError: the connection is lost, or one cannot be sent at all.
        """
        say = self._client.post if self._post else self._client.send
        outcomes = await asyncio.gather(*(say(self._to, line) for line in lines), return_exceptions=True)
        lost: BaseException | None = None
        for outcome in outcomes:
            self._number += 1
            if outcome is None:
                await self._print("stored" if self._post else "sent")
            elif isinstance(outcome, Refused):
                self.code = FAILED
                await self._print("refused", code=outcome.code, explanation=outcome.explanation)
                self._hint(outcome.code)
            elif isinstance(outcome, HailerError) and not isinstance(outcome, UsageError):
                lost = lost or outcome
                kept = self._outbox is not None and not isinstance(outcome, StoreError)
                await self._print("kept" if kept else "unknown", explanation=str(outcome))
            else:
                lost = lost or outcome
        if lost is not None:
            raise lost

    async def end(self) -> None:
        """Wait for what is left from before."""
        if self._outbox is None:
            return
        try:
            await self._client.drain()
        except Refused:
            pass  # it was told
        except TimedOut:
            raise TimedOut(
                f"{_count(self._client.posts_waiting)} not stored yet: run again with {self._outbox}"
            ) from None

    def _told_late(self, post: RefusedPost) -> None:
        """Tell of a refused post from before."""
        from hailer.cli.notes import warn  # noqa: PLC0415 (not for --help)
        from hailer.cli.output import one_line  # noqa: PLC0415

        self.code = FAILED
        warn(f"refused: {post.code} {post.explanation}: {post.to} {one_line(post.payload)}")

    def _hint(self, code: str) -> None:
        if code == "offline" and not self._hinted:
            self._hinted = True
            self._notes.note(f"{self._to} is not there: --post leaves messages in the mailbox")

    async def _print(self, outcome: str, code: str = "", explanation: str = "") -> None:
        if self._as_json:
            more = {key: value for key, value in (("code", code), ("explanation", explanation)) if value}
            await self._output.object(n=self._number, to=self._to, outcome=outcome, **more)
        else:
            why = " ".join(part for part in (code, explanation) if part)
            await self._output.line(f"{outcome}: {why}" if why else outcome)
