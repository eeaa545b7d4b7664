"""The measurements themselves: real loads on the floor, and relays that cheat, which must be found out."""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hailer.tools.bench.relay.dialects import LineDialect
from hailer.tools.bench.relay.load import measure
from hailer.tools.bench.relay.party import Lane, LoadError, Party
from hailer.tools.bench.relay.peers import Peer, build_floor, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


class HastyLines(LineDialect):
    """The lines of a relay that is known to say nothing more after the logins."""

    quiet = 0.02


LINES = HastyLines()


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Peer:
    if shutil.which("cc") is None:
        reason = "no C compiler to build the floor with: install gcc"
        if os.environ.get("HAILER_NO_SKIP") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return build_floor(tmp_path_factory.mktemp("floor"))


@pytest.mark.parametrize("load", ["pipeline", "scatter", "fanout", "pingpong", "mixed", "idle"])
def test_every_load_on_the_floor(load: str, floor: Peer, tmp_path: Path) -> None:
    with running(floor, None, tmp_path) as (port, pid):
        (outcome,) = measure(load, LINES, port, count=5, size=40, seconds=0.1, pid=pid)
    figures = outcome.figures
    if load == "idle":
        assert figures["kib_per_connection"] >= 0
        assert figures["logins_per_s"] > 0
        return
    assert figures["messages_per_s"] > 1000
    assert {"cpu_us", "cpu_user_us", "cpu_system_us", "subject_busy", "load_busy"} <= figures.keys()
    if load == "pingpong":
        assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["max_us"]
        assert outcome.curve[-1] == (100, figures["max_us"])
    else:
        assert figures["bytes_per_s"] > 0


def test_large_messages_arrive_whole(floor: Peer, tmp_path: Path) -> None:
    with running(floor, None, tmp_path) as (port, _):
        for load in ("pipeline", "pingpong"):
            assert measure(load, LINES, port, count=2, size=100_000, seconds=0.1)[0].figures["messages_per_s"]


@contextmanager
def cheating_relay(cheat: Callable[[int, bytes], bytes]) -> Iterator[int]:
    """A small relay in a thread; `cheat` gives what it really says instead of its nth delivery."""
    stop, end = socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listener, stop, end:
        thread = threading.Thread(target=serve, args=(listener, end, cheat))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            stop.send(b"x")
            thread.join(10)
            assert not thread.is_alive()


def serve(listener: socket.socket, end: socket.socket, cheat: Callable[[int, bytes], bytes]) -> None:
    names: dict[str, socket.socket] = {}
    partial: dict[socket.socket, bytes] = defaultdict(bytes)
    said: dict[socket.socket, str] = {}
    deliveries = 0
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(end, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                peer = key.fileobj
                assert isinstance(peer, socket.socket)
                if peer is end:
                    for each in list(selector.get_map().values()):
                        if each.fileobj not in (listener, end):
                            assert isinstance(each.fileobj, socket.socket)
                            each.fileobj.close()
                    return
                if peer is listener:
                    selector.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                try:
                    data = peer.recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    selector.unregister(peer)
                    peer.close()
                    continue
                *lines, partial[peer] = (partial[peer] + data).split(b"\n")
                for line in lines:
                    verb, _, rest = line.partition(b" ")
                    if verb == b"HELLO":
                        said[peer] = rest.decode()
                        names[said[peer]] = peer
                        peer.sendall(b"* hello from the control\nWELCOME %s\n" % rest)
                        continue
                    to = names[rest.partition(b" ")[0].decode()]
                    deliveries += 1
                    try:
                        to.sendall(cheat(deliveries, b"MSG %s %s\n" % (said[peer].encode(), rest)))
                    except OSError:
                        pass  # the load has seen enough and left


def honest(_: int, line: bytes) -> bytes:
    return line


def lose(n: int, line: bytes) -> bytes:
    return b"" if n == 20 else line


def lose_last(n: int, line: bytes) -> bytes:
    return b"" if n == 2 * 16 else line


def garble(n: int, line: bytes) -> bytes:
    return line.replace(b":", b";") if n == 20 else line


def double(n: int, line: bytes) -> bytes:
    return line * 2 if n == 20 else line


def double_last(n: int, line: bytes) -> bytes:
    return line * 2 if n >= 2 * 16 else line


def stop(n: int, line: bytes) -> bytes:
    return b"" if n >= 20 else line


@pytest.mark.parametrize("load", ["pipeline", "scatter", "pingpong"])
def test_an_honest_relay_passes_the_control(load: str) -> None:
    with cheating_relay(honest) as port:
        assert measure(load, LINES, port, count=2, seconds=0.05, stall=2)[0].figures["messages_per_s"]


@pytest.mark.parametrize("load", ["pipeline", "scatter", "pingpong"])
@pytest.mark.parametrize(
    ("cheat", "complaint"),
    [
        (lose, "garbled, lost or reordered|lost something or stopped"),
        (lose_last, "garbled, lost or reordered|lost something or stopped"),
        (garble, "garbled, lost or reordered a message to r0000[01]: it sent .* where .* was due"),
        (double, "garbled, lost or reordered|more than was sent|after its last message"),
        (double_last, "garbled, lost or reordered|more than was sent|after its last message"),
        (stop, "lost something or stopped: nothing came for 0.2 s"),
    ],
    ids=["lose", "lose last", "garble", "double", "double last", "stop"],
)
def test_a_cheating_relay_is_found_out(
    load: str, cheat: Callable[[int, bytes], bytes], complaint: str
) -> None:
    # A pingpong lasts as long as it is told to, and has to come to the 32nd message on a busy machine, too.
    seconds = 0.5 if load == "pingpong" else 0.05
    with cheating_relay(cheat) as port, pytest.raises(LoadError, match=complaint):
        measure(load, LINES, port, count=2, seconds=seconds, stall=0.2)


def test_more_than_was_sent_is_found_out_during_and_after_the_stream() -> None:
    ours, relay = socket.socketpair()
    with ours, relay:
        lane = Lane("r00000", ours)
        lane.carry(b"MSG a b :c\n" * 16)
        lane.left = 22
        lane.check(memoryview(b"MSG a b :c\n"))
        with pytest.raises(LoadError, match="more than was sent to it, 11 bytes so far"):
            lane.check(memoryview(b"MSG a b :c\n" * 2))
        party = Party(LINES, 0, stall=1)
        party.receivers.append(lane)
        party.expect_silence()
        relay.sendall(b"MSG a b :c\n")
        with pytest.raises(LoadError, match="after its last message r00000 was sent b'MSG a b"):
            party.expect_silence()


def test_what_the_sender_was_told_is_in_the_complaint() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse_all() -> None:
            for _ in range(2):
                peer = listener.accept()[0]
                peers.append(peer)
                name = peer.recv(100).split()[1]
                peer.sendall(b"WELCOME %s\n" % name)
            peer.recv(65536)
            peer.sendall(b"FAIL offline SEND :r00000 is not here\n")

        peers: list[socket.socket] = []
        thread = threading.Thread(target=refuse_all)
        thread.start()
        try:
            with pytest.raises(LoadError, match="s00000 was told b'FAIL offline"):
                measure("pipeline", LINES, listener.getsockname()[1], count=1, seconds=0.05, stall=2)
        finally:
            thread.join(10)
            for peer in peers:
                peer.close()


def test_a_login_that_is_cut_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def cut() -> None:
            with listener.accept()[0] as peer:
                peer.recv(100)
                peer.sendall(b"FAIL full HELLO :come back later\n")

        thread = threading.Thread(target=cut)
        thread.start()
        try:
            with pytest.raises(LoadError, match=r"r00000 could not log in: .*FAIL full"):
                measure("idle", LINES, listener.getsockname()[1], count=1)
        finally:
            thread.join(10)
