"""The durable measurements: the load on a sink, stores that lie, and the page that is made of the figures."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.durable import disk_of
from bench.durable_dialects import DURABLE, Ends
from bench.durable_load import measure
from bench.durable_opening import BOXES, open_filled
from bench.durable_peers import STORES, at, build_delay, find_stores, slowed
from bench.durable_report import DurableCell, DurableResults, render
from bench.durable_sqlite import commits
from bench.durable_takers import Refused
from bench.load import LoadError
from bench.peers import Cores, Peer, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


@contextmanager
def sink(tmp_path: Path) -> Iterator[int]:
    found, _ = find_stores(["sink"])
    with running(found[0], None, tmp_path) as (port, _):
        yield port


def test_the_load_on_the_sink(tmp_path: Path) -> None:
    with sink(tmp_path) as port:
        figures = measure(DURABLE["hailer"], port, senders=3, window=50, seconds=0.1)
    assert float(figures["messages_per_s"]) > 1000
    assert int(figures["delivered"]) > 150
    assert "load_busy" in figures


@pytest.mark.parametrize(("window", "every"), [(1, 0.0), (20, 0.001)])
def test_a_sender_that_waits_for_each(window: int, every: float, tmp_path: Path) -> None:
    with sink(tmp_path) as port:
        figures = measure(DURABLE["hailer"], port, senders=1, window=window, every=every, seconds=0.1)
    assert 0 < float(figures["p50_us"]) <= float(figures["p99_us"])
    assert int(figures["delivered"]) % window == 0


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


def test_the_frames_of_every_dialect() -> None:
    """Against the examples of each protocol's specification."""
    hailer = DURABLE["hailer"].posts("ann", "bob", b"hi", 10)
    assert (
        bytes(hailer.take(2)) + bytes(hailer.take(1)) == b"POST 1 bob :hi\nPOST 2 bob :hi\nPOST 3 bob :hi\n"
    )
    nats = DURABLE["nats"].posts("ann", "bob", b"hi", 10)
    assert bytes(nats.take(1)) == b"PUB to.bob _INBOX.ann 2\r\nhi\r\n"
    redis = DURABLE["redis"].posts("ann", "bob", b"hi", 10)
    assert bytes(redis.take(1)) == b"*5\r\n$4\r\nXADD\r\n$3\r\nbob\r\n$1\r\n*\r\n$1\r\nm\r\n$2\r\nhi\r\n"
    mqtt = DURABLE["mqtt"].posts("ann", "a/b", b"x", 2)
    said = b"".join(bytes(mqtt.take(count)) for count in (1, 2, 2))
    assert said == b"".join(b"\x32\x08\x00\x03a/b\x00%cx" % n for n in (1, 2, 3, 4, 1))


ANSWERS = {
    "hailer": b"STORED 2\nSTORED 5\n",
    "nats": b'MSG _INBOX.s 1 28\r\n{"stream":"all", "seq":1}\r\n' * 5,
    "redis": b"".join(b"$15\r\n1732212345678-%d\r\n" % n for n in range(5)),
    "mqtt": b"".join(b"\x40\x02\x00%c" % (n % 4 + 1) for n in range(5)),
}


@pytest.mark.parametrize("name", ANSWERS)
@given(cuts=st.lists(st.integers(0, 250), max_size=10))
def test_acknowledgements_are_counted_however_they_are_cut(name: str, cuts: list[int]) -> None:
    data = ANSWERS[name]
    acks = DURABLE[name].acks(2)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert sum(acks.count(data[a:b]) for a, b in itertools.pairwise(places)) == 5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hailer", b"STORED 1\nFAIL store POST :2: disk full\n"),
        ("nats", b'MSG _INBOX.s 1 9\r\n{"error":{"code":503}}\r\n'),
        ("redis", b"-ERR no\r\n"),
        ("mqtt", b"\x40\x02\x00\x02"),
    ],
)
def test_a_refusal_is_none_of_them(name: str, said: bytes) -> None:
    with pytest.raises(Refused):
        DURABLE[name].acks(2).count(said)


ENTRY = b"*2\r\n$15\r\n1732212345678-%d\r\n*2\r\n$1\r\nm\r\n$2\r\nhi\r\n"
HEAD = b"*1\r\n*2\r\n$1\r\nr\r\n*%d\r\n"
TAKEN = {
    "hailer": (b"".join(b"MAIL %d ann r :hi\n" % n for n in range(1, 4)), b"ACK 3\n"),
    "nats": (
        b"PING\r\n" + b"".join(b"MSG to.r 2 $JS.ACK.r.r.1.%d.1.5.0 2\r\nhi\r\n" % n for n in (1, 2, 3)),
        b"PUB $JS.ACK.r.r.1.3.1.5.0 4\r\n+ACK\r\n",
    ),
    "redis": (
        HEAD % 2 + ENTRY % 1 + ENTRY % 2 + b":1\r\n" + HEAD % 1 + ENTRY % 3,
        b"$5\r\nMINID\r\n$15\r\n1732212345678-3\r\n",
    ),
    "mqtt": (b"".join(b"\x32\x07\x00\x01r\x00%chi" % n for n in (1, 2, 3)), b"\x40\x02\x00\x03"),
}


@pytest.mark.parametrize("name", TAKEN)
@given(cuts=st.lists(st.integers(0, 250), max_size=10))
def test_what_is_taken_is_counted_and_dealt_with_however_it_is_cut(name: str, cuts: list[int]) -> None:
    data, answer = TAKEN[name]
    taker = DURABLE[name].taker("r", b"hi")
    if name == "redis":  # it answers when it is asked, so that a read never holds more than one answer
        cuts = [*cuts, len(HEAD % 2 + ENTRY * 2) - 2]
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    took = [taker.take(data[a:b]) for a, b in itertools.pairwise(places)]
    assert sum(count for count, _ in took) == 3
    assert answer in b"".join(said for _, said in took)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("hailer", b"MAIL 2 ann r :hi", b"MAIL 4 ann r :hi"),
        ("hailer", b"MAIL 3 ann r :hi", b"MAIL 3 ann r :ho"),
        ("nats", b"hi\r\nMSG to.r 2 $JS.ACK.r.r.1.3", b"hi\r\nERR to.r 2 $JS.ACK.r.r.1.3"),
        ("mqtt", b"hi", b"ho"),
    ],
)
def test_what_is_taken_in_disorder_is_found_out(name: str, old: bytes, new: bytes) -> None:
    data = TAKEN[name][0]
    assert old in data
    taker = DURABLE[name].taker("r", b"hi")
    data = data.replace(old, new)
    if name == "hailer":  # all that a read brought is checked by its last line
        data = data[: data.index(new)] + new + b"\n"
    with pytest.raises(Refused):
        taker.take(data)


def test_an_end_of_one_byte_has_no_tail() -> None:
    acks = Ends(b"-", b"-E")
    assert [acks.count(b"1-"), acks.count(b"2-"), acks.count(b"")] == [1, 1, 0]


@pytest.mark.parametrize("rows", [1, 100])
def test_sqlite_alone(rows: int, tmp_path: Path) -> None:
    figures = commits(str(tmp_path / "mail.db"), rows, 64, 0.05)
    assert int(figures["delivered"]) >= rows
    assert 0 < float(figures["p50_us"]) <= float(figures["p99_us"])


def test_a_slow_disk_is_slow(tmp_path: Path) -> None:
    if shutil.which("cc") is None:
        reason = "no C compiler to build the delay with: install gcc"
        if os.environ.get("HAILER_NO_SKIP") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    code = (
        "import os, sys, time; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); b = time.perf_counter(); "
    )
    code += "os.fsync(f); print(time.perf_counter() - b)"
    program = Peer("program", "", "", "", (sys.executable, "-c", code, "{data}/file"))
    command = slowed(at(program, tmp_path), build_delay(tmp_path), 0.2).command
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert float(done.stdout) >= 0.2


def test_a_relay_opens_a_store_where_messages_wait(tmp_path: Path) -> None:
    [relay], _ = find_stores(["hailer"])
    figures = open_filled(at(relay, tmp_path), None, tmp_path, 2 * BOXES)
    assert 0 < float(figures["listening_s"]) <= float(figures["first_s"])
    assert "empty_s" in figures


def test_the_relay_stores_what_the_load_posts(tmp_path: Path) -> None:
    [relay], _ = find_stores(["hailer"])
    for receive in (False, True):
        data = tmp_path / f"data-{receive}"
        data.mkdir()
        with running(at(relay, data), None, tmp_path) as (port, pid):
            figures = measure(
                DURABLE["hailer"], port, senders=3, window=10, receive=receive, seconds=0.1, pid=pid
            )
        assert int(figures["delivered"]) > 10
        assert (data / "mail.db").exists()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    found, missing = find_stores(["nats", "nats-always"], nats=str(tmp_path / "nowhere"))
    assert not found
    assert "--nats PATH" in missing["nats-always"]


def test_every_store_is_found_or_missed(tmp_path: Path) -> None:
    found, missing = find_stores(STORES)
    assert [*(peer.name for peer in found), *missing] != []
    assert {peer.name for peer in found} | set(missing) == set(STORES)
    assert "{data}" not in "".join(word for peer in found for word in at(peer, tmp_path).command)


def test_the_page_has_medians_ratios_and_failures() -> None:
    peers = [Peer(name, name, "1", "s", ()) for name in ("hailer", "nats", "redis")]
    cells = [
        DurableCell("post", 100, 1024),
        DurableCell("alone"),
        DurableCell("beside", 10, live="pingpong", commits="slow"),
        DurableCell("opening", 1_000_000),
    ]
    results = DurableResults(cells, peers, Cores(0, 1), 3, 1.0, "ext4", notes=["nats FAILED: on purpose"])
    results.figures[cells[0], "hailer"] = [
        {"messages_per_s": n, "cpu_us": 5.5} for n in (1000, 3000, 900_000)
    ]
    results.figures[cells[0], "nats"] = [{"messages_per_s": 2000, "load_busy": 0.99, "relay_busy": 0.4}]
    results.figures[cells[1], "redis"] = [{"p50_us": 120, "p99_us": 1300}]
    results.figures[cells[2], "hailer"] = [
        {
            "messages_per_s": 100_000,
            "p50_us": 98,
            "p99_us": 169,
            "stored_p50_us": 21_000,
            "stored_p99_us": 22_000,
        }
    ]
    results.figures[cells[3], "hailer"] = [{"empty_s": 0.3, "listening_s": 0.451, "first_s": 0.5}]
    page = render(results)
    assert "| store | 100 × 1 KiB |" in page
    assert "| hailer | 3.0 |" in page
    assert "| nats | 2.0 \\* |" in page, "the load was the limit"
    assert "| nats | 1.50 |" in page
    assert "| redis | 1,300 |" in page
    assert "| pingpong, 10 pairs, commits on a slow disk beside | hailer | 100 | 98 | 169 | 21,000 |" in page
    assert "| 1,000,000 waiting messages | 0.30 | 0.45 | 0.50 |" in page
    assert "- nats FAILED: on purpose" in page
    assert json.loads(json.dumps(results.as_json()))["measurements"][0]["cell"] == "100 × 1 KiB"


def test_the_command_measures_the_sink_and_writes_both_files(tmp_path: Path) -> None:
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    command = [
        sys.executable,
        "-m",
        "bench",
        "durable",
        "--short",
        "--seconds",
        "0.1",
        "--folder",
        str(tmp_path),
    ]
    command += ["--only", "sink,sqlite-1", "--parts", "alone", "--output", str(page), "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == page.read_text().strip()
    assert "| sink |" in page.read_text()
    assert "| sqlite-1 |" in page.read_text()
    assert '"p99_us"' in figures.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "page.md"]


@pytest.mark.parametrize(
    "arguments",
    [("--only", "nobody"), ("--parts", "post,pot"), ("--folder", "/dev/null/nowhere"), ("--seconds", "0")],
)
def test_a_wrong_word_is_refused(arguments: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "bench", "durable", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert done.returncode == 2
    assert "error:" in done.stderr


def test_the_disk_is_named(tmp_path: Path) -> None:
    assert disk_of(tmp_path)
