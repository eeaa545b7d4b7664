"""What is said to each relay, beside the examples of its protocol's specification."""

from __future__ import annotations

import pytest

from hailer.relay.grammar import MAX_TEXT, message
from hailer.tools.bench.relay.dialects import DIALECTS
from hailer.tools.bench.relay.posting import POSTING, Refused

LINES = DIALECTS["hailer"]


def test_the_frames_of_every_dialect() -> None:
    """Against the examples of each protocol's specification."""
    nats, redis, mqtt = DIALECTS["nats"], DIALECTS["redis"], DIALECTS["mqtt"]
    assert nats.sent("FOO", b"Hello NATS!") == b"PUB FOO 11\r\nHello NATS!\r\n"
    assert nats.received("s", "FOO.BAR", b"Hello World") == b"MSG FOO.BAR 1 11\r\nHello World\r\n"
    assert nats.reply(b"PING\r\nPING\r\n") == b"PONG\r\nPONG\r\n"
    assert redis.sent("a", b"bc") == b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$2\r\nbc\r\n"
    assert redis.is_confirmation(b":1\r\n:1\r\n:0")
    assert not redis.is_confirmation(b"-ERR no\r\n")
    assert mqtt.sent("a/b", b"x") == b"\x30\x06\x00\x03a/bx"
    assert mqtt.sent("a", b"x" * 318)[:3] == b"\x30\xc1\x02"  # 321 is C1 02 in section 2.2.3
    assert LINES.sent("bob", b"hi") == b"SEND bob :hi\n"
    assert LINES.received("ann", "bob", b"hi") == b"MSG ann bob :hi\n"


@pytest.mark.parametrize(
    "body",
    [b"hi", b"a b :c", b"two\nlines", b"\0", b"x" * MAX_TEXT, b"x" * (MAX_TEXT + 1)],
    ids=["text", "spaces", "newline", "NUL", "longest text", "too long for text"],
)
def test_a_message_is_counted_where_the_relay_counts_it(body: bytes) -> None:
    assert LINES.received("ann", "bob", body) == b"".join(message(b"MSG", (b"ann", b"bob"), body))
    head, tail = POSTING["hailer"].received("ann", "bob", body)
    assert head + b"7" + tail == b"".join(message(b"MAIL", (b"7", b"ann", b"bob"), body))


def test_the_lines_of_irc() -> None:
    irc = DIALECTS["irc"]
    assert irc.sent("r00001", b"hi") == b"PRIVMSG r00001 :hi\r\n"
    assert irc.received("s1", "#all", b"hi") == b":s1!~s1@127.0.0.1 PRIVMSG #all :hi\r\n"
    assert irc.reply(b":irc.local NOTICE x :y\r\nPING :z\r\n") == b"PONG :z\r\n"
    join = irc.login("ann", "#all")[-1]
    assert join.say == b"JOIN #all\r\n"
    assert join.answer.search(b":irc.local 366 ann #all :End of NAMES list\r\n")


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_what_is_stored_is_counted_however_the_answers_are_cut(piece: int) -> None:
    answers = {
        "hailer": b"STORED 2\nSTORED 5\n",
        "nats": b"".join(
            b'MSG _INBOX.s00001 2 %d\r\n{"stream":"all", "seq":%d}\r\n' % (26 + len(str(n)), n)
            for n in (9, 10, 11, 12, 13)
        ),
        "redis": b":1\r\n+STORED\r\n:0\r\n+STORED\r\n" + b"+STORED\r\n" * 3,
    }
    for name, told in answers.items():
        acks = POSTING[name].acks()
        assert sum(acks.count(told[at : at + piece]) for at in range(0, len(told), piece)) == 5, name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("hailer", b"FAIL quota POST :3: that mailbox is full\n"),
        ("hailer", b"STORED 4\nSTORED 3\n"),
        ("nats", b'MSG _INBOX.s00001 2 33\r\n{"error":{"code":503,"err_code":1}}\r\n'),
        ("redis", b"-OOM command not allowed\r\n"),
    ],
)
def test_a_refusal_is_no_acknowledgement(name: str, told: bytes) -> None:
    with pytest.raises(Refused, match="it said"):
        POSTING[name].acks().count(told)
