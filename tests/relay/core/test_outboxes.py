"""Slow receivers: who waits for whom and how long, what is lost and told, who is cut, what is kept of it."""

# attributes change in calls, which mypy does not see
# mypy: disable-error-code="unreachable"

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.relay.core.limits import Limits
from hailer.relay.core.outboxes import timestamp

if TYPE_CHECKING:
    from tests.relay.core.conftest import Driver, Peer

LIMIT = 10_000
SMALL = Limits(waiting=LIMIT, payload=LIMIT)
LINE = b"SEND bob :" + b"x" * 990 + b"\n"  # 11 of them fill the small outbox


@pytest.fixture
def slow(make_relay: type[Driver]) -> Driver:
    """A relay with small outboxes."""
    return make_relay(SMALL)


def _texts(relay: Driver, peer: Peer) -> list[bytes]:
    return [event.text or b"" for event in relay.fresh(peer, whole=False) if event.verb == b"MSG"]


def _gaps(relay: Driver, peer: Peer) -> list[tuple[int, str]]:
    gaps = [event for event in relay.fresh(peer) if event.verb == b"GAP"]
    return [(int(event.words[1]), event.words[2].decode()) for event in gaps]


def _numbered(count: int, to: bytes = b"bob", size: int = 100) -> bytes:
    return b"".join(b"SEND %s :%0*d\n" % (to, size, number) for number in range(count))


def test_a_sender_waits_and_goes_on_and_nothing_is_lost(slow: Driver) -> None:
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(alice, LINE * 5)
    assert alice.holders == 0
    slow.send(alice, LINE * 6)
    assert alice.holders == 1
    assert slow.relay.counters.held == 1
    slow.send(alice, b"SEND bob :later\n")  # read before the edge stopped: kept, not handled
    assert alice.backlog
    waiting = bob.waiting
    slow.pass_time(0.4)
    slow.take(bob, waiting - LIMIT // 4 - 1)
    assert alice.holders == 1
    slow.take(bob, 1)  # a quarter is left
    assert alice.holders == 0
    assert not alice.backlog
    slow.take(bob, None)
    assert _texts(slow, bob) == [b"x" * 990] * 11 + [b"later"]
    assert slow.relay.counters.lagged == slow.relay.counters.dropped == 0
    assert not any((bob.full, bob.blocked, bob.careful))


def test_patience_ends_and_what_is_dropped_is_counted(slow: Driver) -> None:
    alice, bob = slow.login("alice"), slow.login("bob", rooms="#r")
    carol = slow.login("carol", rooms="#r #s")
    slow.send(bob, b"JOIN #s\n")
    slow.take(bob, 0)
    slow.fresh(bob)
    slow.send(alice, LINE * 11)
    started = slow.now
    assert alice.holders == 1
    slow.pass_time(0.49)
    assert alice.holders == 1
    slow.pass_time(0.02)
    assert bob.lagging
    assert alice.holders == 0
    slow.fresh(carol)
    slow.send(alice, b"SEND bob :a\nSEND bob :b\n")
    slow.send(alice, b"SEND bob 2\n\n\n")
    slow.send(carol, b"SEND #r :c\nSEND #s :d\nSEND #r :e\nSEND bob :f\nSEND #r 1\n\x00")
    assert [event.verb for event in slow.fresh(alice)] == [b"FAIL", b"FAIL"]
    assert slow.codes(carol) == [("slow", "SEND")]
    assert slow.relay.counters.dropped == 8
    assert alice.holders == carol.holders == 0
    slow.take(bob, bob.waiting - LIMIT // 4 - 1)
    assert bob.lagging
    slow.take(bob, None)
    assert not bob.lagging
    slow.send(alice, b"SEND bob :after\n")
    events = slow.fresh(bob)
    assert [event.words for event in events[-5:]] == [
        (b"GAP", b"3", b"alice"),
        (b"GAP", b"3", b"#r"),
        (b"GAP", b"1", b"#s"),
        (b"GAP", b"1", b"carol"),
        (b"MSG", b"alice", b"bob"),
    ]
    since = b"since " + timestamp(1_700_000_000.0 + started + 0.51)
    assert all(event.text == since for event in events[-5:-1])
    assert slow.relay.counters.lagged == 1
    slow.take(bob, 0)
    assert bob.gaps is None


def test_the_sender_of_many_at_once_is_told_how_many(slow: Driver) -> None:
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(alice, LINE * 11)
    slow.pass_time(0.6)
    slow.send(alice, b"SEND bob :x\n" * 500)
    assert slow.lines(alice) == ["FAIL slow SEND :bob is not keeping up: 500 of your messages to it dropped"]
    slow.take(bob, None)
    assert _gaps(slow, bob) == [(500, "alice")]


def test_who_lags_again_gets_no_patience(slow: Driver) -> None:
    alice, bob = slow.login("alice"), slow.login("bob")
    for again in range(3):
        slow.take(bob, 0)
        slow.send(alice, LINE * 11)
        assert alice.holders == 1
        slow.pass_time(0.001 if again else 0.51)
        assert bob.lagging
        assert alice.holders == 0
        slow.take(bob, None)
        assert not bob.lagging
        slow.pass_time(9)
    slow.pass_time(1.5)
    slow.take(bob, 0)
    slow.send(alice, LINE * 11)
    slow.pass_time(0.4)
    assert alice.holders == 1
    assert not bob.lagging


@pytest.mark.parametrize("crlf", [False, True])
def test_who_takes_nothing_is_cut(slow: Driver, crlf: bool) -> None:
    alice, bob, carol = slow.login("alice"), slow.login("bob", rooms="#r", crlf=crlf), slow.login("carol")
    slow.send(carol, b"JOIN #r\nWATCH\n")
    slow.fresh(carol)
    slow.fresh(bob)
    slow.take(bob, 0)
    slow.send(alice, LINE)
    slow.pass_time(4.99)
    assert not bob.closing
    slow.pass_time(0.02)
    assert bob.closing
    assert slow.relay.counters.cut_slow == 1
    assert slow.lines(carol) == ["LEFT #r bob", "OFFLINE bob"]
    slow.send(alice, LINE)
    assert slow.codes(alice) == [("offline", "SEND")]
    slow.take(bob, None)
    assert slow.lines(bob)[-1] == "BYE :too slow: your output waited for 5 seconds"
    assert bob.gone


def test_who_takes_not_even_the_last_words_is_aborted(slow: Driver) -> None:
    bob = slow.login("bob")
    slow.take(bob, 0)
    slow.send(bob, b"PING x\n")
    slow.pass_time(5.1)
    assert bob.closing
    slow.pass_time(9)
    assert not bob.gone
    slow.pass_time(2.1)
    assert bob.gone
    slow.check_empty()


def test_who_takes_a_little_all_the_time_is_not_cut(slow: Driver) -> None:
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(alice, LINE * 9)
    for _ in range(40):
        slow.pass_time(1)
        slow.take(bob, 3000)
        if not alice.holders:
            slow.send(alice, LINE * 3)
    assert not bob.closing
    assert slow.relay.counters.dropped == 0


def test_who_drips_is_cut(slow: Driver) -> None:
    """What waited must be gone in time; a byte now and then does not count as taking it."""
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(alice, LINE * 9)
    for _ in range(11):
        slow.pass_time(0.5)
        slow.take(bob, 10)
    assert bob.closing


def test_the_others_in_the_room_get_everything(slow: Driver) -> None:
    names = [f"peer{number}" for number in range(20)]
    alice = slow.login("alice", rooms="#r")
    bob = slow.login("bob", rooms="#r")
    peers = [slow.login(name, rooms="#r") for name in names]
    slow.take(bob, 0)
    sent, longest, held_at = 0, 0.0, slow.now
    while not bob.gone and slow.now < 1100:
        if alice.holders:
            longest = max(longest, slow.now - held_at)
        else:
            held_at = slow.now
            slow.send(alice, b"".join(b"SEND #r :%0400d\n" % number for number in range(sent, sent + 10)))
            sent += 10
        assert bob.waiting <= 4 * LIMIT + 5000
        slow.pass_time(0.1)
        if bob.closing:
            slow.take(bob, None)
    assert bob.gone
    assert longest <= 0.61
    assert slow.now <= 1000 + 10
    for peer in peers:
        assert [int(text) for text in _texts(slow, peer)] == list(range(sent))
    got = [event for event in slow.fresh(bob) if event.verb in (b"MSG", b"GAP")]
    lost = [int(event.words[1]) for event in got if event.verb == b"GAP"]
    # all that was sent before it was cut is either there or in the one gap
    assert len(lost) == 1
    assert len(got) - 1 + lost[0] >= sent - 20
    assert [int(event.text or b"") for event in got[:-1]] == list(range(len(got) - 1))


@pytest.mark.parametrize("crlf", [False, True])
@pytest.mark.parametrize("room", [False, True])
def test_every_message_is_there_or_in_a_gap(slow: Driver, crlf: bool, room: bool) -> None:
    alice = slow.login("alice", rooms="#r")
    bob = slow.login("bob", rooms="#r", crlf=crlf)
    slow.take(bob, 0)
    number = 0
    for step in range(300):
        if not alice.holders:
            to = b"#r" if room else b"bob"
            slow.send(alice, b"".join(b"SEND %s :%0300d\n" % (to, n) for n in range(number, number + 7)))
            number += 7
        slow.pass_time(0.13)
        slow.take(bob, 17_000 if step % 31 == 30 else 700)
    slow.take(bob, None)
    if alice.holders or alice.backlog:
        pytest.fail("alice waits for nobody")
    expected = 0
    for event in slow.fresh(bob):
        if event.verb == b"GAP":
            expected += int(event.words[1])
        elif event.verb == b"MSG":
            assert int(event.text or b"") == expected
            expected += 1
    assert expected == number
    assert slow.relay.counters.dropped > 0
    assert slow.relay.counters.dropped + slow.relay.counters.delivered == slow.relay.counters.received


def test_two_receivers_hold_one_sender_until_both_have_drained(slow: Driver) -> None:
    alice, bob, carol = slow.login("alice"), slow.login("bob"), slow.login("carol")
    slow.take(bob, 0)
    slow.take(carol, 0)
    # one block: a scatter fills both before it stops
    slow.send(alice, (LINE + LINE.replace(b"bob", b"carol")) * 12)
    assert alice.holders == 2
    slow.take(bob, None)
    assert alice.holders == 1
    slow.lose(carol)
    assert alice.holders == 0
    assert len(_texts(slow, bob)) == 12


@pytest.mark.parametrize("how", ["lost", "quit", "takeover", "cut"])
def test_everybody_is_released_when_the_receiver_goes(slow: Driver, how: str) -> None:
    senders = [slow.login(f"sender{number}") for number in range(5)]
    bob = slow.login("bob")
    slow.take(bob, 0)
    for sender in senders:
        slow.send(sender, LINE * 11 + b"PING x\n")
        assert sender.holders == 1
    if how == "lost":
        slow.lose(bob)
    elif how == "quit":
        slow.send(bob, b"QUIT\n")
    elif how == "takeover":
        slow.send(slow.connect(), b"HELLO bob session=id6\n")
    else:
        slow.pass_time(5.1)
    for sender in senders:
        assert sender.holders == 0
        assert slow.fresh(sender)[-1].verb == b"PONG"


def test_a_held_sender_that_goes_is_forgotten(slow: Driver) -> None:
    alice, bob = slow.login("alice", rooms="#r"), slow.login("bob", rooms="#r")
    slow.take(bob, 0)
    slow.send(alice, LINE * 12)
    assert alice.holders == 1
    slow.send(alice, b"SEND bob :never\n")
    slow.lose(alice)
    slow.take(bob, None)
    assert b"never" not in _texts(slow, bob)
    slow.lose(bob)
    slow.check_empty()
    assert alice.holders == 0


def test_whoever_goes_does_not_wait(slow: Driver) -> None:
    """The events of its leaving can fill an outbox, for which it is not held any more."""
    alice, carol = slow.login("alice", rooms="#r"), slow.login("carol", rooms="#r")
    bob = slow.login("bob", rooms="#r")
    for leaver in (alice, carol):
        slow.take(bob, 0)
        slow.send(bob, b"PING " + b"x" * (LIMIT - bob.waiting - 7) + b"\n")
        assert LIMIT - 5 <= bob.waiting <= LIMIT
        assert not bob.full
        if leaver is alice:
            slow.lose(leaver)
        else:
            slow.send(leaver, b"QUIT\n")
        assert bob.full
        assert not leaver.holders
        assert not bob.waiters
        slow.take(bob, None)


def test_who_lags_waits_on_for_its_own_replies(slow: Driver) -> None:
    bob, alice = slow.login("bob"), slow.login("alice")
    slow.take(bob, 0)
    slow.send(alice, LINE * 9)
    slow.send(bob, b"PING\n" * 1000)
    assert bob.holders == 1
    slow.send(alice, LINE)
    assert alice.holders == 1
    waiting = bob.waiting
    slow.pass_time(0.6)
    assert bob.lagging
    assert alice.holders == 0
    assert bob.holders == 1
    assert bob.waiting == waiting
    slow.take(bob, None)
    assert bob.holders == 0
    assert bob.taken.count(b"PONG") == 1000


def test_no_patience_counts_from_the_end_of_lagging(slow: Driver) -> None:
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(alice, LINE * 11)
    slow.pass_time(4.5)
    slow.take(bob, None)
    slow.pass_time(9)
    slow.take(bob, 0)
    slow.send(alice, LINE * 11)
    slow.pass_time(0.001)
    assert bob.lagging


# replies and events


def test_replies_to_who_lags_are_not_dropped(slow: Driver) -> None:
    alice, bob, carol = slow.login("alice"), slow.login("bob", rooms="#r"), slow.login("carol")
    slow.send(bob, b"ASK 1 carol :x\nASK 2 carol :x\n")
    slow.take(bob, 0)
    slow.send(alice, LINE * 11)
    slow.pass_time(0.6)
    assert bob.lagging
    slow.send(carol, b"ANSWER 1 bob :yes\nJOIN #r\nSEND bob :lost\n")
    slow.lose(carol)
    slow.take(bob, None)
    verbs = [event.verb for event in slow.fresh(bob) if event.text != b"x" * 990]
    assert verbs == [b"ANSWERED", b"JOINED", b"LEFT", b"FAIL", b"GAP"]


def test_who_lags_is_not_asked(slow: Driver) -> None:
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(alice, LINE * 11)
    slow.pass_time(0.6)
    slow.send(alice, b"ASK 1 bob :x\n")
    assert slow.codes(alice) == [("slow", "ASK")]
    assert not alice.asks
    assert not bob.asked


def test_questions_of_many_do_not_cut_whom_they_ask(slow: Driver) -> None:
    """Each asker may add a little before it is held; together they must not pass the hard bound."""
    askers = [slow.login(f"asker{number}") for number in range(20)]
    bob = slow.login("bob")
    slow.take(bob, 0)
    payload = b"\n" * (LIMIT - 100)
    fails = 0
    for asker in askers:
        slow.send(asker, b"ASK 1 bob %d\n%s" % (len(payload), payload))
        fails += len([event for event in slow.fresh(asker) if event.verb == b"FAIL"])
        assert bob.waiting <= 4 * LIMIT
    slow.take(bob, None)
    assert not bob.closing
    assert fails
    assert len([event for event in slow.fresh(bob) if event.verb == b"ASKED"]) + fails == 20


def test_a_long_reply_alone_cuts_nobody(make_relay: type[Driver]) -> None:
    """WHO can say more at once than the hard bound; a thousand of them in one read wait for each other."""
    relay = make_relay(Limits(waiting=100))
    peers = [relay.login(f"peer{number}") for number in range(100)]
    asker = peers[0]
    relay.send(asker, b"WHO\n" * 1000 + b"PING end\n")
    events = relay.fresh(asker)
    assert sum(event.verb == b"END" for event in events) == 1000
    assert events[-1].verb == b"PONG"
    relay.take(asker, 0)
    relay.send(asker, b"WHO\n" * 1000)
    assert asker.waiting < 2000
    assert asker.holders == 1
    relay.take(asker, None)
    assert sum(event.verb == b"END" for event in relay.fresh(asker)) == 1000


@pytest.mark.parametrize(("count", "crlf"), [(1_000_000, False), (300_000, True)])
def test_a_million_pings_in_one_read(make_relay: type[Driver], count: int, crlf: bool) -> None:
    relay = make_relay(checks=False)
    alice = relay.login("alice", crlf=crlf)
    relay.take(alice, 0)
    relay.send(alice, b"PING\n" * count)
    most = relay.relay.limits.waiting + 10
    assert alice.holders == 1
    assert alice.backlog
    while alice.waiting or alice.backlog:
        assert alice.waiting <= most
        relay.take(alice, 1 << 19)
    relay.take(alice, None)
    assert alice.taken.count(b"PONG") == count
    assert not alice.holders
    assert alice.online


def test_who_asks_and_does_not_listen_is_cut_with_little_in_memory(slow: Driver) -> None:
    alice = slow.login("alice")
    slow.take(alice, 0)
    slow.send(alice, b"PING\n" * 100_000)
    assert alice.waiting <= LIMIT + 10
    slow.pass_time(5.1)
    assert alice.closing
    assert not alice.input


def test_events_beyond_the_hard_bound_cut(slow: Driver) -> None:
    """Events are not dropped: whoever lags while more and more of them come is cut, and stops growing."""
    bob = slow.login("bob", rooms="#r")
    carol = slow.login("carol")
    dave = slow.login("dave", rooms="#r")
    slow.take(bob, 0)
    for _ in range(60):
        if not carol.holders:
            slow.send(carol, b"JOIN #r\nLEAVE #r\n" * 100)
        assert bob.waiting <= 4 * LIMIT + 200
        slow.pass_time(0.05)
    assert bob.closing
    assert slow.relay.counters.cut_slow == 1
    slow.take(bob, None)
    assert slow.lines(bob)[-1] == "BYE :too slow: too much output waits for you"
    assert "LEFT #r bob" in slow.lines(dave)


def test_a_cut_that_cuts_others(slow: Driver) -> None:
    """The LEFT of one that is cut can be too much for the next: all of them end, each once."""
    names = [f"peer{number}" for number in range(10)]
    peers = [slow.login(name, rooms="#r") for name in names]
    for peer in peers:
        slow.take(peer, 0)
        slow.send(peer, b"PING x\n")
    slow.pass_time(5.1)
    assert all(peer.closing for peer in peers)
    assert slow.relay.counters.cut_slow == 10
    for peer in peers:
        slow.take(peer, None)
    slow.check_empty()


# the hard bound of messages


@pytest.mark.parametrize("crlf", [False, True])
def test_a_message_larger_than_the_hard_bound_is_taken_by_an_empty_outbox(
    make_relay: type[Driver], crlf: bool
) -> None:
    relay = make_relay(Limits(waiting=1000))
    alice, bob = relay.login("alice", rooms="#r"), relay.login("bob", rooms="#r", crlf=crlf)
    relay.fresh(bob)
    for to in (b"bob", b"#r"):
        for payload in (b"\n" * 20_000, b"x" * 20_000):
            relay.send(alice, b"SEND %s %d\n%s" % (to, len(payload), payload))
            assert [event.text for event in relay.fresh(bob)] == [payload]
    assert not bob.lagging
    assert relay.relay.counters.dropped == 0


def test_a_message_beyond_the_hard_bound_is_dropped_and_told(slow: Driver) -> None:
    alice, bob, carol = slow.login("alice"), slow.login("bob"), slow.login("carol")
    slow.take(bob, 0)
    payload = b"\n" * LIMIT
    for sender in (alice, carol):
        for _ in range(4):
            slow.relay.receive(sender, b"SEND bob %d\n%s" % (len(payload), payload), slow.now)
            slow.settle()
    assert alice.holders == 1
    others = [slow.login(f"peer{number}") for number in range(4)]
    for sender in others:
        slow.send(sender, b"SEND bob %d\n%s" % (len(payload), payload))
        assert bob.waiting <= 4 * LIMIT
    assert bob.lagging
    assert slow.relay.counters.dropped > 0
    slow.take(bob, None)
    gaps = _gaps(slow, bob)
    assert sum(count for count, _ in gaps) == slow.relay.counters.dropped
    slow.send(others[0], b"SEND bob :fine again\n")
    assert _texts(slow, bob) == [b"fine again"]


def test_waiting_senders_go_on_in_the_order_they_sent(slow: Driver) -> None:
    """Whatever a held session had read is handled in order when it goes on, over many rounds."""
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(alice, _numbered(3000, size=60))
    rounds = 0
    while alice.backlog:
        slow.take(bob, LIMIT)
        rounds += 1
        assert rounds < 100
    slow.take(bob, None)
    assert [int(text) for text in _texts(slow, bob)] == list(range(3000))


def test_an_ended_session_that_is_held_is_heard_out(slow: Driver) -> None:
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(alice, b"send bob :%s\n" % (b"x" * 5000) * 3 + b"send bob :last\nSEND bob :cut sho")
    slow.end(alice)
    assert not alice.closing
    slow.take(bob, None)
    assert _texts(slow, bob)[-1] == b"last"
    assert [event.verb for event in slow.fresh(alice)] == [b"FAIL", b"BYE"]
    assert alice.gone


def test_an_ended_session_whose_answer_comes_while_it_is_heard_out(slow: Driver) -> None:
    """Its last answer is not the end as long as it has something to say."""
    alice, bob = slow.login("alice"), slow.login("bob")
    slow.take(bob, 0)
    slow.send(
        alice,
        b"send bob :%s\n" % (b"x" * 5000) * 3 + b"ASK 1 alice :myself\nANSWER 1 alice :yes\nSEND bob :last\n",
    )
    slow.end(alice)
    slow.take(bob, None)
    assert _texts(slow, bob)[-1] == b"last"
    assert [event.verb for event in slow.fresh(alice)] == [b"ASKED", b"ANSWERED", b"BYE"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, b"1970-01-01T00:00:00.000Z"), (1_700_000_000.1239, b"2023-11-14T22:13:20.123Z")],
)
def test_timestamps(seconds: float, text: bytes) -> None:
    assert timestamp(seconds) == text


def test_who_reads_too_little_is_cut_in_time(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(waiting=1000))
    alice, bob = relay.login("alice"), relay.login("bob")
    bob.room_left = 800
    relay.send(alice, b"SEND bob :%s\n" % (b"x" * 100) * 15)
    relay.pass_time(6)
    assert bob.reason.startswith(b"too slow")
