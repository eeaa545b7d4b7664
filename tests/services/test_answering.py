"""The end of a service that has said its last word: the answer arrives whatever the client still sends."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hailer.server import Server
from hailer.services import SERVICES, answering

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.conftest import Serve

QUESTIONS = {
    "daytime": b"",
    "time": b"",
    "qotd": b"",
    "hello": b"",
    "ack": b"question",
    "greet": b"question\0",
    "finger": b"ann\r\n",
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_comes_after_the_answer_resets_nothing(serve: Serve, tmp_path: Path, name: str) -> None:
    (tmp_path / "ann").write_text("a plan\n")
    service = SERVICES[name].build(**({"directory": str(tmp_path)} if name == "finger" else {}))
    with serve(service, SERVICES[name].framing).connect() as client:
        client.sendall(QUESTIONS[name])
        assert client.recv(1, socket.MSG_PEEK), "no answer"
        for _ in range(3):
            client.sendall(b"what nobody asked for\0\r\n" * 1000)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))  # a reset raises here
    assert len(answer) >= 4


def test_who_does_not_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_PATIENCE", 0.05)
    service = SERVICES["daytime"]
    with (
        Server("tcp4://127.0.0.1:0", service.build(), "thread", framing=service.framing) as server,
        socket.create_connection(("127.0.0.1", server.endpoints[0].port or 0), 10) as client,
    ):
        assert client.recv(100)
        end = time.monotonic() + 10
        while server.counters.active:
            assert time.monotonic() < end, "it is waited for without an end"
            with suppress(OSError):  # it may just have been left
                client.sendall(b"and another thing\r\n" * 10)
            time.sleep(0.01)
