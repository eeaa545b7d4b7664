"""The measurements themselves: real loads on the floor, and relays that cheat, which must be found out."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.dialects import DIALECTS, LineDialect
from bench.load import LOADS, LoadError, measure
from bench.party import Lane, Party
from bench.peers import Cores, Peer, PeerError, build_floor, find_peers, free_port, running
from bench.report import Cell, Results, render

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


@pytest.mark.parametrize("load", LOADS)
def test_every_load_on_the_floor(load: str, floor: Peer, tmp_path: Path) -> None:
    with running(floor, None, tmp_path) as (port, pid):
        figures = measure(load, LINES, port, count=5, size=40, seconds=0.1, pid=pid)
    assert figures["load"] == load
    if load == "idle":
        assert float(figures["kib_per_connection"]) >= 0
        assert float(figures["logins_per_s"]) > 0
    else:
        assert float(figures["messages_per_s"]) > 1000
        assert int(figures["delivered"]) > 0
        assert {"cpu_us", "cpu_user_us", "cpu_system_us", "relay_busy", "load_busy"} <= figures.keys()
    if load == "pingpong":
        assert 0 < float(figures["p50_us"]) <= float(figures["p99_us"])


def test_large_messages_arrive_whole(floor: Peer, tmp_path: Path) -> None:
    with running(floor, None, tmp_path) as (port, _):
        for load in ("pipeline", "pingpong"):
            assert measure(load, LINES, port, count=2, size=100_000, seconds=0.1)["delivered"]


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
    return line.replace(b":0", b":9") if n == 20 else line


def double(n: int, line: bytes) -> bytes:
    return line * 2 if n == 20 else line


def double_last(n: int, line: bytes) -> bytes:
    return line * 2 if n >= 2 * 16 else line


def stop(n: int, line: bytes) -> bytes:
    return b"" if n >= 20 else line


@pytest.mark.parametrize("load", ["pipeline", "scatter", "pingpong"])
def test_an_honest_relay_passes_the_control(load: str) -> None:
    with cheating_relay(honest) as port:
        assert measure(load, LINES, port, count=2, seconds=0.05, stall=2)["delivered"]


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


def test_the_frames_of_every_dialect() -> None:
    """Against the examples of each protocol's specification."""
    nats, redis, mqtt = DIALECTS["nats"], DIALECTS["redis"], DIALECTS["mqtt"]
    assert nats.sent("FOO", b"Hello NATS!") == b"PUB FOO 11\r\nHello NATS!\r\n"
    assert nats.received("s", "FOO.BAR", b"Hello World") == b"MSG FOO.BAR 1 11\r\nHello World\r\n"
    assert nats.reply(b"PING\r\nPING\r\n") == b"PONG\r\nPONG\r\n"
    assert redis.sent("a", b"bc") == b"*3\r\n$7\r\nPUBLISH\r\n$1\r\na\r\n$2\r\nbc\r\n"
    assert redis.is_confirmation(b":1\r\n:1\r\n:0")
    assert not redis.is_confirmation(b"-ERR no\r\n")
    assert mqtt.sent("a/b", b"x") == b"\x30\x06\x00\x03a/bx"
    assert mqtt.sent("a", b"x" * 318)[:3] == b"\x30\xc1\x02"  # 321 is C1 02 in section 2.2.3
    assert LINES.sent("bob", b"hi") == b"SEND bob :hi\n"
    assert LINES.received("ann", "bob", b"hi") == b"MSG ann bob :hi\n"


def test_a_relay_that_does_not_start_is_explained(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no such luck')")
    dud = Peer("dud", "hailer", "0", "", command)
    with pytest.raises(PeerError, match=r"ended with 1; it said: no such luck"), running(dud, None, tmp_path):
        pass


def test_a_relay_is_stopped_when_the_load_fails(floor: Peer, tmp_path: Path) -> None:
    def fail_under_load() -> None:
        with running(floor, None, tmp_path) as (port, pid):
            seen.extend((port, pid))
            raise LoadError("on purpose")

    seen: list[int] = []
    with pytest.raises(LoadError):
        fail_under_load()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", seen[0]))
    with pytest.raises(ProcessLookupError):
        os.kill(seen[1], 0)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    found, missing = find_peers(["nats"], tmp_path, nats=str(tmp_path / "nowhere"))
    assert not found
    assert "--nats PATH" in missing["nats"]


def test_the_page_has_medians_ratios_and_failures() -> None:
    peers = [Peer("hailer", "hailer", "1", "s", ()), Peer("nats", "nats", "2", "s", ())]
    cell = Cell("pipeline", 10, 16384)
    results = Results([cell], peers, Cores(0, 1), 3, 1.0, notes=["nats FAILED: on purpose"])
    results.figures[cell, "hailer"] = [{"messages_per_s": n, "cpu_us": 0.5} for n in (1000, 900_000, 3000)]
    results.figures[cell, "nats"] = [
        {"messages_per_s": 2000, "cpu_us": 1.0, "load_busy": 0.99, "relay_busy": 0.4}
    ]
    page = render(results)
    assert re.search(r"\| pipeline, 10 pairs, 16 KiB \| 3\.0 \| 2\.0 \\\* \| 1\.50 \|", page)
    assert re.search(r"\| pipeline, 10 pairs, 16 KiB \| 0\.50 \| 1\.00 \| 0\.50 \|", page)
    assert "- nats FAILED: on purpose" in page
    assert "core 0" in page


def test_the_command_measures_the_floor_and_writes_both_files(floor: Peer, tmp_path: Path) -> None:
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "--short", "--rounds", "1", "--seconds", "0.1"]
    command += ["--only", "floor", "--loads", "pipeline,idle", "--output", str(page), "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == page.read_text().strip()
    assert "| pipeline, 10 pairs |" in page.read_text()
    assert '"messages_per_s"' in figures.read_text()


def test_a_wrong_word_is_refused_with_the_right_ones() -> None:
    command = [sys.executable, "-m", "bench", "--only", "flor"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 2
    assert "flor is none of hailer, nats" in done.stderr


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass
