"""The conformance suite for stores of mail: what every `hailer.relay.store.base.Store` has to do.

For a store of your own, in any test runner:

    def test_my_store():
        check_store(MyStore)

For one that is to outlive its process, give it the same place each time:

    def test_my_store_on_disk(tmp_path):
        check_store(lambda name: MyStore(tmp_path / name), durable=True)

Nothing is random, so that a failure comes back the next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.relay.core.batch import Batch, Box, Loaded, Member, Page, Segment, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.store.base import Store

__all__ = ["check_store"]

_BYTES = bytes(range(256))
_DATA = (
    b"MAIL 1 ann bob :hello\n",
    b"",
    b"\0",
    b"a\0b\0",
    b"\xff\xfe\xf0\x80\xc3",
    _BYTES,
    _BYTES[::-1] * 5,
    "Grüße\n".encode("utf-16"),
    b"\xef\xbb\xbf",
    b"',\");--[1]{}",
    b"\n" * 5000,
    b"x" * 100_000,
)


def check_store(make: Callable[[str], Store], *, durable: bool = False) -> None:
    """Assert that a store keeps its promises: see `hailer.relay.store.base.Store`.

    Args:
        make: gives the store of a name: an empty one for a new name.
        durable: given a name again, `make` has to give what was committed to that store before it was
            closed.

    Raises:
        AssertionError: it does not.
    """
    for check in (
        _check_empty,
        _check_boxes,
        _check_segments,
        _check_reads,
        _check_floors,
        _check_never_back,
        _check_senders,
        _check_members,
        _check_forgotten,
        _check_older,
        _check_many,
    ):
        _Checked(make, check.__name__.strip("_"), durable=durable).run(check)


class _Checked:
    """A store under test, and how to open it again."""

    def __init__(self, make: Callable[[str], Store], name: str, *, durable: bool) -> None:
        self._make, self._name, self._durable = make, name, durable
        self.store = make(name)

    def run(self, check: Callable[[_Checked], None]) -> None:
        try:
            check(self)
        finally:
            self.store.close()
            self.store.close()

    def held(self) -> Loaded:
        """What the store says that it holds, in one order; the same after it was recovered and reopened."""
        held = _in_order(self.store.recover())
        self.store.tidy()
        assert _in_order(self.store.recover()) == held, "what is held changes though nothing was committed"
        if self._durable:
            self.store.close()
            self.store = self._make(self._name)
            assert _in_order(self.store.load()) == held, "what is held changes when the store is opened again"
        return held

    def commit(self, batch: Batch) -> dict[int, int]:
        return self.store.commit(batch)


def _in_order(loaded: Loaded) -> Loaded:
    return Loaded(
        age=loaded.age,
        boxes=sorted(loaded.boxes),
        senders=sorted(loaded.senders),
        members=sorted(loaded.members),
        next_box=loaded.next_box,
        next_entry=loaded.next_entry,
    )


def _box(number: int, name: bytes = b"Bob", **changes: object) -> Box:
    box = Box(number, name.lower(), name, 0, 0, 0, 5, False, "")
    return box._replace(**changes)  # type: ignore[arg-type]  # the caller knows the fields


def _check_empty(checked: _Checked) -> None:
    assert checked.store.load() == Loaded(), "a new store holds something"
    assert checked.commit(Batch()) == {}
    assert checked.held() == Loaded(), "an empty batch changes something"
    assert checked.store.read(1, 0, 1000) == Page(0, 0, b"")
    assert checked.store.older(10**9, 10) == []
    assert checked.commit(Batch(floors={7: 9})) == {7: 0}, "every floor is answered, also one of no mailbox"
    assert checked.held() == Loaded()


def _check_boxes(checked: _Checked) -> None:
    boxes = [
        _box(1, b"Bob"),
        _box(2, b"ann", last=7, floor=7, used=11, notices=True, gaps='{"#r\u00fc\\n\'": [3, "t"]}'),
        _box(9, b"a.b_C-d", last=2**50, floor=2**50, used=2**40),
    ]
    checked.commit(Batch(age=12, boxes=boxes))
    held = checked.held()
    assert held == Loaded(age=12, boxes=boxes, next_box=10), f"mailboxes change: {held}"
    changed = boxes[1]._replace(name=b"ANN", used=20, notices=False, gaps="")
    checked.commit(Batch(age=13, boxes=[changed, _box(3, size=999)]))
    held = checked.held()
    assert held.boxes == [boxes[0], changed, _box(3), boxes[2]], f"a mailbox is not written again: {held}"
    assert held.next_box == 10, f"the next mailbox would be {held.next_box}, not 10"


def _check_segments(checked: _Checked) -> None:
    number = 0
    for data in _DATA:
        number += 1
        batch = Batch(boxes=[_box(number)], segments=[Segment(number, 1, 3, 8, data)])
        assert checked.commit(batch) == {}
        page = checked.store.read(number, 0, 10)
        assert page == Page(1, 3, data), f"{data[:40]!r} comes back as {page.data[:40]!r}"
    held = checked.held()
    assert [box.size for box in held.boxes] == [len(data) for data in _DATA], (
        "a mailbox's size is not counted"
    )
    assert [box.last for box in held.boxes] == [3] * number, (
        "a segment does not move its mailbox's last entry"
    )
    for number, data in enumerate(_DATA, 1):
        assert checked.store.read(number, 0, 10) == Page(1, 3, data), f"{data[:40]!r} is lost"
    # All of them in one mailbox, one commit each and all in one: they are joined byte for byte.
    every = [Segment(100, 1 + n, 1 + n, n, data) for n, data in enumerate(_DATA)]
    checked.commit(Batch(boxes=[_box(100), _box(101)], segments=[one._replace(box=101) for one in every]))
    for segment in every:
        checked.commit(Batch(segments=[segment]))
    for number in (100, 101):
        page = checked.store.read(number, 0, 10**9)
        assert page == Page(1, len(_DATA), b"".join(_DATA)), "joined segments are not what was put in"
    size = sum(map(len, _DATA))
    assert checked.held().boxes[-1].size == size
    # After it was opened again, if it can be: what is added follows what was there.
    checked.commit(Batch(segments=[Segment(101, 50, 50, 9, b"more")]))
    assert checked.store.read(101, 0, 10**9).data == b"".join(_DATA) + b"more", "what is added later is lost"
    assert checked.store.read(101, 0, size) == Page(1, len(_DATA), b"".join(_DATA)), "a page is too long"
    assert checked.held().boxes[-1].size == size + 4, "what is added later is not counted"


def _check_reads(checked: _Checked) -> None:
    # Entries 5-7, 8-8, 9-20: ten bytes, none, thirty.
    segments = [Segment(1, 5, 7, 1, b"a" * 10), Segment(1, 8, 8, 2, b""), Segment(1, 9, 20, 3, b"c" * 30)]
    other = [Segment(2, 1, 9, 1, b"other"), Segment(3, 6, 9, 1, b"other")]
    checked.commit(Batch(boxes=[_box(1), _box(2), _box(3)], segments=[*segments, *other]))
    for after in range(25):
        wanted = [segment for segment in segments if segment.last > after]
        for most in (0, 1, 9, 10, 11, 30, 39, 40, 41, 10**9):
            taken = wanted[:1]
            for segment in wanted[1:]:
                if sum(len(one.data) for one in taken) + len(segment.data) > most:
                    break
                taken.append(segment)
            expected = Page(0, 0, b"")
            if taken:
                expected = Page(taken[0].first, taken[-1].last, b"".join(one.data for one in taken))
            page = checked.store.read(1, after, most)
            assert page == expected, f"reading {most} bytes after entry {after} gives {page}, not {expected}"
    assert checked.store.read(4, 0, 100) == Page(0, 0, b""), "a mailbox that there is not has entries"


def _check_floors(checked: _Checked) -> None:
    segments = [Segment(1, 1, 3, 1, b"abc"), Segment(1, 4, 4, 2, b"defg"), Segment(1, 5, 9, 3, b"h" * 2000)]
    checked.commit(Batch(boxes=[_box(1), _box(2)], segments=[*segments, Segment(2, 1, 1, 1, b"other")]))
    for floor, freed, first in ((0, 0, 1), (2, 0, 1), (3, 3, 4), (3, 0, 4), (1, 0, 4), (8, 4, 5), (8, 0, 5)):
        got = checked.commit(Batch(floors={1: floor, 2: 0}))
        assert got == {1: freed, 2: 0}, f"dropping up to entry {floor} frees {got}, not {freed} bytes"
        assert checked.store.read(1, 0, 10**9).first == first, f"after dropping up to {floor}: wrong entries"
    held = checked.held().boxes
    assert (held[0].floor, held[0].last, held[0].size) == (8, 9, 2000), f"a floor is not kept: {held[0]}"
    assert (held[1].floor, held[1].last, held[1].size) == (0, 1, 5), f"another's mailbox changes: {held[1]}"
    # All of one and all of another; what was numbered stays numbered.
    assert checked.commit(Batch(floors={1: 9, 2: 50})) == {1: 2000, 2: 5}
    held = checked.held().boxes
    assert [(box.floor, box.last, box.size) for box in held] == [(9, 9, 0), (50, 1, 0)], f"{held}"
    assert checked.store.read(1, 0, 100) == Page(0, 0, b"")
    # Entries that are added and dropped at once; some of several.
    batch = Batch(segments=[Segment(1, 10, 11, 4, b"12"), Segment(1, 12, 13, 4, b"345")], floors={1: 12})
    assert checked.commit(batch) == {1: 2}
    assert checked.store.read(1, 0, 100) == Page(12, 13, b"345")
    assert checked.commit(Batch(segments=[Segment(1, 14, 14, 4, b"6")], floors={1: 14})) == {1: 4}
    held = checked.held().boxes
    assert (held[0].floor, held[0].last, held[0].size) == (14, 14, 0), f"{held[0]}"


def _check_never_back(checked: _Checked) -> None:
    checked.commit(Batch(age=50, boxes=[_box(1, last=9, floor=4)], next_entry=30))
    checked.commit(Batch(age=40, boxes=[_box(1, last=8, floor=3, used=77)], next_entry=20))
    held = checked.held()
    assert (held.age, held.next_entry) == (50, 30), f"the age or the next entry goes back: {held}"
    assert held.boxes == [_box(1, last=9, floor=4, used=77)], f"a mailbox goes back: {held.boxes}"
    for age, next_entry, expected in (
        (51, 31, (51, 31)),
        (52, 1, (52, 31)),
        (0, 32, (52, 32)),
        (0, 1, (52, 32)),
        (53, 33, (53, 33)),
    ):
        checked.commit(Batch(age=age, next_entry=next_entry))
        held = checked.held()
        assert (held.age, held.next_entry) == expected, f"age or next entry are not kept: {held}"
    checked.commit(Batch(floors={1: 3}))
    assert checked.held().boxes == [_box(1, last=9, floor=4, used=77)], "a floor goes back"


def _check_senders(checked: _Checked) -> None:
    first = [
        Sender(1, b"s1", 5, 9),
        Sender(1, b"S1", 2**50, 9),
        Sender(2, b"s1", 0, 0),
        Sender(2, b"\xff'\0", 1, 2),
    ]
    checked.commit(Batch(boxes=[_box(1), _box(2)], senders=first))
    assert checked.held().senders == sorted(first), "sessions change"
    again = first[0]._replace(stored=6, used=10)
    checked.commit(Batch(senders=[again], forgotten_senders=[(2, b"s1"), (1, b"none")]))
    held = checked.held().senders
    assert held == sorted([again, first[1], first[3]]), f"sessions are not written or dropped: {held}"


def _check_members(checked: _Checked) -> None:
    checked.commit(
        Batch(
            boxes=[_box(1), _box(2)],
            joined=[Member(b"#Room", 1), Member(b"#room", 2), Member(b"#other", 1), Member(b"#Room", 1)],
        )
    )
    assert checked.held().members == sorted([Member(b"#Room", 1), Member(b"#room", 2), Member(b"#other", 1)])
    checked.commit(Batch(joined=[Member(b"#ROOM", 2)], left=[Member(b"#rOOM", 1), Member(b"#none", 1)]))
    held = checked.held().members
    assert held == sorted([Member(b"#ROOM", 2), Member(b"#other", 1)]), (
        f"a room's name counts by case: {held}"
    )


def _check_forgotten(checked: _Checked) -> None:
    numbers = (1, 2, 3)
    checked.commit(
        Batch(
            boxes=[_box(number) for number in numbers],
            segments=[Segment(number, 1, 2, 1, b"mail") for number in numbers],
            senders=[Sender(number, b"s", 1, 1) for number in numbers],
            joined=[Member(b"#room", number) for number in numbers],
        )
    )
    checked.commit(
        Batch(
            forgotten=[1, 3, 77],
            next_entry=3,
            segments=[Segment(3, 3, 3, 1, b"late")],
            senders=[Sender(3, b"t", 1, 1)],
        )
    )
    held = checked.held()
    assert held == Loaded(
        boxes=[_box(2, last=2, size=4)],
        senders=[Sender(2, b"s", 1, 1)],
        members=[Member(b"#room", 2)],
        next_box=4,
        next_entry=3,
    ), f"what is forgotten is not gone, or too much is: {held}"
    assert checked.store.read(1, 0, 100) == checked.store.read(3, 0, 100) == Page(0, 0, b"")
    assert checked.store.read(2, 0, 100) == Page(1, 2, b"mail")
    checked.commit(Batch(boxes=[_box(4, b"New")], segments=[Segment(4, 3, 3, 1, b"new")], forgotten=[2]))
    held = checked.held()
    assert held == Loaded(boxes=[_box(4, b"New", last=3, size=3)], next_box=5, next_entry=3), f"{held}"


def _check_older(checked: _Checked) -> None:
    segments = {
        1: [Segment(1, 1, 2, 10, b"\0a"), Segment(1, 3, 3, 20, _BYTES), Segment(1, 4, 4, 30, b"")],
        2: [Segment(2, 1, 1, 25, b"b")],
        3: [Segment(3, 1, 1, 5, b"c"), Segment(3, 2, 2, 5, b"d"), Segment(3, 3, 9, 9, b"e")],
    }
    every = [segment for of_box in segments.values() for segment in of_box]
    checked.commit(Batch(boxes=[_box(number) for number in (1, 2, 3, 4)], segments=every))
    for at in (0, 5, 6, 9, 10, 11, 20, 21, 26, 31):
        old = [segment for segment in every if segment.at < at]
        assert sorted(checked.store.older(at, 100)) == sorted(old), f"older than {at} is wrong"
        for most in range(len(old) + 1):
            some = checked.store.older(at, most)
            assert len(some) == most, f"{len(some)} segments, not {most} of those older than {at}"
            for number, of_box in segments.items():
                mine = [segment for segment in some if segment.box == number]
                assert mine == of_box[: len(mine)], f"not the oldest of mailbox {number} first: {mine}"
    checked.commit(Batch(floors={1: 2, 3: 2}))
    assert sorted(checked.store.older(21, 100)) == [segments[1][1], segments[3][2]]


def _check_many(checked: _Checked) -> None:
    """A large commit: more rows than one statement of SQL might take parameters for."""
    count = 3000
    boxes = [_box(number, b"n%d" % number) for number in range(1, count + 1)]
    segments = [Segment(number, 1, 1, 1, b"<%d>" % number) for number in range(1, count + 1)]
    senders = [Sender(number, b"s%d" % number, number, 1) for number in range(1, count + 1)]
    joined = [Member(b"#room", number) for number in range(1, count + 1)]
    checked.commit(Batch(boxes=boxes, segments=segments, senders=senders, joined=joined))
    held = checked.held()
    assert (held.senders, held.members) == (senders, joined), "a large commit is not whole"
    assert [box.number for box in held.boxes] == list(range(1, count + 1))
    freed = checked.commit(Batch(floors=dict.fromkeys(range(1, count), 1), forgotten=[5, 6]))
    assert freed == {number: len(b"<%d>" % number) for number in range(1, count)}, "a large drop is not whole"
    held = checked.held()
    assert (len(held.boxes), sum(box.size for box in held.boxes)) == (count - 2, len(b"<3000>"))
    assert checked.store.read(count, 0, 100) == Page(1, 1, b"<3000>")
