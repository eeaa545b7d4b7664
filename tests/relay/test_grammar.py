"""Lines of the relay protocol: what may stand in them, and how they are put together."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.relay import grammar
from hailer.relay.controls import clean

_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

BAD_TEXTS = [
    b"\x00",
    b"\x07",
    b"\t",
    b"\r",
    b"\x1b[2J",
    b"\x7f",
    b"\xc2\x80",
    b"\xc2\x9b31m",
    "\x85".encode(),
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xe2\x82",
    b"\xf4\x90\x80\x80",
]
"""Controls of C0 and C1, DEL, and what is not UTF-8 (overlong, surrogate, cut short, above U+10FFFF)."""

GOOD_TEXTS = [
    b"",
    b" ",
    b":",
    b" :",
    b"a :b",
    b"\xc2\xa0",
    "h\u00e9 \U0001f600".encode(),
    b"~",
    b"5",
    b"x " * 99,
]


@pytest.mark.parametrize("byte", range(256))
def test_a_name_is_made_of_these_bytes_and_no_others(byte: int) -> None:
    word = bytes([byte])
    assert grammar.is_name(word) == (byte in _LETTERS)
    assert grammar.is_name(b"a" + word) == (byte in _LETTERS)
    assert grammar.is_room(b"#" + word) == (byte in _LETTERS)
    assert grammar.is_token(word) == (0x21 <= byte <= 0x7E)


@pytest.mark.parametrize(
    ("length", "fits"), [(0, False), (1, True), (64, True), (65, False), (70_000, False)]
)
def test_names_have_a_length(length: int, fits: bool) -> None:
    assert grammar.is_name(b"n" * length) is fits
    assert grammar.is_room(b"#" + b"n" * length) is fits
    assert grammar.is_token(b"n" * length) is fits


def test_a_name_does_not_end_in_a_line_end() -> None:
    assert not grammar.is_name(b"bob\n")
    assert not grammar.is_room(b"#bob\n")
    assert not grammar.is_token(b"1\n")
    assert not grammar.is_room(b"bob")
    assert not grammar.is_room(b"##bob")
    assert not grammar.is_name(b"#bob")


@pytest.mark.parametrize(
    ("word", "number"),
    [
        (b"0", 0),
        (b"7", 7),
        (b"0007", 7),
        (b"1048577", 1048577),
        (b"9999999999", 9999999999),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1_0", None),
        (b"1 ", None),
        (b" 1", None),
        (b"1\n", None),
        (b"0x10", None),
        ("\u0665".encode(), None),
        ("\u00b2".encode(), None),
    ],
)
def test_counts(word: bytes, number: int | None) -> None:
    assert grammar.count_of(word) == number


@pytest.mark.parametrize("digits", [11, 20, 4301, 65_000])
def test_a_count_of_many_digits_is_a_count_above_any_limit(digits: int) -> None:
    """No count would mean that the payload is obeyed; int() refuses more than 4,300 digits."""
    count = grammar.count_of(b"1" * digits)
    assert count is not None
    assert count > 1 << 32
    assert grammar.count_of(b"0" * digits + b"5") == 5


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_what_no_text_may_hold(text: bytes) -> None:
    for payload in (text, b"a" + text, text + b"b", b"x" * 5000 + text + b"y"):
        assert not grammar.is_text(payload)
        assert not clean(payload + b"\n")
        assert not clean(b"SEND a :ok\n" + payload + b"\nSEND b :ok\n")


@pytest.mark.parametrize("text", GOOD_TEXTS)
def test_what_a_text_may_hold(text: bytes) -> None:
    assert grammar.is_text(text)
    assert clean(text + b"\n")
    assert grammar.message(b"MSG", (b"a", b"b"), text) == (b"MSG a b :" + text + b"\n", b"")


def test_a_block_is_lines_and_a_text_is_none() -> None:
    assert clean(b"a\n\nb\n")
    assert not clean(b"a\r\n")
    assert not grammar.is_text(b"a\nb")


def test_a_multibyte_character_does_not_cross_lines() -> None:
    assert not clean(b"\xe2\x82\n\xac\n")


@given(st.binary(max_size=200))
def test_clean_is_what_a_slow_look_says(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\x00"
    controls = re.search("[\x00-\x1f\x7f-\x9f]", text)
    assert grammar.is_text(data) == (controls is None)
    assert clean(data + b"\n") == (re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text) is None)


def test_the_longest_text_fits_a_line_with_the_longest_names() -> None:
    names = (b"n" * 64, b"#" + b"r" * 64)
    line, raw = grammar.message(b"ANSWERED", names, b"x" * grammar.MAX_TEXT)
    assert raw == b""
    assert len(line) - 1 <= grammar.MAX_LINE
    line, raw = grammar.message(b"ANSWERED", names, b"x" * (grammar.MAX_TEXT + 1))
    assert line.endswith(b" %d\n" % (grammar.MAX_TEXT + 1))
    assert len(raw) == grammar.MAX_TEXT + 1


@given(st.binary(max_size=300))
def test_any_payload_comes_out_of_a_message_as_it_went_in(payload: bytes) -> None:
    line, raw = grammar.message(b"MSG", (b"alice", b"bob"), payload)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    head, colon, text = line[:-1].partition(b" :")
    assert head.split()[:3] == [b"MSG", b"alice", b"bob"]
    assert (text if colon else raw) == payload
    assert colon or int(head.split()[3]) == len(raw)


@given(st.binary(max_size=100), st.integers(0, 60))
def test_printable_is_harmless_and_short(data: bytes, most: int) -> None:
    shown = grammar.printable(data, most)
    assert re.fullmatch(rb"[ -~]*", shown)
    assert len(shown) <= most + 3
    if re.fullmatch(rb"[ -~]*", data) and len(data) <= most:
        assert shown == data


@given(st.binary(min_size=1, max_size=100).filter(lambda word: b" " not in word))
def test_a_shown_verb_is_one_word_that_starts_no_text(word: bytes) -> None:
    assert re.fullmatch(rb"[!-9;-~][!-~]*", grammar.shown_verb(word))


def test_listings_lose_nobody_and_break_lines() -> None:
    names = [b"n%d" % number for number in range(1000)]
    lines = grammar.listing(b"HERE #room", names, 100)
    assert [name for line in lines for name in line.split()[2:]] == names
    assert all(line.startswith(b"HERE #room ") and line.endswith(b"\n") for line in lines)
    assert max(map(len, lines)) <= 100 + 5 + 12
    assert len(lines) < 80
    assert grammar.listing(b"HERE", []) == []


def test_the_lines_of_failure_and_farewell() -> None:
    assert grammar.fail(b"offline", b"SEND", b"bob is not connected") == (
        b"FAIL offline SEND :bob is not connected\n"
    )
    assert grammar.bye(b"too slow") == b"BYE :too slow\n"
