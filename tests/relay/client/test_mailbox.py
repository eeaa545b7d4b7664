"""Which mail is handed over, and what of it the relay is told, without a relay."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.errors import UsageError
from hailer.relay.client.mailbox import Mailbox


def acks(said: list[bytes]) -> list[int]:
    """The numbers that were acknowledged, in order; empties the list."""
    numbers = [int(line.removeprefix(b"ACK ")) for line in said]
    said.clear()
    return numbers


async def test_one_ack_for_what_is_acknowledged_in_one_turn() -> None:
    said: list[bytes] = []
    mailbox = Mailbox()
    mailbox.begin(said.append)
    assert all(mailbox.take(number) for number in range(1, 6))
    for number in (1, 2, 3):
        mailbox.ack(number)
    assert not said
    await asyncio.sleep(0)
    assert acks(said) == [3]
    mailbox.ack(3)
    mailbox.ack(1)
    await asyncio.sleep(0)
    assert not said
    with pytest.raises(UsageError):
        mailbox.ack(6)


async def test_an_ack_waits_for_earlier_ones() -> None:
    said: list[bytes] = []
    mailbox = Mailbox()
    mailbox.begin(said.append)
    for number in (10, 11, 14):  # what expired in between leaves holes
        mailbox.take(number)
    mailbox.ack(14)
    mailbox.ack(11)
    await asyncio.sleep(0)
    assert not said
    mailbox.ack(10)
    await asyncio.sleep(0)
    assert acks(said) == [14]


async def test_on_a_new_connection_only_what_came_there_is_acknowledged() -> None:
    said: list[bytes] = []
    mailbox = Mailbox()
    mailbox.begin(said.append)
    for number in (1, 2, 3):
        mailbox.take(number)
        mailbox.ack(number)
    mailbox.begin(said.append)  # before it was said
    await asyncio.sleep(0)
    assert not said
    assert not mailbox.take(1)
    assert not mailbox.take(2)
    await asyncio.sleep(0)
    assert acks(said) == [2]
    assert not mailbox.take(3)
    assert mailbox.take(4)
    await asyncio.sleep(0)
    assert acks(said) == [3]


async def test_a_cursor() -> None:
    said: list[bytes] = []
    mailbox = Mailbox(7)
    mailbox.begin(said.append)
    assert [mailbox.take(number) for number in (6, 7, 8)] == [False, False, True]
    await asyncio.sleep(0)
    assert acks(said) == [7]


@given(st.lists(st.one_of(st.just("break"), st.integers(0, 30)), max_size=60), st.integers(0, 5))
def test_what_is_not_acknowledged_is_never_dropped(steps: list[str | int], cursor: int) -> None:
    """Acknowledged in whatever order, with connections that break, by a relay that obeys each ACK at once."""

    async def run() -> None:
        mailbox, floor, sent = Mailbox(cursor), 0, 0
        said: list[bytes] = []
        done: set[int] = set(range(cursor + 1))
        handed: list[int] = []
        mailbox.begin(said.append)
        for step in steps:
            if step == "break":
                sent = floor
                said.clear()
                mailbox.begin(said.append)
            elif isinstance(step, int) and step % 2 and handed:
                number = handed[step % len(handed)]
                mailbox.ack(number)
                done.add(number)
            elif sent < 30:
                sent += 1
                if mailbox.take(sent):
                    handed.append(sent)
            await asyncio.sleep(0)
            for number in acks(said):
                assert floor <= number <= sent
                floor = number
            assert set(range(1, floor + 1)) <= done
        assert handed == list(range(cursor + 1, cursor + 1 + len(handed)))  # each once, in order

    asyncio.run(run())
