"""A server under measurement: real ones, with their processes and what they use."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from hailer.tools.bench.models.plan import MODELS, Load, Setup
from hailer.tools.bench.models.served import NotMeasured, command_of, serving
from hailer.tools.bench.models.services import SERVICES, service_of

if TYPE_CHECKING:
    from pathlib import Path


def setup_of(model: str, service: str = "echo", transport: str = "tcp") -> Setup:
    return Setup(model, transport, service_of(service), 1, 64, (Load("rounds", 4),))


def ask(address: tuple[str, int], text: bytes) -> bytes:
    with socket.create_connection(address, 10) as client:
        client.sendall(text)
        return client.recv(100)


@pytest.mark.parametrize("model", MODELS)
def test_each_model_serves_and_leaves_nothing_behind(model: str, tmp_path: Path) -> None:
    if model == "uvloop":
        pytest.importorskip("uvloop")
    with serving(setup_of(model), None, tmp_path) as served:
        tree = psutil.Process(served.pid).children(recursive=True)
        resting = served.memory_kib()
        assert resting > 1000
        assert served.processes() == 1 + len(tree) == (3 if model == "prefork" else 1)
        before = served.usage()
        address = str(served.endpoint.host), int(served.endpoint.port or 0)
        clients = [socket.create_connection(address, 10) for _ in range(4 if model == "fork" else 1)]
        for client in clients:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
        used = served.usage().since(before)
        assert used.cpu > 0
        if model == "fork":
            assert served.processes() == 5
            assert served.memory_kib() > resting
        for client in clients:
            client.close()
        served.rest()
        assert served.processes() == (3 if model == "prefork" else 1)
        left = [psutil.Process(served.pid), *tree]
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in left)


@pytest.mark.parametrize("service", SERVICES)
def test_the_services_answer_what_they_were_sent(service: str, tmp_path: Path) -> None:
    with serving(
        setup_of("epoll" if hasattr(__import__("select"), "epoll") else "select", service), None, tmp_path
    ) as served:
        address = str(served.endpoint.host), int(served.endpoint.port or 0)
        assert ask(address, b"hello\n") == b"hello\n"


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="this system does not keep programs to cores"
)
def test_it_is_kept_to_its_cores(tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    with serving(setup_of("thread"), [core], tmp_path) as served:
        assert os.sched_getaffinity(served.pid) == {core}


def test_the_readers_own_settings_are_not_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HAILER_MODEL", "nonsense")
    monkeypatch.setenv("HAILER_MAX_MESSAGE", "1")
    with serving(setup_of("select"), None, tmp_path) as served:
        address = str(served.endpoint.host), int(served.endpoint.port or 0)
        assert ask(address, b"hello\n") == b"hello\n"


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    handler = tmp_path / "own.py"
    handler.write_text("def handle(connection):\n    pass\n")
    with (
        pytest.raises(NotMeasured, match="choose the model iterative"),
        serving(setup_of("epoll", f"{handler}:handle"), None, tmp_path),
    ):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is counted otherwise")
def test_what_forked_processes_used_is_counted_after_they_have_ended(tmp_path: Path) -> None:
    with serving(setup_of("fork", "compute"), None, tmp_path) as served:
        address = str(served.endpoint.host), int(served.endpoint.port or 0)
        before = served.usage()
        for _ in range(30):
            assert ask(address, b"hello\n") == b"hello\n"
        served.rest()
        used = served.usage().since(before)
        # A fork and some computing each, of which ticks of 10 ms may hide a few.
        assert used.cpu > 30 * 0.0005


def test_room_for_all_clients(tmp_path: Path) -> None:
    setup = Setup("prefork", "tcp", SERVICES["echo"], 1, 64, (Load("rounds", 1), Load("rounds", 500)))
    words = command_of(setup, tmp_path)
    assert int(words[words.index("--max-connections") + 1]) >= 1000
