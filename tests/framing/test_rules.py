"""The rules of each framing, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.errors import BadFrame, FramingError, MessageError, MessageTooLong, TruncatedMessage, UsageError
from hailer.framing import (
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
    framing,
)


def told(chosen: Framing, *reads: bytes, limit: int = 1000) -> list[object]:
    """What a decoder gives for these reads, errors as their types."""
    decoder = chosen.decoder(limit)
    return [kind(one) for read in reads for one in decoder.feed(read)]


def kind(one: bytes | FramingError) -> object:
    return one if isinstance(one, bytes) else type(one)


class TestLine:
    def test_lf_and_crlf_end_a_line_and_one_cr_is_dropped(self) -> None:
        assert told(LineFraming(), b"a\nb\r\n\n\r\nc\r\r\nd\re\n") == [b"a", b"b", b"", b"", b"c\r", b"d\re"]

    def test_the_cr_may_come_before_the_lf_in_a_read_of_its_own(self) -> None:
        assert told(LineFraming(), b"a\r", b"\nb", b"\r", b"\n", b"\r", b"\n") == [b"a", b"b", b""]

    def test_the_cr_does_not_count(self) -> None:
        assert told(LineFraming(), b"abc\r\nabcd\r\n", limit=3) == [b"abc", MessageTooLong]
        assert told(LineFraming(), b"abc", b"\r", b"\n", limit=3) == [b"abc"]
        assert told(LineFraming(), b"abc", b"\r", b"x", b"\nab\n", limit=3) == [MessageTooLong, b"ab"]

    def test_it_sends_lf_and_refuses_what_would_arrive_changed(self) -> None:
        assert LineFraming().encode(b"a\rb") == b"a\rb\n"
        for bad in (b"a\nb", b"\n", b"a\r", b"a\r\n"):
            with pytest.raises(MessageError):
                LineFraming().encode(bad)


class TestCrlf:
    def test_crlf_is_sent_and_both_are_understood(self) -> None:
        assert CrlfFraming().encode(b"one") == b"one\r\n"
        assert CrlfFraming().encode_many([b"one", b"", b"a\r"]) == b"one\r\n\r\na\r\r\n"
        assert told(CrlfFraming(), b"one\r\ntwo\n\r", b"\nc\rd\r", b"\r\n") == [
            b"one",
            b"two",
            b"",
            b"c\rd\r",
        ]

    def test_it_refuses_a_newline(self) -> None:
        for bad in (b"a\nb", b"\n", b"a\r\n"):
            with pytest.raises(MessageError):
                CrlfFraming().encode(bad)
            with pytest.raises(MessageError):
                CrlfFraming().encode_many([b"a", bad])


class TestNull:
    def test_nul_ends_a_message(self) -> None:
        assert told(NullFraming(), b"a\r\n\0\0b", b"\0c", b"") == [b"a\r\n", b"", b"b", TruncatedMessage]

    def test_it_refuses_a_nul(self) -> None:
        assert NullFraming().encode(b"a") == b"a\0"
        with pytest.raises(MessageError):
            NullFraming().encode(b"a\0b")


class TestDelimiter:
    def test_overlapping_beginnings_are_found(self) -> None:
        for reads in ([b"aaab"], [b"aa", b"ab"], [b"a", b"a", b"a", b"b"], [b"a", b"aab"]):
            assert told(DelimiterFraming(b"aab"), *reads) == [b"a"]
        for reads in ([b"xabababc"], [b"xaba", b"babc"], [b"xab", b"ab", b"abc"]):
            assert told(DelimiterFraming(b"ababc"), *reads) == [b"xab"]

    def test_the_first_mark_in_the_stream_counts(self) -> None:
        for reads in ([b"aaaaa"], [b"a"] * 5, [b"aaa", b"aa"]):
            assert told(DelimiterFraming(b"aa"), *reads, b"") == [b"", b"", TruncatedMessage]

    @given(st.text("ab", min_size=1, max_size=4), st.lists(st.text("ab", max_size=5), max_size=12))
    def test_it_is_what_split_would_do(self, mark: str, reads: list[str]) -> None:
        *whole, rest = "".join(reads).encode().split(mark.encode())
        expected: list[object] = [*whole, TruncatedMessage] if rest else [*whole]
        assert told(DelimiterFraming(mark.encode()), *(r.encode() for r in reads if r), b"") == expected

    @given(st.text("ab", min_size=1, max_size=4), st.text("ab", max_size=8))
    def test_a_message_is_refused_or_arrives(self, mark: str, message: str) -> None:
        chosen = DelimiterFraming(mark.encode())
        try:
            framed = chosen.encode(message.encode())
        except MessageError:
            assert (message + mark).index(mark) < len(message)
        else:
            assert told(chosen, framed) == [message.encode()]

    def test_the_limit_does_not_count_the_mark(self) -> None:
        for reads in ([b"abcDONE"], [b"abcDON", b"E"], [b"abc", b"D", b"O", b"N", b"E"]):
            assert told(DelimiterFraming(b"DONE"), *reads, limit=3) == [b"abc"]
        for reads in ([b"abcDDONEx"], [b"abcD", b"DON", b"Ex"]):
            assert told(DelimiterFraming(b"DONE"), *reads, limit=3) == [MessageTooLong]

    def test_an_end_in_the_mark_keeps_what_came(self) -> None:
        decoder = DelimiterFraming(b"DONE").decoder()
        assert decoder.feed(b"helloDON") == []
        (error,) = decoder.feed(b"")
        assert isinstance(error, TruncatedMessage)
        assert error.partial == b"helloDON"

    @pytest.mark.parametrize(
        ("text", "mark"),
        [
            ("DONE", b"DONE"),
            (r"\n", b"\n"),
            (r"\r\n", b"\r\n"),
            (r"\t\0", b"\t\0"),
            (r"\x41\xfF", b"A\xff"),
            (r"\\n", b"\\n"),
            (r"\\\n", b"\\\n"),
            (":", b":"),
            ("é", "é".encode()),
            ("\udcff", b"\xff"),
            (" ", b" "),
        ],
    )
    def test_escapes(self, text: str, mark: bytes) -> None:
        assert DelimiterFraming.parse(text).delimiter == mark

    @pytest.mark.parametrize("text", ["\\", "a\\q", "\\x4", "\\x", "\\xg0", "\\N", "\\é", "\\\\\\"])
    def test_other_backslashes_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="is no escape; write one of"):
            framing(f"delimiter:{text}")

    @given(st.binary(min_size=1, max_size=255))
    def test_the_name_makes_it_again(self, mark: bytes) -> None:
        name = DelimiterFraming(mark).name
        assert framing(name) == DelimiterFraming(mark)
        assert name.isprintable()
        assert " " not in name


class TestLength:
    def test_big_endian_four_bytes(self) -> None:
        assert LengthFraming().encode(b"hello") == b"\0\0\0\5hello"
        assert told(LengthFraming(), b"\0\0\0\5hel", b"lo\0\0\0\0\0\0\0\1", b"x") == [b"hello", b"", b"x"]

    def test_a_limit_is_applied_before_anything_is_kept(self) -> None:
        decoder = LengthFraming().decoder(1000)
        (error,) = decoder.feed(b"GET ")
        assert isinstance(error, MessageTooLong)
        assert "1195725856 bytes" in str(error)

    def test_an_end_in_the_header(self) -> None:
        assert told(LengthFraming(), b"\0\0", b"") == [TruncatedMessage]
        assert told(LengthFraming(), b"\0\0\0\1", b"") == [TruncatedMessage]
        assert told(LengthFraming(), b"") == []


class TestNetstring:
    def test_the_definitions_examples(self) -> None:
        assert NetstringFraming().encode(b"hello world!") == b"12:hello world!,"
        assert NetstringFraming().encode(b"") == b"0:,"
        assert told(NetstringFraming(), b"12:hello world!,0:,", b"1:", b",,") == [b"hello world!", b"", b","]

    @pytest.mark.parametrize(
        "data",
        [
            b"x",
            b":",
            b"-1:a,",
            b"+1:a,",
            b" 1:a,",
            b"1 :a,",
            b"00:,",
            b"01:a,",
            b"1:ab",
            b"1:a\n",
            b"12345678901:",
        ],
    )
    def test_what_is_no_netstring_is_fatal(self, data: bytes) -> None:
        for reads in ([data], [data[i : i + 1] for i in range(len(data))]):
            assert told(NetstringFraming(), *reads, b"1:a,", b"") == [BadFrame]

    def test_digits_are_bounded_before_they_are_kept(self) -> None:
        decoder = NetstringFraming().decoder(1 << 40)
        assert decoder.feed(b"1" * 10) == []
        assert [kind(one) for one in decoder.feed(b"1")] == [BadFrame]
        assert told(NetstringFraming(), b"9" * 100_000) == [BadFrame]
        assert told(NetstringFraming(), b"9999999999:x") == [MessageTooLong]

    def test_the_comma_of_a_skipped_message_is_checked(self) -> None:
        assert told(NetstringFraming(), b"3:abc,2:ab,", limit=2) == [MessageTooLong, b"ab"]
        assert told(NetstringFraming(), b"3:abcd", limit=2) == [MessageTooLong, BadFrame]

    def test_the_partial_has_no_comma(self) -> None:
        decoder = NetstringFraming().decoder()
        assert decoder.feed(b"3:abc") == []
        (error,) = decoder.feed(b"")
        assert isinstance(error, TruncatedMessage)
        assert error.partial == b"abc"
        assert "after 3 of 3 bytes" in str(error)


class TestEofAndRaw:
    def test_eof_gives_the_stream_at_its_end(self) -> None:
        assert told(EofFraming(), b"a", b"b\n", b"", b"") == [b"ab\n"]
        assert told(EofFraming(), b"") == [b""]
        assert EofFraming().encode(b"a") == b"a"

    def test_eof_over_the_limit_is_fatal(self) -> None:
        decoder = EofFraming().decoder(3)
        assert decoder.feed(b"abc") == []
        (error,) = decoder.feed(b"d")
        assert isinstance(error, MessageTooLong)
        assert error.fatal
        assert decoder.feed(b"e") == decoder.feed(b"") == []

    def test_raw_gives_each_read(self) -> None:
        assert told(RawFraming(), b"a", b"b\nc\0", b"d", b"", limit=4) == [b"a", b"b\nc\0", b"d"]

    def test_raw_cuts_a_read_over_the_limit_and_drops_no_byte(self) -> None:
        assert told(RawFraming(), b"12345678", b"123456789", b"d", b"", limit=4) == [
            *(b"1234", b"5678"),
            *(b"1234", b"5678", b"9"),
            b"d",
        ]


class TestShortRead:
    GREETING = b"Hello Server, this is Client! Used 5 sleep seconds."

    def test_the_greeting_takes_thirteen_reads_of_four(self) -> None:
        framed = ShortReadFraming().encode(self.GREETING)
        reads = [framed[at : at + 4] for at in range(0, len(framed), 4)]
        assert len(reads) == 13
        assert told(ShortReadFraming(), *reads) == [self.GREETING]
        assert told(ShortReadFraming(), framed) == [self.GREETING]

    def test_a_short_read_ends_a_message_as_over_telnet(self) -> None:
        line = b"Hi Server!  I'm telnetting to you this time!\r\n"
        reads = [line[at : at + 4] for at in range(0, len(line), 4)]
        assert told(ShortReadFraming(), *reads) == [line]

    def test_its_fault_a_pause_makes_two_messages(self) -> None:
        assert told(ShortReadFraming(), b"Hell", b"o Se", b"r", b"ver\0") == [b"Hello Ser", b"ver"]

    def test_its_other_fault_a_full_last_read_waits(self) -> None:
        assert told(ShortReadFraming(), b"full") == []
        assert told(ShortReadFraming(), b"full", b"next", b"!") == [b"fullnext!"]

    def test_what_follows_a_nul_begins_the_next(self) -> None:
        assert told(ShortReadFraming(), b"ab\0c", b"d\0") == [b"ab", b"cd"]
        assert told(ShortReadFraming(), b"b\0c") == [b"b", b"c"]
        assert told(ShortReadFraming(), b"\0") == [b""]
        assert told(ShortReadFraming(), b"abcd", b"\0") == [b"abcd"]

    def test_a_larger_read_counts_as_several(self) -> None:
        assert told(ShortReadFraming(4), b"abcdefgh") == []
        assert told(ShortReadFraming(4), b"abcdefghi") == [b"abcdefghi"]

    def test_the_end_of_the_stream_ends_no_message(self) -> None:
        assert told(ShortReadFraming(), b"full", b"") == [TruncatedMessage]

    def test_a_short_read_ends_skipping_too(self) -> None:
        assert told(ShortReadFraming(), b"abcd", b"efgh", b"i", b"ok", b"", limit=5) == [
            MessageTooLong,
            b"ok",
        ]
        assert told(ShortReadFraming(), b"abcdefg", b"ok", limit=5) == [MessageTooLong, b"ok"]
