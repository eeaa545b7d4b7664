"""Bytes of a relay to events: every splitting gives the same ones, and garbage ends it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.errors import BadFrame, FramingError, MessageError, MessageTooLong, TruncatedMessage, UsageError
from hailer.relay import grammar
from hailer.relay.client import commands
from hailer.relay.client.events import (
    Answered,
    Asked,
    Banner,
    Bye,
    End,
    Event,
    Expired,
    Fail,
    Gap,
    HelpLine,
    Here,
    Joined,
    Left,
    Message,
    Offline,
    Online,
    Other,
    Ping,
    Pong,
    Stored,
    Welcome,
)
from hailer.relay.client.protocol import MAX_PAYLOAD, ClientProtocol
from hailer.relay.core.relay import Relay
from hailer.relay.core.session import Session

BANNER = b"RELAY hailer/1 :say HELLO\n"

LINES: list[tuple[bytes, Event]] = [
    (b"RELAY hailer/1 :say HELLO\n", Banner("hailer/1", "say HELLO")),
    (b"WELCOME Bob session=abc stored=0 relay=hailer/1\n", Welcome("Bob", "abc", "hailer/1")),
    (b"WELCOME Bob\n", Welcome("Bob", "")),
    (b"MSG bob alice :hi there : you\n", Message("bob", "alice", b"hi there : you")),
    (b"MSG bob #Lobby :\n", Message("bob", "#Lobby", b"")),
    (b"MSG bob alice 0\n", Message("bob", "alice", b"")),
    (b"MSG bob alice 5\na\r\nb\n", Message("bob", "alice", b"a\r\nb\n")),
    (b"MSG bob 5 3\n\xff\x00\n", Message("bob", "5", b"\xff\x00\n")),
    (b"MSG bob alice :\xc3\xa4\n", Message("bob", "alice", "ä".encode())),
    (b"MAIL 12 bob alice :hi\n", Message("bob", "alice", b"hi", number=12)),
    (b"MAIL 1795287964683 bob #Lobby 2\n\n\n\n", Message("bob", "#Lobby", b"\n\n", number=1795287964683)),
    (b"STORED 7\n", Stored(7)),
    (b"EXPIRED 9 bob 3 :since 2026-11-21T10:00:00Z\n", Expired(9, "bob", 3, "2026-11-21T10:00:00Z")),
    (b"WELCOME Bob session=abc stored=12 mail=3 relay=x\n", Welcome("Bob", "abc", "x", 12, 3)),
    (b"FAIL quota POST :7: full\n", Fail("quota", "POST", "full", "7")),
    (b"ASKED 7 bob :what?\n", Asked("7", "bob", b"what?")),
    (b"ASKED q:1 bob 2\n\n\n", Asked("q:1", "bob", b"\n\n")),
    (b"ANSWERED 7 bob :that\n", Answered("7", "bob", b"that")),
    (b"ANSWERED 7 bob 1\n\n", Answered("7", "bob", b"\n")),
    (b"JOINED #lobby bob\n", Joined("#lobby", "bob")),
    (b"LEFT #lobby bob\n", Left("#lobby", "bob")),
    (b"ONLINE bob\n", Online("bob")),
    (b"OFFLINE bob\n", Offline("bob")),
    (b"HERE alice bob\n", Here(None, ("alice", "bob"))),
    (b"HERE #lobby alice bob\n", Here("#lobby", ("alice", "bob"))),
    (b"END WHO\n", End("WHO")),
    (b"GAP 17 #lobby :since 2026-11-21T10:00:00.000Z\n", Gap(17, "#lobby", "2026-11-21T10:00:00.000Z")),
    (b"FAIL offline SEND :bob is not connected\n", Fail("offline", "SEND", "bob is not connected")),
    (b"FAIL gone ASK :7: bob left\n", Fail("gone", "ASK", "bob left", "7")),
    (b"FAIL bad-name ASK :an id is 1 to 64\n", Fail("bad-name", "ASK", "an id is 1 to 64")),
    (b"PING relay\n", Ping("relay")),
    (b"PING\n", Ping("")),
    (b"PONG 12\n", Pong("12")),
    (b"HELP :JOIN #room - enter\n", HelpLine("JOIN #room - enter")),
    (b"BYE :you quit\n", Bye("you quit")),
    (b"NOVELTY with words :and text\n", Other("NOVELTY")),
]


def read(
    data: bytes, sizes: list[int] | None = None, max_payload: int = MAX_PAYLOAD
) -> list[Event | FramingError]:
    """The events of a stream after the banner, fed in pieces of these sizes, over and over."""
    protocol = ClientProtocol(max_payload=max_payload)
    assert protocol.feed(BANNER) == [Banner("hailer/1", "say HELLO")]
    events: list[Event | FramingError] = []
    start, turn = 0, 0
    while start < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        events += protocol.feed(data[start : start + size])
        start += size
        turn += 1
    protocol.end()
    return events


@pytest.mark.parametrize(("line", "event"), LINES, ids=[line.decode("latin-1")[:20] for line, _ in LINES])
def test_each_event(line: bytes, event: Event) -> None:
    assert read(line) == [event]
    head, _, payload = line.partition(b"\n")
    assert read(head + b"\r\n" + payload) == [event]
    assert read(b"\n\r\n" + line + b"\n" + line) == [event, event]


@given(
    picks=st.lists(st.sampled_from(LINES), max_size=30),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    crlf=st.booleans(),
)
def test_any_splitting_gives_the_same_events(
    picks: list[tuple[bytes, Event]], sizes: list[int], crlf: bool
) -> None:
    lines = [line for line, _ in picks]
    if crlf:
        lines = [line.replace(b"\n", b"\r\n", 1) for line in lines]
    assert read(b"".join(lines), sizes) == [event for _, event in picks]


@given(data=st.binary(max_size=400), sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_arbitrary_bytes_give_events_or_one_framing_error_however_they_are_split(
    data: bytes, sizes: list[int]
) -> None:
    def outcome(pieces: list[int] | None) -> list[object]:
        try:
            events = read(data, pieces)
        except TruncatedMessage:
            return ["truncated"]
        assert all(not isinstance(event, FramingError) for event in events[:-1])
        return [str(event) for event in events]

    whole = outcome(None)
    assert outcome(sizes) == whole


@given(payload=st.binary(max_size=300), sizes=st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_what_a_client_says_comes_out_of_the_relay_as_it_was(payload: bytes, sizes: list[int]) -> None:
    relay = Relay(new_id=lambda: b"id")
    alice, bob = Session("a", 0.0), Session("b", 0.0)
    for session, name in ((alice, "alice"), (bob, "bob")):
        relay.connect(session, 0.0)
        relay.receive(session, commands.hello(name), 0.0)
    relay.receive(alice, commands.send("bob", payload) + commands.ask("1", "bob", payload), 0.0)
    protocol = ClientProtocol()
    stream = b"".join(bytes(chunk) for chunk in bob.chunks)
    events: list[Event | FramingError] = []
    start, turn = 0, 0
    while start < len(stream):
        size = sizes[turn % len(sizes)]
        events += protocol.feed(stream[start : start + size])
        start, turn = start + size, turn + 1
    assert events[-2:] == [Message("alice", "bob", payload), Asked("1", "alice", payload)]


@pytest.mark.parametrize(
    "line",
    [
        b"msg bob alice :hi\n",
        b"MSG bob :hi\n",
        b"MSG bob alice carl :hi\n",
        b"MSG bob alice\n",
        b"MSG b\xc3\xa4 alice :hi\n",
        b"MSG bob alice :tab\there\n",
        b"MSG bob alice :\xff\n",
        b"MSG bob alice :esc\xc2\x9b\n",
        b"JOINED lobby bob\n",
        b"JOINED #lobby\n",
        b"ONLINE bob :now\n",
        b"GAP many bob :since\n",
        b"GAP 1 bob\n",
        b"FAIL offline :no command\n",
        b"WELCOME\n",
        b"ASKED 1 bob\n",
        b"ASKED bob :what\n",
        b"PING a b\n",
        b"BYE now :or never\n",
        b"<html>\n",
        b":\n",
        b" :text\n",
        b"\x00\n",
    ],
)
def test_garbage_is_a_bad_frame_after_the_events_before_it(line: bytes) -> None:
    events = read(b"PONG 1\n" + line + b"PONG 2\n")
    assert events[0] == Pong("1")
    assert isinstance(events[1], BadFrame)
    assert len(events) == 2
    assert "\x1b" not in str(events[1])


@pytest.mark.parametrize("first", [b"HTTP/1.1 400 Bad Request\r\n", b"220 mail ESMTP\n", b"PONG 1\n"])
def test_a_first_line_that_is_no_greeting(first: bytes) -> None:
    [event] = ClientProtocol().feed(first)
    assert isinstance(event, BadFrame)
    assert "no hailer relay" in str(event)


def test_a_relay_that_is_full_says_bye_first() -> None:
    assert ClientProtocol().feed(b"BYE :full\n") == [Bye("full")]


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_a_line_without_end_is_an_error_and_not_kept(size: int) -> None:
    protocol = ClientProtocol()
    protocol.feed(BANNER)
    fed = 0
    while True:
        events = protocol.feed(b"x" * size)
        fed += size
        if events:
            break
        assert fed <= grammar.MAX_LINE
    assert isinstance(events[0], MessageTooLong)
    assert protocol.feed(b"\nPONG 1\n") == []
    protocol.end()


def test_the_longest_line_is_taken() -> None:
    line = b"MSG bob alice :" + b"x" * (grammar.MAX_LINE - 15)
    assert len(line) == grammar.MAX_LINE
    assert read(line + b"\n") == read(line + b"\n", [1000]) == [Message("bob", "alice", line[15:])]
    assert isinstance(read(line + b"x\n")[0], MessageTooLong)


def test_a_payload_over_the_limit() -> None:
    assert read(b"MSG bob alice 10\n0123456789", max_payload=10) == [Message("bob", "alice", b"0123456789")]
    assert isinstance(read(b"MSG bob alice 11\n01234567890", max_payload=10)[0], MessageTooLong)


@pytest.mark.parametrize("data", [b"PONG", b"MSG bob alice 5\n", b"MSG bob alice 5\nabc"])
def test_an_end_in_the_middle(data: bytes) -> None:
    with pytest.raises(TruncatedMessage):
        read(data)


def test_a_megabyte_of_messages_is_quick() -> None:
    data = b"MSG bob alice :" + b"x" * 64 + b"\n"
    data *= (1 << 20) // len(data)
    protocol = ClientProtocol()
    protocol.feed(BANNER)
    taken = []
    for _ in range(5):
        started = time.thread_time()
        events = protocol.feed(data)
        taken.append((time.thread_time() - started) / len(events))
    assert min(taken) < 1e-5  # ten times what it takes on a machine that does nothing else


def test_counted_payloads_take_time_in_proportion() -> None:
    def seconds(count: int) -> float:
        data = b"MSG bob alice 3\na\nb" * count
        protocol = ClientProtocol()
        protocol.feed(BANNER)
        best = float("inf")
        for _ in range(3):
            started = time.thread_time()
            assert len(protocol.feed(data)) == count
            best = min(best, time.thread_time() - started)
        return best

    assert seconds(20_000) < 40 * seconds(2_000)


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL x bob ann :hi",
        b"MAIL -1 bob ann :hi",
        b"MAIL 1 bob ann",
        b"MAIL 1 bob ann 2 :hi",
        b"MAIL 1234567890123456789 bob ann :hi",
        b"MAIL 1 b:b ann :hi",
        b"STORED",
        b"STORED 1 2",
        b"STORED 1 :x",
        b"STORED one",
        b"EXPIRED 1 bob :since x",
        b"EXPIRED 1 bob x :since x",
        b"WELCOME Bob stored=x",
        b"WELCOME Bob mail=-1",
    ],
)
def test_mail_that_no_relay_says(line: bytes) -> None:
    assert isinstance(read(line + b"\n")[0], BadFrame)


def test_what_is_said_about_mail() -> None:
    assert commands.post(7, "bob", b"hi") == b"POST 7 bob :hi\n"
    assert commands.post(8, "#tea", b"\n") == b"POST 8 #tea 1\n\n"
    assert commands.ack(12) == b"ACK 12\n"
    assert commands.hello("bob", None, "s", notices=True) == b"HELLO bob version=1 session=s notices=1\n"
    for to in ("", "a b", "#"):
        with pytest.raises(UsageError):
            commands.post(1, to, b"")


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "#room", "a\n", "\ud800"])
def test_what_is_no_name_is_found_before_it_is_sent(name: str) -> None:
    with pytest.raises(UsageError):
        commands.hello(name)
    with pytest.raises(UsageError):
        commands.ask("1", name, b"")
    with pytest.raises(UsageError):
        commands.watch((name,))
    if not name.startswith("#"):
        with pytest.raises(UsageError):
            commands.send(name, b"")


@pytest.mark.parametrize("room", ["", "lobby", "#", "#a b", "#a\nQUIT", "#" + "x" * 65])
def test_what_is_no_room_is_found_before_it_is_sent(room: str) -> None:
    for make in (commands.join, commands.leave, commands.who):
        with pytest.raises(UsageError):
            make(room)


@pytest.mark.parametrize("word", ["", "two words", "a\nQUIT", "x" * 65])
def test_secrets_that_are_not_well_formed(word: str) -> None:
    with pytest.raises(UsageError):
        commands.hello("bob", token=word)
    with pytest.raises(UsageError):
        commands.hello("bob", session=word)


def test_payloads() -> None:
    assert commands.as_bytes("ä", 10) == b"\xc3\xa4"
    assert commands.as_bytes(bytearray(b"x"), 10) == b"x"  # type: ignore[arg-type]  # works too
    assert commands.as_bytes(b"x" * 10, 10) == b"x" * 10
    with pytest.raises(MessageError):
        commands.as_bytes(b"x" * 11, 10)
    with pytest.raises(MessageError):
        commands.as_bytes("\ud800", 10)
    with pytest.raises(UsageError):
        commands.as_bytes(None, 10)  # type: ignore[arg-type]


def test_text_of_odd_bytes() -> None:
    assert Message("a", "b", b"\xff!").text == "\ufffd!"
    assert Asked("1", "b", b"\xff!").text == "\ufffd!"
