"""Mailboxes and those who post to them as the core keeps them: numbers and sizes, no stored entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hailer.relay.core.session import Session


class Mailbox:
    """The mailbox of one name.

    Entries are numbered for ever. Those up to `floor` are dealt with, those up to `stored` are in the
    store, those up to `last` are accepted. What its reader was sent ends with `sent`.

    Attributes:
        number: what the store knows it by.
        key: the name in lower case.
        name: the name as it is shown.
        size: bytes of its segments in the store.
        unstored: bytes accepted and not in the store yet.
        used: the relay's age when somebody last had the name, in seconds; up to ten minutes behind.
        notices: its owner wants to know what of its posts expired.
        kept: it belongs to an account, and is never forgotten.
        gaps: messages to rooms that did not fit: how many, and since when.
        pending: entries accepted since the last batch was taken, from `pending_first` on.
        reader: the connection that gets its entries, None while its owner is away.
        wanted: a page of it is to be read, or is being read.
        posters: sessions of its owner that have posted, by their ids.
        rooms: keys of the rooms whose posts it gets, in the order in which they were joined.
    """

    __slots__ = (
        "floor",
        "gaps",
        "kept",
        "key",
        "last",
        "name",
        "notices",
        "number",
        "pending",
        "pending_first",
        "pending_size",
        "posters",
        "reader",
        "rooms",
        "sent",
        "size",
        "stored",
        "unstored",
        "used",
        "wanted",
    )

    def __init__(self, number: int, key: bytes, name: bytes, last: int = 0) -> None:
        self.number = number
        self.key = key
        self.name = name
        self.last = self.stored = self.floor = self.sent = last
        self.size = self.unstored = 0
        self.used = 0
        self.notices = False
        self.kept = False
        self.gaps: dict[bytes, tuple[int, str]] | None = None
        self.pending: list[bytes] = []
        self.pending_first = 0
        self.pending_size = 0
        self.reader: Session | None = None
        self.wanted = False
        self.posters: dict[bytes, Poster] = {}
        self.rooms: dict[bytes, None] = {}

    @property
    def waiting(self) -> int:
        """Entries that are not dealt with."""
        return self.last - self.floor


class Poster:
    """A session that posts: every POST up to `stored` is in the store, up to `accepted` on the way there.

    It outlives its connection: who logs in with its id goes on with it.
    """

    __slots__ = ("accepted", "box", "id", "link", "stored", "used")

    def __init__(self, box: Mailbox, session_id: bytes, stored: int = 0) -> None:
        self.box = box
        self.id = session_id
        self.stored = self.accepted = stored
        self.used = 0
        self.link: Session | None = None


class Entry(NamedTuple):
    """One entry of a segment.

    Attributes:
        number: its own.
        sender: who posted it; empty for what the relay itself says (EXPIRED).
        line: its line, with the LF.
        raw: the counted bytes that follow it.
    """

    number: int
    sender: bytes
    line: bytes
    raw: bytes


def entries(data: bytes) -> Iterator[Entry]:
    """Take a segment's data apart."""
    start, size = 0, len(data)
    while start < size:
        stop = data.index(b"\n", start) + 1
        line = data[start:stop]
        head, colon, _ = line.partition(b" :")
        words = head.split()
        length = 0 if colon else int(words[-1])
        sender = words[2] if words[0] == b"MAIL" else b""
        yield Entry(int(words[1]), sender, line, data[stop : stop + length])
        start = stop + length


def after(data: bytes, number: int) -> bytes:
    """The part of a segment's data that holds the entries after one."""
    used = 0
    for entry in entries(data):
        if entry.number > number:
            break
        used += len(entry.line) + len(entry.raw)
    return data[used:]


def with_crlf(data: bytes) -> bytes:
    """A segment's data for a receiver that wants its lines ended by CRLF; counted bytes stay as they are."""
    return b"".join([entry.line.replace(b"\n", b"\r\n") + entry.raw for entry in entries(data)])
