"""Quote of the day (RFC 865)."""

from __future__ import annotations

import stat
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.errors import UsageError
from hailer.services.answering import tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.connection import Connection, Handler

__all__ = ["SAYINGS", "of_the_day", "qotd", "quotations", "read_quotations"]

Quotation = tuple[bytes, ...]
"""The lines of a quotation, without their ends."""

_LESS_THAN = 512  # RFC 865: "should be less than 512 characters"
_LARGEST_FILE = 1 << 20

SAYINGS: tuple[Quotation, ...] = (
    (b"A stream has no messages; whoever sees one has drawn it there.",),
    (b"What was sent is not yet received, and what was received is not yet read.",),
    (b"Every queue is bounded: by you today, or by the machine at night.",),
    (b"A time-out is a guess about somebody else's silence.",),
    (b"The network is quick until it is asked how quick it is.",),
    (b"Trust the bytes, not the sizes that they claim.",),
    (b"The last acknowledgement is always the one in doubt.",),
    (b"A datagram promises nothing, and keeps its promise.",),
    (b"Half of a protocol is what to say;", b"the other half is when to stop."),
    (b"To close is polite, to reset is honest, to vanish is common.",),
    (b"An address is where, a name is who, and a route is how.",),
    (b"The first packet is slow for everybody.",),
    (b"Nobody reads a log until it is the only witness.",),
    (b"Be strict in what you count and calm in what you drop.",),
)
"""What is quoted where no file is given."""


async def qotd(connection: Connection) -> None:
    """Send the saying of this day; see `tell` for when."""
    await tell(connection, lambda: of_the_day(SAYINGS, datetime.now(UTC).date()))


def quotations(file: str | Path) -> Handler:
    """Make the service of the quotations in a file, which is read now.

    Args:
        file: see `read_quotations`.

    Raises:
        UsageError: the file cannot be used.
    """
    quotes = read_quotations(file)

    async def quote(connection: Connection) -> None:
        await tell(connection, lambda: of_the_day(quotes, datetime.now(UTC).date()))

    return quote


def of_the_day(quotes: Sequence[Quotation], day: date) -> Quotation:
    """Choose one of the quotations: each has its day, in turn.

    Args:
        quotes: at least one.
        day: which day, in UTC.
    """
    return quotes[day.toordinal() % len(quotes)]


def read_quotations(file: str | Path) -> list[Quotation]:
    """Read quotations: text of one or more lines each, with a line ``%`` between two of them.

    Args:
        file: at most 1 MiB; each quotation has less than 512 characters with the ends of its lines, all of
            them printable ASCII (RFC 865).

    Raises:
        UsageError: it cannot be read, it has no quotation, or one that is too long or not ASCII.
    """
    path = Path(file)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is no file: give one with quotations, and a line of % between two")
        with path.open("rb") as opened:
            data = opened.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(
            f"the quotations in {path} cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    if len(data) > _LARGEST_FILE:
        raise UsageError(f"{path} is larger than {_LARGEST_FILE} bytes: give a part of it")
    quotes: list[Quotation] = []
    lines: list[bytes] = []
    for line in [*data.splitlines(), b"%"]:
        if line.rstrip() != b"%":
            lines.append(line.rstrip().expandtabs())
            continue
        if any(lines):
            quotes.append(_checked(lines, path, len(quotes) + 1))
        lines = []
    if not quotes:
        raise UsageError(f"{path} has no quotation: write some, with a line of % between two")
    return quotes


def _checked(lines: list[bytes], path: Path, number: int) -> Quotation:
    while not lines[0]:
        del lines[0]
    while not lines[-1]:
        del lines[-1]
    size = sum(len(line) + 2 for line in lines)
    if size >= _LESS_THAN:
        raise UsageError(
            f"quotation {number} in {path} has {size} characters: make it shorter than {_LESS_THAN}"
        )
    if any(not 0x20 <= byte < 0x7F for line in lines for byte in line):
        raise UsageError(
            f"quotation {number} in {path} has characters other than printable ASCII: replace them"
        )
    return tuple(lines)
