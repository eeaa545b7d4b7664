"""The two clocks: daytime for people (RFC 867) and time for programs (RFC 868)."""

from __future__ import annotations

from datetime import UTC, datetime
from time import time as seconds_since_1970
from typing import TYPE_CHECKING

from hailer.services.answering import answer_datagrams, finish, tell

if TYPE_CHECKING:
    from hailer.connection import Connection

__all__ = ["daytime", "daytime_line", "time", "time_bytes"]

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_FROM_1900_TO_1970 = 2_208_988_800


async def daytime(connection: Connection) -> None:
    """Send the date and time as a line of text; see `tell` for when."""
    await tell(connection, lambda: [daytime_line(datetime.now(UTC))])


async def time(connection: Connection) -> None:
    """Send the seconds since 1900 in four bytes; in answer to each datagram, or at once on a stream.

    The framing has to be ``raw``: any other adds to the four bytes, or cannot carry all of them.
    """
    if connection.peer.is_datagram:
        await answer_datagrams(connection, lambda _: time_bytes(seconds_since_1970()))
    else:
        await connection.send(time_bytes(seconds_since_1970()))
        await finish(connection)


def daytime_line(moment: datetime) -> bytes:
    """Write a moment as RFC 867 proposes: ``Weekday, Month Day, Year Time-Zone``.

    In English and UTC wherever the server is, so that it can be read everywhere, by programs too.

    Args:
        moment: in UTC.
    """
    day = f"{_DAYS[moment.weekday()]}, {_MONTHS[moment.month - 1]} {moment.day}, {moment.year}"
    return f"{day} {moment:%H:%M:%S}-UTC".encode()


def time_bytes(seconds: float) -> bytes:
    """Write a moment as RFC 868 says: seconds since 1900-01-01 00:00 UTC, the most significant byte first.

    The 32 bits run out at 2036-02-07 06:28:16 UTC and begin again at 0; a client of that time that knows its
    century can go on.

    Args:
        seconds: since 1970-01-01 00:00 UTC.
    """
    return ((int(seconds) + _FROM_1900_TO_1970) & 0xFFFF_FFFF).to_bytes(4, "big")
