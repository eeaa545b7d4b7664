"""All mailboxes: by name, by number, and which of them get what is posted to a room."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hailer.relay.core.batch import Box, Member
from hailer.relay.core.mailbox import Mailbox, Poster

if TYPE_CHECKING:
    from collections.abc import Container

    from hailer.relay.core.accounts import Accounts
    from hailer.relay.core.batch import Loaded
    from hailer.relay.core.journal import Journal
    from hailer.relay.core.limits import Limits

_STEP = 600
"""Seconds that the time when a name was last used may be behind."""

_UNUSED = 3600 + _STEP
"""Seconds that an empty mailbox of nobody's account is kept at least, however many more there are."""


class RoomMembers:
    """The names that get what is posted to a room."""

    __slots__ = ("boxes", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.boxes: dict[Mailbox, None] = {}


class Boxes:
    """The mailboxes of a relay.

    Args:
        limits: of the relay.
        journal: takes note of what is to be stored.

    Attributes:
        by_key: by name in lower case.
        by_number: by the number that the store knows.
        rooms: by the room's name in lower case.
        size: bytes in the store of all of them.
    """

    def __init__(self, limits: Limits, journal: Journal) -> None:
        self._limits = limits
        self._journal = journal
        self.by_key: dict[bytes, Mailbox] = {}
        self.by_number: dict[int, Mailbox] = {}
        self.rooms: dict[bytes, RoomMembers] = {}
        self.size = 0
        self._next_number = 1
        self._no_room_until = 0
        self._guests = True

    def load(self, loaded: Loaded) -> None:
        """Take what the store holds, at the start."""
        assert not self.by_key, "a mailbox made before would get the number of one that is stored"
        self._next_number = loaded.next_box
        for row in loaded.boxes:
            box = Mailbox(row.number, row.key, row.name, row.last)
            box.floor = box.sent = row.floor
            box.size, box.used, box.notices = row.size, row.used, row.notices
            box.gaps = _gaps_from(row.gaps)
            self.by_key[box.key] = self.by_number[box.number] = box
        self.size = sum(row.size for row in loaded.boxes)
        for sender in sorted(loaded.senders, key=lambda sender: sender.used):
            owner = self.by_number[sender.box]
            poster = owner.posters[sender.id] = Poster(owner, sender.id, sender.stored)
            poster.used = sender.used
        for member in loaded.members:
            self._add(self.by_number[member.box], member.room)

    def correct(self, loaded: Loaded) -> None:
        """Take the numbers of what the store turned out to hold; nothing is accepted and unstored now."""
        self._journal.next_entry = max(self._journal.next_entry, loaded.next_entry)
        self.size = sum(row.size for row in loaded.boxes)
        for row in loaded.boxes:
            box = self.by_number.get(row.number)
            if box is not None:
                box.last = box.stored = max(box.stored, row.last)
                box.size = row.size
                box.floor = max(box.floor, row.floor)
                box.sent = max(box.sent, box.floor)

    def find(self, name: bytes) -> Mailbox | None:
        """The mailbox that a name has; only names of accounts have one where others cannot log in."""
        box = self.by_key.get(name.lower())
        return box if box is None or box.kept or self._guests else None

    def ensure(self, key: bytes, name: bytes, *, kept: bool = False) -> Mailbox | None:
        """The mailbox of a name, a new one if it has none; None if there are too many.

        Args:
            key: the name in lower case.
            name: as it is shown.
            kept: it belongs to an account: it is made in any case and never forgotten.
        """
        box = self.by_key.get(key)
        if box is None:
            full = len(self.by_key) >= self._limits.mailboxes and not kept
            if full and not self._make_room():
                return None
            box = Mailbox(self._next_number, key, name, self._journal.next_entry - 1)
            self._next_number += 1
            self.by_key[key] = self.by_number[box.number] = box
            self._journal.touch(box)
        elif box.name != name:
            box.name = name
            self._journal.touch(box)
        box.kept = box.kept or kept
        self.use(box)
        return box

    def keep(self, accounts: Accounts) -> None:
        """Have a mailbox for each account; one whose account is no more is forgotten in its time."""
        for box in self.by_key.values():
            box.kept = False
        self._guests = accounts.guests
        for account in accounts:
            self.ensure(account.name.lower(), account.name, kept=True)

    def use(self, box: Mailbox) -> None:
        """Take note that somebody has the name now; in steps, for each is stored."""
        if self._journal.age - box.used >= _STEP or not box.used:
            box.used = self._journal.age
            self._journal.touch(box, within=60.0)

    def forget(self, before: int, most: int) -> int:
        """Drop empty mailboxes that nobody used since some age of the relay; gives how many."""
        old = [
            box
            for box in self.by_key.values()
            if box.used < before and not (box.waiting or box.size or box.unstored or box.kept or box.reader)
        ][:most]
        for box in old:
            for room in list(box.rooms):
                self._remove(box, room)
            del self.by_key[box.key], self.by_number[box.number]
            self._journal.forget(box)
        return len(old)

    def _make_room(self) -> bool:
        """Drop some of the empty mailboxes, when there are as many as may be; gives whether there was one."""
        age = self._journal.age
        if age < self._no_room_until:
            return False  # to look through all for each new name would be the square of their number
        if self.forget(age - _UNUSED, 1000):
            return True
        self._no_room_until = age + 60
        return False

    def take_out_of_rooms(self, before: int) -> None:
        """Have names of no account that nobody used since some age of the relay get no more posts to rooms.

        Those would keep a mailbox filled for ever that nobody may ever come back to.
        """
        for box in self.by_key.values():
            if box.rooms and box.used < before and not (box.kept or box.reader):
                for room in list(box.rooms):
                    self.leave(box, room)

    def forget_posters(self, before: int) -> None:
        """Drop sessions that have not posted since some age of the relay."""
        posters = (poster for box in self.by_key.values() for poster in box.posters.values())
        for old in [poster for poster in posters if poster.used < before and not poster.link]:
            self.forget_poster(old)

    def forget_poster(self, poster: Poster) -> None:
        """Drop a session that has posted: its posts, sent again, would be new ones."""
        del poster.box.posters[poster.id]
        self._journal.forget_sender(poster)

    # rooms

    def join(self, box: Mailbox, room: bytes, live: Container[bytes]) -> None:
        """Have a name get what is posted to a room from now on.

        Args:
            box: its mailbox.
            room: the room as it is shown.
            live: keys of the rooms that it is in at this moment. Of the others the one that it joined first
                makes way when it would be in too many; so does who is away when the room has too many.
        """
        key = room.lower()
        if key in box.rooms:
            return
        if len(box.rooms) >= self._limits.rooms:
            away = next((old for old in box.rooms if old not in live), None)
            if away is not None:
                self.leave(box, away)
        members = self.rooms.get(key)
        if members is not None and len(members.boxes) >= self._limits.members:
            absent = next(
                (old for old in members.boxes if not old.reader or key not in old.reader.rooms), None
            )
            if absent is not None:
                self.leave(absent, room)
        self._add(box, room)
        self._journal.joined(Member(self.rooms[key].name, box.number))

    def leave(self, box: Mailbox, room: bytes) -> bool:
        """Have a name get no more of what is posted to a room; gives whether it did."""
        key = room.lower()
        if key not in box.rooms:
            return False
        name = self.rooms[key].name
        self._remove(box, key)
        self._journal.left(Member(name, box.number))
        return True

    def _add(self, box: Mailbox, room: bytes) -> None:
        key = room.lower()
        members = self.rooms.get(key)
        if members is None:
            members = self.rooms[key] = RoomMembers(room)
        members.boxes[box] = None
        box.rooms[key] = None

    def _remove(self, box: Mailbox, key: bytes) -> None:
        members = self.rooms[key]
        del members.boxes[box]
        del box.rooms[key]
        if not members.boxes:
            del self.rooms[key]


def row(box: Mailbox) -> Box:
    """A mailbox as it is to be stored, with all that was accepted."""
    gaps = ""
    if box.gaps:
        gaps = json.dumps({room.decode(): gap for room, gap in box.gaps.items()})
    return Box(box.number, box.key, box.name, box.last, box.floor, 0, box.used, box.notices, gaps)


def _gaps_from(text: str) -> dict[bytes, tuple[int, str]] | None:
    if not text:
        return None
    return {room.encode(): (count, since) for room, (count, since) in json.loads(text).items()}
