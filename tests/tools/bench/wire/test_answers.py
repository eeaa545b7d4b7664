"""What comes is held against what was due, however the network cuts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from hailer.errors import ConnectionLost
from hailer.tools.bench.wire import Load, WrongAnswer, numbered_lines
from hailer.tools.bench.wire.answers import BUFFER, Answers, make_script

if TYPE_CHECKING:
    from collections.abc import Callable

cuts = st.lists(st.integers(min_value=1, max_value=100), min_size=1, max_size=20)


def taker(websocket: bool = False, **load: Any) -> tuple[Answers, Callable[[bytes, list[int]], int]]:
    """The answers of a load, and what gives them a stream in parts."""
    fields = {"kind": "connect", "messages": numbered_lines(10), **load}
    script = make_script(Load(**fields), "the server", websocket=websocket)
    answers = script.answers()

    def take(data: bytes, cut: list[int]) -> int:
        done = at = turn = 0
        while at < len(data):
            part = data[at : at + min(cut[turn % len(cut)], BUFFER)]
            script.buffer[: len(part)] = part
            done += answers.take(len(part))
            at += len(part)
            turn += 1
        return done

    return answers, take


def frame(data: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


@given(cuts, st.integers(min_value=1, max_value=100))
def test_an_echo(cut: list[int], count: int) -> None:
    lines = numbered_lines(10)
    _, take = taker()
    assert take(b"".join(lines[n % 16] for n in range(count)), cut) == count


@given(cuts, st.integers(min_value=0, max_value=319))
def test_an_echo_with_one_wrong_byte(cut: list[int], place: int) -> None:
    data = bytearray(b"".join(numbered_lines(10) * 2))
    data[place] ^= 0x20
    _, take = taker()
    with pytest.raises(WrongAnswer, match=r"the server answered '.*' where '.*' was due: say"):
        take(bytes(data), cut)


def test_the_sentence_shows_what_came_and_what_was_due() -> None:
    _, take = taker(messages=(b"hello\n",))
    with pytest.raises(WrongAnswer) as error:
        take(b"hello\nhellO\nhello\n", [100])
    assert "answered 'ello\\nhellO\\nhello\\n' where " not in str(error.value)
    assert "hellO" in str(error.value)


@given(cuts)
def test_an_exact_answer(cut: list[int]) -> None:
    _, take = taker(expect="exact", answer=b"+PONG\r\n")
    assert take(b"+PONG\r\n" * 20, cut) == 20


@given(cuts, st.lists(st.binary(max_size=30).filter(lambda line: b"\n" not in line), max_size=30))
def test_lines_whatever_they_say(cut: list[int], lines: list[bytes]) -> None:
    _, take = taker(expect="line")
    assert take(b"".join(line + b"\n" for line in lines), cut) == len(lines)


@given(cuts, st.lists(st.text("aD", max_size=6).filter(lambda text: "DD" not in text + "D"), max_size=30))
def test_a_mark_of_several_bytes(cut: list[int], texts: list[str]) -> None:
    _, take = taker(expect="mark", answer=b"DDD")
    assert take(b"".join(text.encode() + b"DDD" for text in texts), cut) == len(texts)


@given(cuts, st.integers(min_value=0, max_value=1000))
def test_bytes(cut: list[int], count: int) -> None:
    _, take = taker(expect="bytes:7")
    assert take(bytes(count), cut) == count // 7


RESPONSES = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ncontent-length:0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\n\r\n2\r\nhi\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.0 304 Not Modified\r\nDate: today\r\n\r\n",
)


@given(cuts, st.lists(st.sampled_from(RESPONSES), max_size=8))
def test_http(cut: list[int], responses: list[bytes]) -> None:
    _, take = taker(expect="http")
    assert take(b"".join(responses), cut) == len(responses)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found"),
        (b"HTTP/1.0 200 OK\r\nDate: today\r\n\r\n", "by closing"),
        (b"+PONG\r\n\r\n", "no HTTP/1 response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "a chunk's length"),
        (b"x" * 70_000, "without an end"),
    ],
)
def test_http_that_is_wrong(data: bytes, said: str) -> None:
    _, take = taker(expect="http")
    with pytest.raises(WrongAnswer, match=said):
        take(data, [30])


@given(cuts, st.lists(st.sampled_from(["message", "ping", "pong"]), max_size=30))
def test_frames_of_an_echo_with_pings_between_them(cut: list[int], kinds: list[str]) -> None:
    answers, take = taker(websocket=True)
    data, sent, pings = b"", 0, 0
    for kind in kinds:
        if kind == "message":
            data += frame(numbered_lines(10)[sent % 16])
            sent += 1
        else:
            data += frame(b"are you there", Opcode.PING if kind == "ping" else Opcode.PONG)
            pings += kind == "ping"
    assert take(data, cut) == sent
    assert len(answers.reply) == pings * len(Frame(Opcode.PONG, b"are you there").serialize(mask=True))


@given(cuts, st.lists(st.tuples(st.sampled_from([0, 3, 125, 126, 300, 70_000]), st.booleans()), max_size=6))
def test_messages_of_a_websocket_whatever_they_say(cut: list[int], sizes: list[tuple[int, bool]]) -> None:
    _, take = taker(websocket=True, expect="any")
    data = b""
    for size, fragmented in sizes:
        if fragmented:
            data += frame(b"x" * size, fin=False) + frame(b"hm", Opcode.PING) + frame(b"end", Opcode.CONT)
        else:
            data += frame(b"x" * size)
    assert take(data, [part * 997 for part in cut]) == len(sizes)


@pytest.mark.parametrize("expect", ["echo", "any"])
def test_a_websocket_that_is_closed(expect: str) -> None:
    _, take = taker(websocket=True, expect=expect)
    close = frame(b"\x03\xf0too\x07 much", Opcode.CLOSE)
    with pytest.raises(ConnectionLost, match=r"code 1008: too.*much"):
        take(close, [3])


def test_an_echo_in_another_kind_of_frame_is_no_echo() -> None:
    _, take = taker(websocket=True)
    with pytest.raises(WrongAnswer, match=r"--expect"):
        take(frame(numbered_lines(10)[0], Opcode.BINARY), [100])


def test_large_messages_are_compared_too() -> None:
    line = b"x" * 1_000_000 + b"\n"
    _, take = taker(messages=(line,))
    assert take(line * 3, [100_000, 1]) == 3
    with pytest.raises(WrongAnswer):
        take(line[:-2] + b"y\n", [100_000])
