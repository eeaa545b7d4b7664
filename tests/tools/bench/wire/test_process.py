"""The load in processes of its own."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import ConnectionLost, DialError, UsageError
from hailer.tools.bench.wire import Load, LoadProcess, numbered_lines, run_in_processes
from hailer.tools.bench.wire.process import divide

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from hailer.tools.bench.wire import Interval

LINES = numbered_lines(64)


def test_two_together(serve_echo: Callable[..., Endpoint]) -> None:
    seen: list[Interval] = []
    wanted = Load(messages=LINES, clients=3)
    outcome = run_in_processes(serve_echo("tcp4"), wanted, 1.3, processes=2, report=seen.append)
    assert outcome.failure == ""
    assert (outcome.processes, outcome.clients) == (2, 3)
    assert outcome.messages > 200
    assert len(outcome.latency) == pytest.approx(outcome.messages, abs=10)
    assert len(seen) == 2
    assert sum(each.messages for each in seen) == pytest.approx(outcome.messages, abs=100)


def test_one_measures_again_and_again(serve_echo: Callable[..., Endpoint]) -> None:
    with LoadProcess(serve_echo("unix"), Load(messages=LINES), core=None) as child:
        child.connect()
        outcomes = [child.measure(0.1, warmup=0.0) for _ in range(3)]
    assert all(outcome.messages > 3 and outcome.failure == "" for outcome in outcomes)


def test_nobody_listens(tmp_path: object) -> None:
    with pytest.raises(DialError, match="nobody listens"):
        run_in_processes(Endpoint.parse(f"unix:{tmp_path}/none"), Load(messages=LINES), 0.1)


def test_what_goes_wrong_is_told(by_hand: Callable[..., int]) -> None:
    def close(sock: socket.socket) -> None:
        sock.sendall(sock.recv(100))

    where = Endpoint("tcp4", "127.0.0.1", by_hand(close))
    outcome = run_in_processes(where, Load(messages=LINES), 5)
    assert isinstance(outcome.error, ConnectionLost)


def test_an_interrupt_ends_it_with_what_there_is(serve_echo: Callable[..., Endpoint]) -> None:
    def interrupt(interval: Interval) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    begin = time.monotonic()
    with LoadProcess(serve_echo("tcp4"), Load(messages=LINES)) as child:
        child.connect()
        outcome = child.measure(30, warmup=0.0, report=interrupt)
    assert time.monotonic() - begin < 20
    assert outcome.interrupted
    assert outcome.failure == ""


def test_a_load_is_divided() -> None:
    parts = divide(Load(kind="open", messages=LINES, clients=5, rate=100.0), 2)
    assert [(part.clients, part.rate) for part in parts] == [(3, 60.0), (2, 40.0)]
    with pytest.raises(UsageError, match="a client at least"):
        divide(Load(messages=LINES), 2)
    with pytest.raises(UsageError, match="1 to 64"):
        divide(Load(messages=LINES), 0)
