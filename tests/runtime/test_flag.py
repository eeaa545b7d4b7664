"""The flag that a selector can wait for, and signals that interrupt nothing."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from hailer.runtime.flag import Flag

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def flag() -> Iterator[Flag]:
    """A flag, closed at the end."""
    with closing(Flag()) as flag:
        yield flag


@pytest.fixture
def caught() -> Iterator[list[int]]:
    """The signals of the kind SIGUSR1 that this process got."""
    numbers: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: numbers.append(number))
    yield numbers
    signal.signal(signal.SIGUSR1, before)


def strike() -> None:
    """Get a signal in this thread, after the main one has begun to wait."""
    time.sleep(0.05)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)


def test_set_and_cleared(flag: Flag) -> None:
    assert not flag.wait(0)
    for _ in range(100_000):  # more than its buffer holds
        flag.set()
    assert flag.wait(None)
    flag.clear()
    assert not flag.wait(0.001)


def test_a_signal_to_another_thread_ends_the_wait(flag: Flag, caught: list[int]) -> None:
    with flag.set_by_signals():
        striker = threading.Thread(target=strike)
        striker.start()
        assert flag.wait(5)
        assert caught == [signal.SIGUSR1]
        striker.join()
    assert signal.set_wakeup_fd(-1) == -1


def test_without_that_it_does_not(flag: Flag, caught: list[int]) -> None:
    striker = threading.Thread(target=strike)
    striker.start()
    assert not flag.wait(0.2)
    striker.join()
    assert caught == [signal.SIGUSR1]


def test_outside_the_main_thread_nothing_is_changed(flag: Flag) -> None:
    def use() -> None:
        with flag.set_by_signals():
            done.append(True)

    done: list[bool] = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert done == [True]
