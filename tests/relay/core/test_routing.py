"""The fast path: what it takes, and that each receiver gets one chunk for a read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.relay.core import routing
from hailer.relay.core.limits import Limits
from hailer.relay.core.session import BLOCK

if TYPE_CHECKING:
    from tests.relay.core.conftest import Driver


def test_one_chunk_for_a_read_of_one_receiver(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.relay.receive(alice, b"SEND bob :x\n" * 500, relay.now)
    assert bob.chunks == [b"MSG alice bob :x\n" * 500]
    assert relay.relay.dirty == [bob]
    assert relay.relay.counters.received == relay.relay.counters.delivered == 500
    relay.settle()


def test_one_chunk_for_a_read_of_many_receivers(relay: Driver) -> None:
    alice = relay.login("alice")
    peers = [relay.login(f"peer{number}") for number in range(50)]
    relay.relay.receive(alice, b"".join(b"SEND peer%d :%d\n" % (n % 50, n) for n in range(1000)), relay.now)
    for number, peer in enumerate(peers):
        assert peer.chunks == [
            b"".join(b"MSG alice peer%d :%d\n" % (number, n) for n in range(number, 1000, 50))
        ]
    relay.settle()


def test_one_object_for_a_whole_room(relay: Driver) -> None:
    alice = relay.login("alice", rooms="#r")
    peers = [relay.login(f"peer{number}", rooms="#r") for number in range(10)]
    relay.relay.receive(alice, b"SEND #r :x\n" * 100, relay.now)
    assert [len(peer.chunks) for peer in peers] == [1] * 10
    assert len({id(peer.chunks[0]) for peer in peers}) == 1
    assert relay.relay.counters.received == 100
    assert relay.relay.counters.delivered == 1000
    relay.settle()


@pytest.mark.parametrize(
    "block",
    [
        b"SEND bob :1\nSEND #r :2\nSEND bob :3\n",
        b"SEND #r :1\nSEND bob :2\nSEND #r :3\n",
        b"SEND bob :1\nSEND BOB :2\nSEND bob :3\n",
        b"SEND bob :1\nsend bob :2\nSEND bob :3\n",
        b"SEND bob :1\nSEND carol :x\nSEND #R :2\nSEND Bob :3\n",
        b"SEND bob :1\nSEND nobody :x\nSEND bob :2\nSEND bob :3\n",
        b"SEND bob :1\nSEND bob 1\n2SEND bob :3\n",
        b"SEND bob :1\n\nSEND bob :2\nSEND bob :3\n",
        b"SEND bob :1\nSEND  bob :2\nSEND bob :3\n",
        b"SEND bob :1\nSEND bob :2\r\nSEND bob :3\n",
        b"SEND bob :1\nSEND bob :\x00\nSEND bob :2\nSEND bob :3\n",
    ],
)
def test_the_order_between_two_is_kept(relay: Driver, block: bytes) -> None:
    """Over names, rooms, spellings and forms, whatever of it the fast path takes."""
    alice, bob = relay.login("alice", rooms="#r"), relay.login("bob", rooms="#r")
    relay.login("carol")
    relay.fresh(bob)
    for _ in range(2):  # the second time with the routes known
        relay.send(alice, block)
        assert [event.text for event in relay.fresh(bob)] == [b"1", b"2", b"3"]


def test_a_text_that_looks_like_another_head(relay: Driver) -> None:
    alice, bob = relay.login("alice"), relay.login("bob")
    carol = relay.login("carol")
    texts = [b"SEND bob :x", b":SEND bob :", b"SEND carol :x", b" :", b"bob :"]
    relay.send(alice, b"".join(b"SEND bob :%s\n" % text for text in texts))
    assert [event.text for event in relay.fresh(bob)] == texts
    relay.send(alice, b"".join(b"SEND %s :%s\n" % (to, text) for text in texts for to in (b"bob", b"carol")))
    assert [event.text for event in relay.fresh(bob)] == texts
    assert [event.text for event in relay.fresh(carol)] == texts


def test_whoever_comes_or_goes_in_between(relay: Driver) -> None:
    """Routes are looked up once; a receiver that goes, and one that takes its name, are noticed."""
    alice, bob, carol = relay.login("alice"), relay.login("bob"), relay.login("carol")
    both = b"SEND bob :x\nSEND carol :y\n"
    relay.send(alice, both)
    relay.send(bob, b"QUIT\n")
    relay.send(alice, both)
    assert relay.codes(alice) == [("offline", "SEND")]
    assert relay.lines(carol) == ["MSG alice carol :y"] * 2
    again = relay.login("Bob")
    relay.send(alice, both)
    assert relay.lines(again) == ["MSG alice Bob :x"]
    assert relay.lines(carol) == ["MSG alice carol :y"]
    relay.lose(again)
    relay.send(alice, b"SEND carol :y\nSEND bob :x\nSEND carol :z\n")
    assert relay.codes(alice) == [("offline", "SEND")]
    assert relay.lines(carol) == ["MSG alice carol :y", "MSG alice carol :z"]


@pytest.mark.parametrize("to", [b"bob", b"#r"])
def test_counted_messages_find_who_came_again(relay: Driver, to: bytes) -> None:
    """They never take the way of blocks, on which a route that leads nowhere any more is thrown away."""
    alice, bob = relay.login("alice", rooms="#r"), relay.login("bob", rooms="#r")
    counted = b"SEND %s 1\n\0" % to
    relay.send(alice, counted)
    relay.send(alice, b"LEAVE #r\n")
    relay.send(bob, b"QUIT\n")
    bob = relay.login("bob", rooms="#r")
    relay.send(alice, b"JOIN #r\n")
    relay.fresh(bob)
    commands = relay.relay.counters.commands
    assert routing.send_each(relay.relay, alice, counted, 0, len(counted) - 1) == len(counted)
    assert relay.relay.counters.commands == commands + 1
    relay.settle()
    assert [event.text for event in relay.fresh(bob)] == [b"\0"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_payload_that_looks_like_a_usual_read(relay: Driver, end: bytes) -> None:
    """Announced in one read and whole in the next, it is all SENDs and yet none."""
    alice, bob = relay.login("alice", crlf=end == b"\r\n"), relay.login("bob")
    payload = b"SEND bob :x" + end + b"SEND bob :y" + end
    for _ in range(2):
        relay.send(alice, b"SEND bob %d" % len(payload) + end)
        relay.send(alice, payload)
        assert [event.text for event in relay.fresh(bob)] == [payload]
    relay.send(alice, b"SEND bob %d" % (2 * len(payload)) + end)
    relay.send(alice, payload)
    relay.send(alice, payload)
    assert [event.text for event in relay.fresh(bob)] == [2 * payload]


def test_the_routes_of_a_session_have_a_bound(relay: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_MOST_ROUTES", 10)
    alice, bob = relay.login("alice"), relay.login("bobbobbob")
    spellings = [
        "".join(c.upper() if n >> i & 1 else c for i, c in enumerate("bobbobbob")) for n in range(500)
    ]
    for spelling in spellings:
        relay.send(alice, b"SEND %s :%s\n" % (spelling.encode(), spelling.encode()))
        assert len(alice.routes) <= 10
    relay.send(alice, "".join(f"SEND {spelling} :{spelling}\n" for spelling in spellings).encode())
    assert [event.text for event in relay.fresh(bob)] == [spelling.encode() for spelling in spellings] * 2


def test_blocks_are_as_wide_as_there_are_receivers(relay: Driver) -> None:
    relay.checks = False
    alice = relay.login("alice")
    peers = [relay.login(f"c{n:03d}") for n in range(300)]
    sizes = []
    for receivers in (1, 20, 300, 1):
        relay.send(alice, b"".join(b"SEND c%03d :x\n" % (n % receivers) for n in range(receivers * 2)))
        sizes.append(alice.block)
    assert sizes == [BLOCK, 4 * BLOCK, 16 * BLOCK, BLOCK]
    assert relay.lines(peers[1]) == ["MSG alice c001 :x"] * 4


@pytest.mark.parametrize("names", [1, 2])
def test_a_wide_block_of_short_lines_for_few_is_taken_in_parts(relay: Driver, names: int) -> None:
    """The shortest line is 16 times as long when it goes out: an outbox would get more than its bound."""
    relay.checks = False
    alice = relay.login("a" * 64)
    peers = [relay.login(name) for name in ("b", "c")]
    alice.block = 16 * BLOCK
    lines = b"".join(b"SEND %s :\n" % b"bc"[n % names : n % names + 1] for n in range(100_000))
    relay.relay.receive(alice, lines, relay.now)
    assert alice.block < 16 * BLOCK
    assert max(map(len, peers[0].chunks)) <= 2 << 20
    relay.settle()
    got = [relay.lines(peer) for peer in peers[:names]]
    assert sum(map(len, got)) > 10_000  # the rest waits: its receivers' outboxes are full
    assert set(got[0]) == {"MSG %s b :" % ("a" * 64)}


@pytest.mark.parametrize("size", [10, 250, 300, 5000])
@pytest.mark.parametrize("odd", [b"", b"SEND bob :x", b"X", b"SEND bob", b"SEND bo", b"SEND carl :"])
def test_a_line_that_starts_otherwise_among_alike_ones(relay: Driver, size: int, odd: bytes) -> None:
    alice, bob, carl = (relay.login(name) for name in ("alice", "bob", "carl"))
    text = b"y" * size
    for place in range(4):
        lines = [b"SEND bob :%s%d\n" % (text, n) for n in range(3)]
        lines.insert(place, odd + b"\n")
        relay.send(alice, b"".join(lines))
        due = [f"MSG alice bob :{text.decode()}{n}" for n in range(3)]
        if odd == b"SEND bob :x":
            due.insert(place, "MSG alice bob :x")
        assert relay.lines(bob) == due
        assert relay.lines(carl) == (["MSG alice carl :"] if odd.startswith(b"SEND carl") else [])
        assert len(relay.lines(alice)) == (odd in (b"X", b"SEND bob", b"SEND bo"))


def test_a_sender_that_is_held_is_not_taken_apart_further(relay: Driver) -> None:
    """What one read brought would else fill an outbox up to its hard bound, where messages are dropped."""
    alice, bob = relay.login("alice"), relay.login("bob")
    alice.block = 16 * BLOCK
    payload = b"\n" * 30_000
    relay.relay.receive(alice, (b"SEND bob 30000\n" + payload) * 80, relay.now)
    assert relay.relay.outboxes.limit < bob.waiting < relay.relay.outboxes.limit + 31_000
    assert alice.holders == 1
    relay.settle()
    assert len(relay.fresh(bob)) == 80


def test_a_payload_over_the_limit_that_is_all_there(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(payload=1000))
    alice, bob = relay.login("alice"), relay.login("bob")
    relay.send(alice, b"SEND bob :x\nSEND bob 1001\n" + b"\n" * 1001)
    assert relay.lines(alice)[0].startswith("FAIL too-long PAYLOAD")
    assert relay.lines(bob) == ["MSG alice bob :x"]
