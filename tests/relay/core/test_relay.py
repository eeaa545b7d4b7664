"""Connections as a whole: time-outs, their ends, and that nothing is left of whoever is gone."""

# attributes change in calls, which mypy does not see
# mypy: disable-error-code="unreachable"

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from tests.relay.core.conftest import Driver, Peer


def _bye(relay: Driver, peer: Peer) -> str:
    assert peer.gone
    return relay.lines(peer)[-1]


# time


def test_the_time_to_log_in_is_total(relay: Driver) -> None:
    peer = relay.connect()
    for _ in range(29):
        relay.pass_time(1)
        relay.send(peer, b"PING x\nPI")
        relay.send(peer, b"NG y\n")
    assert not peer.closing
    relay.pass_time(2.1)
    assert _bye(relay, peer) == "BYE :no HELLO came within 30 seconds"
    assert relay.relay.counters.cut_other == 1


def test_a_line_has_its_time_however_it_drips(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.pass_time(20)
    for _ in range(29):
        relay.send(alice, b"x")
        relay.pass_time(1)
    assert not alice.closing
    relay.send(alice, b"x")
    relay.pass_time(2.1)
    assert _bye(relay, alice) == "BYE :a line or payload took longer than 30 seconds"


@pytest.mark.parametrize("alone", [False, True])
def test_a_payload_has_its_time_however_it_drips(relay: Driver, alone: bool) -> None:
    """From its announcement on, whether the first of it came along with that or later."""
    alice = relay.login("alice")
    relay.send(alice, b"SEND bob 1000\n" + (b"" if alone else b"x"))
    for _ in range(29):
        relay.pass_time(1)
        relay.send(alice, b"xx")
    assert not alice.closing
    relay.pass_time(2.1)
    assert _bye(relay, alice) == "BYE :a line or payload took longer than 30 seconds"


def test_a_payload_that_never_begins_has_its_time(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.send(alice, b"SEND bob 1000\n")
    relay.pass_time(31.1)
    assert alice.gone


def test_each_line_has_a_time_of_its_own(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    rest = b""
    for number in range(20):
        line = b"SEND bob :%d\n" % number
        relay.send(alice, rest + line[:5])
        relay.pass_time(15)
        rest = line[5:]
        relay.send(bob, b"PING\n")
    assert not alice.closing
    relay.send(alice, rest)
    assert len([event for event in relay.fresh(bob) if event.verb == b"MSG"]) == 20


def test_the_time_that_the_relay_does_not_read_is_not_the_peers(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(waiting=1000, slow_seconds=100, patience=90, line_seconds=5, idle_seconds=10))
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.take(bob, 0)
    relay.send(alice, b"SEND bob :" + b"x" * 2000 + b"\nSEND bob :par")
    assert alice.holders
    relay.pass_time(15)
    assert not alice.closing
    relay.take(bob, None)
    relay.pass_time(2)
    assert not alice.closing
    relay.send(alice, b"t\n")
    assert bob.taken.endswith(b":part\n")


def test_silence_is_asked_and_then_cut(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(idle_seconds=60))
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.pass_time(59)
    assert relay.lines(alice) == []
    relay.send(bob, b"PING x\n")
    relay.pass_time(2.1)
    assert relay.lines(alice) == ["PING relay"]
    assert relay.lines(bob) == ["PONG x"]
    relay.pass_time(30)
    relay.send(alice, b"PONG relay\n")
    assert relay.lines(alice) == []
    relay.pass_time(61.1)
    assert relay.lines(alice) == ["PING relay"]
    relay.send(bob, b"x")  # any byte is a sign of life
    relay.pass_time(58)
    assert not alice.closing
    relay.pass_time(3.1)
    assert _bye(relay, alice) == "BYE :nothing was heard of you for 120 seconds"


def test_who_is_leaving_gets_some_time(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.take(alice, 0)
    relay.send(alice, b"QUIT\n")
    assert alice.closing
    relay.pass_time(9.9)
    assert not alice.gone
    relay.pass_time(1.2)
    assert alice.gone
    relay.check_empty()


def test_time_may_jump(relay: Driver) -> None:
    """After a long stop of the process there is no exception; tick is simply late."""
    alice = relay.login("alice")
    bob = relay.login("bob")
    relay.take(bob, 0)
    relay.send(alice, b"SEND bob :x\nPI")
    relay.now += 1e9
    relay.pass_time(2)
    assert alice.closing
    assert bob.closing


# ends


def test_half_close_without_questions_is_the_end(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob", rooms="#r")
    relay.send(alice, b"SEND bob :x\n")
    relay.end(alice)
    assert relay.lines(alice) == ["BYE :end of input"]
    assert alice.gone
    assert relay.lines(bob) == ["MSG alice bob :x"]


def test_half_close_with_questions_waits_for_the_answers(relay: Driver) -> None:
    alice, bob, carol = relay.login("alice"), relay.login("bob"), relay.login("carol")
    relay.send(alice, b"ASK 1 bob :x\nASK 2 carol :y\nASK 3 bob :z\n")
    relay.end(alice)
    relay.send(carol, b"SEND alice :still here\nANSWER 2 alice :two\n")
    relay.send(bob, b"ANSWER 3 alice :three\n")
    assert not alice.closing
    relay.lose(bob)
    assert relay.lines(alice) == [
        "MSG carol alice :still here",
        "ANSWERED 2 carol :two",
        "ANSWERED 3 bob :three",
        "FAIL gone ASK :1: bob left before it answered",
        "BYE :end of input",
    ]
    assert alice.gone


def test_a_half_closed_stranger_and_one_that_had_its_bye(relay: Driver) -> None:
    stranger, alice = relay.connect(), relay.login("alice")
    relay.end(stranger)
    assert _bye(relay, stranger) == "BYE :end of input"
    relay.take(alice, 0)
    relay.send(alice, b"QUIT\n")
    relay.end(alice)
    relay.take(alice, None)
    assert relay.lines(alice) == ["BYE :you quit"]


@pytest.mark.parametrize("how", ["lost", "quit", "answer"])
def test_a_long_chain_of_half_closed_askers(make_relay: type[Driver], how: str) -> None:
    """Each waits for the next: the end of the last is the end of all, however many they are."""
    relay = make_relay(checks=False)
    count = 3000
    peers = [relay.login(f"peer{number}") for number in range(count)]
    for number, peer in enumerate(peers[:-1]):
        relay.send(peer, b"ASK q peer%d :x\n" % (number + 1))
    for peer in peers[:-1]:
        relay.end(peer)
    assert not any(peer.closing for peer in peers)
    last = peers[-1]
    if how == "lost":
        relay.lose(last)
    elif how == "quit":
        relay.send(last, b"QUIT\n")
    else:
        relay.send(last, b"ANSWER q peer%d :x\nQUIT\n" % (count - 2))
    assert all(peer.gone for peer in peers)
    relay.check_empty()


def test_nothing_is_read_of_whoever_had_its_bye(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.take(alice, 0)
    relay.send(alice, b"QUIT\nSEND bob :x\n")
    relay.relay.receive(alice, b"SEND bob :y\nHELLO eve\n", relay.now)
    relay.relay.end(alice, relay.now)
    relay.settle()
    assert relay.lines(bob) == []
    assert not alice.input


def test_refused_connections(relay: Driver) -> None:
    peer = relay.connect()
    relay.relay.lost(peer, relay.now)
    other = type(peer)("other", relay.now)
    relay.peers[:] = [other]
    relay.relay.refuse(other, b"too many", relay.now)
    relay.settle()
    assert relay.lines(other) == ["BYE :too many"]
    relay.check_empty()


def test_shutting_down(relay: Driver) -> None:
    stranger = relay.connect()
    alice, bob = relay.login("alice", rooms="#r"), relay.login("bob", rooms="#r", crlf=True)
    relay.send(alice, b"WATCH\nWATCH bob\nASK 1 bob :x\n")
    for peer in (stranger, alice, bob):
        relay.fresh(peer)
    relay.take(alice, 0)
    relay.relay.shut_down(relay.now)
    relay.settle()
    relay.take(alice, None)
    for peer in (stranger, alice, bob):
        assert relay.lines(peer) == ["BYE :the relay is shutting down"]
    relay.check_empty()


def test_shutting_down_a_crowded_room_is_not_the_square_of_it(make_relay: type[Driver]) -> None:
    relay = make_relay(checks=False)
    peers = [relay.login(f"peer{number}", rooms="#r") for number in range(300)]
    for peer in peers:
        relay.send(peer, b"WATCH\n")
    relay.relay.shut_down(relay.now)
    for peer in peers:
        assert peer.chunks == [b"BYE :the relay is shutting down\n"]
    relay.settle()
    relay.check_empty()


# nothing is left


@pytest.mark.parametrize("order", ["first to last", "last to first"])
@pytest.mark.parametrize("how", ["lost", "quit", "ended", "blocked", "takeover"])
def test_nothing_is_left_of_anybody(make_relay: type[Driver], how: str, order: str) -> None:
    relay = make_relay(Limits(waiting=5000))
    peers = [relay.login(f"peer{number}", rooms="#r #s") for number in range(6)]
    for number, peer in enumerate(peers):
        following = b"peer%d" % ((number + 1) % 6)
        relay.send(peer, b"WATCH" + (b" " + following if number % 2 else b"") + b"\n")
        relay.send(peer, b"ASK 1 %s :x\nASK 2 %s :x\nASK 3 %s :x\n" % (following, following, peer.name))
        relay.send(peer, b"SEND %s :x\nSEND #r :y\nSEND #s :z\n" % following)
        relay.send(peer, b"ANSWER 3 %s :x\n" % peer.name)
    if how == "blocked":
        for peer in peers:
            relay.take(peer, 0)
        for peer in peers:
            relay.send(peer, b"SEND #r :%s\nPING\nSE" % (b"x" * 6000))
        relay.pass_time(1)
        for peer in peers:
            if not peer.holders:
                relay.send(peer, b"ND #s :%s\nPING\nSE" % (b"x" * 6000))
    if how == "takeover":
        for number in range(6):
            new = relay.connect()
            relay.send(
                new,
                b"HELLO peer%d session=id%d\nSEND #r :new\nWATCH\nASK 1 peer0 :x\n" % (number, number + 1),
            )
            peers.append(new)
    dead = [weakref.ref(peer) for peer in peers]
    for peer in peers if order == "first to last" else reversed(peers):
        if how == "ended" and not peer.closing:
            relay.end(peer)
        elif how == "quit" and not peer.closing:
            relay.send(peer, b"QUIT\n")
        if not peer.gone and how != "ended":
            relay.lose(peer)
    relay.settle()
    if how == "ended":
        # a ring of questions, each waiting for the next: only the time ends it
        relay.pass_time(130)
    relay.check_empty()
    for peer in peers:
        assert peer.holders == 0
        for slot in ("asks", "asked", "watched", "waiters", "gaps", "rooms", "routes", "input"):
            assert not getattr(peer, slot), slot
    relay.peers.clear()
    peers.clear()
    del peer
    if how == "takeover":
        del new
    gc.collect()
    assert [ref() for ref in dead] == [None] * len(dead)


def test_one_that_stays_keeps_little_of_those_that_went(relay: Driver) -> None:
    """Only its routes may still name them, and what they name is empty."""
    alice = relay.login("alice", rooms="#r")
    for number in range(50):
        peer = relay.login(f"peer{number}", rooms="#r")
        relay.send(alice, b"SEND peer%d :x\nASK 1 peer%d :x\n" % (number, number))
        relay.send(peer, b"SEND alice :x\nSEND #r :x\nSEND alice 100000\n" + b"x" * 50_000)
        relay.lose(peer)
        referrers = [key for key, route in alice.routes.items() if route.target is peer]
        assert referrers == [b"SEND peer%d " % number]
    assert not alice.asks
    assert list(relay.relay.directory.sessions) == [b"alice"]
    assert list(relay.relay.directory.rooms) == [b"#r"]
