"""What the durable load says and hears, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.tools.bench.durable.dialects import DURABLE, Ends
from hailer.tools.bench.relay.posting import Refused


def test_the_frames_of_every_dialect() -> None:
    """Against the examples of each protocol's specification."""
    hailer = DURABLE["hailer"].posts("ann", "bob", b"hi", 10)
    assert (
        bytes(hailer.take(2)) + bytes(hailer.take(1)) == b"POST 1 bob :hi\nPOST 2 bob :hi\nPOST 3 bob :hi\n"
    )
    nats = DURABLE["nats"].posts("ann", "bob", b"hi", 10)
    assert bytes(nats.take(1)) == b"PUB to.bob _INBOX.ann 2\r\nhi\r\n"
    redis = DURABLE["redis"].posts("ann", "bob", b"hi", 10)
    assert bytes(redis.take(1)) == b"*5\r\n$4\r\nXADD\r\n$3\r\nbob\r\n$1\r\n*\r\n$1\r\nm\r\n$2\r\nhi\r\n"
    mqtt = DURABLE["mqtt"].posts("ann", "a/b", b"x", 2)
    said = b"".join(bytes(mqtt.take(count)) for count in (1, 2, 2))
    assert said == b"".join(b"\x32\x08\x00\x03a/b\x00%cx" % n for n in (1, 2, 3, 4, 1))


ANSWERS = {
    "hailer": b"STORED 2\nSTORED 5\n",
    "nats": b'MSG _INBOX.s 1 28\r\n{"stream":"all", "seq":1}\r\n' * 5,
    "redis": b"".join(b"$15\r\n1732212345678-%d\r\n" % n for n in range(5)),
    "mqtt": b"".join(b"\x40\x02\x00%c" % (n % 4 + 1) for n in range(5)),
}


@pytest.mark.parametrize("name", ANSWERS)
@given(cuts=st.lists(st.integers(0, 250), max_size=10))
def test_acknowledgements_are_counted_however_they_are_cut(name: str, cuts: list[int]) -> None:
    data = ANSWERS[name]
    acks = DURABLE[name].acks(2)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert sum(acks.count(data[a:b]) for a, b in itertools.pairwise(places)) == 5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hailer", b"STORED 1\nFAIL store POST :2: disk full\n"),
        ("nats", b'MSG _INBOX.s 1 9\r\n{"error":{"code":503}}\r\n'),
        ("redis", b"-ERR no\r\n"),
        ("mqtt", b"\x40\x02\x00\x02"),
    ],
)
def test_a_refusal_is_none_of_them(name: str, said: bytes) -> None:
    with pytest.raises(Refused):
        DURABLE[name].acks(2).count(said)


ENTRY = b"*2\r\n$15\r\n1732212345678-%d\r\n*2\r\n$1\r\nm\r\n$2\r\nhi\r\n"
HEAD = b"*1\r\n*2\r\n$1\r\nr\r\n*%d\r\n"
TAKEN = {
    "hailer": (b"".join(b"MAIL %d ann r :hi\n" % n for n in range(1, 4)), b"ACK 3\n"),
    "nats": (
        b"PING\r\n" + b"".join(b"MSG to.r 2 $JS.ACK.r.r.1.%d.1.5.0 2\r\nhi\r\n" % n for n in (1, 2, 3)),
        b"PUB $JS.ACK.r.r.1.3.1.5.0 4\r\n+ACK\r\n",
    ),
    "redis": (
        HEAD % 2 + ENTRY % 1 + ENTRY % 2 + b":1\r\n" + HEAD % 1 + ENTRY % 3,
        b"$5\r\nMINID\r\n$15\r\n1732212345678-3\r\n",
    ),
    "mqtt": (b"".join(b"\x32\x07\x00\x01r\x00%chi" % n for n in (1, 2, 3)), b"\x40\x02\x00\x03"),
}


@pytest.mark.parametrize("name", TAKEN)
@given(cuts=st.lists(st.integers(0, 250), max_size=10))
def test_what_is_taken_is_counted_and_dealt_with_however_it_is_cut(name: str, cuts: list[int]) -> None:
    data, answer = TAKEN[name]
    taker = DURABLE[name].taker("r", b"hi")
    if name == "redis":  # it answers when it is asked, so that a read never holds more than one answer
        cuts = [*cuts, len(HEAD % 2 + ENTRY * 2) - 2]
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    took = [taker.take(data[a:b]) for a, b in itertools.pairwise(places)]
    assert sum(count for count, _ in took) == 3
    assert answer in b"".join(said for _, said in took)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("hailer", b"MAIL 2 ann r :hi", b"MAIL 4 ann r :hi"),
        ("hailer", b"MAIL 3 ann r :hi", b"MAIL 3 ann r :ho"),
        ("nats", b"hi\r\nMSG to.r 2 $JS.ACK.r.r.1.3", b"hi\r\nERR to.r 2 $JS.ACK.r.r.1.3"),
        ("mqtt", b"hi", b"ho"),
    ],
)
def test_what_is_taken_in_disorder_is_found_out(name: str, old: bytes, new: bytes) -> None:
    data = TAKEN[name][0]
    assert old in data
    taker = DURABLE[name].taker("r", b"hi")
    data = data.replace(old, new)
    if name == "hailer":  # all that a read brought is checked by its last line
        data = data[: data.index(new)] + new + b"\n"
    with pytest.raises(Refused):
        taker.take(data)


def test_an_end_of_one_byte_has_no_tail() -> None:
    acks = Ends(b"-", b"-E")
    assert [acks.count(b"1-"), acks.count(b"2-"), acks.count(b"")] == [1, 1, 0]
