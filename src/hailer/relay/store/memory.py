"""Mail that is kept in memory, and gone with the process."""

from __future__ import annotations

import secrets
from bisect import bisect_right
from typing import TYPE_CHECKING

from hailer.relay.core.batch import Box, Loaded, Member, Page, Segment, Sender

if TYPE_CHECKING:
    from hailer.relay.core.batch import Batch

__all__ = ["MemoryStore"]


class MemoryStore:
    """A `hailer.relay.store.base.Store` in memory: for mail that need not survive its relay."""

    def __init__(self) -> None:
        self._name = secrets.token_hex(6)
        self._age = 0
        self._next_box = 1
        self._next_entry = 1
        self._boxes: dict[int, Box] = {}
        self._segments: dict[int, list[Segment]] = {}
        self._senders: dict[tuple[int, bytes], Sender] = {}
        self._members: dict[tuple[bytes, int], Member] = {}

    def load(self) -> Loaded:
        """All that is held but the entries."""
        return Loaded(
            store=self._name,
            age=self._age,
            boxes=list(self._boxes.values()),
            senders=list(self._senders.values()),
            members=list(self._members.values()),
            next_box=self._next_box,
            next_entry=self._next_entry,
        )

    def commit(self, batch: Batch) -> dict[int, int]:
        """Keep a batch."""
        self._age = max(self._age, batch.age)
        self._next_entry = max(self._next_entry, batch.next_entry)
        for box in batch.boxes:
            self._next_box = max(self._next_box, box.number + 1)
            old = self._boxes.get(box.number, box._replace(size=0))
            self._boxes[box.number] = box._replace(
                last=max(box.last, old.last), floor=max(box.floor, old.floor), size=old.size
            )
        for segment in batch.segments:
            old = self._boxes[segment.box]
            self._boxes[segment.box] = old._replace(
                last=max(old.last, segment.last), size=old.size + len(segment.data)
            )
            self._segments.setdefault(segment.box, []).append(segment)
        freed = {number: self._drop(number, floor) for number, floor in batch.floors.items()}
        for sender in batch.senders:
            self._senders[sender.box, sender.id] = sender
        for who in batch.forgotten_senders:
            self._senders.pop(who, None)
        for member in batch.joined:
            self._members[member.room.lower(), member.box] = member
        for member in batch.left:
            self._members.pop((member.room.lower(), member.box), None)
        if batch.forgotten:
            self._forget(set(batch.forgotten))
        return freed

    def read(self, box: int, after: int, most: int) -> Page:
        """Read entries of a mailbox."""
        segments = self._segments.get(box, [])
        at = bisect_right(segments, after, key=lambda segment: segment.last)
        pieces: list[bytes] = []
        first, last, size = 0, 0, 0
        for index in range(at, len(segments)):
            segment = segments[index]
            size += len(segment.data)
            if pieces and size > most:
                break
            pieces.append(segment.data)
            first, last = first or segment.first, segment.last
        return Page(first, last, b"".join(pieces))

    def older(self, at: int, most: int) -> list[Segment]:
        """The oldest segments of each mailbox that were accepted before an age of the relay."""
        found: list[Segment] = []
        for number in sorted(self._segments):
            for segment in self._segments[number]:
                if segment.at >= at or len(found) >= most:
                    break
                found.append(segment)
        return found

    def recover(self) -> Loaded:
        """All that is held: memory does not fail."""
        return self.load()

    def tidy(self) -> None:
        """Nothing was put off."""

    def close(self) -> None:
        """Nothing to release."""

    def _drop(self, number: int, floor: int) -> int:
        """Drop the segments up to an entry; gives their bytes."""
        held = self._boxes.get(number)
        if held is None:
            return 0
        segments = self._segments.get(number, [])
        count = bisect_right(segments, floor, key=lambda segment: segment.last)
        freed = sum(len(segment.data) for segment in segments[:count])
        del segments[:count]
        self._boxes[number] = held._replace(floor=max(held.floor, floor), size=held.size - freed)
        return freed

    def _forget(self, numbers: set[int]) -> None:
        for number in numbers:
            self._boxes.pop(number, None)
            self._segments.pop(number, None)
        self._senders = {key: sender for key, sender in self._senders.items() if sender.box not in numbers}
        self._members = {key: member for key, member in self._members.items() if member.box not in numbers}
