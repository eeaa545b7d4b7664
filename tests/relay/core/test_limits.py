"""Every limit: met, it has its effect and its counter moves; with the limit far away neither happens."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, NamedTuple

import pytest

from hailer.relay.core.limits import Limits
from tests.relay.core.conftest import Driver

if TYPE_CHECKING:
    from collections.abc import Callable


class Case(NamedTuple):
    """How to meet a limit.

    Attributes:
        near: a value of the limit at which `act` meets it.
        far: one at which it does not.
        act: does it; tells whether what the limit does has happened.
        others: further limits, for both.
    """

    near: float
    far: float
    act: Callable[[Driver], bool]
    others: dict[str, float] = {}  # noqa: RUF012 (nobody changes it)


def says(driver: Driver, data: bytes, answer: bytes) -> bool:
    """Whether a client gets this answer to what it sends."""
    ann = driver.login("ann")
    driver.send(ann, data)
    return answer in ann.taken


def too_slow_to_log_in(driver: Driver) -> bool:
    peer = driver.connect()
    driver.pass_time(3)
    return b"BYE :no HELLO came within 1 seconds\n" in peer.taken


def too_slow_a_line(driver: Driver) -> bool:
    ann = driver.login("ann")
    driver.send(ann, b"SEND bo")
    driver.pass_time(3)
    return b"BYE :a line or payload took longer" in ann.taken


def silent(driver: Driver) -> bool:
    ann = driver.login("ann")
    driver.pass_time(5)
    return b"BYE :nothing was heard of you" in ann.taken


def waiting_after_the_end(driver: Driver) -> bool:
    ann, _ = driver.login("ann"), driver.login("bob")
    driver.send(ann, b"ASK 1 bob :well?\n")
    driver.end(ann)
    driver.pass_time(3)
    return b"BYE :no answer came" in ann.taken


def second_in_a_room(driver: Driver) -> bool:
    driver.login("bob", rooms="#r")
    return says(driver, b"JOIN #r\n", b"FAIL too-many JOIN :#r has 1 members")


def asks_twice(driver: Driver) -> bool:
    driver.login("bob")
    return says(driver, b"ASK 1 bob :x\nASK 2 bob :y\n", b"FAIL too-many ASK :2: ")


def fast(driver: Driver) -> bool:
    ann = driver.login("ann")
    driver.send(ann, b"PING x\n" * 20)
    return ann.holders > 0


def behind(driver: Driver, size: int = 2000) -> tuple[bool, bool, bool]:
    """Somebody sends to one who takes nothing: whether it is held, whether the other lags, or is cut."""
    ann, bob = driver.login("ann"), driver.login("bob")
    driver.take(bob, 0)
    driver.send(ann, b"SEND bob :%s\n" % (b"x" * size))
    held = ann.holders > 0
    driver.pass_time(3)
    return held, bob.lagging, bob.closing


def does_not_close(driver: Driver) -> bool:
    ann = driver.login("ann")
    driver.take(ann, 0)
    driver.send(ann, b"QUIT\n")
    driver.pass_time(3)
    return ann.gone


def old_mail(driver: Driver) -> bool:
    bob = driver.login("bob")
    driver.lose(bob)
    ann = driver.login("ann")
    driver.send(ann, b"POST 1 bob :x\n")
    driver.pass_time(200)
    return driver.relay.counters.expired == 1


def second_mailbox(driver: Driver) -> bool:
    driver.login("bob")
    return says(driver, b"POST 1 bob :x\n", b"FAIL quota POST :1: this relay keeps the mail of no more names")


def second_session(driver: Driver) -> bool:
    """Whether what an earlier session had stored is forgotten for a later one."""
    for session in (b"earlier", b"later"):
        ann = driver.connect("ann")
        driver.send(ann, b"HELLO ann session=%s\nPOST 1 ann :x\n" % session)
        assert b"STORED 1\n" in ann.taken
        driver.lose(ann)
    ann = driver.connect("ann")
    driver.send(ann, b"HELLO ann session=earlier\n")
    return b" stored=0 " in ann.taken


CASES = {
    "login_seconds": Case(1.0, 30.0, too_slow_to_log_in),
    "line_seconds": Case(1.0, 30.0, too_slow_a_line),
    "idle_seconds": Case(1.0, 300.0, silent),
    "ended_seconds": Case(1.0, 60.0, waiting_after_the_end),
    "payload": Case(
        10, 11, lambda driver: says(driver, b"SEND ann 11\n" + b"x" * 11, b"FAIL too-long PAYLOAD")
    ),
    "rooms": Case(
        1, 2, lambda driver: says(driver, b"JOIN #a\nJOIN #b\n", b"FAIL too-many JOIN :you are in")
    ),
    "members": Case(1, 2, second_in_a_room),
    "rate": Case(10, 0, fast),
    "watches": Case(1, 2, lambda driver: says(driver, b"WATCH a b\n", b"FAIL too-many WATCH")),
    "asks": Case(1, 2, asks_twice),
    "waiting": Case(1000, 1 << 20, lambda driver: behind(driver)[0]),
    "patience": Case(0.5, 100.0, lambda driver: behind(driver)[1], {"waiting": 1000}),
    "slow_seconds": Case(1.0, 100.0, lambda driver: behind(driver)[2]),
    "mail_entries": Case(
        1, 2, lambda driver: says(driver, b"POST 1 ann :a\nPOST 2 ann :b\n", b"FAIL quota POST :2: ")
    ),
    "mail_bytes": Case(
        50, 500, lambda driver: says(driver, b"POST 1 ann :%s\n" % (b"x" * 100), b"FAIL quota POST :1: ")
    ),
    "mail_total": Case(
        50, 500, lambda driver: says(driver, b"POST 1 ann :%s\n" % (b"x" * 100), b"FAIL quota POST :1: ")
    ),
    "mail_seconds": Case(10.0, 3600.0, old_mail),
    "mailboxes": Case(1, 2, second_mailbox),
    "sessions": Case(1, 2, second_session),
    "parting_seconds": Case(1.0, 100.0, does_not_close),
}
"""The limits of the core. Those of the edge, on connections, are in tests/relay/edge/test_limits.py."""

EDGE = {"connections", "per_source"}


def test_no_limit_is_forgotten() -> None:
    """Each has a case here, and with that a counter and an effect."""
    assert set(CASES) | EDGE == {limit.name for limit in fields(Limits)}


@pytest.mark.parametrize("name", CASES)
def test_a_limit_that_is_met_is_counted(name: str) -> None:
    case = CASES[name]
    driver = Driver(Limits(**{**case.others, name: case.near}))  # type: ignore[arg-type]  # whole where it has to be
    assert case.act(driver)
    assert driver.relay.counters.met[name] > 0
    driver = Driver(Limits(**{**case.others, name: case.far}))  # type: ignore[arg-type]
    assert not case.act(driver)
    assert driver.relay.counters.met[name] == 0


def test_who_is_away_makes_way_in_a_full_room() -> None:
    """Else names that never come back would keep others out, or grow what each POST costs."""
    driver = Driver(Limits(members=2))
    gone = driver.login("gone", rooms="#r")
    driver.lose(gone)
    ann = driver.login("ann", rooms="#r")
    driver.login("bob", rooms="#r")
    assert [box.name for box in driver.relay.mail.boxes.rooms[b"#r"].boxes] == [b"ann", b"bob"]
    driver.send(ann, b"POST 1 #r :x\n")
    assert driver.relay.mail.boxes.by_key[b"gone"].waiting == 0
    carol = driver.login("carol")
    driver.send(carol, b"JOIN #r\n")
    assert driver.codes(carol) == [("too-many", "JOIN")]


def test_who_met_a_limit_is_known_for_the_log() -> None:
    driver = Driver(Limits(rooms=1))
    assert says(driver, b"JOIN #a\nJOIN #b\nJOIN #c\n", b"FAIL too-many JOIN")
    assert driver.relay.counters.met["rooms"] == 2
    assert driver.relay.counters.met_by == {"rooms": ("ann", b"ann")}


def test_a_fast_client_waits_and_loses_nothing() -> None:
    """A hundred commands at ten a second, fifty at a time: all are answered, after nine seconds."""
    driver = Driver(Limits(rate=10))
    ann, bob = driver.login("ann"), driver.login("bob")
    driver.pass_time(5)  # the bucket holds what one second brings, and no more
    began = driver.now
    for _ in range(2):
        driver.send(ann, b"SEND bob :x\n" * 50)
        assert ann.holders == 1
        driver.send(bob, b"PING me\n")
        assert bob.taken.endswith(b"PONG me\n"), "another had to wait"
        while ann.holders:
            driver.pass_time(0.01)
    assert bob.taken.count(b"MSG ann bob :x\n") == 100
    assert 8.9 < driver.now - began < 9.2
    assert driver.relay.counters.met["rate"] == 2


@pytest.mark.parametrize(
    "commands", [b"PING x\n", b"SEND bob :x\n", b"SEND bob 2\nxy", b"nonsense\n", b"WHO\n"]
)
def test_every_kind_of_command_counts_as_one(commands: bytes) -> None:
    driver = Driver(Limits(rate=10))
    driver.login("bob")
    ann = driver.login("ann")
    driver.pass_time(5)
    driver.send(ann, commands * 10)
    assert not ann.holders
    driver.send(ann, commands)
    assert ann.holders


def test_a_block_of_posts_counts_each() -> None:
    driver = Driver(Limits(rate=10))
    driver.login("bob")
    ann = driver.login("ann")
    driver.pass_time(5)
    driver.send(ann, b"".join(b"POST %d bob :x\n" % number for number in range(1, 11)))
    assert not ann.holders
    driver.send(ann, b"POST 11 bob :x\nPOST 12 bob :x\n")
    assert ann.holders


def test_scattered_messages_count_too() -> None:
    driver = Driver(Limits(rate=10))
    for name in ("b1", "b2", "b3"):
        driver.login(name)
    ann = driver.login("ann")
    driver.pass_time(5)
    driver.send(ann, b"SEND b1 :x\nSEND b2 :x\nSEND b3 :x\n" * 3)
    assert not ann.holders
    driver.send(ann, b"SEND b1 :x\nSEND b2 :x\n")
    assert ann.holders


def test_who_rests_is_not_taken_for_silent() -> None:
    driver = Driver(Limits(rate=1, idle_seconds=2.0, line_seconds=2.0))
    ann = driver.login("ann")
    driver.send(ann, b"PING x\n" * 30 + b"PING half")
    driver.pass_time(20)
    assert ann.holders
    driver.pass_time(11)
    assert (ann.holders, ann.closing) == (0, False)
    driver.send(ann, b" an hour\n")
    assert ann.taken.endswith(b"bad-syntax PING :write it as: PING [token]\n")


def test_nobody_rests_without_a_limit() -> None:
    driver = Driver()
    ann = driver.login("ann")
    driver.send(ann, b"PING x\n" * 5000)
    assert not ann.holders


def test_nothing_is_left_of_who_goes_while_it_rests() -> None:
    driver = Driver(Limits(rate=1))
    ann, bob = driver.login("ann"), driver.login("bob")
    for peer in (ann, bob):
        driver.send(peer, b"PING x\n" * 30)
    driver.lose(ann)
    driver.relay.close(bob, b"enough")
    driver.settle()
    driver.pass_time(60)
    assert not len(driver.relay.rests)
    assert driver.relay.rests.deadline == float("inf")
