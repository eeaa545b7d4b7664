"""What every framing promises, over arbitrary messages, bytes and cuts."""

from __future__ import annotations

import sys
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.errors import FramingError, MessageError, MessageTooLong, TruncatedMessage, UsageError
from hailer.framing import (
    DEFAULT_MAX_MESSAGE,
    CrlfFraming,
    DelimiterFraming,
    EofFraming,
    Framing,
    LengthFraming,
    LineFraming,
    NetstringFraming,
    NullFraming,
    RawFraming,
    ShortReadFraming,
    as_framing,
    framing,
)
from hailer.framing.base import encoder_of_many
from hailer.testing.framing import check_framing

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.framing import Decoder

STREAM = [
    "line",
    "crlf",
    "null",
    "delimiter:DONE",
    "delimiter:aab",
    "delimiter:\\r\\n",
    "length",
    "netstring",
]
ALL = [*STREAM, "eof", "raw", "short-read"]

Told = list[bytes | FramingError]


def run(decoder: Decoder, pieces: list[bytes]) -> Told:
    told: Told = []
    for piece in pieces:
        if piece:
            told += decoder.feed(piece)
    return told + decoder.feed(b"")


def plain(told: Told) -> list[object]:
    return [one if isinstance(one, bytes) else (type(one), str(one), vars(one)) for one in told]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize("name", STREAM)
def test_it_passes_the_public_suite(name: str) -> None:
    check_framing(framing(name))


def test_eof_raw_and_short_read_pass_what_they_can() -> None:
    check_framing(EofFraming(), one_message=True)
    check_framing(RawFraming(), by_read=True)
    for size in (1, 3, 4, 7, 4096):
        check_framing(ShortReadFraming(size), by_read=True)


PLACES = st.lists(st.integers(0, 1 << 16), max_size=20)
BYTES = st.one_of(
    st.binary(max_size=200),
    st.text("ab0123:,\r\nDONE\0", max_size=200).map(str.encode),
    st.lists(st.sampled_from([b"\0\0\0\2", b"\0\0\0\x11", b"3:", b",", b"aab", b"\r", b"\n", b"xyz"])).map(
        b"".join
    ),
)


@pytest.mark.parametrize("name", [*STREAM, "eof"])
@given(data=BYTES, places=PLACES, limit=st.integers(1, 40))
def test_any_bytes_mean_the_same_however_they_are_cut(
    name: str, data: bytes, places: list[int], limit: int
) -> None:
    whole = run(framing(name).decoder(limit), [data])
    assert plain(run(framing(name).decoder(limit), cut(data, places))) == plain(whole)
    assert plain(run(framing(name).decoder(limit), [bytes([b]) for b in data])) == plain(whole)
    for one in whole[:-1]:
        assert isinstance(one, bytes) or not one.fatal
    for one in whole:
        assert not isinstance(one, bytes) or len(one) <= limit


@pytest.mark.parametrize("name", STREAM)
@given(messages=st.lists(BYTES, max_size=8), places=PLACES)
def test_messages_arrive_whole_and_a_cut_one_never(
    name: str, messages: list[bytes], places: list[int]
) -> None:
    frames, carried = [], []
    for message in messages:
        try:
            frames.append(framing(name).encode(message))
        except MessageError:
            continue
        carried.append(message)
    stream = b"".join(frames)
    assert run(framing(name).decoder(), cut(stream, places)) == carried
    for place in places:
        told = run(framing(name).decoder(), [stream[: place % (len(stream) + 1)]])
        if told and isinstance(told[-1], TruncatedMessage):
            told.pop()
        assert told == carried[: len(told)]


@pytest.mark.parametrize("name", ["raw", "short-read:1", "short-read", "short-read:9"])
@given(data=BYTES, places=PLACES, limit=st.integers(1, 40))
def test_where_reads_matter_arbitrary_bytes_still_never_raise(
    name: str, data: bytes, places: list[int], limit: int
) -> None:
    for one in run(framing(name).decoder(limit), cut(data, places)):
        assert not isinstance(one, bytes) or len(one) <= limit


@given(data=BYTES, places=PLACES, limit=st.integers(1, 40))
def test_raw_passes_on_every_byte_in_messages_within_the_limit(
    data: bytes, places: list[int], limit: int
) -> None:
    told = run(framing("raw").decoder(limit), cut(data, places))
    assert b"".join(one for one in told if isinstance(one, bytes)) == data
    assert all(isinstance(one, bytes) and 0 < len(one) <= limit for one in told)


@pytest.mark.parametrize("name", [name for name in ALL if name != "raw"])
def test_limit_taken_taken_refused(name: str) -> None:
    chosen = framing(name)
    for size, fits in ((99, True), (100, True), (101, False)):
        message = b"x" * size
        (told,) = run(chosen.decoder(100), [chosen.encode(message)])
        if fits:
            assert told == message
        else:
            assert isinstance(told, MessageTooLong)
            assert told.limit == 100
            assert told.fatal is (name == "eof")
            assert "limit of 100 bytes" in str(told)


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("eof", "raw")])
def test_an_over_long_message_is_reported_once_in_its_place(name: str) -> None:
    chosen = framing(name)
    pieces = [chosen.encode(m) for m in (b"one", b"x" * 1000, b"two", b"y" * 1001, b"three")]
    if chosen.read_size is None:
        pieces = [b"".join(pieces)]
    told = run(chosen.decoder(10), pieces)
    assert [one if isinstance(one, bytes) else type(one) for one in told] == [
        b"one",
        MessageTooLong,
        b"two",
        MessageTooLong,
        b"three",
    ]


@pytest.mark.parametrize("name", STREAM)
def test_an_over_long_message_is_told_before_it_ends(name: str) -> None:
    decoder = framing(name).decoder(10)
    told = decoder.feed(framing(name).encode(b"x" * 100)[:50])
    assert [type(one) for one in told] == [MessageTooLong]
    # Its end of stream is not news: the message has been answered for.
    assert decoder.feed(b"") == []


@pytest.mark.parametrize("name", STREAM)
def test_a_truncated_message_comes_as_its_partial(name: str) -> None:
    decoder = framing(name).decoder()
    assert decoder.feed(framing(name).encode(b"whole") + framing(name).encode(b"partial")[:7]) == [b"whole"]
    (error,) = decoder.feed(b"")
    assert isinstance(error, TruncatedMessage)
    assert error.fatal
    assert error.partial
    assert b"partial".startswith(error.partial)


def pieces_of_one_message(name: str, size: int) -> list[bytes]:
    framed = framing(name).encode(b"x" * size)
    return [framed[at : at + 64] for at in range(0, len(framed), 64)]


@pytest.mark.parametrize("name", [*STREAM, "eof"])
def test_the_cost_is_linear_in_the_bytes(name: str) -> None:
    def seconds(size: int, limit: int) -> float:
        pieces = pieces_of_one_message(name, size)
        decoder = framing(name).decoder(limit)
        start = time.process_time()
        told = [one for piece in pieces for one in decoder.feed(piece)] + decoder.feed(b"")
        taken = time.process_time() - start
        assert len(told) == 1
        assert isinstance(told[0], bytes) is (size <= limit)
        return taken

    # Scanning or copying what is kept at each piece would make the larger 256 times as dear, not 16 times.
    small, large = 1 << 18, 1 << 22
    for limit in (large, 1000):
        least = min(seconds(small, limit) for _ in range(3))
        assert min(seconds(large, limit) for _ in range(2)) < 80 * max(least, 0.0005)


@pytest.mark.parametrize("name", STREAM)
def test_sixteen_mebibytes_in_small_pieces_arrive(name: str) -> None:
    size = 16 << 20
    decoder = framing(name).decoder(size)
    told = [one for piece in pieces_of_one_message(name, size) for one in decoder.feed(piece)]
    assert [len(one) for one in told if isinstance(one, bytes)] == [size]


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [*STREAM, "eof", "short-read"])
def test_memory_stays_within_the_limit_while_skipping(name: str) -> None:
    limit, chunk = 1 << 15, b"x" * (1 << 12)
    decoder = framing(name).decoder(limit)
    opening = {"length": b"\x7f\xff\xff\xff", "netstring": b"9999999999:"}.get(name, b"xxxx")

    def flood() -> None:
        told = list(decoder.feed(opening))
        for _ in range(1000):  # 4 MiB of one message without an end
            told += decoder.feed(chunk)
        assert [type(one) for one in told] == [MessageTooLong]

    # A growing buffer is given some room ahead.
    assert peak_bytes(flood) < 2 * limit + 4 * len(chunk) + 20_000


@pytest.mark.parametrize("name", ["line", "crlf", "null", "delimiter:DONE"])
def test_a_batch_is_split_without_python_for_each_byte(name: str) -> None:
    calls = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    batch = framing(name).encode(b"x" * 63) * 1000
    decoder = framing(name).decoder()
    sys.setprofile(count)
    try:
        told = decoder.feed(batch)
    finally:
        sys.setprofile(None)
    assert told == [b"x" * 63] * 1000
    assert calls < 2 * 1000


def test_names_make_the_framings() -> None:
    made: dict[str, Framing] = {
        "line": LineFraming(),
        "crlf": CrlfFraming(),
        "null": NullFraming(),
        "length": LengthFraming(),
        "netstring": NetstringFraming(),
        "eof": EofFraming(),
        "raw": RawFraming(),
        "delimiter:DONE": DelimiterFraming(b"DONE"),
        "short-read:4": ShortReadFraming(),
        "short-read:16": ShortReadFraming(16),
    }
    assert {name: framing(name) for name in made} == made
    assert [framing(name).name for name in made] == list(made)
    assert framing("short-read") == ShortReadFraming(4)
    assert as_framing("line") == LineFraming()
    own = DelimiterFraming(b"x")
    assert as_framing(own) is own


def test_only_short_read_asks_for_a_read_size() -> None:
    assert {name: framing(name).read_size for name in ALL if framing(name).read_size} == {"short-read": 4}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lines",
        "LINE",
        "line:",
        "delimiter",
        "short-read:",
        "short-read:x",
        "short-read:-1",
        "x\x1b[2J" * 99,
    ],
)
def test_an_unknown_name_gets_the_list(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        framing(text)
    assert "line, crlf, null, length, netstring, eof, raw, delimiter:TEXT, short-read[:SIZE]" in str(
        caught.value
    )
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "text", ["short-read:0", "short-read:99999999", "delimiter:", "delimiter:" + "x" * 256]
)
def test_a_value_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        framing(text)


def test_the_default_limit_is_a_mebibyte() -> None:
    assert DEFAULT_MAX_MESSAGE == 1048576
    assert run(RawFraming().decoder(), [b"x" * 1048576]) == [b"x" * 1048576]
    assert isinstance(run(LineFraming().decoder(), [b"x" * 1048577])[0], MessageTooLong)


@pytest.mark.parametrize("name", ALL)
@given(messages=st.lists(BYTES, max_size=8), large=st.booleans())
def test_a_batch_is_framed_as_its_messages_are(name: str, messages: list[bytes], large: bool) -> None:
    chosen = framing(name)
    if large:  # enough bytes for the other way to look at them
        messages = [b"x" * 1000 + message for message in messages]

    def told(encode: Callable[[], bytes]) -> bytes | str:
        try:
            return encode()
        except MessageError as error:
            return str(error)

    expected = told(lambda: b"".join(map(chosen.encode, messages)))
    assert told(lambda: encoder_of_many(chosen)(messages)) == expected


def test_a_framing_without_a_way_of_its_own_for_batches_has_one() -> None:
    class Shouted:
        name = "shouted"
        read_size = None

        def decoder(self, max_message: int = DEFAULT_MAX_MESSAGE) -> Decoder:
            return LineFraming().decoder(max_message)

        def encode(self, message: bytes) -> bytes:
            return LineFraming().encode(message.upper())

    assert encoder_of_many(Shouted())([b"a", b"b"]) == b"A\nB\n"


@pytest.mark.parametrize("name", ["line", "crlf", "null", "delimiter:DONE"])
@given(sizes=st.lists(st.sampled_from([0, 1, 511, 512, 513, 2000]), max_size=8), places=PLACES)
def test_large_and_small_messages_in_one_read(name: str, sizes: list[int], places: list[int]) -> None:
    messages = [b"x" * size for size in sizes]
    stream = b"".join(map(framing(name).encode, messages))
    assert run(framing(name).decoder(), [stream]) == messages
    assert run(framing(name).decoder(), cut(stream, places)) == messages
    partial = run(framing(name).decoder(), [stream + b"y" * 600])
    assert partial[:-1] == messages
    assert isinstance(partial[-1], TruncatedMessage)
    assert partial[-1].partial == b"y" * 600
