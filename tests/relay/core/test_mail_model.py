"""Mail in the core beside a small model that knows nothing of journals, pages and batches; with crashes.

The model lets each command take effect at once. What a relay that stops in the middle may forget is what was
not stored yet, so after a crash the model asks the store how far each session got, and everything else has to
follow from that: the very entries of those posts are in the mailboxes, under the numbers that they had.
"""

# attributes change in calls, which mypy does not see
# mypy: disable-error-code="unreachable"

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from hailer.errors import StoreError
from hailer.relay.core import delivery
from hailer.relay.core.limits import Limits
from hailer.relay.store.memory import MemoryStore
from hailer.relay.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.core.batch import Batch, Loaded, Page, Segment
    from hailer.relay.store.base import Store
    from tests.relay.core.conftest import Driver, Event, Peer

PROFILE = settings.get_profile("relay")
LONG = PROFILE.max_examples >= 2000
PROFILE = settings(PROFILE, stateful_step_count=50)

NAMES = ("ann", "ben", "cy")
ROOMS = ("#r", "#S")
LIMITS = Limits(mail_entries=20)

SMALL = {"_PAGE": 60, "_ROOM": 100, "_LOW": 20}
"""Bytes, for a core whose pages are such that texts of these sizes need many."""

TEXTS = st.sampled_from(
    [b"x", b"", b":", b"5", b"\n", b"\x00\r\n", b"\xff", b"MAIL 1 a b :c\n", b"long" * 50]
)

TARGETS = st.sampled_from([*NAMES, "BEN", "Ben", *ROOMS, "#R", "nobody"])
POSTS = st.lists(
    st.tuples(st.sampled_from(["ben", "BEN", "cy"]), st.just(b""), st.just(0)), max_size=5
).flatmap(
    lambda plain: st.lists(
        st.tuples(TARGETS, TEXTS, st.sampled_from([0, 0, 0, -1, -2, 1])), min_size=not plain, max_size=4
    ).map(lambda odd: plain + odd)
)
"""Posts to whom, with which text, and how far from the number that is due: some plain ones, then any."""


class Shaky:
    """A store that fails when it is told to, before or after it did what it was asked for."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.fails = ""

    def load(self) -> Loaded:
        return self.inner.load()

    def commit(self, batch: Batch) -> dict[int, int]:
        if self.fails == "before":
            raise StoreError("the disk is full")
        freed = self.inner.commit(batch)
        if self.fails:
            raise StoreError("the disk did not say what became of it")
        return freed

    def read(self, box: int, after: int, most: int) -> Page:
        return self.inner.read(box, after, most)

    def older(self, at: int, most: int) -> list[Segment]:
        return self.inner.older(at, most)

    def recover(self) -> Loaded:
        if self.fails:
            raise StoreError("not yet")
        return self.inner.recover()

    def tidy(self) -> None:
        self.inner.tidy()

    def close(self) -> None:
        self.inner.close()


class Entry(NamedTuple):
    """One entry of a mailbox."""

    sender: str
    to: str
    text: bytes


class Post(NamedTuple):
    """One POST that was accepted, and what it put where."""

    name: str
    session: str
    number: int
    entries: tuple[tuple[str, int], ...]


class Box:
    """A mailbox: all entries that it ever had, by number."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.last = 0
        self.floor = 0
        self.missed: dict[str, int] = {}
        self.accepted: dict[str, int] = {}  # by session


class Party:
    """One connection."""

    def __init__(self, peer: Peer, name: str, session: str) -> None:
        self.peer = peer
        self.name = name
        self.session = session
        self.here = True
        self.live: list[tuple[str, ...]] = []  # expected, without mail
        self.floor = 0  # of its mailbox at its log-in
        self.rooms: list[str] = []

    def got(self, driver: Driver) -> tuple[list[tuple[str, ...]], list[tuple[int, Entry]], int]:
        """What it got: live events, mail, and the last STORED."""
        live: list[tuple[str, ...]] = []
        mail: list[tuple[int, Entry]] = []
        stored = 0
        for event in driver.peek(self.peer):
            words = [word.decode() for word in event.words]
            if words[0] == "MAIL":
                mail.append((int(words[1]), Entry(words[2], words[3], event.text or b"")))
            elif words[0] == "STORED":
                assert int(words[1]) > stored, "STORED twice, or going back"
                stored = int(words[1])
            elif words[0] == "WELCOME":
                stored = int(_option(event, b"stored"))
            elif words[0] != "RELAY":
                live.append(_shape(words, event))
        return live, mail, stored


def _option(event: Event, key: bytes) -> bytes:
    return next(word.partition(b"=")[2] for word in event.words if word.startswith(key + b"="))


def _shape(words: list[str], event: Event) -> tuple[str, ...]:
    """An event as the model says it."""
    if words[0] == "FAIL" and words[2] == "POST":
        number = (event.text or b"").partition(b":")[0].decode()
        return ("FAIL", words[1], number)
    if words[0] == "MSG":
        return (*words, repr(event.text))
    return tuple(words)


class Machine(RuleBasedStateMachine):
    """Posts and ACKs of several names, takeovers, a store that waits, fails or is lost with its relay."""

    driver_type: type[Driver]
    open_store: Callable[[str], Store]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Shaky(type(self).open_store(self.folder.name))
        self.driver = self.driver_type(LIMITS, store=self.store)
        self.boxes: dict[str, Box] = {}
        self.members: dict[str, list[str]] = {}  # of rooms, for mail; in the order in which they came
        self.live: dict[str, list[Party]] = {}
        self.here: dict[str, Party] = {}
        self.parties: list[Party] = []
        self.posts: list[Post] = []  # accepted since everything was stored
        self.limbo: list[tuple[Post, list[Entry]]] = []  # refused by a store that perhaps has them
        self.trouble = False
        self.serial = 0
        self.shown: dict[tuple[str, int], Entry] = {}  # every MAIL that anybody got
        self.floors: dict[str, int] = {}  # when everything was stored
        self.moved: set[tuple[str, str]] = set()  # who has joined or left which room since then

    # what a relay does

    def _say(self, party: Party, data: bytes) -> None:
        self.driver.send(party.peer, data)

    def _log_in(self, name: str, session: str) -> None:
        old = self.here.get(name)
        peer = self.driver.connect(name)
        party = Party(peer, name, session)
        box = self.boxes.setdefault(name, Box())
        floor, quiet = box.floor, self.quiet
        self.driver.send(peer, f"HELLO {name} session={session}\n".encode())
        if old is not None and old.session != session:
            party.live.append(("FAIL", "taken", "HELLO"))
            party.here = False  # a stranger: of no interest any more
            assert party.got(self.driver)[0] == party.live
            self.driver.lose(peer)
            return
        welcome = next(event for event in self.driver.peek(peer) if event.verb == b"WELCOME")
        stored, waiting = int(_option(welcome, b"stored")), int(_option(welcome, b"mail"))
        accepted = box.accepted.get(session, 0)
        assert stored == accepted if quiet else stored <= accepted
        assert waiting == box.last - floor if quiet else waiting <= box.last - floor
        if old is not None:
            old.here = False
            old.live.append(("BYE",))
            party.rooms = old.rooms
            for there in self.live.values():
                there[:] = [party if each is old else each for each in there]
        party.floor = floor
        self.here[name] = party
        self.parties.append(party)
        self._tell_missed(party)

    def _tell_missed(self, party: Party) -> None:
        box = self.boxes[party.name]
        if box.missed and box.last - box.floor < LIMITS.mail_entries:
            party.live += [("GAP", str(count), room) for room, count in box.missed.items()]
            box.missed = {}

    def _post(self, party: Party, number: int, to: str, text: bytes, *, refusing: bool) -> None:
        box = self.boxes[party.name]
        accepted = box.accepted.get(party.session, 0)
        code = ""
        if number <= accepted:
            return
        if number > accepted + 1:
            code = "gap"
        elif refusing:
            code = "store"
        elif to.startswith("#"):
            members = self.members.get(to.lower(), [])
            if party.name not in members:
                code = "not-joined"
            else:
                entries = []
                for member in members:
                    if member == party.name:
                        continue
                    if self._full(self.boxes[member]):
                        missed = self.boxes[member].missed
                        missed[self._shown(to)] = missed.get(self._shown(to), 0) + 1
                    else:
                        entries.append(self._put(member, Entry(party.name, self._shown(to), text)))
                self._accept(party, number, tuple(entries))
        elif to not in self.boxes:
            code = "unknown"
        elif self._full(self.boxes[to]):
            code = "quota"
        else:
            self._accept(party, number, (self._put(to, Entry(party.name, to, text)),))
        if code:
            party.live.append(("FAIL", code, str(number)))

    @staticmethod
    def _full(box: Box) -> bool:
        return box.last - box.floor >= LIMITS.mail_entries

    def _put(self, name: str, entry: Entry) -> tuple[str, int]:
        box = self.boxes[name]
        box.last += 1
        box.entries[box.last] = entry
        return name, box.last

    def _accept(self, party: Party, number: int, entries: tuple[tuple[str, int], ...]) -> None:
        self.boxes[party.name].accepted[party.session] = number
        self.posts.append(Post(party.name, party.session, number, entries))

    @staticmethod
    def _shown(room: str) -> str:
        return next(each for each in ROOMS if each.lower() == room.lower())

    def _forget(self, post: Post) -> list[Entry]:
        """Take an accepted post back; gives what it had put."""
        accepted = self.boxes[post.name].accepted
        accepted[post.session] = min(accepted[post.session], post.number - 1)
        entries = []
        for name, number in post.entries:
            box = self.boxes[name]
            entries.append(box.entries.pop(number))
            box.last = min(box.last, number - 1)
        return entries

    def _find_again(self, stored: dict[tuple[str, str], int]) -> None:
        """Have back what was refused when the store failed, and is stored nevertheless."""
        for post, entries in self.limbo:
            if post.number <= stored.get((post.name, post.session), 0):
                self.boxes[post.name].accepted[post.session] = post.number
                for (name, number), entry in zip(post.entries, entries, strict=True):
                    box = self.boxes[name]
                    box.entries[number] = entry
                    box.last = number
        self.limbo = []

    @property
    def quiet(self) -> bool:
        """Whether the relay has nothing left to be stored."""
        mail = self.driver.relay.mail
        return mail.journal.empty and not mail.trouble and self.driver.waiting_work is None

    @staticmethod
    def _stored(loaded: Loaded) -> dict[tuple[str, str], int]:
        names = {box.number: box.key.decode() for box in loaded.boxes}
        return {(names[each.box], each.id.decode()): each.stored for each in loaded.senders}

    @staticmethod
    def _members(loaded: Loaded) -> set[tuple[str, str]]:
        names = {box.number: box.key.decode() for box in loaded.boxes}
        return {(each.room.decode().lower(), names[each.box]) for each in loaded.members}

    def _current_members(self) -> set[tuple[str, str]]:
        return {(room, name) for room, names in self.members.items() for name in names}

    def _after(self) -> None:
        """Take note of what has become of the store in this step."""
        trouble = bool(self.driver.relay.mail.trouble)
        if trouble and not self.trouble:
            for post in self.posts:
                party = self.here.get(post.name)
                if party is not None and party.session == post.session:
                    party.live.append(("FAIL", "store", str(post.number)))
            # backwards, for the numbers of what is taken back are given anew
            self.limbo = [(post, self._forget(post)) for post in reversed(self.posts)][::-1]
            self.posts = []
        elif self.trouble and not trouble:
            self._find_again(self._stored(self.store.load()))
        self.trouble = trouble
        if self.quiet:
            self._check_store(self.store.load())

    def _check_store(self, loaded: Loaded) -> None:
        """The store holds exactly what the model does."""
        assert {box.key.decode(): (box.last, box.floor) for box in loaded.boxes} == {
            name: (box.last, box.floor) for name, box in self.boxes.items()
        }
        assert self._stored(loaded) == {
            (name, session): number
            for name, box in self.boxes.items()
            for session, number in box.accepted.items()
            if number
        }
        assert self._members(loaded) == self._current_members()
        self.posts = []
        self.floors = {name: box.floor for name, box in self.boxes.items()}
        self.moved = set()

    # what happens

    @initialize()
    def first(self) -> None:
        for name in NAMES[:2]:
            self._log_in(name, "s1")
            self._after()

    @rule(name=st.sampled_from(NAMES), session=st.sampled_from(["s1", "s1", "s2"]))
    def log_in(self, name: str, session: str) -> None:
        self._log_in(name, session)
        self._after()

    def _pick(self, pick: int) -> Party | None:
        here = [self.here[name] for name in NAMES if name in self.here]
        return here[pick % len(here)] if here else None

    @rule(pick=st.integers(0, 2), posts=POSTS, cut=st.integers(0, 400))
    def post(self, pick: int, posts: list[tuple[str, bytes, int]], cut: int) -> None:
        party = self._pick(pick)
        if party is not None:
            self._post_all(party, posts, cut)

    @rule(pick=st.integers(0, 2), posts=POSTS, fails=st.sampled_from(["before", "after"]))
    def post_in_vain(self, pick: int, posts: list[tuple[str, bytes, int]], fails: str) -> None:
        """The store fails just now: it is asked for nothing else before."""
        party = self._pick(pick)
        if party is not None:
            self.store.fails = fails
            self._post_all(party, posts, 0)

    def _post_all(self, party: Party, posts: list[tuple[str, bytes, int]], cut: int) -> None:
        number = self.boxes[party.name].accepted.get(party.session, 0)
        read, lines = b"", []
        for to, start, off in posts:
            said = max(1, number + 1 + off)
            self.serial += 1
            text = b"%s%d" % (start, self.serial)
            lines.append((said, to, text))
            if text.isascii() and text.decode().isprintable():
                read += b"POST %d %s :%s\n" % (said, to.encode(), text)
            else:
                read += b"POST %d %s %d\n%s" % (said, to.encode(), len(text), text)
            number = max(number, said) if off <= 0 else number
        refusing = self.trouble
        if self.store.fails:
            cut = 0  # what comes after the failure would be refused for it
        for part in (read[: cut % len(read)], read[cut % len(read) :]):
            if part:
                self._say(party, part)
        for said, to, text in lines:
            self._post(party, said, to if to.startswith("#") else to.lower(), text, refusing=refusing)
        self._after()

    @rule(pick=st.integers(0, 2), choice=st.integers(0, 5))
    def acknowledge(self, pick: int, choice: int) -> None:
        party = self._pick(pick)
        if party is None:
            return
        box = self.boxes[party.name]
        mail = party.got(self.driver)[1]
        if choice == 0 and party.peer.room_left is None:
            number = mail[-1][0] if mail else box.floor
            self._say(party, b"ACK %d\n" % (max(number, box.floor) + 1))
            party.live.append(("FAIL", "gap", "ACK"))
        elif choice == 0 or not mail:
            self._say(party, b"ACK 1000000\n")
            party.live.append(("FAIL", "gap", "ACK"))
        else:
            number = mail[-1][0] if choice < 3 else mail[choice % len(mail)][0] - choice % 2
            self._say(party, b"ACK %d\n" % number)
            if number > box.floor:
                box.floor = number
                self._tell_missed(party)
        self._after()

    @rule(pick=st.integers(0, 2), room=st.sampled_from(ROOMS))
    def join(self, pick: int, room: str) -> None:
        party = self._pick(pick)
        if party is None:
            return
        self._say(party, f"JOIN {room}\n".encode())
        there = self.live.setdefault(room, [])
        if party in there:
            party.live.append(("JOINED", room, party.name))
        else:
            there.append(party)
            party.rooms.append(room)
            members = self.members.setdefault(room.lower(), [])
            if party.name not in members:
                members.append(party.name)
                self.moved.add((room.lower(), party.name))
            for each in there:
                each.live.append(("JOINED", room, party.name))
        self._after()

    @rule(pick=st.integers(0, 2), room=st.sampled_from(ROOMS))
    def leave(self, pick: int, room: str) -> None:
        party = self._pick(pick)
        if party is None:
            return
        self._say(party, f"LEAVE {room}\n".encode())
        there, members = self.live.setdefault(room, []), self.members.setdefault(room.lower(), [])
        if party in there:
            for each in there:
                each.live.append(("LEFT", room, party.name))
            there.remove(party)
            party.rooms.remove(room)
        elif party.name in members:
            party.live.append(("LEFT", room, party.name))
        else:
            party.live.append(("FAIL", "not-joined", "LEAVE"))
        if party.name in members:
            members.remove(party.name)
            self.moved.add((room.lower(), party.name))
        self._after()

    @rule(pick=st.integers(0, 2), to=st.sampled_from(NAMES), text=TEXTS)
    def send(self, pick: int, to: str, text: bytes) -> None:
        party = self._pick(pick)
        if party is None:
            return
        self._say(party, b"SEND %s %d\n%s" % (to.encode(), len(text), text))
        if to in self.here:
            self.here[to].live.append(("MSG", party.name, to, repr(text)))
        else:
            party.live.append(("FAIL", "offline", "SEND"))
        self._after()

    @rule(pick=st.integers(0, 2))
    def lose(self, pick: int) -> None:
        party = self._pick(pick)
        if party is None:
            return
        self.everybody_got_what_the_model_says()
        self.driver.lose(party.peer)
        del self.here[party.name]
        party.here = False
        for room in party.rooms:
            self.live[room].remove(party)
            for each in self.live[room]:
                each.live.append(("LEFT", room, party.name))
        self._after()

    @rule(pick=st.integers(0, 2), size=st.sampled_from([0, 1, 30, 100, 500, None]))
    def take(self, pick: int, size: int | None) -> None:
        party = self._pick(pick)
        if party is not None:
            self.driver.take(party.peer, size)
            self._after()

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.1, 4.0]))
    def pass_time(self, seconds: float) -> None:
        for party in self.parties:
            if party.here:
                self.driver.take(party.peer, None)
                self._say(party, b"\n")
        self.driver.pass_time(seconds)
        self._after()

    @rule(years=st.sampled_from([-10.0, 10.0, -1 / 8766, 1 / 8766]))
    def move_the_wall_clock(self, years: float) -> None:
        """It is for what people read: nothing comes to be otherwise by it."""
        self.driver.relay.clock.wall += years * 365.25 * 86400

    @rule(works=st.booleans())
    def let_the_store_work(self, works: bool) -> None:
        self.driver.store_works = works
        if works:
            self.driver.settle()
            while self.driver.work():
                pass
        self._after()

    @rule(fails=st.sampled_from(["before", "after"]))
    def break_the_store(self, fails: str) -> None:
        self.store.fails = fails

    @rule()
    def mend_the_store(self) -> None:
        self.store.fails = ""
        self.pass_time(1.1)

    @rule(after_commit=st.booleans(), reopen=st.booleans())
    def crash(self, after_commit: bool, reopen: bool) -> None:
        """The relay ends in the middle, before or after the store has done what it was at."""
        self.everybody_got_what_the_model_says()
        told = {(party.name, party.session): party.got(self.driver)[2] for party in self.parties}
        if self.driver.waiting_work is not None and after_commit:
            try:
                self.driver.waiting_work.run(self.store)
            except StoreError:
                pass
        self.store.fails = ""
        if reopen and not isinstance(self.store.inner, MemoryStore):
            self.store.close()
            self.store.inner = type(self).open_store(self.folder.name)
        loaded = self.store.load()
        self.driver = self.driver_type(LIMITS, store=self.store, now=self.driver.now + 5.0)
        self.parties, self.here, self.live, self.trouble = [], {}, {}, False
        self._adopt(loaded)
        for who, number in told.items():
            assert self._stored(loaded).get(who, 0) >= number, "acknowledged, and not stored"
        for (name, number), entry in self.shown.items():
            assert self.boxes[name].entries[number] == entry, "shown, and not stored"
        self._after()

    def _adopt(self, loaded: Loaded) -> None:
        """Begin anew with what was stored, which has to be a part of the model, and its older part."""
        stored = self._stored(loaded)
        for post in reversed(self.posts):
            if post.number > stored.get((post.name, post.session), 0):
                self._forget(post)
        self.posts = []
        self._find_again(stored)
        rows = {row.key.decode(): row for row in loaded.boxes}
        for name in list(self.boxes):
            box = self.boxes[name]
            if name not in rows:
                assert name not in self.floors
                assert not box.last, "entries of a mailbox that is not stored"
                del self.boxes[name]
                continue
            row = rows[name]
            assert row.last == box.last
            assert self.floors.get(name, 0) <= row.floor <= box.floor
            box.floor = row.floor
            box.missed = {room: count for room, (count, _) in json.loads(row.gaps or "{}").items()}
            accepted = {session: number for (who, session), number in stored.items() if who == name}
            assert accepted == {session: number for session, number in box.accepted.items() if number}
        members = self._members(loaded)
        assert members ^ self._current_members() <= self.moved
        self.members = {}
        for room, name in sorted(members):
            self.members.setdefault(room, []).append(name)

    @invariant()
    def everybody_got_what_the_model_says(self) -> None:
        quiet = self.quiet
        for party in self.parties:
            live, mail, stored = party.got(self.driver)
            whole = party.peer.room_left is None and (party.here or not party.peer.gone)
            assert live == party.live if whole else live == party.live[: len(live)]
            for number, entry in mail:
                assert self.shown.setdefault((party.name, number), entry) == entry
            if not party.here:
                continue
            box = self.boxes[party.name]
            expected = [(number, box.entries[number]) for number in range(party.floor + 1, box.last + 1)]
            accepted = box.accepted.get(party.session, 0)
            if quiet and whole:
                assert mail == expected
                assert stored == accepted
            else:
                assert mail == expected[: len(mail)]
                assert stored <= accepted

    def teardown(self) -> None:
        for party in self.parties:
            if not party.peer.gone:
                self.driver.lose(party.peer)
        self.driver.check_empty()
        self.store.close()
        self.folder.cleanup()


@pytest.mark.timeout(3600 if LONG else 60)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_mail_does_what_the_model_does(
    make_relay: type[Driver], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in SMALL.items():
        monkeypatch.setattr(delivery, name, size)

    def open_store(folder: str) -> Store:
        return MemoryStore() if kind == "memory" else SqliteStore(Path(folder) / "mail.db")

    parts = {"driver_type": make_relay, "open_store": staticmethod(open_store)}
    machine = type("BoundMachine", (Machine,), parts)
    share = PROFILE.max_examples if kind == "memory" else PROFILE.max_examples // 4
    run_machine(machine, settings=settings(PROFILE, max_examples=share))
