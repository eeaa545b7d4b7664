"""The durable load on the sink, on the relay, and on stores that lie."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from hailer.tools.bench.durable.dialects import DURABLE
from hailer.tools.bench.durable.load import measure
from hailer.tools.bench.durable.opening import BOXES, open_filled
from hailer.tools.bench.durable.sqlite import commits
from hailer.tools.bench.durable.stores import find_stores
from hailer.tools.bench.relay.party import LoadError
from hailer.tools.bench.relay.peers import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def sink(tmp_path: Path) -> Iterator[int]:
    found, _ = find_stores(["sink"])
    with running(found[0], None, tmp_path) as (port, _):
        yield port


def test_the_load_on_the_sink(tmp_path: Path) -> None:
    with sink(tmp_path) as port:
        figures = measure(DURABLE["hailer"], port, senders=3, window=50, seconds=0.1).figures
    assert figures["stored_per_s"] > 0
    assert "load_busy" in figures


@pytest.mark.parametrize(("window", "every"), [(1, 0.0), (20, 0.001)])
def test_a_sender_that_waits_for_each(window: int, every: float, tmp_path: Path) -> None:
    with sink(tmp_path) as port:
        outcome = measure(DURABLE["hailer"], port, senders=1, window=window, every=every, seconds=0.1)
    assert 0 < outcome.figures["p50_us"] <= outcome.figures["p99_us"]
    assert outcome.curve[-1] == (100.0, outcome.figures["max_us"])


@contextmanager
def lying_store(answer: Callable[[int], bytes]) -> Iterator[int]:
    """A store that says `answer(n)` after n lines, keeps nothing, and tells a mailbox that it holds 7."""
    peers: list[socket.socket] = []

    def serve(sock: socket.socket) -> None:
        lines = -1
        while data := receive(sock):
            lines += data.count(b"\n")
            if data.startswith(b"HELLO"):
                said = b"WELCOME %s mail=7\n" % data.split()[1]
            else:
                said = b"BYE\n" if data == b"QUIT\n" else answer(lines)
            try:
                sock.sendall(said)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                peer = listener.accept()[0]
            except OSError:
                return
            peers.append(peer)
            thread = threading.Thread(target=serve, args=(peer,))
            threads.append(thread)
            thread.start()

    def receive(sock: socket.socket) -> bytes:
        try:
            return sock.recv(65536)
        except OSError:
            return b""

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for peer in peers:
                peer.close()
            for one in threads:
                one.join(10)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda _: b"FAIL quota POST :1: full\n", "FAIL quota"),
        (lambda n: b"STORED %d\n" % (n + 1), "posted .*, and heard that .* were stored"),
        (lambda n: b"STORED %d\nSTORED %d\n" % (n, n - 1), "it said b'STORED"),
        (lambda _: b"", "(nothing|no acknowledgement) for 0.3 s"),
        (lambda n: b"STORED %d\n" % n, r"to r00 were acknowledged, and it holds 7"),
    ],
    ids=["refuses", "too many", "backwards", "silent", "lost"],
)
@pytest.mark.parametrize("window", [1, 10])
def test_a_store_that_lies_is_found_out(answer: Callable[[int], bytes], complaint: str, window: int) -> None:
    with lying_store(answer) as port, pytest.raises(LoadError, match=complaint):
        measure(DURABLE["hailer"], port, senders=1, window=window, seconds=0.05, stall=0.3)


@pytest.mark.parametrize("rows", [1, 100])
def test_sqlite_alone(rows: int, tmp_path: Path) -> None:
    figures = commits(str(tmp_path / "mail.db"), rows, 64, 0.05).figures
    if rows > 1:
        assert figures["stored_per_s"] > rows
    else:
        assert 0 < figures["p50_us"] <= figures["p99_us"]


def test_a_relay_opens_a_store_where_messages_wait(tmp_path: Path) -> None:
    [relay], _ = find_stores(["hailer"])
    outcomes = {each.part: each.figures["start_ms"] for each in open_filled(relay, None, tmp_path, 2 * BOXES)}
    assert list(outcomes) == ["empty", "full", "first"]
    assert 0 < outcomes["full"] <= outcomes["first"]


def test_the_relay_stores_what_the_load_posts(tmp_path: Path) -> None:
    [relay], _ = find_stores(["hailer"])
    for receive in (False, True):
        with running(relay, None, tmp_path) as (port, pid):
            figures = measure(
                DURABLE["hailer"], port, senders=3, window=10, receive=receive, seconds=0.1, pid=pid
            ).figures
            assert [*tmp_path.glob("data-*/relay.db")]
        assert figures["messages_per_s" if receive else "stored_per_s"] > 0
        assert figures["cpu_us"] >= 0
