"""Few descriptors and many connections, and what a thousand at once leave behind, for every model."""

from __future__ import annotations

import select
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.limits.served import ALL_MODELS, LONG, PATIENCE, serving, until

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.limits.served import Served

DESCRIPTORS = 64
CONNECTS = 500 if LONG else 150


def exchange(client: socket.socket, message: bytes) -> float:
    """Have a message echoed; give the seconds that it took."""
    start = time.monotonic()
    client.sendall(message + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = client.recv(4096)
        assert data, "the connection ended"
        answer += data
    assert answer == message + b"\n"
    return time.monotonic() - start


@pytest.mark.parametrize("model", ALL_MODELS)
@pytest.mark.parametrize("limited", [True, False], ids=["below the limit", "control"])
def test_few_descriptors_and_many_connections(model: str, limited: bool, tmp_path: Path) -> None:
    """With 64 descriptors many connect: the old ones are served while the rest waits, and the log is quiet.

    The server keeps below the limit on descriptors. In the control it does not know of the limit, and runs
    into it: there accepting has to fail, or this tests nothing.
    """
    options = {"descriptors" if limited else "descriptors_later": DESCRIPTORS}
    with serving(model, tmp_path, drain=0.5, **options) as served, ExitStack() as stack:
        old = [stack.enter_context(served.dial()) for _ in range(3 if served.concurrent else 1)]
        for client in old:
            exchange(client, b"first")
        crowd = [served.dial() for _ in range(CONNECTS)]
        start = time.monotonic()
        slowest = 0.0
        while time.monotonic() < start + (5.0 if LONG else 0.6):
            slowest = max(slowest, *(exchange(client, b"still here") for client in old))
            select.select([], [], [], 0.02)
        watched = time.monotonic() - start
        assert slowest < (0.05 if LONG else 1.0)
        complaints = sum("cannot accept" in line for line in served.lines())
        for client in crowd:
            client.close()
        if not served.concurrent:
            old.pop().close()
        ended = time.monotonic()
        with served.dial() as client:
            exchange(client, b"and a new one")
        assert time.monotonic() - ended < (2.0 if LONG else 10.0)
        for client in old:
            exchange(client, b"still here")
        until(lambda: not served.zombies())
        counters = served.end()
        assert complaints <= 2 * (watched + 2), served.log()
        assert "Traceback" not in served.log()
        assert counters["handler_failures"] == 0
        if model != "iterative":  # which has one connection and never needs another descriptor
            assert (counters["accept_failures"] > 0) is not limited, counters


def at_rest(served: Served) -> tuple[int, int, int]:
    """How many processes, descriptors and threads there are."""
    held = served.held()
    return len(held), sum(count for count, _ in held), sum(count for _, count in held)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("model", ALL_MODELS)
def test_a_thousand_at_once_leave_nothing_behind(model: str, tmp_path: Path) -> None:
    many = 1000 if LONG or model != "fork" else 200
    with serving(model, tmp_path, max_connections=many + 10, idle_timeout=None, workers=2) as served:
        with served.dial() as client:
            exchange(client, b"what is opened once and kept")
        with served.dial() as client, served.dial() as other:  # prefork: in the other process, too
            if served.concurrent:
                exchange(client, b"x")
                exchange(other, b"x")
        if model == "prefork":  # both workers have begun, and their idle threads have ended
            until(lambda: len(served.held()) == 3 and served.held()[1] == served.held()[2])
        else:
            until(lambda: len(served.held()) == 1)
        rest = at_rest(served)
        memory = []
        for _ in range(3 if LONG else 1):
            if served.concurrent:
                clients = [served.dial() for _ in range(many)]
                for number, client in enumerate(clients):
                    client.sendall(b"%d\n" % number)
                for number, client in enumerate(clients):
                    assert client.recv(100) == b"%d\n" % number
                assert sum(at_rest(served)) > many, "they were not served at once"
                for client in clients:
                    client.close()
            else:
                for number in range(many):
                    with served.dial() as client:
                        exchange(client, b"%d" % number)
            until(
                lambda: all(map(int.__le__, at_rest(served), rest)),
                seconds=60,
                what=lambda: f"{at_rest(served)} is more than {rest}",
            )
            memory.append(served.memory())
        assert not served.zombies()
        assert memory[-1] <= memory[0] * 1.1
        assert memory[0] < 64 << 20
        with served.dial() as client:
            exchange(client, b"still there")
        start = time.monotonic()
        counters = served.end()
        assert time.monotonic() - start < PATIENCE
        assert counters["active"] == counters["handler_failures"] == counters["accept_failures"] == 0
        assert counters["accepted"] == 4 + many * len(memory)
