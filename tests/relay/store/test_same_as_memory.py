"""Whatever is asked of it, the store in SQLite answers as the one in memory does, reopened or not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hailer.relay.core.batch import Batch, Box, Loaded, Member, Segment, Sender
from hailer.relay.store.memory import MemoryStore
from hailer.relay.store.sqlite import SqliteStore

LONG = os.environ.get("HAILER_LONG") == "1"

numbers = st.integers(1, 6)
bytes_ = st.binary(max_size=12) | st.binary(min_size=900, max_size=5000)
small = st.integers(0, 60)
rooms = st.sampled_from([b"#a", b"#A", b"#b", b"#B.c"])
ids = st.sampled_from([b"s", b"S", b"\0", b"\xff"])
posts = st.lists(st.tuples(numbers, st.integers(1, 3), bytes_), max_size=8)


def in_order(loaded: Loaded) -> tuple[object, ...]:
    return (
        loaded.age,
        sorted(loaded.boxes),
        sorted(loaded.senders),
        sorted(loaded.members),
        loaded.next_box,
        loaded.next_entry,
    )


class Same(RuleBasedStateMachine):
    """One of each, given the same."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.memory = MemoryStore()
        self.last: dict[int, int] = {}
        self.made = 0

    @initialize()
    def open(self) -> None:
        self.sqlite = SqliteStore(Path(self.directory.name) / "relay.db")
        self.sqlite.load()

    def box(self, number: int) -> int:
        """The number of a mailbox that there is, or 0."""
        return list(self.last)[number % len(self.last)] if self.last else 0

    @rule(
        age=small,
        new=st.lists(
            st.tuples(bytes_, small, st.booleans(), st.sampled_from(["", '{"#a": [1, "t"]}'])), max_size=3
        ),
        posts=posts,
        floors=st.dictionaries(numbers, small, max_size=3),
        senders=st.dictionaries(st.tuples(numbers, ids), small, max_size=3),
        members=st.dictionaries(st.tuples(rooms, numbers), st.booleans(), max_size=3),
        forgotten=st.lists(numbers, max_size=1),
        next_entry=small,
    )
    def commit(
        self,
        age: int,
        new: list[tuple[bytes, int, bool, str]],
        posts: list[tuple[int, int, bytes]],
        floors: dict[int, int],
        senders: dict[tuple[int, bytes], int],
        members: dict[tuple[bytes, int], bool],
        forgotten: list[int],
        next_entry: int,
    ) -> None:
        batch = Batch(age=age, next_entry=next_entry)
        for name, used, notices, gaps in new:
            self.made += 1
            self.last[self.made] = 0
            batch.boxes.append(Box(self.made, name.lower(), name, 0, 0, 99, used, notices, gaps))
        if self.last:
            for number, count, data in posts:
                box = self.box(number)
                batch.segments.append(Segment(box, self.last[box] + 1, self.last[box] + count, age, data))
                self.last[box] += count
            batch.floors = {self.box(number): floor for number, floor in floors.items()}
            batch.senders = [Sender(self.box(number), id_, at, at) for (number, id_), at in senders.items()]
            kept = {(sender.box, sender.id) for sender in batch.senders}
            batch.forgotten_senders = [
                (box, id_)
                for box in self.last
                for id_ in (b"s", b"\0")
                if (box, id_) not in kept and next_entry % 3 == 0
            ]
            for box, room, join in {
                (self.box(number), room.lower()): (self.box(number), room, join)
                for (room, number), join in members.items()
            }.values():
                (batch.joined if join else batch.left).append(Member(room, box))
            batch.forgotten = [self.box(number) for number in forgotten if next_entry % 5 == 0]
            for box in batch.forgotten:
                del self.last[box]
        assert self.sqlite.commit(batch) == self.memory.commit(batch)

    @rule(number=numbers, after=small, most=st.sampled_from([0, 1, 20, 5000, 10**6]))
    def read(self, number: int, after: int, most: int) -> None:
        assert self.sqlite.read(number, after, most) == self.memory.read(number, after, most)

    @rule(at=small, most=st.integers(0, 12))
    def older(self, at: int, most: int) -> None:
        assert self.sqlite.older(at, most) == self.memory.older(at, most)

    @rule()
    def recover(self) -> None:
        assert in_order(self.sqlite.recover()) == in_order(self.memory.load())

    @rule()
    def reopen(self) -> None:
        self.sqlite.close()
        self.open()

    @invariant()
    def the_same_is_held(self) -> None:
        if hasattr(self, "sqlite"):
            assert in_order(self.sqlite.load()) == in_order(self.memory.load())

    def teardown(self) -> None:
        if hasattr(self, "sqlite"):
            self.sqlite.close()
        self.directory.cleanup()


TestSame = Same.TestCase
TestSame.settings = settings(
    max_examples=2000 if LONG else 60, stateful_step_count=50 if LONG else 30, deadline=None
)
