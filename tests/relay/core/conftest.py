"""The relay's core without sockets: a driver that plays the edge, and a strict reader of its events."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from hailer.errors import StoreError
from hailer.relay.core.relay import Relay
from hailer.relay.core.session import Session
from hailer.relay.grammar import MAX_LINE
from hailer.relay.store.memory import MemoryStore

if TYPE_CHECKING:
    from hailer.relay.core.limits import Limits
    from hailer.relay.core.work import Work
    from hailer.relay.store.base import Store

# for tests of this folder: @settings(settings.get_profile("relay"))
LONG = os.environ.get("HAILER_LONG") == "1"
settings.register_profile(
    "relay",
    max_examples=2000 if LONG else 60,
    derandomize=not LONG,  # the short form asks the same questions each time; the long one asks new ones
    stateful_step_count=100 if LONG else 40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.differing_executors],
)


class Peer(Session):
    """A session whose peer takes as many bytes as it is allowed to."""

    __slots__ = ("__weakref__", "finished", "gone", "room_left", "seen", "taken")

    def __init__(self, peer: str, now: float) -> None:
        super().__init__(peer, now)
        self.taken = bytearray()
        self.seen = 0
        self.room_left: int | None = None  # bytes that it will take; None for any number
        self.finished = False
        self.gone = False


@dataclass(frozen=True)
class Event:
    """One event: the words of its line, and its text or counted bytes."""

    words: tuple[bytes, ...]
    text: bytes | None = None
    counted: bool = False

    @property
    def verb(self) -> bytes:
        return self.words[0]


_NAME = rb"[A-Za-z0-9._-]{1,64}"
_ROOM = rb"#" + _NAME
_ID = rb"[!-~]{1,64}"
# what may stand after each verb, and whether a text (T) or a text or counted bytes (P) come last
_FORMS: dict[bytes, list[tuple[bytes, str]]] = {
    b"RELAY": [(rb"hailer/\S+", "T")],
    b"WELCOME": [(_NAME + rb" session=\S+ stored=[0-9]+ relay=hailer/\S+ mail=[0-9]+ store=[a-z0-9]+", "")],
    b"MAIL": [(rb"[1-9][0-9]* " + _NAME + rb" #?" + _NAME, "P")],
    b"EXPIRED": [(rb"[1-9][0-9]* " + _NAME + rb" [1-9][0-9]*", "T")],
    b"STORED": [(rb"[1-9][0-9]*", "")],
    b"MSG": [(_NAME + rb" #?" + _NAME, "P")],
    b"ASKED": [(_ID + rb" " + _NAME, "P")],
    b"ANSWERED": [(_ID + rb" " + _NAME, "P")],
    b"JOINED": [(_ROOM + rb" " + _NAME, "")],
    b"LEFT": [(_ROOM + rb" " + _NAME, "")],
    b"ONLINE": [(_NAME, "")],
    b"OFFLINE": [(_NAME, "")],
    b"HERE": [(rb"(" + _ROOM + rb" )?" + _NAME + rb"( " + _NAME + rb")*", "")],
    b"END": [(rb"WHO|HELP", "")],
    b"HELP": [(rb"", "T")],
    b"GAP": [(rb"[1-9][0-9]* #?" + _NAME, "T")],
    b"FAIL": [(rb"[a-z-]+ [!-9;-~][!-~]{0,63}", "T")],
    b"BYE": [(rb"", "T")],
    b"PING": [(rb"relay", "")],
    b"PONG": [(rb"\S*", "")],
}
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def events_of(stream: bytes, *, whole: bool = True) -> list[Event]:
    """Parse all that a peer was sent; anything that is not a well-formed event is an error of the test.

    Args:
        stream: from the connection's beginning.
        whole: whether it must not end within an event.
    """
    events, at = [], 0
    while at < len(stream):
        end = stream.find(b"\n", at)
        if end < 0:
            assert not whole, f"cut short: {stream[at : at + 80]!r}"
            break
        line = stream[at:end].removesuffix(b"\r")
        at = end + 1
        assert len(line) <= MAX_LINE, f"a line of {len(line)} bytes"
        assert not _CONTROL.search(line.decode()), f"a control character in {line[:80]!r}"
        head, colon, text = line.partition(b" :")
        words = tuple(head.split(b" "))
        assert words[0] in _FORMS, f"no event: {line[:80]!r}"
        form, last = _FORMS[words[0]][0]
        if colon:
            assert last, f"a text after {line[:80]!r}"
            events.append(Event(words, text))
        elif last:
            counted = last == "P" and len(words) > 1 and words[-1].isdigit()
            assert counted, f"no text: {line[:80]!r}"
            size = int(words[-1])
            words = words[:-1]
            if len(stream) - at < size:
                assert not whole, f"a payload cut short after {line[:80]!r}"
                break
            events.append(Event(words, stream[at : at + size], counted=True))
            at += size
        else:
            events.append(Event(words))
        assert re.fullmatch(form, b" ".join(words[1:])), f"misshapen: {line[:80]!r}"
    return events


class Driver:
    """Plays the edge: hands in reads, writes outboxes to peers, carries out what the core asks for.

    Args:
        limits: of the relay.
        checks: whether to look at all state after each step (costs time with many peers).
        store: where mail is kept; another driver may have used it before.
        now: the clock at the beginning, in seconds.
        wall: the wall clock less that.

    Attributes:
        store_works: whether the store does its work at once; else when `work` is called.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        checks: bool = True,
        store: Store | None = None,
        now: float = 1000.0,
        wall: float = 1_700_000_000.0,
    ) -> None:
        ids = count(1)
        self.store = store or MemoryStore()
        self.store_works = True
        self.waiting_work: Work | None = None
        self.relay = Relay(limits, new_id=lambda: b"id%d" % next(ids), version="9", wall=wall)
        self.relay.clock.now = self.now = now
        self.relay.mail.load(self.store.load())
        self.relay.mail.store = "m"
        self.peers: list[Peer] = []
        self.checks = checks

    # what peers do

    def connect(self, name: str = "?") -> Peer:
        """A new connection; `name` is only for messages of the test."""
        peer = Peer(name, self.now)
        self.peers.append(peer)
        self.relay.connect(peer, self.now)
        self.settle()
        return peer

    def login(self, name: str, *, rooms: str = "", crlf: bool = False) -> Peer:
        """A connection that has said HELLO and JOIN, and of which all events so far are thrown away."""
        peer = self.connect(name)
        end = "\r\n" if crlf else "\n"
        lines = [f"HELLO {name}", *(f"JOIN {room}" for room in rooms.split())]
        self.send(peer, "".join(line + end for line in lines).encode())
        assert peer.online
        for other in self.peers:
            other.seen = len(other.taken)
        return peer

    def send(self, peer: Peer, data: bytes) -> None:
        """One read of what a peer sent; as in an edge, there is none while it is held."""
        assert not peer.gone
        if not peer.closing:
            self.relay.receive(peer, data, self.now)
        self.settle()

    def end(self, peer: Peer) -> None:
        """The peer half-closes."""
        if peer.closing:
            peer.ended = True
        else:
            self.relay.end(peer, self.now)
        self.settle()

    def lose(self, peer: Peer) -> None:
        """The connection is gone."""
        self._lose(peer)
        self.settle()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with a tick at each deadline on the way."""
        until, ticks = self.now + seconds, 0
        while True:
            due = max(self.relay.deadline, self.now)
            if due > until:
                break
            self.now = due
            self.relay.tick(self.now)
            self.settle()
            # what it releases can fill others at once, but that must come to an end
            ticks = 0 if self.relay.deadline > self.now else ticks + 1
            assert ticks < 10, "ticks that leave the deadline in the past"
        self.now = until

    def jump(self, seconds: float) -> None:
        """Let a long time pass without the ticks on the way but those of the last two minutes."""
        self.now += seconds - 120
        self.pass_time(120)

    def take(self, peer: Peer, size: int | None) -> None:
        """Let a peer take so many bytes more, None for all from now on."""
        peer.room_left = size
        if not peer.gone and peer.chunks:
            self._write(peer)
        self.settle()

    # what they saw

    def fresh(self, peer: Peer, *, whole: bool = True) -> list[Event]:
        """The events that a peer got since the last look; the whole stream is parsed."""
        events = events_of(bytes(peer.taken), whole=whole)
        before = events_of(bytes(peer.taken[: peer.seen]), whole=False)
        peer.seen = len(peer.taken)
        return events[len(before) :]

    def peek(self, peer: Peer) -> list[Event]:
        """All whole events that a peer ever got."""
        return events_of(bytes(peer.taken), whole=False)

    def lines(self, peer: Peer) -> list[str]:
        """The same as text, one a line, for short comparisons."""
        start, peer.seen = peer.seen, len(peer.taken)
        events_of(bytes(peer.taken))
        return bytes(peer.taken[start:]).decode().splitlines()

    def codes(self, peer: Peer) -> list[tuple[str, str]]:
        """The code and command of each FAIL since the last look."""
        fails = [event for event in self.fresh(peer) if event.verb == b"FAIL"]
        return [(event.words[1].decode(), event.words[2].decode()) for event in fails]

    # the store

    def work(self) -> bool:
        """Have the store do what it was given, if that is anything."""
        work, self.waiting_work = self.waiting_work, None
        if work is None:
            return False
        result: object = None
        error: StoreError | None = None
        try:
            result = work.run(self.store)
        except StoreError as failure:
            error = failure
        self.relay.stored(work, result, error, self.now)
        self.settle()
        return True

    # the edge

    def settle(self) -> None:
        """Do all that the core asks for, until nothing is left."""
        self._carry_out()
        if self.relay.mail.stirred:
            self.waiting_work = self.waiting_work or self.relay.mail.next_work()
            if self.store_works:
                self.work()

    def _carry_out(self) -> None:
        relay = self.relay
        while relay.dirty or relay.held or relay.released or relay.closing or relay.aborted:
            for peer in self._all(relay.dirty):
                if peer.chunks and not peer.gone:
                    self._write(peer)
            relay.held.clear()  # `send` and `receive` look at `holders`
            for peer in self._all(relay.released):
                if not peer.gone and not peer.holders and peer.backlog:
                    relay.receive(peer, b"", self.now)
            for peer in self._all(relay.closing):
                assert peer.closing
                if not peer.chunks:
                    self._lose(peer)
            for peer in self._all(relay.aborted):
                self._lose(peer)
        if self.checks:
            self.check()

    @staticmethod
    def _all(sessions: list[Session]) -> list[Peer]:
        peers = [session for session in sessions if isinstance(session, Peer)]
        sessions.clear()
        return peers

    def _write(self, peer: Peer) -> None:
        data = b"".join(peer.chunks)
        sent = len(data) if peer.room_left is None else min(len(data), peer.room_left)
        if peer.room_left is not None:
            peer.room_left -= sent
        peer.taken += data[:sent]
        peer.chunks[:] = [memoryview(data)[sent:]] if sent < len(data) else []
        if peer.careful or peer.chunks:
            self.relay.written(peer, sent, self.now)
        else:
            peer.waiting = 0
        if peer.closing and not peer.chunks:
            self._lose(peer)

    def _lose(self, peer: Peer) -> None:
        if not peer.gone:
            peer.gone = True
            self.relay.lost(peer, self.now)

    # what must hold at any time between two calls

    def check(self) -> None:
        """Look at all state that the core keeps twice."""
        relay, outboxes = self.relay, self.relay.outboxes
        waits_for: dict[Session, int] = {}
        assert list(relay.sessions) == [peer for peer in self.peers if not peer.gone]
        assert not outboxes.condemned or relay.deadline <= self.now
        assert not relay.answered
        for peer in self.peers:
            assert peer.waiting == sum(map(len, peer.chunks))
            for waiter in peer.waiters or ():
                waits_for[waiter] = waits_for.get(waiter, 0) + 1
            assert peer.blocked <= peer.careful or peer.closing
            assert peer.full <= peer.careful
            assert peer.lagging <= peer.full
            assert (peer in outboxes._full) == peer.full
            if peer.gone:
                assert not any((peer.chunks, peer.input, peer.payload, peer.routes, peer.rooms))
                assert peer not in outboxes._blocked
            else:
                assert (peer in outboxes._blocked) == peer.blocked
            if peer.closing:
                assert peer not in relay.denials
                assert not any((peer.online, peer.waiters, peer.full, peer.gaps))
                assert not any((peer.asks, peer.asked, peer.rooms, peer.watched))
            elif peer.gaps:
                assert peer.lagging
            assert peer.online == (relay.directory.sessions.get(peer.key) is peer)
            for number, target in (peer.asks or {}).items():
                assert target.asked is not None
                assert (peer, number) in target.asked
            for asker, number in peer.asked or ():
                assert asker.asks is not None
                assert asker.asks[number] is peer
            for key, room in peer.rooms.items():
                assert relay.directory.rooms[key] is room
                assert peer in room.members
        for peer in self.peers:
            others = (relay.denials, relay.rests, relay.mail._held, relay.mail._quitting)
            assert peer.closing or peer.holders == waits_for.get(peer, 0) + sum(peer in it for it in others)
        for room in relay.directory.rooms.values():
            assert room.members
            assert all(member.rooms.get(room.key) is room for member in room.members)

    def check_empty(self) -> None:
        """Everybody is gone: nothing of them may be left."""
        relay, directory, outboxes = self.relay, self.relay.directory, self.relay.outboxes
        for left in (
            relay.sessions,
            relay.answered,
            directory.sessions,
            directory.rooms,
            directory._watchers,
            directory._watch_all,
            outboxes._blocked,
            outboxes._full,
            outboxes.condemned,
            relay.denials._waiting,
        ):
            assert not left


@pytest.fixture
def relay() -> Driver:
    """A relay with the default limits."""
    return Driver()


@pytest.fixture(scope="session")
def make_relay() -> type[Driver]:
    """The driver, to make relays with other limits or many in one test."""
    return Driver
