from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from hailer.net.address import Address
from hailer.net.eyeballs import ATTEMPT_DELAY, Schedule, interleave


def four(host: int) -> Address:
    return Address(socket.AF_INET, socket.SOCK_STREAM, 0, (f"127.0.0.{host}", 80))


def six(host: int) -> Address:
    return Address(socket.AF_INET6, socket.SOCK_STREAM, 0, (f"::{host}", 80, 0, 0))


# Called, so that the type checker does not take a state for one that lasts.
def due(schedule: Schedule) -> float | None:
    return schedule.due


def lost(schedule: Schedule) -> bool:
    return schedule.lost


def test_families_take_turns_and_the_first_one_begins() -> None:
    assert interleave([six(1), six(2), six(3), four(1), four(2)]) == [
        six(1),
        four(1),
        six(2),
        four(2),
        six(3),
    ]
    assert interleave([four(1), four(2), six(1)]) == [four(1), six(1), four(2)]
    assert interleave([four(1), four(1), six(1)]) == [four(1), six(1)]
    assert interleave([]) == []


@given(st.lists(st.builds(lambda make, host: make(host), st.sampled_from([four, six]), st.integers(1, 9))))
def test_interleaving_loses_nothing_and_keeps_each_family_in_order(addresses: list[Address]) -> None:
    ordered = interleave(addresses)
    for family in (socket.AF_INET, socket.AF_INET6):
        once = list(dict.fromkeys(a for a in addresses if a.family == family))
        assert [a for a in ordered if a.family == family] == once


def test_silent_addresses_start_one_by_one_a_quarter_second_apart() -> None:
    schedule = Schedule(3, 100.0)
    assert due(schedule) == 100.0
    assert schedule.start(100.0) == 0
    assert schedule.start(100.0) is None
    assert due(schedule) == 100.0 + ATTEMPT_DELAY == 100.25
    assert schedule.start(100.24) is None
    assert schedule.start(100.25) == 1
    # A late caller does not make up for lost time: the next is a whole delay later.
    assert schedule.start(101.0) == 2
    assert due(schedule) is None
    assert not lost(schedule)


def test_a_failure_starts_the_next_at_once() -> None:
    schedule = Schedule(3, 0.0)
    assert schedule.start(0.0) == 0
    schedule.failed(0, 0.01)
    assert due(schedule) == 0.01
    assert schedule.start(0.01) == 1
    assert schedule.start(0.01) is None
    assert due(schedule) == 0.01 + ATTEMPT_DELAY


def test_a_late_failure_of_the_first_starts_only_one_more() -> None:
    schedule = Schedule(4, 0.0)
    schedule.start(0.0)
    assert schedule.start(0.25) == 1
    schedule.failed(0, 0.3)
    assert schedule.start(0.3) == 2
    assert schedule.start(0.3) is None
    schedule.failed(1, 0.6)
    assert schedule.start(0.6) == 3


def test_lost_when_all_have_failed_and_not_before() -> None:
    schedule = Schedule(2, 0.0)
    assert schedule.start(0.0) == 0
    schedule.failed(0, 0.0)
    assert not lost(schedule)
    assert schedule.start(0.0) == 1
    schedule.failed(1, 0.0)
    assert lost(schedule)
    assert due(schedule) is None


def test_a_postponed_attempt_comes_again_after_growing_waits() -> None:
    schedule = Schedule(1, 0.0)
    now, waits = 0.0, []
    for _ in range(7):
        assert schedule.start(now) == 0
        schedule.postpone(0, now)
        assert schedule.start(now) is None
        waits.append(round((due(schedule) or 0) - now, 6))
        now = due(schedule) or 0
    assert waits == [0.005, 0.01, 0.02, 0.04, 0.08, 0.1, 0.1]
    assert not lost(schedule)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60), st.integers(1, 8))
def test_every_attempt_starts_once_in_order(steps: list[tuple[float, bool]], count: int) -> None:
    schedule, now, started = Schedule(count, 0.0), 0.0, []
    for wait, fails in steps:
        while (attempt := schedule.start(now)) is not None:
            started.append(attempt)
            if fails:
                schedule.failed(attempt, now)
        now += wait
    assert started == list(range(len(started)))
    assert len(started) <= count
    if all(fails for _, fails in steps) and steps:
        assert lost(schedule)
