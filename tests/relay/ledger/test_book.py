"""The ledger finds what it is there to find: each fault is planted once."""

from __future__ import annotations

import random

import pytest

from tests.relay.ledger.book import Ledger, Value


def kept(count: int = 10, *, senders: tuple[str, ...] = ("a", "b"), acknowledge: bool = True) -> Ledger:
    """A ledger in which so many of each sender were posted to "r" and acknowledged."""
    ledger = Ledger()
    for serial in range(count):
        for sender in senders:
            ledger.posted(Value(sender, serial), ("r",))
            if acknowledge:
                ledger.acknowledged(Value(sender, serial))
    return ledger


def take(ledger: Ledger, values: list[Value], receiver: str = "r") -> None:
    for value in values:
        ledger.took(receiver, value)


ALL = [Value(sender, serial) for serial in range(10) for sender in "ab"]


def test_all_once_and_in_order_is_no_fault() -> None:
    ledger = kept()
    # the senders among each other are in no order
    take(ledger, sorted(ALL))
    found = ledger.verdicts()
    found.check()
    assert found.row() == dict.fromkeys(found.row(), 0) | {"acknowledged": 20, "once": 20}
    assert ledger.outstanding("r") == 0


def test_a_loss_is_found_wherever_it_is() -> None:
    for missing in range(20):
        ledger = kept()
        take(ledger, ALL[:missing] + ALL[missing + 1 :])
        assert ledger.verdicts().faults == {"lost": 1}
        assert ledger.outstanding("r") == 1
        with pytest.raises(AssertionError, match=r"never got Value\(sender='[ab]', serial=\d\)"):
            ledger.verdicts().check()


def test_a_duplicate_is_found_wherever_it_is() -> None:
    dice = random.Random(1)
    for twice in ALL:
        values = list(ALL)
        values.insert(dice.randrange(values.index(twice), 21), twice)
        ledger = kept()
        take(ledger, values)
        found = ledger.verdicts()
        assert found.faults == {"doubled": 1}
        assert found.once == 19


def test_two_that_changed_places_are_found() -> None:
    for place in range(18):
        values = list(ALL)
        values[place], values[place + 2] = values[place + 2], values[place]  # of the same sender
        ledger = kept()
        take(ledger, values)
        assert set(ledger.verdicts().faults) == {"disordered"}


def test_what_was_never_acknowledged_may_come_once_or_not_at_all() -> None:
    ledger = kept(acknowledge=False)
    take(ledger, ALL[:5])
    found = ledger.verdicts()
    found.check()
    assert (found.unknown, found.once, found.acknowledged) == (20, 0, 0)


def test_what_was_never_acknowledged_must_not_come_twice() -> None:
    ledger = kept(acknowledge=False)
    take(ledger, [ALL[0], ALL[1], ALL[0]])
    assert ledger.verdicts().faults == {"doubled": 1}


def test_what_nobody_posted_is_found() -> None:
    ledger = kept()
    take(ledger, [*ALL, Value("c", 0)])
    take(ledger, [ALL[0]], "another")
    assert ledger.verdicts().faults == {"invented": 2}


def test_a_number_that_gets_another_value_is_found() -> None:
    ledger = kept()
    take(ledger, ALL)
    for number, value in enumerate([ALL[0], ALL[1]], 1):
        ledger.shown("r", number, value)
        ledger.shown("r", number, value)
        ledger.shown("another", number, ALL[3])
    assert not ledger.verdicts().faults
    ledger.shown("r", 2, ALL[2])
    assert ledger.verdicts().faults == {"renumbered": 1}


def test_a_post_to_a_room_is_owed_to_each_member() -> None:
    ledger = Ledger()
    ledger.posted(Value("a", 0), ("r", "s", "t"))
    ledger.acknowledged(Value("a", 0))
    take(ledger, [Value("a", 0)], "r")
    take(ledger, [Value("a", 0)] * 2, "s")
    found = ledger.verdicts()
    assert found.faults == {"lost": 1, "doubled": 1}
    assert found.acknowledged == 3


def test_an_acknowledgement_after_the_effect_leaves_nothing_outstanding() -> None:
    ledger = kept(acknowledge=False)
    take(ledger, ALL)
    for value in ALL:
        ledger.acknowledged(value)
        ledger.acknowledged(value)
    assert ledger.wait(0, acknowledged=20, taken_by=("r",))
    assert not ledger.wait(0, acknowledged=21)
    ledger.verdicts().check()


def test_a_value_is_read_back_from_its_payload() -> None:
    for value in (Value("a", 0), Value("ann.b-c", 12345)):
        assert Value.parse(value.text()) == value
        assert Value.parse(value.text(64, "\n\x00end")) == value
        assert len(value.text(64)) == 64
