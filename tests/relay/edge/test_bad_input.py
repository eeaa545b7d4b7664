"""Input that is wrong, cut short or too much: who sent it is told, and nobody else notices."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Connect
    from tests.relay.edge.conftest import Start

MAX_LINE = 65536


def test_the_longest_line_passes(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    head = b"SEND bob :"
    text = b"x" * (MAX_LINE - len(head))
    alice.send(head + text + b"\n")
    # what bob is sent may not be a line that bob's own limit refuses: it comes counted
    assert bob.line() == f"MSG alice bob {len(text)}"
    assert bob.raw(len(text)) == text
    assert alice.sync() == []


@pytest.mark.parametrize("extra", [1, 10_000_000])
@pytest.mark.parametrize("newline", [True, False])
def test_a_line_that_is_too_long(start: Start, connect: Connect, extra: int, newline: bool) -> None:
    where = start(parting_seconds=5).endpoints[0]
    alice, bob, carol = (connect(where, name) for name in ("alice", "bob", "carol"))
    carol.send("WATCH alice")
    assert carol.sync() == []
    alice.send(b"SEND bob :before\n")
    assert bob.line() == "MSG alice bob :before"
    line = b"SEND bob :" + b"x" * (MAX_LINE - 10 + extra)
    alice.send(line + b"\nSEND bob :after\n" if newline else line)
    # all was taken from alice, though it was too long, so that no reset overtakes the last words
    assert alice.rest() == b"FAIL too-long LINE :a line may have 65536 bytes\nBYE :too long\n"
    assert carol.line() == "OFFLINE alice"
    assert bob.sync() == []
    bob.send("SEND carol :we are well")
    assert carol.line() == "MSG bob carol :we are well"


def test_a_payload_that_is_too_long(start: Start, connect: Connect) -> None:
    where = start(payload=1000).endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    alice.send(b"SEND bob 1000\n" + b"y" * 1000 + b"SEND bob 1001\n" + b"z" * 1001)
    assert bob.line() == "MSG alice bob :" + "y" * 1000
    assert b"FAIL too-long" in alice.rest()


REFUSED = [
    (b"SEND bob :a\0b", "bad-text"),
    (b"SEND bob :\xff\xfe", "bad-text"),
    (b"SEND bob :\xc0\xaf", "bad-text"),
    (b"SEND bob :\xed\xa0\x80", "bad-text"),
    (b"SEND bob :\x1b[2J", "bad-text"),
    (b"SEND bob :\xc2\x9b2J", "bad-text"),
    (b"SEND bob :carriage\rreturn", "bad-text"),
    (b"SEND b\0ob :x", "bad-text"),
    (b"SEND nobody :x", "offline"),
    (b"SEND #nowhere :x", "not-joined"),
    (b"SEND bob!:x :y", "bad-name"),
    (b"SEND bob", "bad-syntax"),
    (b"SEND :x", "bad-syntax"),
    (b"SEND bob carol :x", "bad-syntax"),
    (b"JOIN lobby", "bad-name"),
    (b"JOIN #", "bad-name"),
    (b"JOIN #" + b"r" * 65, "bad-name"),
    (b"LEAVE #nowhere", "not-joined"),
    (b"HELLO again", "already-logged-in"),
    (b"ANSWER q1 bob :nobody asked", "not-asked"),
    (b"POST 1 nobody :x", "unknown"),
    (b"FROB", "unknown-command"),
    (b"GET / HTTP/1.1", "unknown-command"),
    (b"SEND bob -1", "bad-syntax"),
    (b"SEND bob 1e3", "bad-syntax"),
]


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"])
def test_what_is_refused_leaves_the_connection_open(start_one: Start, connect: Connect, eol: bytes) -> None:
    where = start_one().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    for line, code in REFUSED:
        alice.send(line + eol + b"SEND bob :fine" + eol)
        assert alice.line().startswith(f"FAIL {code} "), line
        assert bob.line() == "MSG alice bob :fine"
        assert alice.sync() == []


def test_refusals_in_the_midst_of_a_block(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    block = bytearray()
    for number in range(3000):
        block += b"SEND bob :%d\n" % number
        if number % 1000 == 500:
            block += b"SEND bob :\xff\nSEND eve :x\n\n\r\n"
    alice.send(bytes(block))
    assert [bob.line() for _ in range(3000)] == [f"MSG alice bob :{n}" for n in range(3000)]
    assert [line.split()[1] for line in alice.sync()] == ["bad-text", "offline"] * 3


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"])
def test_a_page_cannot_have_a_browser_speak(start: Start, connect: Connect, eol: bytes) -> None:
    where = start().endpoints[0]
    bob = connect(where, "bob")
    browser = connect(where)
    browser.expect("RELAY ")
    head = eol.join([b"POST / HTTP/1.1", b"Host: localhost", b"Content-Length: 32", b"", b""])
    browser.send(head + b"HELLO eve" + eol + b"SEND bob :gotcha" + eol)
    said = browser.rest().replace(b"\r\n", b"\n").splitlines()
    assert said[0].startswith(b"FAIL not-logged-in POST ")
    assert said[1:] == [b"BYE :this is no web server"]
    assert bob.sync() == []


def test_commands_before_hello(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    wire = connect(where)
    wire.expect("RELAY ")
    wire.send("SEND bob :x\nJOIN #x\nWHO\nPING 1\nHELLO\nHELLO no/slash\nHELLO ok version=2\nHELP")
    wire.expect(
        "FAIL not-logged-in SEND",
        "FAIL not-logged-in JOIN",
        "FAIL not-logged-in WHO",
        "PONG 1",
        "FAIL bad-syntax HELLO",
        "FAIL bad-name HELLO",
        "FAIL bad-version HELLO",
        "HELP ",
    )
    wire.until("END HELP")
    wire.hello("ok")


def test_a_name_in_use(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    connect(where, "Bob")
    other = connect(where)
    other.expect("RELAY ")
    other.send("HELLO bOB\nHELLO bob session=guess")
    other.expect("FAIL taken HELLO", "FAIL taken HELLO")
    other.hello("bob2")


def test_lf_and_crlf(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    lf, crlf = connect(where, "lf"), connect(where, "crlf", eol="\r\n")
    lf.send(b"SEND crlf :one\nSEND crlf :two\r\nSEND crlf 4\na\nb\n")
    assert [crlf.raw_line() for _ in range(3)] == [
        b"MSG lf crlf :one\r\n",
        b"MSG lf crlf :two\r\n",
        b"MSG lf crlf 4\r\n",
    ]
    assert crlf.raw(4) == b"a\nb\n"
    crlf.send("SEND lf :three\nSEND lf :four")
    assert [lf.raw_line(), lf.raw_line()] == [b"MSG crlf lf :three\n", b"MSG crlf lf :four\n"]


@pytest.mark.parametrize("rest", [b"SEND bob :hal", b"SEND bob 100\nonly ten..", b"SEND bob 3"])
def test_half_a_command_at_the_end(start: Start, connect: Connect, rest: bytes) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    alice.send(b"SEND bob :whole\n" + rest)
    alice.half_close()
    farewell = alice.rest()
    assert farewell.startswith(b"FAIL truncated ")
    assert farewell.endswith(b"\nBYE :end of input\n")
    assert bob.line() == "MSG alice bob :whole"
    assert bob.sync() == []


def test_a_half_close_gets_its_answers(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    bob = connect(where, "bob")
    alice = connect(where)
    alice.send(b"HELLO alice\nSEND bob :x\nSEND eve :y\nWHO\nPING last\n")
    alice.half_close()
    alice.expect("RELAY", "WELCOME", "FAIL offline", "HERE alice bob", "END WHO", "PONG last")
    assert alice.rest() == b"BYE :end of input\n"
    assert bob.line() == "MSG alice bob :x"


def test_a_half_close_waits_for_answers_that_come_later(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    bob.send("WATCH alice")
    assert bob.sync() == []
    alice.send("ASK 1 bob :first?\nASK 2 bob :second?")
    alice.half_close()
    bob.expect("ASKED 1", "ASKED 2")
    bob.send("SEND alice :wait a little\nANSWER 2 alice :b")
    alice.expect("MSG bob alice :wait", "ANSWERED 2 bob :b")
    assert bob.sync() == []  # alice is still here
    bob.send("ANSWER 1 alice :a")
    assert alice.rest() == b"ANSWERED 1 bob :a\nBYE :end of input\n"
    assert bob.line() == "OFFLINE alice"


def test_a_half_close_whose_answer_never_comes(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    alice.send("ASK 1 bob :there?")
    alice.half_close()
    bob.expect("ASKED 1")
    bob.reset()
    answer = alice.rest()
    assert answer == b"FAIL gone ASK :1: bob left before it answered\nBYE :end of input\n"


def test_nothing_but_noise(start: Start, connect: Connect) -> None:
    where = start(parting_seconds=1).endpoints[0]
    honest = connect(where, "honest")
    for size in (1, 100, 65536, 300_000):
        noise = connect(where)
        noise.send(os.urandom(size))
        noise.half_close()
        assert noise.rest().startswith(b"RELAY ")
    assert honest.sync() == []


def test_connections_that_end_at_once(start_tcp: Start, connect: Connect) -> None:
    relay = start_tcp()
    where = relay.endpoints[0]
    honest = connect(where, "honest")
    for _ in range(200):
        connect(where).reset()
    for _ in range(200):
        connect(where).close()
    assert honest.sync() == []
    assert connect(where, "late").sync() == []


def test_urgent_data_is_no_command(start_tcp: Start, connect: Connect) -> None:
    # telnet's interrupt: IAC IP, and IAC DM as urgent data
    where = start_tcp().endpoints[0]
    alice = connect(where, "alice")
    alice.send(b"\xff\xf4")
    alice.sock.send(b"\xff", socket.MSG_OOB)
    alice.send(b"\xf2\nPING after\n")
    assert alice.until("PONG")[-1] == "PONG after"


def test_ten_thousand_names(start_tcp: Start, connect: Connect) -> None:
    """In turns over 50 connections' worth of descriptors at a time; each name is new to the relay."""
    names = 10_000 if os.environ.get("HAILER_LONG") == "1" else 1_000
    relay = start_tcp()
    where = relay.endpoints[0]
    watcher = connect(where, "watcher")
    watcher.send("WATCH")
    assert watcher.sync() == []
    began = time.monotonic()
    for first in range(0, names, 50):
        wires = [connect(where) for _ in range(50)]
        for number, wire in enumerate(wires, first):
            wire.send(b"HELLO n%d\nSEND watcher :%d\nQUIT\n" % (number, number))
        for number, wire in enumerate(wires, first):
            last = wire.rest()
            assert f"WELCOME n{number} ".encode() in last
            assert last.endswith(b"BYE :you quit\n")
            wire.close()
    seen = [watcher.line() for _ in range(3 * names)]
    assert {line for line in seen if line.startswith("ONLINE")} == {f"ONLINE n{n}" for n in range(names)}
    assert sum(line.startswith("MSG") for line in seen) == names
    assert sum(line.startswith("OFFLINE") for line in seen) == names
    assert time.monotonic() - began < names / 200
    watcher.send("WHO")
    watcher.expect("HERE watcher", "END WHO")
