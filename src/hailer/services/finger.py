"""Finger: who is there, and what they say of themselves (RFC 1288).

Whom it knows is a `FingerSource`: a directory of plan files or the users of a relay, never the users of
the system.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hailer.errors import EndOfStream, MessageTooLong
from hailer.services.answering import finish
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.connection import Connection, Handler

__all__ = ["MOST_NAMES", "FingerSource", "SourceError", "finger", "made_safe"]

_LONGEST_QUERY = 512
_TOO_LONG = "This query is too long."
MOST_NAMES = 1000
"""The most names that one answer lists."""


class SourceError(Exception):
    """A source cannot be asked at the moment; its text is a sentence for the peer."""


class FingerSource(Protocol):
    """Whom a finger service knows; its methods may wait for `hailer.sleep` and nothing else."""

    async def names(self) -> Sequence[str]:
        """List everybody.

        Raises:
            SourceError: it cannot be told now.
        """

    async def about(self, name: str, *, wide: bool) -> Sequence[str] | None:
        """Tell of one of them, in lines of any text; None is somebody unknown.

        Args:
            name: as the peer wrote it.
            wide: whether more is wished for (``/W``).

        Raises:
            SourceError: it cannot be told now.
        """


def finger(source: FingerSource) -> Handler:
    """Make the service: it reads one query, answers it, and ends.

    Args:
        source: whom it knows.
    """

    async def answer(connection: Connection) -> None:
        lines: Sequence[str]
        try:
            lines = await _answer(source, await connection.receive())
        except EndOfStream:
            return
        except MessageTooLong as error:
            if error.fatal:
                raise
            lines = [_TOO_LONG]
        except SourceError as error:
            lines = [str(error)]
        await connection.send_many(map(made_safe, lines))
        await finish(connection)

    return answer


async def _answer(source: FingerSource, query: bytes) -> Sequence[str]:
    """Do what a query asks for (RFC 1288 section 2.3)."""
    if len(query) > _LONGEST_QUERY:
        return [_TOO_LONG]
    words = query.decode("utf-8", "replace").split()
    wide = bool(words) and words[0].upper() == "/W"
    if wide:
        del words[0]
    if any("@" in word for word in words):
        # Section 3.2.1: to ask other hosts for strangers hides who asks, and is to be off by default.
        return ["Finger forwarding service denied."]
    if not words:
        return _listed(await source.names())
    if len(words) > 1:
        return ["One name at a time, please."]
    lines = await source.about(words[0], wide=wide)
    return [f"{words[0]}: no such user."] if lines is None else lines


def _listed(names: Sequence[str]) -> list[str]:
    if not names:
        return ["Nobody is here."]
    lines = list(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        lines.append(f"({len(names) - MOST_NAMES} more)")
    return lines


def made_safe(line: str) -> bytes:
    """Write a line so that no terminal obeys it (RFC 1288 section 3.3): printable ASCII alone is left.

    Tabs become spaces; everything else outside ASCII's printing characters is escaped.

    Args:
        line: any text.
    """
    return printable(line.expandtabs()).encode("ascii", "backslashreplace")
