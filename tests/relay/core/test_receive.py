"""From reads to commands: nothing depends on where reads end, and nothing that peers send breaks anything."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hailer.relay import grammar
from hailer.relay.core import reading, routing, session
from hailer.relay.core import relay as core
from hailer.relay.core.limits import Limits
from hailer.relay.grammar import MAX_LINE, MAX_TEXT

if TYPE_CHECKING:
    from types import ModuleType

    from tests.relay.core.conftest import Driver, Peer

NAMES = ["a", "Bob", "c.c", "D-d"]
ROOMS = ["#r", "#Room", "#R"]
TEXTS = [
    b"",
    b":",
    b" :",
    b"x",
    b"a :b",
    b" x ",
    b"SEND Bob :y",
    b"\xc3\xa9",
    b"5",
    b"QUIT",
    b"#r",
    b"y" * 300,
]
PAYLOADS = [
    b"",
    b"\n",
    b"\r\n",
    b"\nQUIT\n",
    b"SEND Bob :no\nSEND a 1\n",
    b"\x00\xff",
    b"\r",
    b"p" * 500,
    b"5",
    b"SEND Bob :no\n",
]
PROFILE = settings.get_profile("relay")


# any chunking: fast or slow, whole or in pieces, all receivers get the same bytes

Script = list[tuple[int, bytes, bytes]]
"""Who, a command, and the same command in a form that never takes the fast path."""


def _cased(word: str, upper: int) -> bytes:
    return "".join(c.upper() if upper >> i & 1 else c.lower() for i, c in enumerate(word)).encode()


@st.composite
def _sends(draw: st.DrawFn, who: int, end: bytes) -> Script:
    """A burst of messages to few or many receivers: what the fast path is for, with thorns."""
    targets = draw(
        st.lists(st.sampled_from([*NAMES, *NAMES, *ROOMS, "nobody", "#nowhere"]), min_size=1, max_size=3)
    )
    cases = [_cased(target, draw(st.sampled_from([0, 0, 0, 255, 1]))) for target in targets]
    script: Script = []
    for _ in range(draw(st.integers(1, 12))):
        to = draw(st.sampled_from(cases))
        kind = draw(st.integers(0, 15))
        if kind == 0:
            payload = draw(st.sampled_from(PAYLOADS))
            tail = b" %s %d%s%s" % (to, len(payload), end, payload)
        elif kind == 1:
            script.append((who, end, end))
            continue
        else:
            tail = b" %s :%s%s" % (to, draw(st.sampled_from(TEXTS)), end)
        script.append((who, b"SEND" + tail, b"send" + tail))
    return script


@st.composite
def _other(draw: st.DrawFn, who: int, end: bytes) -> Script:
    word = draw(st.sampled_from([*NAMES, *ROOMS, "nobody", "1", "\x1b", "\u00e9"])).encode()
    to = draw(st.sampled_from(NAMES)).encode()
    number = draw(st.sampled_from([b"1", b"q"]))
    payload = draw(st.sampled_from(PAYLOADS))
    line = draw(
        st.sampled_from(
            [
                b"JOIN " + word,
                b"JOIN #r",
                b"LEAVE " + word,
                b"WHO",
                b"WHO " + word,
                b"WATCH " + word,
                b"WATCH",
                b"UNWATCH",
                b"PING " + word,
                b"ASK %s %s :%s" % (number, to, word),
                b"ASK %s %s %d%s%s" % (number, to, len(payload), end, payload),
                b"ANSWER %s %s :%s" % (number, to, word),
                b"HELLO " + word,
                b"   ",
                b" :x",
                b"SEND",
                b"SEND  Bob  :two spaces",
                b"SEND Bob",
                b"SEND Bob:x",
                b"SEND Bob x :y",
                b"SEND Bob :\x00",
                b"SEND Bob :\xc2\x85",
                b"SEND Bob :a\rb",
                b"SEND Bob :ends in CR\r",
                word,
            ]
        )
    )
    if line.endswith(payload) and b"\n" in line:
        return [(who, line, line)]  # the counted form has its line end inside
    return [(who, line + end, re.sub(rb"\ASEND", b"send", line) + end)]


@st.composite
def _scripts(draw: st.DrawFn) -> tuple[list[bytes], Script]:
    ends = [draw(st.sampled_from([b"\n", b"\n", b"\r\n"])) for _ in NAMES]
    script: Script = []
    for who, name in enumerate(NAMES):
        for line in (b"HELLO " + name.encode(), b"JOIN #r", b"JOIN #room"):
            script.append((who, line + ends[who], line + ends[who]))
    for _ in range(draw(st.integers(1, 10))):
        who = draw(st.integers(0, len(NAMES) - 1))
        script += draw(_sends(who, ends[who]) | _sends(who, ends[who]) | _other(who, ends[who]))
    if draw(st.booleans()):
        script.append((0, b"QUIT" + ends[0], b"QUIT" + ends[0]))
    return ends, script


@st.composite
def _reads(draw: st.DrawFn, script: Script) -> list[tuple[int, bytes]]:
    """The script as reads of any size; commands are complete in its order, parts of them may come earlier."""
    early = [0] * len(NAMES)  # bytes of its next command that a peer has sent already
    reads, at = [], 0
    while at < len(script):
        who, end = script[at][0], at
        while end < len(script) and script[end][0] == who:
            end += 1
        data = b"".join(command for _, command, _ in script[at:end])[early[who] :]
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=4)))
        following = next((command for other, command, _ in script[end:] if other == who), b"\n")
        early[who] = draw(st.integers(0, len(following) - 1))
        edges = [0, *cuts, len(data)]
        parts = [data[start:stop] for start, stop in pairwise(edges)]
        parts[-1] += following[: early[who]]
        reads += [(who, part) for part in parts if part]
        at = end
    return reads


@given(st.data())
@settings(PROFILE)
def test_chunking_makes_no_difference(make_relay: type[Driver], data: st.DataObject) -> None:
    _play_both_ways(make_relay, data)


@given(st.data())
@settings(PROFILE, max_examples=2 * PROFILE.max_examples)
def test_chunking_makes_no_difference_where_all_sizes_are_small(
    make_relay: type[Driver], data: st.DataObject
) -> None:
    """As before, with blocks of some lines, so that short scripts come on all ways and their edges."""
    text = data.draw(st.sampled_from([16, 40, 100]), "longest text")
    block = text + data.draw(st.sampled_from([0, 10, 256]), "more of a block")
    small: dict[tuple[ModuleType, ...], dict[str, object]] = {
        (session, reading, routing): {"BLOCK": block},
        (grammar, reading, routing, core): {"MAX_TEXT": text},
        (reading,): {"MAX_LINE": text + 256},
        (routing,): {
            "_WIDER": ((2, 8 * block), (1, 3 * block), (0, block)),
            "_SHORT": data.draw(st.sampled_from([0, 14, 256]), "short"),
            "_HEAD": data.draw(st.sampled_from([11, 14, 256]), "head"),
            "_MOST_ROUTES": data.draw(st.sampled_from([1, 3, 5000]), "routes"),
            "MOST_TO_ONE": data.draw(st.sampled_from([3, 16384]), "to one"),
        },
    }
    with pytest.MonkeyPatch.context() as patch:
        for modules, values in small.items():
            for module in modules:
                for name, value in values.items():
                    patch.setattr(module, name, value)
        _play_both_ways(make_relay, data, checks=False)


def _play_both_ways(make_relay: type[Driver], data: st.DataObject, *, checks: bool = True) -> None:
    """Have a script come command by command to one relay, in any reads to another."""
    _, script = data.draw(_scripts())
    slow, fast = make_relay(checks=checks), make_relay(checks=checks)
    slow_peers = [slow.connect(name) for name in NAMES]
    fast_peers = [fast.connect(name) for name in NAMES]
    for who, _, command in script:
        if not slow_peers[who].gone:
            slow.send(slow_peers[who], command)
    for who, read in data.draw(_reads(script)):
        if not fast_peers[who].gone:
            fast.send(fast_peers[who], read)
    for one, other in zip(slow_peers, fast_peers, strict=True):
        assert bytes(other.taken) == bytes(one.taken)
        fast.fresh(other)  # parses it
    assert fast.relay.counters == slow.relay.counters


@given(st.data())
@settings(PROFILE)
def test_one_byte_at_a_time(make_relay: type[Driver], data: st.DataObject) -> None:
    _, script = data.draw(_scripts())
    whole, drip = make_relay(), make_relay(checks=False)
    whole_peers = [whole.connect(name) for name in NAMES]
    drip_peers = [drip.connect(name) for name in NAMES]
    for who, command, _ in script:
        whole.send(whole_peers[who], command)
        for at in range(len(command)):
            drip.send(drip_peers[who], command[at : at + 1])
    for one, other in zip(whole_peers, drip_peers, strict=True):
        assert bytes(other.taken) == bytes(one.taken)


# lengths


def _login_three(relay: Driver) -> tuple[Peer, Peer, Peer]:
    return relay.login("alice", rooms="#r"), relay.login("bob", rooms="#r"), relay.login("carol", rooms="#r")


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("verb", [b"SEND", b"send"])
@pytest.mark.parametrize("to", [b"bob", b"#r"])
@pytest.mark.parametrize("size", [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, MAX_LINE + 2, 3 * MAX_LINE])
def test_the_longest_line(relay: Driver, size: int, to: bytes, verb: bytes, split: bool) -> None:
    alice, bob, _ = _login_three(relay)
    relay.fresh(alice)
    head = b"%s %s :" % (verb, to)
    text = b"x" * (size - len(head))
    line = head + text + b"\n"
    for part in (line[:-1], line[-1:]) if split else (line,):
        if not alice.gone:
            relay.send(alice, part)
    if size <= MAX_LINE:
        (event,) = [event for event in relay.fresh(bob) if event.verb == b"MSG"]
        assert event.text == text
        assert alice.online
    else:
        assert not [event for event in relay.fresh(bob) if event.verb == b"MSG"]
        assert relay.lines(alice) == ["FAIL too-long LINE :a line may have 65536 bytes", "BYE :too long"]
        assert relay.relay.counters.cut_other == 1


@pytest.mark.parametrize("before", [0, 1, 100, 255, 256, 257, 300])
@pytest.mark.parametrize("size", [MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1, MAX_LINE - 10])
def test_a_long_text_is_counted_wherever_it_stands(relay: Driver, size: int, before: int) -> None:
    """A text longer than a MSG line surely holds goes out counted, by the fast path as by the slow one."""
    alice, bob, _ = _login_three(relay)
    relay.fresh(bob)
    filler = b"SEND bob :%s\n" % (b"f" * before) if before else b""
    relay.send(alice, filler + b"SEND bob :%s\nSEND bob :after\n" % (b"x" * size))
    events = [event for event in relay.fresh(bob) if event.verb == b"MSG"]
    assert [len(event.text or b"") for event in events] == [before, size, 5][not before :]
    assert events[-2].counted == (size > MAX_TEXT)


@pytest.mark.parametrize("extra", range(-4, 5))
def test_a_line_across_the_edge_of_a_block(relay: Driver, extra: int) -> None:
    """One read of several blocks of at most 64 KiB: whatever stands at their edges is not cut."""
    alice, bob, _ = _login_three(relay)
    relay.fresh(bob)
    for end in (b"\n", b"\r\n"):
        head = b"SEND bob :"
        first = head + b"f" * (MAX_LINE - len(head) - len(end) + extra - 40) + end
        lines = [head + b"%d" % number + end for number in range(20_000)]
        relay.send(alice, first + b"".join(lines))
        texts = [event.text for event in relay.fresh(bob)]
        assert texts[1:] == [b"%d" % number for number in range(20_000)]
        assert len(texts[0] or b"") == len(first) - len(head) - len(end)


@pytest.mark.parametrize("extra", range(-4, 5))
@pytest.mark.parametrize("size", [1, 2, 63, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 200_000, 1 << 20])
def test_a_payload_across_the_edge_of_a_block(relay: Driver, extra: int, size: int) -> None:
    alice, bob, _ = _login_three(relay)
    relay.fresh(bob)
    filler = b"SEND bob :%s\n" % (b"f" * (MAX_LINE // 2))
    announced = b"SEND bob %d\n" % size
    room = MAX_LINE + 1 - len(filler) - len(announced) + extra
    filler += b"SEND bob :%s\n" % (b"g" * (room - 11))
    payload = (b"\nQUIT\nPING obeyed\r\n\x00" * (size // 20 + 1))[:size]
    stream = filler + announced + payload + b"SEND bob :after\n"
    relay.send(alice, stream)
    whole = relay.fresh(bob)
    assert [event.text for event in whole][2:] == [payload, b"after"]
    for at in range(0, len(stream), 60_001):
        relay.send(alice, stream[at : at + 60_001])
    assert relay.fresh(bob) == whole
    assert alice.online


@pytest.mark.parametrize(
    ("size", "taken"), [(999, True), (1000, True), (1001, False), (10**9, False), (10**30, False)]
)
def test_the_largest_payload(make_relay: type[Driver], size: int, taken: bool) -> None:
    relay = make_relay(Limits(payload=1000))
    alice, bob, _ = _login_three(relay)
    relay.fresh(alice)
    relay.fresh(bob)
    relay.send(alice, b"SEND bob %d\n" % size)
    if taken:
        relay.send(alice, b"\n" * size + b"SEND bob :next\n")
        assert [event.text for event in relay.fresh(bob)] == [b"\n" * size, b"next"]
    else:
        assert relay.lines(alice) == ["FAIL too-long PAYLOAD :a payload may have 1000 bytes", "BYE :too long"]
        assert alice.gone


def test_a_growing_line_is_kept_but_no_more_than_may_be(relay: Driver) -> None:
    alice = relay.login("alice")
    for _ in range(20):
        relay.send(alice, b"x" * 5000)
        assert len(alice.input) <= MAX_LINE
        if alice.gone:
            break
    assert alice.gone


@pytest.mark.parametrize("size", [0, 1, 2, 100])
def test_many_payloads_in_one_read(relay: Driver, size: int) -> None:
    alice, bob, _ = _login_three(relay)
    relay.fresh(bob)
    one = b"SEND bob %d\n%s" % (size, b"\n" * size)
    for cut in (0, 5, len(one) - 1):
        stream = one * 2000
        relay.send(alice, stream[:cut])
        relay.send(alice, stream[cut:])
        assert [event.text for event in relay.fresh(bob)] == [b"\n" * size] * 2000


# the end of the input


@pytest.mark.parametrize(
    ("left", "what"),
    [
        (b"", None),
        (b"S", "LINE"),
        (b"SEND bob :no line end", "LINE"),
        (b"SEND bob 5\n", "PAYLOAD"),
        (b"SEND bob 5\nabcd", "PAYLOAD"),
        (b"SEND bob 5\nPING\n"[:-2], "PAYLOAD"),
    ],
)
@pytest.mark.parametrize("asking", [False, True])
def test_the_input_ends(relay: Driver, left: bytes, what: str | None, asking: bool) -> None:
    """What is cut short is not carried out, and its sender is told at once; answers still come."""
    alice, bob, carol = _login_three(relay)
    if asking:
        relay.send(alice, b"ASK 1 carol :x\n")
    relay.fresh(alice)
    relay.fresh(bob)
    relay.send(alice, b"SEND bob :whole\n" + left)
    relay.end(alice)
    assert [event.text for event in relay.fresh(bob) if event.verb == b"MSG"] == [b"whole"]
    lines = relay.lines(alice)
    if what:
        assert lines.pop(0).startswith(f"FAIL truncated {what} :")
    if asking:
        assert lines == []
        assert not alice.gone
        relay.send(carol, b"ANSWER 1 alice :y\n")
        lines = [line for line in relay.lines(alice) if not line.startswith("ASKED")]
        assert lines.pop(0) == "ANSWERED 1 carol :y"
    assert lines == ["BYE :end of input"]
    assert alice.gone


# bad bytes

BAD = [
    b"\x00",
    b"\x01",
    b"\t",
    b"\x0b",
    b"\x1b[0m",
    b"\x7f",
    b"\xc2\x85",
    b"\xc2\x9b",
    b"\xff",
    b"\xc3",
    b"a\rb",
]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "line",
    [
        b"SEND %s :x",
        b"SEND bob%s :x",
        b"SEND bob :%s",
        b"SEND bob :x%sx",
        b"SEND #r :%s",
        b"SEND bob%s 3",
        b"ASK %s bob :x",
        b"ASK 1 %s :x",
        b"ASK 1 bob :%s",
        b"ANSWER 1 bob :%s",
        b"JOIN #%s",
        b"LEAVE #r%s",
        b"WHO #%s",
        b"WATCH %s",
        b"PING %s",
        b"PONG %s",
        b"QUIT :%s",
        b"POST 1 bob :%s",
        b"HELLO %s",
        b"%s",
        b"S%sEND bob :x",
    ],
)
def test_bad_bytes_in_any_field(relay: Driver, line: bytes, bad: bytes) -> None:
    alice, bob, _ = _login_three(relay)
    relay.fresh(alice)
    relay.fresh(bob)
    full = line % bad + b"\n"
    assert full.count(b"\n") == 1
    relay.send(alice, b"SEND bob :1\n" + full + b"SEND bob :2\n")
    assert [code for code, _ in relay.codes(alice)] == ["bad-text"]
    assert relay.lines(bob) == ["MSG alice bob :1", "MSG alice bob :2"]
    assert alice.online
    assert list(alice.rooms) == [b"#r"]


@pytest.mark.parametrize("line", [b"", b" ", b"     ", b"\r", b" \r"])
def test_blank_lines_are_nothing(relay: Driver, line: bytes) -> None:
    alice = relay.login("alice")
    relay.send(alice, (line + b"\n") * 3 + b"PING x\n")
    assert [event.verb for event in relay.fresh(alice)] == [b"PONG"]


_WORDS = [
    *b"SEND send HELLO JOIN LEAVE ASK ANSWER WATCH WHO PING QUIT POST alice BOB eve #r #e".split(),
    *(b"1", b"5", b"12", b"0", b"99999999999", b"token=", b"session="),
    *(b" ", b" ", b" ", b" :", b":", b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\t"),
    *(b"\x00", b"\x1b[2J", b"\xc2\x9b", b"\xff"),
]


@given(
    st.lists(
        st.binary(max_size=30) | st.lists(st.sampled_from(_WORDS), max_size=30).map(b"".join), max_size=20
    ),
    st.booleans(),
)
@settings(PROFILE)
def test_anything_at_all(make_relay: type[Driver], reads: list[bytes], logged_in: bool) -> None:
    """Whatever one peer sends, no other is disturbed, and everybody gets well-formed events."""
    relay = make_relay(Limits(payload=5000))
    alice, bob = relay.login("alice", rooms="#r"), relay.login("bob", rooms="#r", crlf=True)
    relay.fresh(alice)
    eve = relay.login("eve", rooms="#r") if logged_in else relay.connect()
    sent = []
    for number, read in enumerate(reads):
        if not eve.gone:
            relay.send(eve, read)
        for to in (b"bob", b"#r"):
            relay.send(alice, b"SEND %s :%d\n" % (to, number))
            sent.append(b"%d" % number)
    if not eve.gone:
        relay.end(eve)
    if not eve.gone:
        relay.lose(eve)
    relay.fresh(eve, whole=False)
    got = [event for event in relay.fresh(bob) if event.verb == b"MSG" and event.words[1] == b"alice"]
    assert [event.text for event in got] == sent
    assert b"FAIL" not in [event.verb for event in relay.fresh(alice) if event.words[-1] != b"ASK"]
    assert alice.online
    assert bob.online
    assert list(relay.relay.directory.sessions) == [b"alice", b"bob"]
