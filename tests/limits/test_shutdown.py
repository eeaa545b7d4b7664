"""The end of a server with peers that do not go, for every model."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.limits.served import ALL_MODELS, LONG, PATIENCE, serving, until

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from tests.limits.served import Served

DRAIN = 1.0
SLACK = 0.0 if LONG else 8.0
IDLE = 50


def begin(served: Served, stack: ExitStack, message: bytes) -> socket.socket:
    """A client whose handler is in the middle of something."""
    client = stack.enter_context(served.dial())
    client.sendall(message + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = client.recv(1)
        assert data, "the connection ended"
        answer += data
    return client


def read_all(client: socket.socket) -> bytes:
    parts = bytearray()
    while data := client.recv(65536):
        parts += data
    return bytes(parts)


def refuses(served: Served) -> bool:
    """Whether a new connection is not taken any more."""
    try:
        client = served.dial()
    except (ConnectionError, OSError):
        return True
    client.close()
    return False


@pytest.mark.parametrize("model", ALL_MODELS)
def test_one_that_never_ends_does_not_hold_the_server(model: str, tmp_path: Path) -> None:
    with serving(model, tmp_path, drain=DRAIN, idle_timeout=None) as served, ExitStack() as stack:
        begin(served, stack, b"for ever")
        for _ in range(IDLE if served.concurrent else 0):
            begin(served, stack, b"idle")
        start = time.monotonic()
        served.popen.send_signal(signal.SIGTERM)
        if served.concurrent:  # iterative: nobody is there to close it before the handler ends
            until(lambda: refuses(served), 0.1 + SLACK)
        output, _ = served.popen.communicate(timeout=PATIENCE)
        taken = time.monotonic() - start
        assert served.popen.returncode == 0, served.log()
        assert DRAIN * 0.9 < taken < DRAIN + 2 + SLACK
        said = [line for line in served.lines() if "the time to drain is over" in line]
        workers = 2 if model == "prefork" else 1  # each of which has its own connections
        assert 1 <= len(said) <= workers, served.log()
        assert "Traceback" not in served.log()
        assert '"active": 0' in output.decode()
        assert '"handler_failures": 0' in output.decode()


@pytest.mark.parametrize("model", ALL_MODELS)
def test_a_second_signal_does_not_wait(model: str, tmp_path: Path) -> None:
    with serving(model, tmp_path, drain=1000, idle_timeout=None) as served, ExitStack() as stack:
        begin(served, stack, b"for ever")
        for _ in range(IDLE if served.concurrent else 0):
            begin(served, stack, b"idle")
        served.popen.send_signal(signal.SIGTERM)
        until(lambda: model == "iterative" or refuses(served))
        if model == "iterative":
            with pytest.raises(Exception, match="timed out"):
                served.popen.wait(0.3)
        start = time.monotonic()
        served.popen.send_signal(signal.SIGTERM)
        assert served.popen.wait(PATIENCE) == 0, served.log()
        assert time.monotonic() - start < 2 + SLACK
        assert "Traceback" not in served.log()


@pytest.mark.parametrize("model", ALL_MODELS)
def test_answers_of_handlers_that_end_in_time_arrive_whole(model: str, tmp_path: Path) -> None:
    with serving(model, tmp_path, drain=PATIENCE, workers=2) as served, ExitStack() as stack:
        clients = [begin(served, stack, b"slow") for _ in range(10 if served.concurrent else 1)]
        start = time.monotonic()
        served.popen.send_signal(signal.SIGTERM)
        for client in clients:
            assert read_all(client) == b"x" * 300_000 + b"\n"
        assert served.popen.wait(PATIENCE) == 0, served.log()
        assert time.monotonic() - start < 2 + SLACK, "it waited for the drain to be over"
        assert "aborted" not in served.log()
