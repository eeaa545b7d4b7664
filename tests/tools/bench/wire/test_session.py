"""Real loads on real servers, good and bad."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import ConnectionLost, DialError, TimedOut, TlsError, UsageError
from hailer.tools.bench.wire import Load, TlsFiles, WrongAnswer, drive, numbered_lines, open_load, poller
from hailer.tools.bench.wire import run_load as real_run_load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hailer.tools.bench.wire import Interval, Outcome

STREAMS = ["tcp4", "tls", "unix", "unix+seqpacket", "ws", "wss"]
DATAGRAMS = ["udp4", "unix+dgram"]
SHORT = 0.12


def run_load(
    endpoint: Endpoint,
    load: Load,
    seconds: float,
    *,
    warmup: float = 0.03,
    report: Callable[[Interval], None] | None = None,
) -> Outcome:
    """Measure, and again where a machine that is busy with other tests left no time in so short a while."""
    for _ in range(4):
        outcome = real_run_load(endpoint, load, seconds, warmup=warmup, report=report)
        if outcome.failure or outcome.messages > 3 or load.kind == "idle" or load.expect == "any":
            break
    return outcome


def load(kind: str = "pingpong", **fields: Any) -> Load:
    return Load(**{"kind": kind, "messages": numbered_lines(64), "timeout": 40.0, **fields})


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine that is busy with other tests take its time for what is under way at the end."""
    monkeypatch.setattr(drive, "_DRAIN", 40.0)


def tcp(port: int) -> Endpoint:
    return Endpoint("tcp4", "127.0.0.1", port)


def good(outcome: Outcome) -> Outcome:
    assert (outcome.failure, outcome.errors, outcome.notes, outcome.interrupted) == ("", {}, [], False)
    assert outcome.seconds >= SHORT
    return outcome


@pytest.mark.parametrize("scheme", STREAMS)
@pytest.mark.parametrize("in_flight", [1, 20])
def test_pingpong(serve_echo: Callable[..., Endpoint], scheme: str, in_flight: int, files: TlsFiles) -> None:
    wanted = load(clients=3, in_flight=in_flight, tls=files)
    outcome = good(run_load(serve_echo(scheme), wanted, SHORT, warmup=0.02))
    assert outcome.messages > 3
    assert (outcome.clients, outcome.connections) == (3, 3)
    assert len(outcome.connecting) == 3
    # What was under way when it began and when it ended is counted too.
    assert abs(len(outcome.latency) - outcome.messages) <= 3 * in_flight
    assert 0 < outcome.latency.percentile(50) <= outcome.latency.percentile(99.9) < outcome.seconds + 1
    assert outcome.bytes_down >= (outcome.messages - 3 * in_flight) * 64
    assert 0 < outcome.busy < 2  # two clocks, over a tenth of a second


@pytest.mark.parametrize("scheme", STREAMS)
def test_stream(serve_echo: Callable[..., Endpoint], scheme: str, files: TlsFiles) -> None:
    outcome = good(run_load(serve_echo(scheme), load("stream", clients=2, tls=files), SHORT))
    assert outcome.messages > 3
    # What was under way when it began is answered in it.
    assert outcome.bytes_up > 1000
    assert outcome.bytes_down >= (outcome.messages - 2) * 64


@pytest.mark.parametrize("scheme", STREAMS)
def test_connect(serve_echo: Callable[..., Endpoint], scheme: str, files: TlsFiles) -> None:
    outcome = good(run_load(serve_echo(scheme), load("connect", clients=2, tls=files), SHORT, warmup=0.05))
    assert outcome.messages > 3
    assert outcome.clients == 0
    assert outcome.connections >= outcome.messages - 2  # some were under way when it began
    assert outcome.latency.percentile(50) > outcome.connecting.percentile(50) > 0


@pytest.mark.parametrize("scheme", [*STREAMS, *DATAGRAMS])
def test_open(serve_echo: Callable[..., Endpoint], scheme: str, files: TlsFiles) -> None:
    wanted = load("open", rate=200.0, clients=3, numbered=True, patience=5.0, tls=files)
    outcome = good(run_load(serve_echo(scheme), wanted, 0.3, warmup=0))
    assert 3 < outcome.due == outcome.sent <= 61
    assert len(outcome.latency) == outcome.sent  # also of those that were answered after the end
    assert outcome.lost == 0


@pytest.mark.parametrize("scheme", DATAGRAMS)
@pytest.mark.parametrize("numbered", [True, False])
def test_datagrams(serve_echo: Callable[..., Endpoint], scheme: str, numbered: bool) -> None:
    outcome = good(
        run_load(serve_echo(scheme), load(clients=3, in_flight=4, numbered=numbered, patience=5.0), SHORT)
    )
    assert outcome.messages > 3
    assert (outcome.lost, outcome.doubled, outcome.reordered) == (0, 0, 0)
    assert outcome.jitter > 0


def test_datagrams_poured(serve_echo: Callable[..., Endpoint]) -> None:
    outcome = good(run_load(serve_echo("udp4"), load("stream", numbered=True, patience=0.3), SHORT))
    assert outcome.messages > 3
    assert outcome.sent >= outcome.messages + outcome.lost - 5000  # the last of the warm-up may come late


def test_idle_clients_are_held(serve_echo: Callable[..., Endpoint]) -> None:
    outcome = good(run_load(serve_echo("tcp4"), Load(kind="idle", clients=300), SHORT))
    assert (outcome.clients, outcome.connections, outcome.messages) == (300, 300, 0)


@pytest.mark.parametrize("kind", ["pingpong", "stream", "open", "connect"])
def test_the_same_clients_measure_again(serve_echo: Callable[..., Endpoint], kind: str) -> None:
    rate = 500.0 if kind == "open" else 0.0
    with open_load(serve_echo("tcp4"), load(kind, clients=2, rate=rate)) as drive:
        first, second = good(drive.measure(SHORT)), good(drive.measure(SHORT))
    assert first.messages > 3
    assert second.messages > 3
    assert second.latency.total != first.latency.total or kind == "stream"


def test_a_server_of_one_connection_at_a_time_serves_all_in_turn(
    serve_echo: Callable[..., Endpoint],
) -> None:
    with open_load(serve_echo("tcp4", "iterative"), load(clients=4, turns=20)) as drive:
        for _ in range(2):
            outcome = good(drive.measure(0.3))
            assert outcome.messages > 3
            assert outcome.connections >= outcome.messages // 20 - 4


def test_who_is_left_waiting_is_told(serve_echo: Callable[..., Endpoint]) -> None:
    outcome = run_load(serve_echo("tcp4", "iterative"), load(clients=3, timeout=0.3), SHORT)
    assert outcome.messages > 3
    (note,) = outcome.notes
    assert note.startswith(
        "2 of 3 clients still waited for the server 0.3 seconds after the end: if it serves one"
    )


@pytest.mark.parametrize("kind", ["pingpong", "stream", "connect"])
def test_without_epoll(
    serve_echo: Callable[..., Endpoint], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drive, "open_poller", poller._Selector)
    outcome = good(run_load(serve_echo("tcp4"), load(kind, clients=3), SHORT))
    assert outcome.messages > 3


def test_bytes_are_counted_where_answers_cannot_be(serve_echo: Callable[..., Endpoint]) -> None:
    outcome = good(run_load(serve_echo("tcp4"), load("stream", expect="any"), SHORT))
    assert outcome.bytes_down > 10_000
    assert outcome.messages == 0


def test_seconds_are_reported(serve_echo: Callable[..., Endpoint]) -> None:
    seen: list[Interval] = []
    outcome = good(run_load(serve_echo("tcp4"), load(), 1.2, report=seen.append))
    assert [round(each.begin) for each in seen] == [0, 1]
    assert seen[-1].end == pytest.approx(1.2, abs=0.1)
    assert sum(each.messages for each in seen) == pytest.approx(outcome.messages, abs=5)


def test_a_server_that_only_takes(by_hand: Callable[..., int]) -> None:
    def sink(sock: socket.socket) -> None:
        while sock.recv(1 << 20):
            pass

    outcome = good(run_load(tcp(by_hand(sink)), load("stream", expect="none"), SHORT))
    assert outcome.messages * 64 == pytest.approx(outcome.bytes_up, rel=0.01)
    assert outcome.bytes_down == 0
    outcome = good(run_load(tcp(by_hand(sink)), load("open", rate=500.0, expect="none"), SHORT, warmup=0))
    assert 3 < outcome.messages <= 500 * SHORT + 1


def test_a_server_that_only_gives(by_hand: Callable[..., int]) -> None:
    def pour(sock: socket.socket) -> None:
        assert sock.recv(100) == b"give\n"
        while True:
            sock.sendall(b"x" * 65536)

    wanted = load("stream", messages=(b"give\n",), reverse=True, expect="any")
    outcome = good(run_load(tcp(by_hand(pour)), wanted, SHORT))
    assert outcome.bytes_down > 1 << 20


def test_a_server_that_closes_after_its_answer(by_hand: Callable[..., int]) -> None:
    def http(sock: socket.socket) -> None:
        if sock.recv(100) == b"GET\n":
            sock.sendall(b"a page")
            sock.sendall(b" in two parts")

    port = by_hand(http)
    outcome = good(run_load(tcp(port), load("connect", messages=(b"GET\n",), expect="eof"), SHORT))
    assert outcome.messages > 3
    # Those that were connected when it began may have got a part before.
    assert outcome.bytes_down >= (outcome.messages - 1) * len("a page in two parts")
    bad = run_load(tcp(port), load(messages=(b"GET\n",), expect="mark", answer=b"parts"), SHORT)
    assert "kind connect" in bad.failure
    assert isinstance(bad.error, ConnectionLost)


def test_a_greeting_is_read_first(by_hand: Callable[..., int]) -> None:
    def greet(sock: socket.socket) -> None:
        sock.sendall(b"220 hello\r\n220 and welcome\r\n")
        repeat(sock)

    port = by_hand(greet)
    good(run_load(tcp(port), load(greeting=2), SHORT))
    # The second line is no answer; it may come before anything was sent.
    with pytest.raises(WrongAnswer, match="220"):
        raise run_load(tcp(port), load(greeting=1), SHORT).error or AssertionError


def test_something_is_said_first_on_each_connection(by_hand: Callable[..., int]) -> None:
    def ask(sock: socket.socket) -> None:
        if sock.recv(7, socket.MSG_WAITALL) == b"AUTH x\n":
            sock.sendall(b"+OK\r\n")
            repeat(sock)

    port = by_hand(ask)
    good(run_load(tcp(port), load(first=b"AUTH x\n", greeting=1, clients=3), SHORT))
    good(run_load(tcp(port), load("connect", first=b"AUTH x\n", greeting=1), SHORT))


def repeat(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def test_one_wrong_byte_ends_it(by_hand: Callable[..., int]) -> None:
    def nearly(sock: socket.socket) -> None:
        for _ in range(50):
            sock.sendall(sock.recv(65536))
        sock.sendall(sock.recv(65536).upper())

    outcome = run_load(tcp(by_hand(nearly)), load(), 5)
    assert outcome.seconds < 4
    assert isinstance(outcome.error, WrongAnswer)
    assert "was due" in outcome.failure


def test_more_answers_than_questions_end_it(by_hand: Callable[..., int]) -> None:
    def twice(sock: socket.socket) -> None:
        while data := sock.recv(65536):
            sock.sendall(data + data)

    outcome = run_load(tcp(by_hand(twice)), load(messages=(b"hello\n",)), 5)
    assert "more than it was asked" in outcome.failure


@pytest.mark.parametrize("kind", ["pingpong", "stream", "open", "connect"])
def test_a_server_that_never_reads(by_hand: Callable[..., int], kind: str) -> None:
    never = threading.Event()
    rate = 100.0 if kind == "open" else 0.0
    begin = time.monotonic()
    port = by_hand(lambda _: void(never.wait(20)))
    outcome = run_load(tcp(port), load(kind, rate=rate, timeout=0.4), 10)
    never.set()
    assert time.monotonic() - begin < 5
    assert isinstance(outcome.error, TimedOut)
    assert "does not go on" in outcome.failure


def test_no_answer_within_a_measurement_shorter_than_the_timeout(by_hand: Callable[..., int]) -> None:
    def hear(sock: socket.socket) -> None:
        while sock.recv(65536):
            pass

    outcome = run_load(tcp(by_hand(hear)), load(timeout=0.4), 0.1)
    assert isinstance(outcome.error, TimedOut)


def void(_: object) -> None:
    pass


def test_a_server_that_stops_is_told_by_what_was_seen(by_hand: Callable[..., int]) -> None:
    never = threading.Event()

    def stop(sock: socket.socket) -> None:
        for _ in range(10):
            sock.sendall(sock.recv(65536))
        never.wait(20)

    outcome = run_load(tcp(by_hand(stop)), load(timeout=0.4), 10, warmup=0)
    never.set()
    assert outcome.messages == 10
    assert "704 bytes to it and 640 from it (1 of 1 clients wait)" in outcome.failure


def test_a_reset_in_the_middle(by_hand: Callable[..., int]) -> None:
    def reset(sock: socket.socket) -> None:
        sock.sendall(sock.recv(65536))
        sock.recv(10)  # what is left unread makes the end a reset

    outcome = run_load(tcp(by_hand(reset)), load(), 5)
    assert "1 answers to all clients" in outcome.failure
    assert isinstance(outcome.error, ConnectionLost)


def test_connections_that_fail_are_counted(by_hand: Callable[..., int]) -> None:
    number = iter(range(1 << 30))

    def every_third(sock: socket.socket) -> None:
        if next(number) % 3:
            repeat(sock)

    outcome = run_load(tcp(by_hand(every_third)), load("connect", clients=2), 0.4)
    assert outcome.failure == ""
    assert sum(outcome.errors.values()) > 1
    assert outcome.messages > sum(outcome.errors.values())


def test_connections_that_all_fail_end_it(by_hand: Callable[..., int]) -> None:
    outcome = run_load(tcp(by_hand(void)), load("connect", clients=2), 10)
    assert outcome.seconds < 5
    assert isinstance(outcome.error, ConnectionLost)


def test_an_open_loop_does_not_forgive_a_pause(by_hand: Callable[..., int]) -> None:
    """Coordinated omission: what was to leave during a pause is slow, and there is much of it."""

    def pauses(sock: socket.socket) -> None:
        pause = time.monotonic() + 0.2
        while data := sock.recv(65536):
            if pause and time.monotonic() > pause:
                pause = 0
                time.sleep(0.3)
            sock.sendall(data)

    outcome = good(run_load(tcp(by_hand(pauses)), load("open", rate=1000.0), 1.0, warmup=0))
    # Three in ten wait, 150 ms in the mean; a closed loop would have had one slow message.
    assert outcome.latency.percentile(80) > 0.05
    assert outcome.latency.percentile(100) > 0.25
    closed = good(run_load(tcp(by_hand(pauses)), load(), 1.0, warmup=0))
    assert closed.latency.percentile(99) < 0.05


def test_an_open_loop_counts_from_when_a_message_was_due(serve_echo: Callable[..., Endpoint]) -> None:
    """Also when the load itself was held up."""
    held = iter((0.3,))
    wanted = load("open", rate=200.0)
    outcome = good(
        run_load(serve_echo("tcp4"), wanted, 1.6, warmup=0, report=lambda _: time.sleep(next(held, 0.0)))
    )
    assert outcome.late > 0.25
    assert outcome.latency.percentile(100) > 0.25
    # Some 60 of 320 were to leave in that time.
    assert outcome.latency.percentile(92) > 0.1


@pytest.fixture
def udp() -> Iterator[Callable[..., Endpoint]]:
    """Answer datagrams by a function of the number of the datagram and itself, which gives answers."""
    socks: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def begin(answer: Callable[[int, bytes], list[bytes]]) -> Endpoint:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        socks.append(sock)

        def run() -> None:
            number = 0
            with suppress(OSError):
                while True:
                    data, peer = sock.recvfrom(65536)
                    if data == b"end":
                        return
                    for each in answer(number, data):
                        sock.sendto(each, peer)
                    number += 1

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return Endpoint("udp4", "127.0.0.1", sock.getsockname()[1])

    yield begin
    for sock, thread in zip(socks, threads, strict=True):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", sock.getsockname())
        thread.join(10)
        sock.close()


def test_lost_datagrams_are_counted(udp: Callable[..., Endpoint]) -> None:
    where = udp(lambda number, data: [] if number % 10 == 9 else [data])
    outcome = good(run_load(where, load("open", rate=500.0, numbered=True, patience=0.2), 0.4, warmup=0))
    assert outcome.lost == pytest.approx(outcome.sent / 10, abs=2)
    assert len(outcome.latency) + outcome.lost == outcome.sent
    # A closed loop waits for the patience, and goes on.
    outcome = good(run_load(where, load(numbered=True, patience=0.05), 0.4, warmup=0))
    assert outcome.lost >= 2
    assert outcome.messages > 3


def test_doubled_and_overtaken_datagrams_are_counted(udp: Callable[..., Endpoint]) -> None:
    held: list[bytes] = []

    def answer(number: int, data: bytes) -> list[bytes]:
        if number % 20 == 5:
            return [data, data]
        if number % 20 == 10:
            held.append(data)
            return []
        return [data, held.pop()] if held else [data]

    outcome = run_load(udp(answer), load("open", rate=1000.0, numbered=True), 0.4, warmup=0)
    assert outcome.doubled == pytest.approx(outcome.sent / 20, abs=2)
    assert outcome.reordered == pytest.approx(outcome.sent / 20, abs=2)
    assert outcome.lost <= 1


def test_datagrams_that_nobody_answers(udp: Callable[..., Endpoint]) -> None:
    where = udp(lambda number, data: [])
    outcome = run_load(where, load("open", rate=200.0, numbered=True, patience=0.1), SHORT)
    assert "answered none of" in outcome.failure
    outcome = good(run_load(where, load("open", rate=200.0, expect="none"), SHORT))
    assert outcome.messages > 3
    assert outcome.lost == 0


@pytest.mark.parametrize("numbered", [True, False])
def test_datagrams_that_are_answered_wrong(udp: Callable[..., Endpoint], numbered: bool) -> None:
    outcome = run_load(udp(lambda number, data: [data[:-1]]), load(numbered=numbered), SHORT)
    assert "answered with another datagram, of 63 bytes" in outcome.failure
    # A number that was never sent is no answer either.
    far = load(numbered=True, messages=(b"x" * 20,))
    outcome = run_load(udp(lambda number, data: [b"9" * 12 + data[12:]]), far, SHORT)
    assert "another datagram" in outcome.failure


def test_datagrams_to_nobody() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    outcome = run_load(Endpoint("udp4", "127.0.0.1", port), load(numbered=True), SHORT)
    assert "nobody listens" in outcome.failure


def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(DialError, match="nobody listens"):
            run_load(tcp(port), load(), SHORT)


def test_a_certificate_that_is_not_trusted(serve_echo: Callable[..., Endpoint]) -> None:
    with pytest.raises(TlsError, match="--ca"):
        run_load(serve_echo("tls"), load(clients=3), SHORT)


def test_tls_to_who_speaks_none(by_hand: Callable[..., int], files: TlsFiles) -> None:
    port = by_hand(lambda sock: sock.sendall(b"220 hello\r\n"))
    with pytest.raises(TlsError):
        run_load(replace(tcp(port), scheme="tls"), load(tls=files), SHORT)


def test_a_server_that_lets_only_some_in(by_hand: Callable[..., int], files: TlsFiles) -> None:
    never = threading.Event()
    port = by_hand(lambda _: void(never.wait(20)))
    with pytest.raises(TimedOut, match="let 0 of 3 clients in"):
        run_load(replace(tcp(port), scheme="tls"), load(clients=3, timeout=0.3, tls=files), SHORT)
    never.set()


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_no_descriptor_is_left(serve_echo: Callable[..., Endpoint]) -> None:
    endpoint = serve_echo("tcp4")
    good(run_load(endpoint, load("idle", clients=2), SHORT))
    before = descriptors()
    for kind in ("pingpong", "connect", "idle"):
        good(run_load(endpoint, load(kind, clients=20), SHORT))
    deadline = time.monotonic() + 5
    while descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the server's own are closed a little later
    assert descriptors() <= before


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        ("udp://127.0.0.1:7", {"kind": "connect"}, "no connections"),
        ("udp://127.0.0.1:7", {"kind": "stream", "reverse": True}, "neither be reversed"),
        ("udp://127.0.0.1:7", {"expect": "http"}, "one datagram"),
        ("ws://127.0.0.1:7/", {"expect": "bytes:5"}, "one message"),
        ("stdio:", {}, "one connection only"),
    ],
)
def test_loads_that_do_not_fit(text: str, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run_load(Endpoint.parse(text), load(**fields), SHORT)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "nothing"}, "there is no load"),
        ({"messages": (b"a", b"bc")}, "differ in length"),
        ({"messages": ()}, "nothing to send"),
        ({"clients": 0}, "1 to 100000"),
        ({"in_flight": 10_000_000}, "at most together"),
        ({"kind": "open"}, "1 to 10,000,000"),
        ({"expect": "none"}, "has to expect"),
        ({"expect": "eof"}, "the kind connect"),
        ({"expect": "bytes:0"}, "cannot be expected"),
        ({"expect": "exact"}, "which answer"),
    ],
)
def test_loads_that_make_no_sense(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load(**fields)


def test_a_load_and_its_outcome_pass_through_json(serve_echo: Callable[..., Endpoint]) -> None:
    wanted = load(answer=b"\xff\x00", first=b"\xfe", tls=TlsFiles(ca="x", insecure=True))
    assert Load.from_json(wanted.as_json()) == wanted
    outcome = run_load(serve_echo("tcp4"), load(), SHORT)
    again = type(outcome).from_json(outcome.as_json())
    assert again.as_json() == outcome.as_json()
