"""Accounts in the core: who gets which name, who is denied and how late, who takes over from whom."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hailer.relay.core import accounts as module
from hailer.relay.core.accounts import Account, Accounts
from hailer.relay.core.clock import Clock
from hailer.relay.core.denials import Denials, source_of
from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from tests.relay.core.conftest import Driver, Peer

DENIED = "FAIL denied HELLO :no account has this name and token; ask who runs the relay for one"


def account(name: str, token: str = "", made: str = "2026-11-21") -> Account:
    """An account; its token is its name in small letters and -token unless told otherwise."""
    digest = sha256((token or f"{name.lower()}-token").encode()).digest()
    return Account(name.encode(), digest, made.encode())


def accounts(*names: str, guests: bool = False) -> Accounts:
    return Accounts(map(account, names), guests=guests)


@pytest.fixture
def closed(relay: Driver) -> Driver:
    """A relay for Ann and Bob only."""
    relay.relay.set_accounts(accounts("Ann", "Bob"), relay.now)
    return relay


@pytest.fixture
def mixed(relay: Driver) -> Driver:
    """A relay for all, where Ann and Bob have accounts."""
    relay.relay.set_accounts(accounts("Ann", "Bob", guests=True), relay.now)
    return relay


def connect(relay: Driver, host: str = "", certified: bytes = b"") -> Peer:
    """A connection from an address, of which the greeting is thrown away."""
    peer = relay.connect()
    peer.host = host
    peer.certified = certified
    relay.lines(peer)
    return peer


def login(relay: Driver, name: str, options: str = "") -> Peer:
    """A connection that is in with its token."""
    peer = connect(relay)
    relay.send(peer, f"HELLO {name} token={name.lower()}-token{options}\n".encode())
    assert peer.online
    relay.lines(peer)
    return peer


# the table


@pytest.mark.parametrize(
    ("key", "token", "certified", "guests", "allowed", "shown"),
    [
        (b"ann", b"ann-token", b"", False, True, b"Ann"),
        (b"ann", b"ann-token", b"", True, True, b"Ann"),
        (b"ann", b"ann-token", b"ann", False, True, b"Ann"),
        (b"ann", None, b"ann", False, True, b"Ann"),
        (b"ann", b"wrong", b"ann", False, True, b"Ann"),
        (b"ann", b"wrong", b"", False, False, b""),
        (b"ann", b"bob-token", b"", False, False, b""),
        (b"ann", b"", b"", False, False, b""),
        (b"ann", None, b"", False, False, b""),
        (b"ann", None, b"", True, False, b""),
        (b"ann", b"ann-token", b"bob", False, False, b""),
        (b"ann", b"ann-token", b"carl", True, False, b""),
        (b"carl", b"ann-token", b"", False, False, b""),
        (b"carl", None, b"", False, False, b""),
        (b"carl", None, b"carl", False, False, b""),
        (b"carl", None, b"", True, True, b""),
        (b"carl", b"anything", b"", True, True, b""),
        (b"carl", None, b"carl", True, True, b""),
        (b"carl", None, b"ann", True, False, b""),
    ],
)
def test_admit(
    key: bytes, token: bytes | None, certified: bytes, guests: bool, allowed: bool, shown: bytes
) -> None:
    verdict = accounts("Ann", "Bob", guests=guests).admit(key, token, certified)
    assert (verdict.allowed, verdict.account, bool(verdict.why)) == (allowed, shown, not allowed)


def test_the_empty_token_opens_nothing() -> None:
    """Not even an account whose digest is that of nothing, or of zeros."""
    table = Accounts([Account(b"a", sha256(b"").digest(), b""), Account(b"b", bytes(32), b"")], guests=False)
    assert not any(table.admit(key, token, b"").allowed for key in (b"a", b"b") for token in (b"", None))


def test_every_question_costs_the_same_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        seen.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(module, "compare_digest", compare)
    table = accounts("Ann")
    for key in (b"ann", b"nobody"):
        for token in (None, b"", b"ann-token", b"x" * 1000):
            for certified in (b"", b"ann", b"other"):
                table.admit(key, token, certified)
    assert seen == [(32, 32)] * 24


def test_no_digest_is_shown() -> None:
    digest = account("Ann").digest
    shown = f"{accounts('Ann')!r} {list(accounts('Ann'))!r} {accounts('Ann').admit(b'ann', b'x', b'')!r}"
    assert digest.hex() not in shown
    assert repr(digest)[2:-1] not in shown


# HELLO


def test_an_account_gets_in_under_its_own_spelling(closed: Driver) -> None:
    peer = connect(closed)
    closed.send(peer, b"HELLO ANN token=ann-token\n")
    assert closed.lines(peer) == ["WELCOME Ann session=id1 stored=0 relay=hailer/9 mail=0 store=m"]
    assert closed.relay.counters.denied == 0


def test_unknown_names_and_wrong_tokens_are_one(closed: Driver) -> None:
    login(closed, "Bob")
    attempts = (
        "HELLO ann",
        "HELLO ann token=wrong",
        "HELLO ann token=ann-token2",
        "HELLO bob token=ann-token",  # who is here
        "HELLO bob session=id1",  # and whose session id was found out
        "HELLO nobody token=ann-token",
        "HELLO nobody",
    )
    for number, attempt in enumerate(attempts):
        peer = connect(closed, host=f"192.0.2.{number}")
        closed.send(peer, attempt.encode() + b"\n")
        assert closed.lines(peer) == []
        closed.pass_time(0.49)
        assert closed.lines(peer) == []
        closed.pass_time(0.02)
        assert closed.lines(peer) == [DENIED]
        assert not peer.online
    assert closed.relay.counters.denied == 7
    assert closed.relay.counters.refused == 7


def test_guests_are_let_in_beside_accounts(mixed: Driver) -> None:
    guest = connect(mixed)
    mixed.send(guest, b"HELLO carl\n")
    assert guest.online
    other = connect(mixed)
    mixed.send(other, b"HELLO carl token=x\n")
    assert mixed.codes(other) == [("taken", "HELLO")]
    thief = connect(mixed)
    mixed.send(thief, b"HELLO ann\n")
    mixed.pass_time(1)
    assert mixed.lines(thief) == [DENIED]


def test_a_certificate_is_as_good_as_a_token_for_its_name_alone(closed: Driver) -> None:
    ann = connect(closed, certified=b"ann")
    closed.send(ann, b"HELLO bob token=bob-token\n")
    closed.pass_time(1)
    (line,) = closed.lines(ann)
    assert line.startswith("FAIL denied HELLO :your certificate is for another name")
    closed.send(ann, b"HELLO Ann\n")
    assert ann.online


# takeover


def test_the_same_credential_replaces_and_another_does_not(closed: Driver) -> None:
    first = login(closed, "Ann")
    closed.send(first, b"JOIN #r\n")
    bob = login(closed, "Bob")
    thief = connect(closed)
    closed.send(thief, b"HELLO ann token=bob-token\n")
    closed.pass_time(1)
    assert closed.lines(thief) == [DENIED]
    closed.send(bob, b"SEND ann :still you?\n")
    closed.send(first, b"SEND bob :yes\n")
    assert closed.lines(first)[-1] == "MSG Bob Ann :still you?"
    assert closed.lines(bob) == ["MSG Ann Bob :yes"]
    second = connect(closed)
    closed.send(second, b"HELLO ann token=ann-token\n")
    assert closed.lines(second) == ["WELCOME Ann session=id3 stored=0 relay=hailer/9 mail=0 store=m"]
    assert closed.lines(first) == ["BYE :replaced"]
    closed.send(bob, b"SEND ann :and you?\nWHO #r\n")
    assert closed.lines(second) == ["MSG Bob Ann :and you?"]
    assert closed.lines(bob) == ["HERE #r Ann", "END WHO"]


def test_a_takeover_with_its_session_keeps_the_session(closed: Driver) -> None:
    login(closed, "Ann")
    peer = connect(closed)
    closed.send(peer, b"HELLO ann token=ann-token session=id1\n")
    assert closed.lines(peer) == ["WELCOME Ann session=id1 stored=0 relay=hailer/9 mail=0 store=m"]


def test_what_the_old_connection_still_says_counts_for_nothing(closed: Driver) -> None:
    """Neither what comes after its BYE, nor what it said before and had to wait with."""
    old = login(closed, "Ann")
    bob = login(closed, "Bob")
    closed.take(bob, 0)
    while not old.holders:
        closed.send(old, b"SEND bob :" + b"x" * 60_000 + b"\n")
    closed.relay.receive(old, b"JOIN #late\nSEND bob :late\n", closed.now)  # read before it was held
    closed.settle()
    closed.take(old, 0)
    new = login(closed, "Ann")
    assert old.closing
    assert not old.gone
    for late in (b"JOIN #later\n", b"QUIT\n", b"HELLO ann token=ann-token\n", b""):
        closed.relay.receive(old, late, closed.now)
        closed.settle()
    closed.relay.end(old, closed.now)
    closed.settle()
    closed.take(bob, None)
    closed.take(old, None)
    assert closed.relay.directory.sessions[b"ann"] is new
    assert not closed.relay.directory.rooms
    assert b"late" not in bob.taken
    closed.send(bob, b"SEND ann :hello\n")
    assert closed.lines(new) == ["MSG Bob Ann :hello"]


@pytest.mark.parametrize("slow", [False, True])
def test_a_page_that_is_read_for_the_old_connection_goes_to_the_new_one(closed: Driver, slow: bool) -> None:
    bob = login(closed, "Bob")
    for number in range(1, 41):
        closed.send(bob, b"POST %d ann :%s\n" % (number, b"x" * 30_000))  # several pages
    closed.store_works = False
    old = connect(closed)
    closed.send(old, b"HELLO ann token=ann-token\n")
    assert closed.waiting_work is not None
    new = login(closed, "Ann")
    if slow:
        closed.take(new, 0)
    closed.work()
    closed.store_works = True
    closed.take(new, None)
    while closed.work():
        pass
    mail = [event.words[1] for event in closed.peek(new) if event.verb == b"MAIL"]
    assert mail == [b"%d" % number for number in range(1, 41)]
    assert b"MAIL" not in old.taken


def test_an_ack_of_the_old_connection_counts_for_nothing(closed: Driver) -> None:
    bob = login(closed, "Bob")
    closed.send(bob, b"POST 1 ann :one\nPOST 2 ann :two\n")
    old = login(closed, "Ann")
    closed.take(old, 0)
    new = connect(closed)
    closed.send(new, b"HELLO ann token=ann-token\n")
    assert not old.gone
    closed.relay.receive(old, b"ACK 2\nPOST 1 bob :stale\n", closed.now)
    closed.settle()
    closed.lose(new)
    third = connect(closed)
    closed.send(third, b"HELLO ann token=ann-token\n")
    assert closed.lines(third)[0].split()[5] == "mail=2"
    assert b"stale" not in bob.taken


def test_posts_on_their_way_belong_to_the_session_that_takes_over(closed: Driver) -> None:
    old = login(closed, "Ann", " session=s")
    closed.store_works = False
    closed.send(old, b"POST 1 bob :one\nPOST 2 bob :two\n")
    new = connect(closed)
    closed.send(new, b"HELLO ann token=ann-token session=s\n")
    assert closed.lines(new)[0].split()[2:4] == ["session=s", "stored=0"]
    closed.send(new, b"POST 1 bob :one\nPOST 2 bob :two\nPOST 3 bob :three\n")
    closed.store_works = True
    while closed.work():
        pass
    assert closed.lines(new)[-1] == "STORED 3"
    bob = connect(closed)
    closed.send(bob, b"HELLO bob token=bob-token\n")
    assert [line.split(":")[1] for line in closed.lines(bob)[1:]] == ["one", "two", "three"]


# the wait


def test_while_a_no_waits_nothing_else_is_done(closed: Driver) -> None:
    peer = connect(closed)
    closed.send(peer, b"HELLO ann token=x\nPING 1\nHELLO ann token=y\nHELLO ann token=ann-token\nPING 2\n")
    closed.pass_time(0.4)
    assert closed.lines(peer) == []
    closed.pass_time(0.2)
    assert closed.lines(peer) == [DENIED, "PONG 1"]
    closed.pass_time(1)
    assert closed.lines(peer)[:2] == [
        DENIED,
        "WELCOME Ann session=id1 stored=0 relay=hailer/9 mail=0 store=m",
    ]
    assert peer.online


def test_the_third_failure_is_the_last(closed: Driver) -> None:
    peer = connect(closed)
    closed.send(peer, b"HELLO ann token=x\n" * 3 + b"HELLO ann token=ann-token\n")
    closed.pass_time(0.5 + 1 + 2)
    assert closed.lines(peer) == [DENIED] * 3 + ["BYE :too many failed log-ins"]
    assert peer.gone
    assert closed.relay.counters.cut_other == 1
    assert closed.relay.counters.logins == 0
    closed.check_empty()


def waits(relay: Driver, host: str) -> float:
    """How long a failure from there waits."""
    peer = connect(relay, host)
    relay.send(peer, b"HELLO ann token=x\n")
    begun = relay.now
    while not relay.lines(peer):
        relay.pass_time(0.125)
    relay.send(peer, b"QUIT\n")
    return relay.now - begun


def test_a_source_waits_longer_each_time_and_others_do_not(closed: Driver) -> None:
    measured = [waits(closed, "192.0.2.1") for _ in range(7)]
    assert measured == sorted(measured)
    assert measured[0] == 0.5
    assert all(after >= before * 1.8 for before, after in pairwise(measured[:5]))
    assert measured[-1] == 8
    assert waits(closed, "192.0.2.2") == 0.5
    # who is right does not wait, wherever from
    honest = connect(closed, "192.0.2.1")
    closed.send(honest, b"HELLO ann token=ann-token\n")
    assert honest.online
    closed.pass_time(3600)
    assert waits(closed, "192.0.2.1") == 0.5


def test_success_forgives_nothing(closed: Driver) -> None:
    """Else one account would be enough to try others without waiting."""
    for _ in range(5):
        waits(closed, "192.0.2.1")
    peer = connect(closed, "192.0.2.1")
    closed.send(peer, b"HELLO ann token=ann-token\nQUIT\n")
    assert waits(closed, "192.0.2.1") > 4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("127.0.0.1", "127.9.9.9", True),
        ("127.0.0.1", "::1", True),
        ("", "", True),
        ("", "127.0.0.1", False),
    ],
)
def test_what_is_one_source(one: str, other: str, same: bool) -> None:
    assert (source_of(one) == source_of(other)) is same


def test_sources_are_bounded() -> None:
    denials = Denials(Clock())
    for number in range(25_000):
        denials.delay(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1.0)
        denials.delay("192.0.2.1", 1.0)  # who goes on is not washed out by others
    assert len(denials._failures) <= 10_000
    assert denials.delay("192.0.2.1", 1.0) == 8


@pytest.mark.parametrize("late", [False, True])
def test_a_half_closed_peer_still_gets_its_no(closed: Driver, late: bool) -> None:
    peer = connect(closed)
    closed.send(peer, b"HELLO ann token=x\n" + b"WHO\n" * late)
    closed.end(peer)
    closed.pass_time(1)
    lines = closed.lines(peer)
    assert lines[0] == DENIED
    assert lines[-1] == "BYE :end of input"
    assert len(lines) == 2 + late
    assert peer.gone
    closed.check_empty()


def test_who_goes_while_its_no_waits_leaves_nothing(closed: Driver) -> None:
    peers = [connect(closed) for _ in range(20)]
    for peer in peers:
        closed.send(peer, b"HELLO ann token=x\n")
    for peer in peers[::2]:
        closed.lose(peer)
    closed.take(peers[3], 0)
    closed.relay.shut_down(closed.now)
    closed.settle()
    assert closed.lines(peers[1]) == ["BYE :the relay is shutting down"]
    closed.pass_time(60)
    closed.check_empty()
    assert not closed.relay.denials._queue


def test_the_wait_ends_with_the_time_to_log_in(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(login_seconds=5))
    relay.relay.set_accounts(accounts("Ann"), relay.now)
    for _ in range(4):
        waits(relay, "")
    peer = connect(relay)
    relay.send(peer, b"HELLO ann token=x\n")
    relay.pass_time(6.5)
    assert relay.lines(peer) == ["BYE :no HELLO came within 5 seconds"]
    relay.pass_time(60)
    relay.check_empty()


# another table


def test_a_new_table(mixed: Driver) -> None:
    ann, bob = login(mixed, "Ann"), login(mixed, "Bob")
    carl, dora = mixed.login("carl"), mixed.login("dora")
    table = Accounts([account("Ann", "new"), account("carl")], guests=True)
    mixed.relay.set_accounts(table, mixed.now)
    mixed.settle()
    assert ann.online  # another token is for the next time
    assert dora.online  # still a guest
    assert mixed.lines(bob) == ["BYE :your account was removed"]
    assert mixed.lines(carl) == ["BYE :this name has an account now: log in with its token"]
    old = connect(mixed)
    mixed.send(old, b"HELLO ann token=ann-token\n")
    mixed.pass_time(1)
    assert mixed.lines(old) == [DENIED]
    new = connect(mixed)
    mixed.send(new, b"HELLO ann token=new\n")
    assert new.online
    assert mixed.lines(ann) == ["BYE :replaced"]
    mixed.relay.set_accounts(Accounts([account("Ann", "new")], guests=False), mixed.now)
    mixed.settle()
    assert mixed.lines(dora) == ["BYE :this relay lets in accounts only now"]
    assert new.online


def test_an_account_of_the_same_name_is_not_the_same_account(closed: Driver) -> None:
    ann = login(closed, "Ann")
    closed.relay.set_accounts(Accounts([account("Ann", made="2026-11-22")], guests=False), closed.now)
    closed.settle()
    assert closed.lines(ann) == ["BYE :your account was removed"]


# any order of it all

_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("hello"),
            st.integers(0, 5),
            st.sampled_from(["Ann", "bob", "carl"]),
            st.sampled_from(["", " token=ann-token", " token=bob-token", " token=x"]),
        ),
        st.tuples(st.just("ping"), st.integers(0, 5), st.just(""), st.just("")),
        st.tuples(st.just("end"), st.integers(0, 5), st.just(""), st.just("")),
        st.tuples(st.just("lose"), st.integers(0, 5), st.just(""), st.just("")),
        st.tuples(st.just("table"), st.integers(0, 3), st.just(""), st.just("")),
        st.tuples(st.just("time"), st.integers(1, 12), st.just(""), st.just("")),
    ),
    max_size=40,
)
_TABLES = [
    accounts("Ann", "Bob"),
    accounts("Ann", guests=True),
    accounts(),
    Accounts([account("Ann", made="later"), account("carl")]),
]


@settings(settings.get_profile("relay"))
@given(steps=_STEPS)
def test_whatever_happens_one_has_a_name_and_every_word_is_answered(
    make_relay: type[Driver], steps: list[tuple[str, int, str, str]]
) -> None:
    relay = make_relay()
    relay.relay.set_accounts(_TABLES[0], relay.now)
    peers = [relay.connect() for _ in range(6)]
    asked: Counter[Peer] = Counter()
    for what, number, name, option in steps:
        if what == "time":
            relay.pass_time(number / 4)
        elif what == "table":
            relay.relay.set_accounts(_TABLES[number], relay.now)
            relay.settle()
        elif peers[number].closing or peers[number].gone or peers[number].ended:
            peers[number] = relay.connect()
        elif what == "hello":
            asked[peers[number]] += 1
            relay.send(peers[number], f"HELLO {name}{option}\n".encode())
        elif what == "ping":
            asked[peers[number]] += 1
            relay.send(peers[number], b"PING x\n")
        elif what == "end":
            relay.end(peers[number])
        else:
            relay.lose(peers[number])
        for session in relay.relay.directory.sessions.values():
            table = relay.relay.accounts
            assert table.guests or table.get(session.key) is not None
    relay.pass_time(25)
    for peer in relay.peers:
        said = [event.verb for event in relay.peek(peer)]
        answers = sum(verb in (b"WELCOME", b"FAIL", b"PONG") for verb in said)
        assert answers == asked[peer] or peer.gone
        assert not peer.holders or peer.gone
    assert not relay.relay.denials._waiting
    assert not relay.relay.denials._queue
