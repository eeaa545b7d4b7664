"""What each command does, what it refuses, and with which code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.relay.core.commands import COMMANDS
from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from tests.relay.core.conftest import Driver

PAYLOADS = [b"", b"\n", b"\r\n", b"a\nQUIT\nb", b"\x00", b"\x1b[2J", b"\xff\xfe", b"x\r\ny\r\n", b"tab\there"]


def test_a_stranger_is_greeted(relay: Driver) -> None:
    peer = relay.connect()
    assert relay.lines(peer) == ["RELAY hailer/9 :say HELLO and a name to log in, or HELP"]


@pytest.mark.parametrize(
    "line", ["SEND bob :x", "JOIN #r", "LEAVE #r", "WHO", "WATCH", "UNWATCH", "ASK 1 b :x"]
)
def test_before_login_most_is_refused(relay: Driver, line: str) -> None:
    peer = relay.connect()
    relay.send(peer, line.encode() + b"\n")
    assert relay.codes(peer) == [("not-logged-in", line.split(maxsplit=1)[0])]


def test_before_login_some_is_not(relay: Driver) -> None:
    peer = relay.connect()
    relay.lines(peer)
    relay.send(peer, b"PING\nPING x\nPONG\nHELP\n")
    lines = relay.lines(peer)
    assert lines[:2] == ["PONG", "PONG x"]
    assert lines[-1] == "END HELP"
    assert not any("FAIL" in line for line in lines)
    relay.send(peer, b"QUIT :bye then\n")
    assert relay.lines(peer) == ["BYE :bye then"]
    assert peer.gone


def test_a_payload_before_login_is_not_obeyed(relay: Driver) -> None:
    peer = relay.connect()
    relay.send(peer, b"SEND bob 11\nHELLO evil\nPING x\n")
    assert [event.verb for event in relay.fresh(peer)] == [b"RELAY", b"FAIL", b"PONG"]
    assert not peer.online


# HELLO


def test_hello(relay: Driver) -> None:
    peer = relay.connect()
    relay.lines(peer)
    relay.send(peer, b"hello Alice version=1 token=abc session=zzz\n")
    assert relay.lines(peer) == ["WELCOME Alice session=zzz stored=0 relay=hailer/9 mail=0 store=m"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"HELLO", "bad-syntax"),
        (b"HELLO a b", "bad-syntax"),
        (b"HELLO a color=red", "bad-syntax"),
        (b"HELLO a token=1 session=2 version=1 version=1", "bad-syntax"),
        (b"HELLO :a", "bad-syntax"),
        (b"HELLO a :b", "bad-syntax"),
        (b"HELLO #a", "bad-name"),
        (b"HELLO a:b", "bad-name"),
        (b"HELLO " + b"n" * 65, "bad-name"),
        ("HELLO J\u00fcrg".encode(), "bad-name"),
        (b"HELLO a version=2", "bad-version"),
        (b"HELLO a version=", "bad-version"),
    ],
)
def test_hello_refused(relay: Driver, line: bytes, code: str) -> None:
    peer = relay.connect()
    relay.send(peer, line + b"\n")
    assert relay.codes(peer) == [(code, "HELLO")]
    assert not peer.online
    relay.send(peer, b"HELLO fine\n")
    assert peer.online


def test_hello_twice(relay: Driver) -> None:
    peer = relay.login("alice")
    relay.send(peer, b"HELLO bob\n")
    assert relay.codes(peer) == [("already-logged-in", "HELLO")]
    assert peer.name == b"alice"


@pytest.mark.parametrize("option", [b"", b" session=", b" session=id2", b" session=ID1", b" session=id1x"])
def test_a_name_is_taken_without_regard_to_case(relay: Driver, option: bytes) -> None:
    alice = relay.login("alice")
    other = relay.connect()
    relay.send(other, b"HELLO ALICE" + option + b"\n")
    assert relay.codes(other) == [("taken", "HELLO")]
    assert not other.online
    assert alice.online
    relay.send(alice, b"QUIT\n")
    relay.send(other, b"HELLO ALICE\n")
    assert other.online


def test_takeover(relay: Driver) -> None:
    old = relay.login("alice", rooms="#r #s")
    bob = relay.login("bob", rooms="#r")
    relay.send(old, b"WATCH\n")
    relay.send(bob, b"SEND alice :1\nSEND #r :2\n")
    relay.fresh(old)
    relay.fresh(bob)
    new = relay.connect()
    relay.send(new, b"HELLO Alice session=id1\nSEND #r :new\n")
    assert relay.lines(new)[1:] == ["WELCOME Alice session=id1 stored=0 relay=hailer/9 mail=0 store=m"]
    assert relay.lines(old) == ["BYE :replaced"]
    assert old.gone
    relay.send(bob, b"SEND alice :3\nSEND #r :4\nWHO #r\nWHO #s\n")
    # the room does not notice; routes that bob's session remembers lead to the new one
    assert relay.lines(bob) == [
        "MSG Alice #r :new",
        "HERE #r Alice bob",
        "END WHO",
        "HERE #s Alice",
        "END WHO",
    ]
    assert relay.lines(new) == ["MSG bob Alice :3", "MSG bob #r :4"]
    third = relay.connect()
    relay.send(third, b"HELLO alice session=id1\n")
    assert new.gone
    for peer in (third, bob):
        relay.send(peer, b"QUIT\n")
    relay.check_empty()


def test_takeover_of_one_who_cannot_be_written_to(relay: Driver) -> None:
    old = relay.login("alice")
    bob = relay.login("bob")
    relay.take(old, 0)
    for _ in range(40):
        relay.send(bob, b"SEND alice :" + b"x" * 60_000 + b"\n")
    assert bob.holders == 1
    new = relay.connect()
    relay.send(new, b"HELLO alice session=id1\n")
    assert bob.holders == 0
    relay.fresh(new)
    relay.send(bob, b"SEND alice :to the new one\n")
    assert [event.text for event in relay.fresh(new)][-1] == b"to the new one"
    relay.pass_time(11)
    assert old.gone


def test_a_session_that_nobody_knows_begins(relay: Driver) -> None:
    """A client may choose its id itself, so that it knows it though no WELCOME ever reached it."""
    alice = relay.connect()
    relay.send(alice, b"HELLO alice session=of-my-own\n")
    assert relay.lines(alice)[1:] == [
        "WELCOME alice session=of-my-own stored=0 relay=hailer/9 mail=0 store=m"
    ]
    other = relay.connect()
    relay.send(other, b"HELLO alice session=guessed\n")
    assert relay.codes(other) == [("taken", "HELLO")]


# SEND


def test_send(relay: Driver) -> None:
    alice, bob = relay.login("Alice"), relay.login("Bob")
    relay.send(alice, b"SEND bob :hi\nsend BOB :\nSEND alice : :me\n")
    assert relay.lines(bob) == ["MSG Alice Bob :hi", "MSG Alice Bob :"]
    assert relay.lines(alice) == ["MSG Alice Alice : :me"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"SEND", "bad-syntax"),
        (b"SEND bob", "bad-syntax"),
        (b"SEND :x", "bad-syntax"),
        (b"SEND bob x", "bad-syntax"),
        (b"SEND bob x :y", "bad-syntax"),
        (b"SEND bob 5 :y", "bad-syntax"),
        (b"SEND bob:x", "bad-syntax"),
        (b"SEND carol :x", "offline"),
        (b"SEND carol 0", "offline"),
        (b"SEND b\xc3\xa9 :x", "bad-name"),
        (b"SEND " + b"n" * 65 + b" :x", "bad-name"),
        (b"SEND #r :x", "not-joined"),
        (b"SEND # :x", "not-joined"),
        (b"SEND \x07 :x", "bad-text"),
        (b"SEND bob :\x1b[2J", "bad-text"),
    ],
)
def test_send_refused(relay: Driver, line: bytes, code: str) -> None:
    alice, bob = relay.login("alice"), relay.login("bob", rooms="#r")
    relay.send(alice, line + b"\n")
    assert relay.codes(alice) == [(code, "SEND")]
    # among others that are in order, too
    relay.send(alice, b"SEND bob :1\n" + line + b"\nSEND bob :2\n")
    assert relay.codes(alice) == [(code, "SEND")]
    assert relay.lines(bob) == ["MSG alice bob :1", "MSG alice bob :2"]


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("crlf", [False, True])
def test_counted_payloads_arrive_as_they_were(relay: Driver, payload: bytes, crlf: bool) -> None:
    alice, bob = relay.login("alice"), relay.login("bob", rooms="#r", crlf=crlf)
    carol = relay.login("carol", rooms="#r")
    relay.fresh(bob)
    relay.send(alice, b"JOIN #r\n")
    for peer in (alice, bob, carol):
        relay.fresh(peer)
    relay.send(
        alice, b"SEND bob %d\n%sSEND #r %d\r\n%sPING ok\n" % (len(payload), payload, len(payload), payload)
    )
    assert relay.lines(alice) == ["PONG ok"]
    assert [(event.words[2], event.text) for event in relay.fresh(bob)] == [
        (b"bob", payload),
        (b"#r", payload),
    ]
    assert [(event.words[2], event.text) for event in relay.fresh(carol)] == [(b"#r", payload)]


def test_the_text_form_is_used_where_it_can_hold_the_payload(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"SEND bob 5\nhelloSEND bob 2\n\xc3\xa9SEND bob 3\na\nb")
    assert [event.counted for event in relay.fresh(bob)] == [False, False, True]


def test_a_count_that_no_limit_allows_is_never_obeyed(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.send(alice, b"SEND bob 99999999999999\nPING obeyed\n")
    assert relay.lines(alice) == [
        "FAIL too-long PAYLOAD :a payload may have 1048576 bytes",
        "BYE :too long",
    ]


@pytest.mark.parametrize(
    "line", [b"SEND 6", b"SEND bob at 6", b"ASK bob 6", b"QUIT at 6", b"WHO 6", b"PING 6"]
)
def test_what_is_no_announcement_announces_nothing(relay: Driver, line: bytes) -> None:
    """Somebody who forgot the colon is told so at once, and the next line is not swallowed."""
    alice = relay.login("alice")
    relay.send(alice, line + b"\nPING x\n")
    events = relay.fresh(alice)
    assert len(events) == 2
    assert events[1].words == (b"PONG", b"x")


def test_a_payload_of_a_refused_command_is_not_obeyed(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.send(alice, b"SEND nobody 12\nPING obeyed\nASK 1 nobody 7\nPING x\nPOST 1 nobody 7\nPING y\n")
    assert relay.codes(alice) == [("offline", "SEND"), ("offline", "ASK"), ("unknown", "POST")]


# rooms


def test_rooms(relay: Driver) -> None:
    alice = relay.login("alice", rooms="#Lobby")
    bob, carol = relay.login("bob"), relay.login("carol")
    relay.send(bob, b"JOIN #LOBBY\n")
    assert relay.lines(alice) == relay.lines(bob) == ["JOINED #Lobby bob"]
    relay.send(bob, b"JOIN #lobby\n")
    assert relay.lines(bob) == ["JOINED #Lobby bob"]
    assert relay.lines(alice) == []
    relay.send(alice, b"SEND #lOBBY :hi\n")
    assert relay.lines(bob) == ["MSG alice #Lobby :hi"]
    assert relay.lines(alice) == []
    relay.send(carol, b"SEND #lobby :hi\nWHO #lobby\n")
    assert relay.lines(carol) == [
        "FAIL not-joined SEND :JOIN #lobby first",
        "HERE #Lobby alice bob",
        "END WHO",
    ]
    relay.send(alice, b"LEAVE #lobby\nSEND #lobby :gone\n")
    assert relay.lines(alice) == ["LEFT #Lobby alice", "FAIL not-joined SEND :JOIN #lobby first"]
    assert relay.lines(bob) == ["LEFT #Lobby alice"]
    relay.send(bob, b"LEAVE #lobby\nJOIN #lobby\nSEND #lobby :to nobody\n")
    assert relay.lines(bob) == ["LEFT #Lobby bob", "JOINED #lobby bob"]


def test_a_room_that_ended_and_began_anew_is_another(relay: Driver) -> None:
    """Routes are remembered by the sender's session; they must not outlive the room."""
    alice, bob = relay.login("alice", rooms="#Room"), relay.login("bob", rooms="#room")
    relay.send(alice, b"SEND #room :1\n")
    relay.send(alice, b"LEAVE #room\n")
    relay.send(bob, b"LEAVE #room\nJOIN #ROOM\n")
    relay.fresh(bob)
    relay.fresh(alice)
    relay.send(alice, b"SEND #room :2\n")
    assert relay.codes(alice) == [("not-joined", "SEND")]
    relay.send(alice, b"JOIN #room\n")
    relay.send(alice, b"SEND #room :3\n")
    assert relay.lines(bob) == ["JOINED #ROOM alice", "MSG alice #ROOM :3"]


def test_a_name_that_left_and_came_again_is_another(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"SEND bob :1\n")
    relay.lose(bob)
    relay.send(alice, b"SEND bob :2\n")
    assert relay.codes(alice) == [("offline", "SEND")]
    again = relay.login("BOB")
    relay.send(alice, b"SEND bob :3\n")
    assert relay.lines(again) == ["MSG alice BOB :3"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"JOIN", "bad-syntax"),
        (b"JOIN #r #s", "bad-syntax"),
        (b"JOIN #r :x", "bad-syntax"),
        (b"JOIN r", "bad-name"),
        (b"JOIN #", "bad-name"),
        (b"JOIN #" + b"r" * 65, "bad-name"),
        (b"JOIN #r!", "bad-name"),
        (b"LEAVE", "bad-syntax"),
        (b"LEAVE #elsewhere", "not-joined"),
        (b"LEAVE r", "not-joined"),
        (b"WHO r", "bad-name"),
        (b"WHO #r #s", "bad-syntax"),
        (b"WHO #\xc3\xa9", "bad-name"),
    ],
)
def test_rooms_refused(relay: Driver, line: bytes, code: str) -> None:
    alice = relay.login("alice", rooms="#r")
    relay.send(alice, line + b"\n")
    assert relay.codes(alice) == [(code, line.split()[0].decode())]
    assert list(alice.rooms) == [b"#r"]


def test_the_most_rooms(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(rooms=2))
    alice = relay.login("alice", rooms="#1 #2")
    relay.send(alice, b"JOIN #3\nJOIN #2\n")
    assert [event.verb for event in relay.fresh(alice)] == [b"FAIL", b"JOINED"]
    relay.send(alice, b"LEAVE #1\nJOIN #3\n")
    assert relay.codes(alice) == []
    assert sorted(alice.rooms) == [b"#2", b"#3"]


def test_who(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.login("Carol")
    relay.login("bob")
    relay.send(alice, b"WHO\nWHO #nowhere\n")
    assert relay.lines(alice) == ["HERE alice bob Carol", "END WHO", "END WHO"]


# presence


def test_watch(relay: Driver) -> None:
    everyone, some = relay.login("everyone"), relay.login("some")
    relay.send(everyone, b"WATCH\n")
    relay.send(some, b"WATCH Bob carol\n")
    bob = relay.login("bob")
    relay.send(bob, b"QUIT\n")
    assert relay.lines(everyone) == ["OFFLINE bob"]  # its ONLINE is thrown away by login()
    assert relay.lines(some) == ["OFFLINE bob"]
    dave = relay.connect()
    relay.send(dave, b"HELLO dave\n")
    assert relay.lines(everyone) == ["ONLINE dave"]
    assert relay.lines(some) == []
    relay.send(everyone, b"WATCH carol\n")
    relay.send(some, b"UNWATCH\nUNWATCH\n")
    carol = relay.connect()
    relay.send(carol, b"HELLO Carol\n")
    relay.lose(dave)
    assert relay.lines(everyone) == ["ONLINE Carol"]
    assert relay.lines(some) == []


def test_a_watcher_hears_of_the_connection_that_breaks_and_of_no_takeover(relay: Driver) -> None:
    watcher, bob = relay.login("watcher"), relay.login("bob")
    relay.send(watcher, b"WATCH bob watcher\n")
    new = relay.connect()
    relay.send(new, b"HELLO BOB session=id2\n")
    assert bob.gone
    assert relay.lines(watcher) == []
    relay.lose(new)
    assert relay.lines(watcher) == ["OFFLINE BOB"]
    relay.send(watcher, b"QUIT\n")
    assert relay.lines(watcher) == ["BYE :you quit"]
    relay.check_empty()


def test_watch_refused(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(watches=3))
    alice = relay.login("alice")
    relay.send(alice, b"WATCH a b c d\nWATCH #room\nWATCH :x\nUNWATCH a\nWATCH a b c\n")
    assert relay.codes(alice) == [
        ("too-many", "WATCH"),
        ("bad-name", "WATCH"),
        ("bad-syntax", "WATCH"),
        ("bad-syntax", "UNWATCH"),
    ]
    assert alice.watched == {b"a", b"b", b"c"}


# questions


def test_ask_and_answer(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("Bob")
    relay.send(alice, b"ASK 1 bob :why?\nASK a:b bob 3\nx\ny\n")
    assert [(event.words, event.text) for event in relay.fresh(bob)] == [
        ((b"ASKED", b"1", b"alice"), b"why?"),
        ((b"ASKED", b"a:b", b"alice"), b"x\ny"),
    ]
    relay.send(bob, b"ANSWER a:b ALICE 2\n\r\nANSWER 1 alice :so\nANSWER 1 alice :again\n")
    assert [(event.words, event.text) for event in relay.fresh(alice)] == [
        ((b"ANSWERED", b"a:b", b"Bob"), b"\r\n"),
        ((b"ANSWERED", b"1", b"Bob"), b"so"),
    ]
    assert relay.codes(bob) == [("not-asked", "ANSWER")]
    assert not alice.asks
    assert not bob.asked


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"ASK 1 :x", "bad-syntax"),
        (b"ASK 1 bob", "bad-syntax"),
        (b"ASK bob :x", "bad-syntax"),
        (b"ASK 1 2 bob :x", "bad-syntax"),
        (b"ASK " + b"1" * 65 + b" bob :x", "bad-name"),
        (b"ASK \xc3\xa9 bob :x", "bad-name"),
        (b"ASK 1 #r :x", "bad-name"),
        (b"ASK 1 carol :x", "offline"),
        (b"ASK used bob :x", "taken"),
        (b"ANSWER 1 bob :x", "not-asked"),
        (b"ANSWER used bob :x", "not-asked"),
        (b"ANSWER used alice :x", "not-asked"),
        (b"ANSWER used carol :x", "not-asked"),
        (b"ANSWER \xc3\xa9 #r :x", "not-asked"),
    ],
)
def test_questions_refused(relay: Driver, line: bytes, code: str) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"ASK used bob :first\n")
    relay.fresh(bob)
    relay.send(alice, line + b"\n")
    assert relay.codes(alice) == [(code, line.split()[0].decode())]
    assert relay.fresh(bob) == []
    assert alice.asks is not None
    assert list(alice.asks) == [b"used"]


def test_the_explanation_of_a_refused_question_starts_with_its_id(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.send(alice, b"ASK q-9 carol :x\nASK q-9 #r :x\nANSWER q-9 carol :x\n")
    texts = [event.text or b"" for event in relay.fresh(alice)]
    assert len(texts) == 3
    assert all(text.startswith(b"q-9: ") for text in texts)


def test_the_most_questions(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(asks=2))
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"ASK 1 bob :x\nASK 2 bob :x\nASK 3 bob :x\n")
    assert relay.codes(alice) == [("too-many", "ASK")]
    relay.send(bob, b"ANSWER 1 alice :x\n")
    relay.send(alice, b"ASK 3 bob :x\n")
    assert relay.codes(alice) == []


@pytest.mark.parametrize("how", ["QUIT", "lost", "takeover"])
def test_whoever_is_asked_goes(relay: Driver, how: str) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"ASK 1 bob :x\nASK 2 bob :y\n")
    if how == "QUIT":
        relay.send(bob, b"QUIT\n")
    elif how == "lost":
        relay.lose(bob)
    else:
        new = relay.connect()
        relay.send(new, b"HELLO bob session=id2\nANSWER 1 alice :not mine\n")
        assert relay.codes(new) == [("not-asked", "ANSWER")]
    assert relay.lines(alice) == [
        "FAIL gone ASK :1: bob left before it answered",
        "FAIL gone ASK :2: bob left before it answered",
    ]
    assert not alice.asks


@pytest.mark.parametrize("how", ["QUIT", "lost", "takeover"])
def test_the_asker_goes(relay: Driver, how: str) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"ASK 1 bob :x\nASK 2 alice :myself\n")
    if how == "QUIT":
        relay.send(alice, b"QUIT\n")
    elif how == "lost":
        relay.lose(alice)
    else:
        new = relay.connect()
        relay.send(new, b"HELLO alice session=id1\nASK 1 bob :anew\n")
        relay.send(bob, b"ANSWER 1 alice :to the new one\n")
        assert relay.lines(new)[2:] == ["ANSWERED 1 bob :to the new one"]
        relay.send(new, b"QUIT\n")
    relay.fresh(bob)
    assert not bob.asked
    relay.send(bob, b"ANSWER 1 alice :x\n")
    assert relay.codes(bob) == [("not-asked", "ANSWER")]


# the rest


def test_ping(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.send(alice, b"PING\nping token\nPING \xc3\xa9\nPONG x\nPING a b\nPING :x\n")
    assert relay.lines(alice)[:3] == ["PONG", "PONG token", "PONG \u00e9"]
    relay.send(alice, b"PING a b\nPONG a b\n")
    assert relay.codes(alice) == [("bad-syntax", "PING"), ("bad-syntax", "PONG")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"QUIT\n", "you quit"),
        (b"QUIT :\n", "you quit"),
        (b"QUIT :see you\n", "see you"),
        (b"QUIT 3\nbye", "bye"),
        (b"QUIT 3\na\nb", "you quit"),
        (b"QUIT 5\r\n\x1b[2J!", "you quit"),
    ],
)
def test_quit(relay: Driver, line: bytes, reason: str) -> None:
    alice, bob = relay.login("alice", rooms="#r"), relay.login("bob", rooms="#r")
    relay.fresh(alice)
    relay.send(alice, line + b"PING not heard\n")
    assert relay.lines(alice) == [f"BYE :{reason}"]
    assert alice.gone
    assert relay.lines(bob) == ["LEFT #r alice"]
    relay.send(bob, b"SEND alice :x\n")
    assert relay.codes(bob) == [("offline", "SEND")]


def test_help_names_every_command(relay: Driver) -> None:
    alice = relay.login("alice")
    relay.send(alice, b"HELP\n")
    events = relay.fresh(alice)
    texts = [event.text or b"" for event in events]
    for verb, command in COMMANDS.items():
        assert any(text.startswith(command.usage) for text in texts), verb
        assert command.usage.startswith(verb)
    assert events[-1].words == (b"END", b"HELP")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"FOO", "FOO"),
        (b"foo bar", "FOO"),
        (b":hello", "HELLO"),
        (b"::", "?"),
        (b"F\xc3\xa9", "F?"),
        (b"MSG a b :c", "MSG"),
        (b"X" * 60_000, "X" * 16 + "..."),
    ],
)
def test_unknown_commands(relay: Driver, line: bytes, shown: str) -> None:
    alice = relay.login("alice")
    relay.send(alice, line + b"\n")
    assert relay.codes(alice) == [("unknown-command", shown)]


def test_every_command_is_refused_with_too_many_words(relay: Driver) -> None:
    alice = relay.login("alice")
    for verb, command in COMMANDS.items():
        if command.most is not None:
            relay.send(alice, verb + b" x" * (command.most + 1) + b" :text\n")
            assert relay.codes(alice) == [("bad-syntax", verb.decode())]


def test_crlf_is_answered_with_crlf(relay: Driver) -> None:
    alice, bob = relay.login("alice", crlf=True), relay.login("bob")
    relay.send(bob, b"SEND alice :x\nSEND alice 3\na\nb")
    relay.send(alice, b"SEND bob :y\r\nSEND bob :z\nWHO\r\nQUIT\r\n")
    start = alice.taken.find(b"MSG")
    assert bytes(alice.taken[start:]) == (
        b"MSG bob alice :x\r\nMSG bob alice 3\r\na\nbHERE alice bob\r\nEND WHO\r\nBYE :you quit\r\n"
    )
    assert relay.lines(bob) == ["MSG alice bob :y", "MSG alice bob :z"]


def test_ten_thousand_names(make_relay: type[Driver]) -> None:
    relay = make_relay(checks=False)
    peers = [relay.connect() for _ in range(10_000)]
    for number, peer in enumerate(peers):
        relay.send(peer, b"HELLO peer%d\n" % number)
    first, last = peers[0], peers[-1]
    relay.fresh(first)
    relay.send(first, b"WHO\n" * 100 + b"PING end\n")
    events = relay.fresh(first)
    names = [name for event in events for name in event.words[1:] if event.verb == b"HERE"]
    assert len(names) == 100 * 10_000
    assert set(names) == {b"peer%d" % number for number in range(10_000)}
    assert events[-1].words == (b"PONG", b"end")
    relay.send(first, b"".join(b"SEND peer%d :x\n" % number for number in range(10_000)))
    assert all(bytes(peer.taken).endswith(b"MSG peer0 peer%d :x\n" % n) for n, peer in enumerate(peers))
    assert relay.lines(last)[-1] == "MSG peer0 peer9999 :x"
    for peer in peers:
        relay.lose(peer)
    relay.check_empty()
