"""Durable mail in the core: what a peer can make grow, and what may keep others waiting."""

# attributes change in calls, which mypy does not see
# mypy: disable-error-code="unreachable"

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.relay.core.limits import Limits
from hailer.relay.store.memory import MemoryStore

if TYPE_CHECKING:
    from tests.relay.core.conftest import Driver

MIB = 1 << 20


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
