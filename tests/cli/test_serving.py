"""Servers of the command at their beginning and their end: signals that come early, late or twice."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from hailer.matrix import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Process

    Start = Callable[..., Process]


@pytest.mark.parametrize("model", MODELS)
def test_a_signal_at_the_moment_at_which_it_listens_is_a_polite_end(start: Start, model: str) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "--model", model)
    process.read_until(b"\n")
    process.signal(signal.SIGTERM)
    code, _, errors = process.end()
    assert (code, errors) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("gap", [0, 0.003, 0.006, 0.012, 0.024])
def test_a_second_signal_makes_no_bad_end_of_a_good_one(start: Start, gap: float, number: int) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", "--model", "epoll")
    process.read_until(b"\n")
    process.signal(number)
    time.sleep(gap)  # what is looked for is a moment of the end, and there is nothing to tell it by
    process.signal(signal.SIGTERM)
    code, _, errors = process.end()
    assert code in ({0} if number == signal.SIGTERM else {0, 130})
    assert errors == b""
