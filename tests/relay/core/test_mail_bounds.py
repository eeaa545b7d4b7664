"""Durable mail in the core: what a peer can make grow, and what may keep others waiting."""

# attributes change in calls, which mypy does not see
# mypy: disable-error-code="unreachable"

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.errors import StoreError
from hailer.relay.core.limits import Limits
from hailer.relay.store.memory import MemoryStore

if TYPE_CHECKING:
    from hailer.relay.core.batch import Batch, Loaded, Page
    from tests.relay.core.conftest import Driver

MIB = 1 << 20
DAY = 86400.0


class FlakyStore(MemoryStore):
    """Fails when it is told to."""

    fails = False
    unreadable = 0

    def commit(self, batch: Batch) -> dict[int, int]:
        if self.fails:
            raise StoreError("the disk is full")
        return super().commit(batch)

    def recover(self) -> Loaded:
        if self.fails:
            raise StoreError("still full")
        return super().recover()

    def read(self, box: int, after: int, most: int) -> Page:
        if box == self.unreadable:
            raise StoreError("the disk is damaged")
        return super().read(box, after, most)


@pytest.mark.parametrize("counted", [True, False])
def test_many_who_post_at_once_wait_before_what_they_post_is_kept(
    make_relay: type[Driver], *, counted: bool
) -> None:
    relay = make_relay(Limits(mail_entries=1 << 30, mail_bytes=1 << 30), checks=False)
    names = [relay.login(f"n{number}", rooms="#r") for number in range(20)]
    relay.pass_time(1)
    relay.store_works = False
    size = MIB if counted else 60_000
    post = b"POST 1 #r %d\n%s" % (size, bytes(size)) if counted else b"POST 1 #r :%s\n" % (b"x" * size)
    for peer in names:
        relay.send(peer, post + b"SEND n0 :later\n")
    assert relay.relay.mail.journal.size < 16 * MIB + 20 * size
    assert any(peer.holders for peer in names)
    relay.checks = True
    while relay.work():
        pass
    for peer in names:
        assert not peer.holders
        assert [event.verb for event in relay.peek(peer)].count(b"STORED") == 1
        assert len([event for event in relay.peek(peer) if event.verb == b"MAIL"]) == 19


def test_who_quits_while_its_post_is_stored_is_not_read(make_relay: type[Driver]) -> None:
    relay = make_relay()
    alice = relay.login("alice")
    relay.pass_time(1)
    relay.store_works = False
    relay.relay.receive(alice, b"POST 1 alice :x\nQUIT\n", relay.now)
    assert relay.relay.held == [alice]
    relay.settle()
    while relay.work():
        pass
    assert [event.verb for event in relay.peek(alice)][-1] == b"BYE"


def test_rooms_gone_through_while_nothing_is_stored_are_not_kept(make_relay: type[Driver]) -> None:
    store = MemoryStore()
    relay = make_relay(store=store)
    alice = relay.login("alice", rooms="#stays #left")
    relay.pass_time(1)
    relay.store_works = False
    relay.send(alice, b"JOIN #early\n")
    relay.pass_time(1)  # the store is at it
    relay.send(alice, b"LEAVE #early\nLEAVE #left\nJOIN #late\n")
    for number in range(1000):
        relay.send(alice, b"JOIN #r%d\nLEAVE #R%d\nJOIN #left\nLEAVE #left\n" % (number, number))
    assert len(relay.relay.mail.journal._members) == 3
    relay.store_works = True
    relay.work()
    relay.pass_time(1)
    assert {member.room for member in store.load().members} == {b"#stays", b"#late"}


def test_sessions_that_never_posted_leave_nothing_behind(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(sessions=2))
    relay.login("bob")
    relay.pass_time(1)
    relay.store_works = False
    for number in range(20):
        peer = relay.connect()
        relay.send(peer, b"HELLO alice session=s%d\nPOST 1 nobody :x\nQUIT\n" % number)
    assert not relay.relay.mail.journal._forgotten_senders


def test_a_session_that_was_forgotten_and_begins_anew_is_kept(make_relay: type[Driver]) -> None:
    store = MemoryStore()
    relay = make_relay(Limits(sessions=1), store=store)
    bob = relay.login("bob")

    def post(session: bytes) -> None:
        peer = relay.connect()
        relay.send(peer, b"HELLO alice session=%s\nPOST 1 bob :x\n" % session)
        relay.lose(peer)

    post(b"first")
    relay.store_works = False
    relay.send(bob, b"POST 1 bob :x\n")  # the store is at it
    post(b"second")  # forgets the first, when the store gets to it
    post(b"third")
    post(b"first")
    relay.store_works = True
    while relay.work():
        pass
    relay.pass_time(1)
    assert [sender.stored for sender in store.load().senders if sender.id == b"first"] == [1]


def test_a_failure_of_many_posts_is_told_and_cuts_nobody(make_relay: type[Driver]) -> None:
    store = FlakyStore()
    relay = make_relay(Limits(waiting=10_000, mail_entries=1 << 30), store=store, checks=False)
    alice = relay.login("alice")
    relay.pass_time(1)
    relay.store_works = False
    for first in range(1, 20_000, 1000):
        relay.send(alice, b"".join(b"POST %d alice :x\n" % number for number in range(first, first + 1000)))
    store.fails = True
    relay.work()
    assert [
        event.text.split(b":")[0] for event in relay.peek(alice) if event.text and event.verb == b"FAIL"
    ] == [b"%d" % number for number in range(1, 20_001)]
    assert alice.online


def test_what_nobody_waits_for_is_stored_beside_readers_that_always_want_more(
    make_relay: type[Driver],
) -> None:
    relay = make_relay(Limits(mail_entries=1 << 30), checks=False)
    names = [relay.login(f"n{number}") for number in range(40)]
    for number, peer in enumerate(names):
        relay.lose(peer)
        poster = relay.login("poster")
        relay.send(poster, b"POST 1 n%d 1000000\n%s" % (number, bytes(1_000_000)) * 2)
        relay.lose(poster)
    relay.pass_time(1)
    relay.store_works = False
    readers = [relay.login(f"n{number}") for number in range(40)]
    relay.send(readers[0], b"JOIN #r\n")
    relay.now += 1
    kinds = []
    for _ in range(3):
        assert relay.waiting_work is not None
        kinds.append(type(relay.waiting_work).__name__)
        relay.work()
    assert kinds[:2] in (["Read", "Commit"], ["Read", "Older"])
    assert "Commit" in kinds


def test_old_mail_is_looked_for_beside_posts_that_never_end(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_seconds=100.0, idle_seconds=1e6))
    relay.login("bob")
    alice = relay.login("alice")
    relay.send(alice, b"POST 1 bob :x\n")
    relay.lose(relay.peers[0])
    relay.store_works = False
    relay.send(alice, b"POST 2 alice :x\n")
    number = 3
    for _ in range(20):
        relay.pass_time(20)
        relay.send(alice, b"POST %d alice :x\n" % number)  # always before the store is through with the last
        number += 1
        relay.work()
    assert relay.relay.counters.expired


def test_notices_of_what_expired_survive_a_failure(make_relay: type[Driver]) -> None:
    store = FlakyStore()
    relay = make_relay(Limits(mail_seconds=100.0, idle_seconds=1e6), store=store)
    relay.lose(relay.login("bob"))
    alice = relay.connect()
    relay.send(alice, b"HELLO alice notices=1\nPOST 1 bob :x\n")
    relay.pass_time(90)
    store.fails = True
    relay.pass_time(90)
    assert relay.relay.mail.trouble
    store.fails = False
    relay.pass_time(5)
    assert [event.words[1:] for event in relay.peek(alice) if event.verb == b"EXPIRED"] == [
        (b"1", b"bob", b"1")
    ]


def test_a_mailbox_that_cannot_be_read_is_nothing_to_others(make_relay: type[Driver]) -> None:
    store = FlakyStore()
    relay = make_relay(store=store)
    for name in ("bob", "carol"):
        relay.lose(relay.login(name))
    alice = relay.login("alice")
    relay.send(alice, b"POST 1 bob :x\nPOST 2 carol :x\n")
    store.unreadable = relay.relay.mail.boxes.by_key[b"bob"].number
    bob, carol = relay.login("bob"), relay.login("carol")
    for number in range(3, 8):
        relay.send(alice, b"POST %d alice :x\n" % number)
        relay.pass_time(0.7)
    assert relay.relay.mail.delivery.unreadable
    assert [event.verb for event in relay.peek(alice)].count(b"STORED") == 7 - 1  # the first two by one
    assert b"MAIL" in [event.verb for event in relay.peek(carol)]
    assert b"MAIL" not in [event.verb for event in relay.peek(bob)]
    store.unreadable = 0
    relay.pass_time(2)
    assert not relay.relay.mail.delivery.unreadable
    assert b"MAIL" in [event.verb for event in relay.peek(bob)]


def test_a_name_in_use_is_not_forgotten_by_a_relay_that_was_killed(make_relay: type[Driver]) -> None:
    store = MemoryStore()
    limits = Limits(mail_seconds=2 * DAY, idle_seconds=100 * DAY)
    relay = make_relay(limits, store=store, checks=False)
    relay.login("always", rooms="#r")
    for _ in range(3 * 24 * 2):  # one that comes every half an hour
        relay.jump(1800)
        relay.lose(relay.login("often"))
    relay.pass_time(100)
    after = make_relay(limits, store=store)
    after.pass_time(1000)
    assert set(after.relay.mail.boxes.by_key) == {b"always", b"often"}
    after.login("always")
    after.jump(2 * 3600)
    assert set(after.relay.mail.boxes.by_key) == {b"always", b"often"}
    after.jump(3 * DAY)
    after.jump(1000)
    assert set(after.relay.mail.boxes.by_key) == {b"always"}


def test_a_room_never_has_more_members_than_it_may(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(members=3))
    for number in range(6):
        relay.lose(relay.login(f"n{number}", rooms="#r"))
        relay.login(f"n{number}")  # is here again, but not in the room
    assert len(relay.relay.mail.boxes.rooms[b"#r"].boxes) == 3


def test_half_closed_readers_whose_mail_expires_are_closed(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_seconds=100.0, ended_seconds=1e6, idle_seconds=1e6, slow_seconds=1e6))
    relay.lose(relay.login("bob"))
    alice = relay.login("alice")
    for number in range(1, 4):
        relay.send(alice, b"POST %d bob 400000\n%s" % (number, bytes(400_000)))
    bob = relay.connect()
    bob.room_left = 1000
    relay.send(bob, b"HELLO bob\n")
    relay.end(bob)
    assert not bob.closing
    relay.pass_time(300)
    relay.take(bob, None)
    assert bob.closing


def test_what_was_missed_in_a_room_is_told_on_leaving_it(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_entries=1, rooms=3))
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"POST 1 bob :x\n")
    for number in range(2, 20):
        relay.send(bob, b"JOIN #Room%d\n" % number)
        relay.send(alice, b"JOIN #room%d\nPOST %d #room%d :x\nLEAVE #room%d\n" % ((number,) * 4))
        relay.send(bob, b"LEAVE #rOOm%d\n" % number)
    gaps = [event.words for event in relay.peek(bob) if event.verb == b"GAP"]
    assert gaps == [(b"GAP", b"1", b"#Room%d" % number) for number in range(2, 20)]
    assert not relay.relay.mail.boxes.by_key[b"bob"].gaps


def test_gaps_of_who_is_away_are_bounded(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_entries=1, rooms=3, members=2))
    alice, carol, number = relay.login("alice"), relay.login("carol"), 2
    relay.lose(relay.login("bob"))
    relay.send(alice, b"POST 1 bob :x\n")
    for _ in range(5):
        bob = relay.login("bob")
        for room in range(number, number + 3):
            relay.send(bob, b"JOIN #r%d\n" % room)
        relay.lose(bob)
        for room in range(number, number + 3):
            relay.send(alice, b"JOIN #r%d\nPOST %d #r%d :x\n" % (room, room, room))
            relay.send(carol, b"JOIN #r%d\nLEAVE #r%d\n" % (room, room))  # bob makes way
            relay.send(alice, b"LEAVE #r%d\n" % room)
        number += 3
    assert len(relay.relay.mail.boxes.by_key[b"bob"].gaps or {}) == 3


def test_posts_of_no_bytes_wait_too(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_entries=1 << 30, mail_bytes=1 << 30, payload=17 * MIB), checks=False)
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.pass_time(1)
    relay.store_works = False
    relay.send(alice, b"POST 1 bob %d\n%s" % (17 * MIB, bytes(17 * MIB)))
    relay.send(bob, b"POST 1 bob 0\n")
    assert bob.holders
    while relay.work():
        pass
    assert not bob.holders
    assert relay.relay.mail.boxes.by_key[b"bob"].stored == 2


def test_a_post_to_a_room_is_refused_when_there_is_no_room_for_anybody(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_total=1000))
    alice, bob = relay.login("alice", rooms="#r"), relay.login("bob", rooms="#r")
    relay.send(alice, b"POST 1 #r :%s\nPOST 2 #r :%s\n" % (b"x" * 400, b"x" * 600))
    assert relay.codes(alice) == [("quota", "POST")]
    assert not relay.relay.mail.boxes.by_key[b"bob"].gaps
    assert [event.verb for event in relay.fresh(bob)] == [b"MAIL"]


def test_a_slow_reader_of_mail_is_not_cut_for_a_line_that_it_has_long_taken(make_relay: type[Driver]) -> None:
    relay = make_relay()
    relay.lose(relay.login("bob"))
    alice = relay.login("alice")
    for number in range(1, 10):
        relay.send(alice, b"POST %d bob 100000\n%s" % (number, bytes(100_000)))
    bob = relay.connect()
    bob.room_left = 0
    relay.send(bob, b"HELLO bob\n")
    relay.take(bob, 300)  # RELAY and WELCOME, and little of the page
    for _ in range(30):
        relay.pass_time(1)
        relay.take(bob, 40_000)
    assert len(bob.taken) > 900_000
    assert bob.online
