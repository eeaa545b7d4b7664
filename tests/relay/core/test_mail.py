"""Durable mail in the core: what is accepted, when it is said to be stored, what is sent again, what ends."""

# attributes change in calls, which mypy does not see
# mypy: disable-error-code="unreachable"

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hailer.errors import StoreError
from hailer.relay.core.accounts import Accounts
from hailer.relay.core.limits import Limits
from hailer.relay.store.memory import MemoryStore

if TYPE_CHECKING:
    from hailer.relay.core.batch import Batch, Loaded
    from tests.relay.core.conftest import Driver, Event, Peer

DAY = 86400.0


class FlakyStore(MemoryStore):
    """Fails when it is told to, before or after it has done what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = ""
        self.commits = 0

    def commit(self, batch: Batch) -> dict[int, int]:
        self.commits += 1
        if self.fails == "before":
            raise StoreError("the disk is full")
        freed = super().commit(batch)
        if self.fails == "after":
            raise StoreError("the disk did not say what became of it")
        return freed

    def recover(self) -> Loaded:
        if self.fails:
            raise StoreError("still full")
        return super().recover()


def _hello(relay: Driver, name: str, **options: str) -> Peer:
    """A connection of a name that has said HELLO; its events are left to be looked at, from WELCOME on."""
    peer = relay.connect(name)
    peer.seen = len(peer.taken)
    words = [f"HELLO {name}", *(f"{key}={value}" for key, value in options.items())]
    relay.send(peer, " ".join(words).encode() + b"\n")
    assert peer.online
    return peer


def _known(relay: Driver, *names: str) -> None:
    """Names that were here once."""
    for name in names:
        peer = relay.login(name)
        relay.send(peer, b"QUIT\n")


def _words(events: list[Event]) -> list[str]:
    return [
        b" ".join(event.words).decode() + ("" if event.text is None else f" :{event.text.decode()}")
        for event in events
    ]


def _mail(relay: Driver, peer: Peer) -> list[tuple[int, str, str, bytes]]:
    found = [event for event in relay.fresh(peer, whole=False) if event.verb == b"MAIL"]
    return [(int(e.words[1]), e.words[2].decode(), e.words[3].decode(), e.text or b"") for e in found]


def _posts(first: int, count: int, to: bytes = b"bob", size: int = 10) -> bytes:
    return b"".join(b"POST %d %s :%0*d\n" % (n, to, size, n) for n in range(first, first + count))


def test_mail_for_who_is_away(relay: Driver) -> None:
    _known(relay, "Bob")
    alice = relay.login("Alice")
    relay.send(alice, b"POST 1 bob :one\npost 2 BOB :two: with a colon\nPOST 3 bob 4\na\r\nb")
    assert _words(relay.fresh(alice)) == ["STORED 3"]
    bob = _hello(relay, "Bob")
    welcome, *mail = relay.fresh(bob)
    assert b"mail=3" in welcome.words
    assert _words(mail[:2]) == ["MAIL 1 Alice Bob :one", "MAIL 2 Alice Bob :two: with a colon"]
    assert (mail[2].words, mail[2].text, mail[2].counted) == (
        (b"MAIL", b"3", b"Alice", b"Bob"),
        b"a\r\nb",
        True,
    )
    relay.send(bob, b"ACK 2\n")
    relay.lose(bob)
    assert [number for number, *_ in _mail(relay, _hello(relay, "bob"))] == [3]


def test_mail_for_who_is_here_and_for_oneself(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"POST 1 bob :x\nPOST 2 alice :y\n")
    assert _mail(relay, bob) == [(1, "alice", "bob", b"x")]
    assert _words(relay.fresh(alice)) == ["STORED 2", "MAIL 1 alice alice :y"]


def test_nothing_is_said_before_its_commit_and_commits_are_grouped(relay: Driver) -> None:
    alice, carol, bob = relay.login("alice"), relay.login("carol"), relay.login("bob")
    relay.pass_time(1)
    relay.store_works = False
    relay.send(alice, b"POST 1 bob :one\n")
    relay.send(alice, b"POST 2 bob :two\n")  # these two wait for the commit that the first is in
    relay.send(carol, b"POST 1 bob :three\n")
    relay.send(alice, b"SEND bob :live\n")
    assert _words(relay.fresh(bob)) == ["MSG alice bob :live"]
    assert relay.fresh(alice) == relay.fresh(carol) == []
    assert relay.work()
    assert _words(relay.fresh(alice)) == ["STORED 1"]
    assert [n for n, *_ in _mail(relay, bob)] == [1]
    assert relay.work()
    assert _words(relay.fresh(alice)) == ["STORED 2"]
    assert _words(relay.fresh(carol)) == ["STORED 1"]
    assert _mail(relay, bob) == [(2, "alice", "bob", b"two"), (3, "carol", "bob", b"three")]
    assert relay.relay.counters.commits == 3  # and one for the names


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        (b"POST 2 bob :x", ["gap"]),
        (b"POST 1 nobody :x", ["unknown"]),
        (b"POST 1 #r :x", ["not-joined"]),
        (b"POST 1 !? :x", ["bad-name"]),
        (b"POST 0 bob :x", ["bad-syntax"]),
        (b"POST one bob :x", ["bad-syntax"]),
        (b"POST +1 bob :x", ["bad-syntax"]),
        (b"POST 1_0 bob :x", ["bad-syntax"]),
        (b"POST 99999999999999999999 bob :x", ["gap"]),
        (b"POST 1 bob", ["bad-syntax"]),
        (b"POST bob :x", ["bad-syntax"]),
        (b"POST 1 bob a :x", ["bad-syntax"]),
        (b"POST 1 bob :\x07", ["bad-text"]),
    ],
)
def test_a_refused_post_uses_up_no_number(relay: Driver, line: bytes, codes: list[str]) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, line + b"\n")
    assert [code for code, _ in relay.codes(alice)] == codes
    relay.send(alice, b"POST 1 bob :right\n")
    assert _words(relay.fresh(alice)) == ["STORED 1"]
    assert [text for *_, text in _mail(relay, bob)] == [b"right"]


def test_what_is_sent_again_is_stored_once(relay: Driver) -> None:
    _known(relay, "bob")
    alice = _hello(relay, "alice", session="s")
    relay.store_works = False
    relay.send(alice, _posts(1, 3))
    relay.lose(alice)  # before its commit
    alice = _hello(relay, "alice", session="s")
    assert b"stored=0" in relay.fresh(alice)[0].words
    relay.send(alice, _posts(1, 5))
    while relay.work():
        pass
    assert _words(relay.fresh(alice))[-1] == "STORED 5"
    relay.store_works = True
    relay.send(alice, _posts(1, 5) + b"PING done\n")
    assert _words(relay.fresh(alice)) == ["PONG done"]
    for seconds in (121, 180, 7 * DAY):
        relay.jump(seconds)
        if alice.gone:
            alice = _hello(relay, "alice", session="s")
            assert b"stored=5" in relay.fresh(alice)[0].words
        relay.send(alice, _posts(2, 4) + b"PING done\n")
        assert _words(relay.fresh(alice))[-1] == "PONG done"
    assert [n for n, *_ in _mail(relay, _hello(relay, "bob"))] == [1, 2, 3, 4, 5]


def test_a_new_relay_on_the_same_store_goes_on(relay: Driver, make_relay: type[Driver]) -> None:
    relay.login("bob", rooms="#Room")
    alice = _hello(relay, "alice", session="s")
    relay.send(alice, b"JOIN #room\n" + _posts(1, 3) + b"POST 4 #room :to all\n")
    relay.jump(1200)
    later = make_relay(store=relay.store, now=5.0, wall=0.0)  # another boot of the machine, another clock
    alice = _hello(later, "alice", session="s")
    assert b"stored=4" in later.fresh(alice)[0].words
    later.send(alice, _posts(4, 2) + b"POST 6 #room :here too\n")
    assert _words(later.fresh(alice)) == ["STORED 6"]
    bob = _hello(later, "bob")
    assert [n for n, *_ in _mail(later, bob)] == [1, 2, 3, 4, 5, 6]
    later.send(bob, b"ACK 6\n")
    later.pass_time(1)
    again = make_relay(store=relay.store)
    assert _mail(again, _hello(again, "bob")) == []
    assert again.relay.mail.journal.age >= 600


def test_another_session_of_the_name_counts_for_itself(relay: Driver) -> None:
    _known(relay, "bob")
    for session in ("a", "b"):
        alice = _hello(relay, "alice", session=session)
        relay.fresh(alice)
        relay.send(alice, _posts(1, 2))
        assert _words(relay.fresh(alice)) == ["STORED 2"]
        relay.send(alice, b"QUIT\n")
    assert len(_mail(relay, _hello(relay, "bob"))) == 4


@pytest.mark.parametrize("fails", ["before", "after"])
def test_a_store_that_fails(make_relay: type[Driver], fails: str) -> None:
    store = FlakyStore()
    relay = make_relay(store=store)
    alice, bob = _hello(relay, "alice", session="s"), relay.login("bob")
    relay.send(alice, _posts(1, 1))
    relay.pass_time(1)
    relay.fresh(alice), relay.fresh(bob)
    store.fails = fails
    relay.send(alice, _posts(2, 2))
    assert relay.codes(alice) == [("store", "POST")] * 2
    relay.send(alice, b"POST 2 bob :again\nSEND bob :live\nJOIN #r\n")
    assert [event.verb for event in relay.fresh(alice)] == [b"FAIL", b"JOINED"]
    assert _words(relay.fresh(bob)) == ["MSG alice bob :live"]
    commits = store.commits
    relay.pass_time(3.5)
    assert store.commits == commits  # nothing is tried but what is to show that it works again
    store.fails = ""
    relay.pass_time(2)
    said = _words(relay.fresh(alice))
    # what the store turned out to hold is stored, and is not stored again
    assert said == (["STORED 3"] if fails == "after" else [])
    relay.send(alice, _posts(2, 3))
    assert _words(relay.fresh(alice)) == ["STORED 4"]
    assert [int(text) for *_, text in _mail(relay, bob)] == [2, 3, 4]
    relay.lose(bob)
    assert [int(text) for *_, text in _mail(relay, _hello(relay, "bob"))] == [1, 2, 3, 4]


def test_a_store_that_fails_while_more_is_accepted(make_relay: type[Driver]) -> None:
    store = FlakyStore()
    relay = make_relay(store=store)
    alice, carol, bob = relay.login("alice"), relay.login("carol"), relay.login("bob")
    relay.pass_time(1)
    relay.store_works = False
    store.fails = "before"
    relay.send(alice, _posts(1, 2))
    relay.send(alice, _posts(3, 1))
    relay.send(carol, _posts(1, 1))
    relay.work()
    assert relay.codes(alice) == [("store", "POST")] * 3
    assert relay.codes(carol) == [("store", "POST")]
    store.fails = ""
    relay.store_works = True
    relay.work()
    relay.pass_time(2)
    relay.send(carol, _posts(1, 1))
    relay.send(alice, _posts(1, 3))
    assert _words(relay.fresh(alice)) == ["STORED 3"]
    assert [n for n, *_ in _mail(relay, bob)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "limits", [Limits(mail_entries=3), Limits(mail_bytes=3 * len("MAIL 1 alice bob :1234567890\n"))]
)
def test_a_full_mailbox(make_relay: type[Driver], limits: Limits) -> None:
    relay = make_relay(limits)
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, _posts(1, 3))
    relay.send(alice, _posts(4, 2) + b"POST 4 alice :elsewhere\n")
    assert [code for code, _ in relay.codes(alice)] == ["quota", "gap"]
    assert sum(relay.relay.counters.met.values()) == 1
    relay.send(bob, b"ACK 3\n")
    relay.pass_time(1)
    relay.send(alice, _posts(5, 3))
    assert _words(relay.fresh(alice)) == ["STORED 7"]
    relay.send(alice, _posts(8, 1))
    assert relay.codes(alice) == [("quota", "POST")]
    assert [n for n, *_ in _mail(relay, bob)] == [1, 2, 3, 4, 5, 6]


def test_a_block_that_does_not_fit_as_a_whole_fits_in_part(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_entries=3))
    alice, _ = relay.login("alice"), relay.login("bob")
    relay.send(alice, _posts(1, 5))
    events = relay.fresh(alice)
    assert [event.words[1] for event in events if event.verb == b"FAIL"] == [b"quota", b"gap"]
    assert _words(events)[-1] == "STORED 3"


def test_acks_that_mean_nothing(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, _posts(1, 3))
    relay.fresh(bob)
    relay.send(bob, b"ACK 4\nACK x\nACK\nACK 99999999999999\nACK 2\nACK 1\nACK 2\nACK 0\n")
    assert [code for code, _ in relay.codes(bob)] == ["gap", "bad-syntax", "bad-syntax", "gap"]
    relay.lose(bob)
    assert [n for n, *_ in _mail(relay, _hello(relay, "bob"))] == [3]


def test_a_takeover(relay: Driver) -> None:
    """The new connection is told of the old one's posts, and the old one's words count no more."""
    _known(relay, "bob")
    old = _hello(relay, "alice", session="s")
    relay.send(old, _posts(1, 1, to=b"alice"))
    relay.pass_time(1)
    relay.store_works = False
    relay.send(old, _posts(2, 1, to=b"alice"))
    relay.take(old, 0)
    new = _hello(relay, "alice", session="s")
    welcome, *mail = relay.fresh(new)
    assert b"stored=1" in welcome.words
    relay.send(old, b"ACK 1\nPOST 3 bob :late\n")
    while relay.work():
        pass
    assert "STORED 2" in _words(mail + relay.fresh(new))
    relay.send(new, _posts(3, 1, to=b"alice"))
    while relay.work():
        pass
    assert _words(relay.fresh(new)) == ["STORED 3", "MAIL 3 alice alice :0000000003"]
    relay.store_works = True
    relay.lose(new)
    assert [n for n, *_ in _mail(relay, _hello(relay, "alice"))] == [1, 2, 3]


@pytest.mark.parametrize("goodbye", ["QUIT", "end"])
def test_who_leaves_right_after_posting_is_told_what_became_of_it(relay: Driver, goodbye: str) -> None:
    _known(relay, "bob")
    alice = relay.login("alice")
    relay.store_works = False
    relay.send(alice, _posts(1, 2) + (b"QUIT :gone\nPOST 3 bob :after\n" if goodbye == "QUIT" else b""))
    if goodbye == "end":
        relay.end(alice)
    assert not alice.closing
    relay.pass_time(1)
    relay.work()
    assert _words(relay.fresh(alice)) == [
        "STORED 2",
        "BYE :gone" if goodbye == "QUIT" else "BYE :end of input",
    ]
    assert alice.gone
    relay.store_works = True
    assert len(_mail(relay, _hello(relay, "bob"))) == 2


def test_who_ends_its_input_gets_its_mail(relay: Driver) -> None:
    """As by printf 'HELLO bob\\n' | ncat, also when there are several pages of it."""
    _known(relay, "bob")
    alice = relay.login("alice")
    for first in range(1, 2001, 100):
        relay.send(alice, _posts(first, 100, size=900))
    relay.store_works = False
    bob = relay.connect()
    relay.send(bob, b"HELLO bob\n")
    relay.end(bob)
    assert not bob.closing
    while relay.work():
        pass
    relay.settle()
    assert bob.gone
    assert [n for n, *_ in _mail(relay, bob)] == list(range(1, 2001))
    assert relay.peek(bob)[-1].text == b"end of input"


# rooms


def test_a_room_is_posted_to_members_who_are_away_until_they_leave(relay: Driver) -> None:
    alice, bob = relay.login("alice", rooms="#Room"), relay.login("bob", rooms="#room")
    carol = relay.login("carol", rooms="#ROOM")
    relay.lose(bob)
    relay.send(alice, b"POST 1 #ROOM :one\n")
    relay.send(carol, b"LEAVE #room\n")
    relay.send(alice, b"POST 2 #room 3\na\nb")
    assert [event.verb for event in relay.fresh(alice)][-2:] == [b"LEFT", b"STORED"]
    assert _mail(relay, carol) == [(1, "alice", "#Room", b"one")]
    bob = _hello(relay, "bob")
    assert _mail(relay, bob) == [(1, "alice", "#Room", b"one"), (2, "alice", "#Room", b"a\nb")]
    # away, one is a member for what is posted, and may post; LEAVE ends it also from outside of the room
    relay.send(bob, b"POST 1 #room :three\nLEAVE #room\nLEAVE #room\n")
    assert _words(relay.fresh(bob))[:1] == ["LEFT #room bob"]
    relay.send(alice, b"POST 3 #room :four\n")
    assert [text for *_, text in _mail(relay, bob)] == []
    assert [text for *_, text in _mail(relay, alice)] == [b"three"]


def test_a_full_member_misses_it_and_is_told(make_relay: type[Driver]) -> None:
    store = MemoryStore()
    relay = make_relay(Limits(mail_entries=2), store=store)
    alice, bob, carol = (relay.login(name, rooms="#r") for name in ("alice", "bob", "carol"))
    relay.lose(bob)
    relay.send(alice, b"".join(b"POST %d #r :x\n" % n for n in range(1, 3)))
    relay.send(carol, b"ACK 2\n")
    relay.pass_time(1)
    relay.send(alice, b"POST 3 #r :x\nPOST 4 #r :x\n")
    assert _words(relay.fresh(alice))[-1] == "STORED 4"
    assert len(_mail(relay, carol)) == 4
    relay.pass_time(1)
    later = make_relay(Limits(mail_entries=2), store=store)
    bob = _hello(later, "bob")
    later.pass_time(1)
    assert [event.verb for event in later.fresh(bob)] == [b"WELCOME", b"MAIL", b"MAIL"]
    later.send(bob, b"ACK 2\n")
    (gap,) = later.fresh(bob)
    assert gap.words == (b"GAP", b"2", b"#r")
    later.lose(bob)
    assert len(later.fresh(_hello(later, "bob"))) == 1


# slow receivers


def test_mail_waits_for_a_slow_reader_and_nobody_for_either(make_relay: type[Driver]) -> None:
    relay = make_relay(checks=False)
    alice, bob, carol = relay.login("alice"), relay.login("bob"), relay.login("carol")
    relay.take(bob, 0)
    for first in range(1, 8001, 100):
        relay.send(alice, _posts(first, 100, size=500))
        assert not alice.holders
    assert _words(relay.fresh(alice))[-1] == "STORED 8000"
    assert bob.waiting < 800_000
    relay.pass_time(60)
    assert not bob.closing
    for _ in range(200):
        relay.take(bob, 5_000)
        relay.pass_time(1)
    assert bob.waiting < 800_000
    # something else that waits for it counts as ever
    relay.take(bob, 0)
    relay.send(carol, b"SEND bob :live\n")
    relay.pass_time(4)
    assert not bob.closing
    relay.take(bob, None)
    assert [n for n, *_ in _mail(relay, bob)] == list(range(1, 8001))
    assert not bob.mailing
    assert not bob.careful
    relay.send(alice, _posts(8001, 1))
    assert [n for n, *_ in _mail(relay, bob)] == [8001]


def test_a_reader_of_mail_that_lets_a_live_message_wait_is_cut(make_relay: type[Driver]) -> None:
    relay = make_relay(checks=False)
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.take(bob, 10)
    relay.send(alice, _posts(1, 100, size=500))
    relay.pass_time(60)
    relay.send(alice, b"SEND bob :live\n")
    relay.pass_time(4.9)
    assert not bob.closing
    relay.pass_time(0.2)
    assert bob.closing
    assert len(_mail(relay, _hello(relay, "bob"))) == 100


def test_a_slow_reader_after_its_mail_is_cut_as_ever(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, _posts(1, 1))
    relay.take(bob, 0)
    relay.send(alice, b"SEND bob :live\n")
    relay.pass_time(5.1)
    assert bob.closing


@pytest.mark.parametrize("crlf", [False, True])
def test_pages_are_taken_up_in_the_middle_of_a_segment(make_relay: type[Driver], crlf: bool) -> None:
    relay = make_relay(checks=False)
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"".join(b"POST %d bob %d\n%s" % (n, n, b"\n" * n) for n in range(1, 301)))
    relay.send(bob, b"ACK 150\n")
    relay.lose(bob)
    bob = relay.connect()
    relay.send(bob, b"HELLO bob\r\n" if crlf else b"HELLO bob\n")
    assert [(n, text) for n, _, _, text in _mail(relay, bob)] == [(n, b"\n" * n) for n in range(151, 301)]


def test_who_posts_more_than_is_stored_waits(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_entries=1 << 30, mail_bytes=1 << 30), checks=False)
    alice, bob, carol = relay.login("alice"), relay.login("bob"), relay.login("carol")
    relay.pass_time(1)
    relay.store_works = False
    number = 1
    while not alice.holders:
        relay.send(alice, _posts(number, 50, size=1000))
        number += 50
        assert relay.relay.mail.journal.size < 20 << 20
    relay.send(carol, b"SEND bob :live\n")
    assert _words(relay.fresh(bob)) == ["MSG carol bob :live"]
    while relay.work():
        pass
    assert not alice.holders
    assert _words(relay.fresh(alice))[-1] == f"STORED {number - 1}"


# what ends


def test_mail_expires_and_the_sender_who_asked_is_told(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_seconds=10 * DAY, idle_seconds=100 * DAY))
    _known(relay, "bob")
    alice, carol = _hello(relay, "alice", notices="1"), _hello(relay, "carol")
    relay.send(alice, _posts(1, 3))
    relay.send(carol, _posts(1, 1))
    relay.jump(9 * DAY)
    relay.send(alice, _posts(4, 1))
    relay.fresh(alice)
    relay.jump(2 * DAY)
    (notice,) = relay.fresh(alice)
    assert notice.words == (b"EXPIRED", b"1", b"bob", b"3")
    assert notice.text == b"since 2023-11-14T22:30:00.000Z"
    assert relay.relay.counters.expired == 4
    relay.fresh(carol)
    relay.send(carol, b"PING\n")
    assert len(relay.fresh(carol)) == 1
    assert [n for n, *_ in _mail(relay, _hello(relay, "bob"))] == [5]
    relay.send(alice, b"ACK 1\n")
    assert relay.codes(alice) == []


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 3650 * DAY, -3650 * DAY])
def test_the_wall_clock_expires_nothing(make_relay: type[Driver], jump: float) -> None:
    relay = make_relay()
    _known(relay, "bob")
    alice = relay.login("alice")
    relay.send(alice, _posts(1, 2))
    relay.relay.clock.wall += jump
    relay.jump(3600)
    later = make_relay(store=relay.store, now=77.0, wall=1_700_000_000.0 - jump)
    later.jump(3600)
    assert [n for n, *_ in _mail(later, _hello(later, "bob"))] == [1, 2]


def test_a_name_that_nobody_uses_is_forgotten_and_numbers_go_on(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_seconds=10 * DAY))
    alice, bob = relay.login("alice"), relay.login("bob", rooms="#r")
    relay.send(alice, _posts(1, 5))
    relay.send(bob, b"ACK 5\nQUIT\n")
    relay.lose(alice)
    relay.pass_time(1)
    relay.jump(11 * DAY)
    assert not relay.relay.mail.boxes.by_key
    assert not relay.relay.mail.boxes.rooms
    later = make_relay(store=relay.store)
    alice = later.login("alice")
    later.send(alice, _posts(1, 1))
    assert later.codes(alice) == [("unknown", "POST")]
    bob = later.login("bob")
    later.send(alice, _posts(1, 1))
    ((number, *_),) = _mail(later, bob)
    assert number > 5


def test_a_room_does_not_keep_a_name_that_nobody_uses(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_seconds=10 * DAY))
    relay.send(relay.login("ghost", rooms="#r"), b"QUIT\n")
    for day in range(1, 23):
        relay.send(relay.login("alice", rooms="#r"), b"POST 1 #r :of today\nQUIT\n")
        relay.jump(DAY)
        members = {box.key for box in relay.relay.mail.boxes.rooms[b"#r"].boxes}
        assert (b"ghost" in members) == (day <= 10), day
    assert list(relay.relay.mail.boxes.by_key) == [b"alice"]
    later = make_relay(store=relay.store)
    assert [box.key for box in later.relay.mail.boxes.rooms[b"#r"].boxes] == [b"alice"]


def test_too_many_names(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mailboxes=2))
    _known(relay, "bob", "carol")
    eve = relay.login("eve")
    relay.send(eve, b"POST 1 bob :x\nACK 1\nJOIN #r\n")
    assert [event.verb for event in relay.fresh(eve)] == [b"FAIL", b"FAIL", b"JOINED"]
    relay.jump(2 * 3600)
    assert relay.login("eve2").box is not None  # those long away, with nothing waiting, make way


def test_a_session_too_many_forgets_the_one_that_posted_longest_ago(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(sessions=2))
    _known(relay, "bob")
    for session in ("a", "b", "a", "c"):
        alice = _hello(relay, "alice", session=session)
        relay.send(alice, _posts(1, 1) + b"QUIT\n")
        relay.pass_time(10)
    stored = {}
    for session in ("a", "b", "c"):
        alice = _hello(relay, "alice", session=session)
        stored[session] = b"stored=1" in relay.fresh(alice)[0].words
        relay.send(alice, b"QUIT\n")
    assert stored == {"a": False, "b": True, "c": True}


def test_where_only_accounts_log_in_only_they_have_mailboxes(relay: Driver) -> None:
    alice = relay.login("alice")
    _known(relay, "bob")
    relay.relay.accounts = Accounts((), guests=True)
    relay.relay.mail.boxes.keep(Accounts((), guests=False))
    relay.send(alice, b"POST 1 bob :x\n")
    assert relay.codes(alice) == [("unknown", "POST")]


def test_what_was_accepted_is_stored_at_the_end(make_relay: type[Driver]) -> None:
    relay = make_relay()
    alice = relay.login("alice", rooms="#r")
    _known(relay, "bob")
    relay.pass_time(1)
    relay.store_works = False
    relay.send(alice, _posts(1, 1))
    relay.send(alice, _posts(2, 1) + b"JOIN #late\n")
    relay.relay.shut_down(relay.now)
    relay.settle()
    assert not relay.relay.mail.finished
    while relay.work():
        pass
    assert relay.relay.mail.finished
    later = make_relay(store=relay.store)
    assert len(_mail(later, _hello(later, "bob"))) == 2
    assert set(later.relay.mail.boxes.rooms) == {b"#r", b"#late"}


# any splitting


_POST = st.tuples(st.sampled_from([b"bob", b"BOB", b"carol", b"nobody", b"#r"]), st.integers(-1, 1))
_LINES = st.lists(
    st.one_of(_POST, st.sampled_from([b"SEND bob :live\n", b"PING x\n", b"SEND #r :live\n"])), max_size=30
)


@settings(settings.get_profile("relay"))
@given(_LINES, st.lists(st.integers(0, 1500), max_size=12), st.booleans())
def test_any_splitting_is_the_same(
    make_relay: type[Driver], lines: list[bytes | tuple[bytes, int]], cuts: list[int], crlf: bool
) -> None:
    """Posts that come as one block, byte by byte, or in any other pieces: the same is stored and said."""
    stream, number = b"", 1
    end = b"\r\n" if crlf else b"\n"
    for line in lines:
        if isinstance(line, bytes):
            stream += line.replace(b"\n", end)
            continue
        to, off = line
        stream += b"POST %d %s :text %d" % (max(1, number + off), to, len(stream)) + end
        number += off == 0 and to not in (b"nobody", b"#r")
    results = []
    for places in (sorted(cuts), [], range(len(stream))):
        relay = make_relay(checks=False)
        bob, carol = relay.login("bob", rooms="#r"), relay.login("carol")
        alice = relay.login("alice", crlf=crlf)
        at = 0
        for place in [*places, len(stream)]:
            if at < place <= len(stream):
                relay.send(alice, stream[at:place])
                at = place
        fails = [event.words[1] for event in relay.fresh(alice) if event.verb == b"FAIL"]
        results.append((fails, _mail(relay, bob), _mail(relay, carol)))
    assert results[0] == results[1] == results[2]


def test_a_large_post_to_a_large_room_is_refused(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(rooms=100), checks=False)
    alice = relay.login("alice", rooms="#r")
    for number in range(80):
        relay.lose(relay.login(f"m{number}", rooms="#r"))
    relay.send(alice, b"POST 1 #r 1000000\n" + b"x" * 1_000_000)
    assert relay.codes(alice) == [("quota", "POST")]
    relay.send(alice, b"POST 1 #r 500000\n" + b"x" * 500_000)
    assert _words(relay.fresh(alice)) == ["STORED 1"]


def test_the_sizes_of_all_mailboxes_are_kept_together(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(mail_total=1000))
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, _posts(1, 10, size=50))
    relay.send(alice, _posts(11, 10, to=b"alice", size=50))
    assert relay.codes(alice)[0] == ("quota", "POST")
    for peer in (bob, alice):
        relay.send(peer, b"ACK %d\n" % (peer.box.last if peer.box else 0))
    relay.pass_time(1)
    boxes = relay.relay.mail.boxes
    assert boxes.size == sum(box.size for box in boxes.by_key.values()) == 0
