"""What the core hands to a store, and what it gets back: plain data, for both sides to know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Segment(NamedTuple):
    """Neighbouring entries of one mailbox that were accepted together and are kept as one row.

    Attributes:
        box: the mailbox's number.
        first: the number of the first entry.
        last: the number of the last one.
        at: the relay's age when they were accepted, in seconds.
        data: the entries as the lines (and counted bytes) that their receiver is sent, one after the other.
    """

    box: int
    first: int
    last: int
    at: int
    data: bytes


class Box(NamedTuple):
    """A mailbox as it is stored.

    Attributes:
        number: its own; never used again.
        key: its name in lower case.
        name: its name as it is shown.
        last: the number of its newest entry; 0 if there never was one.
        floor: entries up to this one are dealt with.
        size: bytes in its segments. Ignored in a `Batch`: the store counts.
        used: the relay's age when somebody last had the name, in seconds.
        notices: whether its owner wants to be told what of its posts expired.
        gaps: messages that did not fit, as JSON: ``{"#room": [count, "since"]}``; empty for none.
    """

    number: int
    key: bytes
    name: bytes
    last: int
    floor: int
    size: int
    used: int
    notices: bool
    gaps: str


class Sender(NamedTuple):
    """A session that has posted, as it is stored.

    Attributes:
        box: the number of the mailbox of its name.
        id: the session's id.
        stored: every POST of it up to this number is stored.
        used: the relay's age when it was last heard of, in seconds.
    """

    box: int
    id: bytes
    stored: int
    used: int


class Member(NamedTuple):
    """A name that gets what is posted to a room, also while it is away."""

    room: bytes
    """The room as it is shown; it is the same room in any case of letters."""
    box: int


@dataclass(slots=True)
class Batch:
    """One commit: all of it, or nothing.

    Attributes:
        age: the relay's age in seconds: for how long relays have run on this store.
        boxes: mailboxes to write, new ones and changed ones; not those that only got segments, of which the
            store knows the newest entry.
        segments: entries to add; those of one mailbox in order.
        floors: by mailbox number: entries up to this one are dropped; a segment that reaches beyond it stays.
        senders: sessions to write.
        forgotten_senders: sessions to drop, by mailbox number and id.
        joined: memberships to add.
        left: memberships to drop.
        forgotten: numbers of mailboxes to drop, with all that is theirs.
        next_entry: what the first entry of a new mailbox has to be numbered at least (see `Loaded`).
    """

    age: int = 0
    boxes: list[Box] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    floors: dict[int, int] = field(default_factory=dict)
    senders: list[Sender] = field(default_factory=list)
    forgotten_senders: list[tuple[int, bytes]] = field(default_factory=list)
    joined: list[Member] = field(default_factory=list)
    left: list[Member] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    next_entry: int = 1


@dataclass(slots=True)
class Loaded:
    """All that a store holds but the entries themselves.

    Attributes:
        store: what this store is known by, so that who keeps the number of an entry knows what it counts in.
        age: see `Batch`.
        boxes: every mailbox.
        senders: every session that has posted.
        members: every membership.
        next_box: a number that no mailbox ever had.
        next_entry: the first entry of a new mailbox has this number: above those of all that were
            forgotten, so that a cursor kept by the owner of a name that comes back hides nothing new.
    """

    store: str = field(default="", compare=False)
    age: int = 0
    boxes: list[Box] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    next_box: int = 1
    next_entry: int = 1


class Page(NamedTuple):
    """Neighbouring segments of a mailbox, joined.

    Attributes:
        first: the number of the first entry.
        last: the number of the last one; 0 if there are none.
        data: all of them.
    """

    first: int
    last: int
    data: bytes
