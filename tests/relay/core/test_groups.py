"""Lines that were grouped elsewhere: the same for each receiver as if they had not been."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hailer.relay.core.groups import Balance, Group, Told, deliver_groups, group, pack, unpack
from hailer.relay.core.limits import Limits
from hailer.relay.core.routing import find_route

if TYPE_CHECKING:
    from hailer.relay.core.session import Route
    from tests.relay.core.conftest import Driver

ROUTES = {b"SEND n%d " % n: Told(n, b"MSG a n%d :" % n) for n in range(5)}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.text(st.characters(min_codepoint=32, max_codepoint=126)))))
def test_each_gets_its_own_in_order(messages: list[tuple[int, str]]) -> None:
    block = b"".join(b"SEND n%d :%s\n" % (n, text.encode()) for n, text in messages)
    got = group(block, ROUTES)
    assert got is not None
    assert sorted(one.number for one in got) == sorted({n for n, _ in messages})
    for number, many, chunk in got:
        mine = [b"MSG a n%d :%s\n" % (n, text.encode()) for n, text in messages if n == number]
        assert (many, chunk) == (len(mine), b"".join(mine))
    groups, whole = unpack(memoryview(b"".join(pack(got, block))))
    assert (groups, bytes(whole)) == (got, block)


@pytest.mark.parametrize(
    "line",
    [
        b"SEND n9 :x",
        b"SEND N1 :x",
        b"SEND n1  :x",
        b"PING x",
        b"SEND n1 5",
        b"",
        b"SEND n1 :x\r",
        b"SEND n1 :\x1b",
        b"SEND n1 :\xff",
        b"SEND n1 :" + b"x" * 65536,
    ],
)
def test_what_is_not_grouped(line: bytes) -> None:
    assert group(b"SEND n1 :a\n" + line + b"\nSEND n2 :b\n", ROUTES) is None


def routes_to(relay: Driver, *names: bytes) -> list[Route]:
    """Routes of a session called alice."""
    alice = relay.relay.directory.sessions[b"alice"]
    routes = [find_route(relay.relay, alice, b"SEND %s " % name) for name in names]
    return [route for route in routes if route is not None]


def test_delivered_and_counted(relay: Driver) -> None:
    alice, bob, carol = relay.login("alice"), relay.login("bob"), relay.login("carol")
    routes = routes_to(relay, b"bob", b"carol")
    groups = [Group(1, 2, b"MSG alice carol :1\nMSG alice carol :2\n"), Group(0, 1, b"MSG alice bob :x\n")]
    assert deliver_groups(relay.relay, alice, routes, groups, relay.now)
    assert (carol.chunks, bob.chunks) == ([groups[0].chunk], [groups[1].chunk])
    assert relay.relay.counters.received == relay.relay.counters.delivered == 3
    assert relay.relay.counters.commands == 3 + 3  # and three HELLOs
    relay.settle()


def test_the_limit_on_commands_counts_them(make_relay: type[Driver]) -> None:
    relay = make_relay(Limits(rate=10))
    alice, _ = relay.login("alice"), relay.login("bob")
    routes = routes_to(relay, b"bob")
    for taken in (True, False):  # who is over the limit is not read for a while
        groups = [Group(0, 30, b"MSG alice bob :x\n" * 30)]
        assert deliver_groups(relay.relay, alice, routes, groups, relay.now) is taken
        assert alice.holders == 1
    assert relay.relay.counters.met["rate"] == 1
    relay.settle()


@pytest.mark.parametrize("why", ["gone", "in a line", "held", "payload", "ended"])
def test_nothing_is_done_if_anything_speaks_against_it(relay: Driver, why: str) -> None:
    alice, bob, carol = relay.login("alice"), relay.login("bob"), relay.login("carol")
    routes = routes_to(relay, b"bob", b"carol")
    if why == "gone":
        relay.relay.lost(carol, relay.now)
    elif why == "in a line":
        relay.relay.receive(alice, b"SEND bo", relay.now)
    elif why == "payload":
        relay.relay.receive(alice, b"SEND bob 10\nxy", relay.now)
    elif why == "held":
        alice.holders = 1
    else:
        alice.ended = True
    before = relay.relay.counters.received
    groups = [Group(0, 1, b"MSG alice bob :x\n"), Group(1, 1, b"MSG alice carol :x\n")]
    assert not deliver_groups(relay.relay, alice, routes, groups, relay.now)
    assert bob.chunks == []
    assert relay.relay.counters.received == before


def test_the_one_that_works_less_groups_more() -> None:
    balance = Balance(0xFF)
    here = there = 0
    for _ in range(20):
        there += 10
        balance.compare(here, there & 0xFF)
    assert all(balance.is_turn() for _ in range(10))
    for _ in range(3):
        here, there = here + 20, there + 10
        balance.compare(here, there & 0xFF)
    assert 5 <= sum(balance.is_turn() for _ in range(10)) <= 8
    for _ in range(20):
        here += 10
        balance.compare(here, there & 0xFF)
    assert not any(balance.is_turn() for _ in range(10))
