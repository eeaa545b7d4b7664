"""Limits on connections, descriptors and time."""

from __future__ import annotations

import heapq
import resource
import selectors
import time
from typing import TYPE_CHECKING

import pytest

from tests.relay.edge.conftest import LONG, SLACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connect, Wire
    from tests.relay.edge.conftest import Start, StartProcess


def worst_round_trip(wire: Wire, seconds: float) -> float:
    """The longest of many PINGs within a time."""
    worst, end = 0.0, time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        wire.sync()
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.005)
    return worst


def greeted(wires: list[Wire], seconds: float, most: int = 1000) -> list[Wire]:
    """Those that get their banner, until there are as many as may be or no more have come for a time."""
    with selectors.DefaultSelector() as selector:
        for wire in wires:
            selector.register(wire.sock, selectors.EVENT_READ, wire)
        found: list[Wire] = []
        give_up = time.monotonic() + seconds
        while len(found) < min(most, len(wires)) and time.monotonic() < give_up:
            for key, _ in selector.select(max(0.0, give_up - time.monotonic())):
                selector.unregister(key.fileobj)
                assert key.data.line().startswith("RELAY ")
                found.append(key.data)
                give_up = time.monotonic() + seconds
        return found


def test_too_few_descriptors(model: str, start_process: StartProcess, connect: Connect) -> None:
    """64 descriptors and 500 connects: the old peers notice nothing, and the new ones get their turn."""
    relay = start_process(model, descriptors=64, drain=0.2)
    old = [connect(relay.endpoint, f"old{number}") for number in range(10)]
    new = [connect(relay.endpoint) for _ in range(500)]
    used = relay.cpu()
    assert worst_round_trip(old[0], 0.5) < 0.05 * SLACK
    assert relay.cpu() - used < 0.3, "it is busy with not accepting"
    first = greeted(new[:100], 10.0, most=22)  # of 32 for connections
    assert len(first) == 22
    assert greeted([wire for wire in new[:100] if wire not in first], 0.1) == []
    lines = relay.log_lines
    assert 1 <= len(lines) <= 6, lines
    assert any("connections is the limit" in line for line in lines)
    began = time.monotonic()
    for wire in new[:480]:
        wire.close()
    assert len(greeted(new[480:], 10.0)) == 20
    assert time.monotonic() - began < 2.0 * SLACK
    late = connect(relay.endpoint, "late")
    late.send("SEND old9 :at last")
    assert old[9].line() == "MSG late old9 :at last"
    for wire in old:
        assert wire.sync() == []
    assert relay.stop() == 0
    assert len(relay.log_lines) <= 9


@pytest.mark.heavy
def test_no_descriptors_at_all(model: str, start_process: StartProcess, connect: Connect) -> None:
    """What the relay did not reckon with: the process's files are used up by something else."""
    if model == "workers":
        pytest.skip("clients take no files of the relay's process, and a worker has as many again")
    relay = start_process(model, descriptors=36, spare=0)
    wires = [connect(relay.endpoint) for _ in range(60)]
    first = greeted(wires, 0.3 if LONG else 1.0)
    assert 5 <= len(first) < 36
    assert relay.descriptors() == 36
    used = relay.cpu()
    first[0].hello("old")
    assert worst_round_trip(first[0], 0.3) < 0.05 * SLACK
    assert relay.cpu() - used < 0.3, "it is busy with not accepting"
    for wire in first[1:]:
        wire.close()
    rest = [wire for wire in wires if wire not in first]
    assert len(greeted(rest, 10.0, most=len(first) - 1)) == len(first) - 1
    assert worst_round_trip(first[0], 0.3) < 0.05 * SLACK
    assert relay.cpu() - used < 0.3, "it is busy with not accepting"
    assert 2 <= len(relay.log_lines) <= 5
    assert "accept: Too many open files" in relay.log_lines[1]


def test_no_descriptor_for_any_connection(model: str, start_process: StartProcess) -> None:
    with pytest.raises(AssertionError, match=r"UsageError: .* raise the limit with ulimit -n to 64 or more"):
        start_process(model, descriptors=32)


def test_the_limit_on_connections_pauses_accepting(start: Start, connect: Connect) -> None:
    relay = start(connections=3)
    where = relay.endpoints[0]
    wires = [connect(where, f"n{number}") for number in range(3)]
    waiting = [connect(where) for _ in range(2)]
    assert greeted(waiting, 0.2) == []
    assert [wire.sync() for wire in wires] == [[], [], []]
    wires[1].close()
    assert greeted(waiting, 20.0, most=1) == waiting[:1]
    wires[0].send("QUIT")
    assert wires[0].rest() == b"BYE :you quit\n"
    wires[0].close()
    assert greeted(waiting[1:], 20.0) == waiting[1:]
    waiting[1].hello("late")
    assert relay.counters.sessions == 5
    assert relay.counters.met["connections"] > 0


def test_the_limit_for_each_source(
    start_tcp: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = start_tcp(per_source=2)
    # every peer is on loopback here, which is exempt
    monkeypatch.setattr("hailer.endpoint.Endpoint.is_loopback", False)
    where = relay.endpoints[0]
    first, second = connect(where, "first"), connect(where, "second")
    third = connect(where)
    assert third.rest() == b"BYE :too many connections from your address\n"
    assert relay.counters.met["per_source"] == 1
    third.close()
    assert first.sync() == second.sync() == []
    first.send("QUIT")
    first.rest()
    first.close()
    while (line := (again := connect(where)).raw_line()).startswith(b"BYE"):
        again.close()  # the relay has yet to see that the first one ended
    assert line.startswith(b"RELAY ")


def test_a_client_that_is_too_fast_waits(start: Start, connect: Connect) -> None:
    """300 commands at 100 a second, of which the first 100 are there at once: 2 seconds, and none is lost."""
    relay = start(rate=100)
    fast, other = connect(relay.endpoints[0], "fast"), connect(relay.endpoints[0], "other")
    began = time.monotonic()
    fast.send("\n".join(["SEND other :x"] * 300))
    got = other.sync()
    assert time.monotonic() - began < (0.5 if LONG else 1.5), "another has to wait"
    while len(got) < 300:
        got += [other.line()]
    assert got == ["MSG fast other :x"] * 300
    fast.sync()
    assert 1.9 < time.monotonic() - began < 3.0 * SLACK
    assert relay.counters.met["rate"] >= 1


@pytest.mark.heavy
def test_the_time_to_log_in(start_one: Start, connect: Connect, quick_clocks: None) -> None:
    where = start_one(login_seconds=0.3).endpoints[0]
    honest = connect(where, "honest")
    began = time.monotonic()
    silent, talking = connect(where), connect(where)
    while time.monotonic() - began < 0.2:
        talking.send("PING x")
        time.sleep(0.02)
    assert b"BYE :no HELLO came within 0.3 seconds\n" in talking.rest()
    assert silent.rest().endswith(b"BYE :no HELLO came within 0.3 seconds\n")
    assert 0.3 <= time.monotonic() - began < 0.6 * SLACK
    assert honest.sync() == []


@pytest.mark.heavy
def test_silence_is_asked_after_and_then_cut(start_one: Start, connect: Connect, quick_clocks: None) -> None:
    where = start_one(idle_seconds=0.3).endpoints[0]
    began = time.monotonic()
    alice, silent = connect(where, "alice"), connect(where, "silent")
    alice.send("WATCH silent")
    assert alice.sync() == []
    alive = 0
    while not (line := alice.line()).startswith("OFFLINE"):
        assert line == "PING relay"
        alice.send("PONG relay")
        alive += 1
    assert 0.6 <= time.monotonic() - began < 1.0 * SLACK
    assert alive >= 1
    assert silent.rest() == b"PING relay\nBYE :nothing was heard of you for 0.6 seconds\n"
    assert alice.sync() in ([], ["PING relay"])


@pytest.mark.heavy
@pytest.mark.parametrize("part", [b"SEND honest :x", b"SEND honest 100\nxy"])
def test_the_time_for_one_line(start_one: Start, connect: Connect, quick_clocks: None, part: bytes) -> None:
    where = start_one(line_seconds=0.3).endpoints[0]
    honest, dripping = connect(where, "honest"), connect(where, "dripping")
    dripping.send(part)
    began = time.monotonic()
    dripping.sock.settimeout(0.02)
    while True:
        assert time.monotonic() - began < 1 * SLACK, "each byte gave it more time"
        try:
            assert dripping.line() == "BYE :a line or payload took longer than 0.3 seconds"
            break
        except TimeoutError:
            dripping.send(b"z")
    assert time.monotonic() - began >= 0.3
    assert honest.sync() == []


@pytest.fixture
def many_files() -> Iterator[None]:
    """Lets this process have the connections of thousands of peers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.heavy
@pytest.mark.timeout(240)
def test_many_peers_drip(
    model: str,
    start_process: StartProcess,
    connect: Connect,
    wait_for: Callable[..., None],
    many_files: None,
) -> None:
    """Half of them before login, half in a line; all are cut at the deadline, honest logins stay quick."""
    # a byte each sixth of the deadline; the long run has the peers and the deadline of a real relay
    peers, deadline, pause = (2000, 30.0, 5.0) if LONG else (600, 4.0, 0.6)
    relay = start_process(model, scan=0.1, login_seconds=deadline, line_seconds=deadline)
    began = time.monotonic()
    wires = [connect(relay.endpoint) for _ in range(peers)]
    for number, wire in enumerate(wires[1::2]):
        wire.send(f"HELLO d{number}")
    for wire in wires[1::2]:
        wire.expect("RELAY ", "WELCOME ")
    connected = last_cut = time.monotonic()
    cut: set[Wire] = set()
    logins: list[float] = []
    # each has its own moment, as peers have
    drips = [(connected + pause * number / len(wires), id(wire), wire) for number, wire in enumerate(wires)]
    heapq.heapify(drips)
    with selectors.DefaultSelector() as selector:
        for number, wire in enumerate(wires):
            selector.register(wire.sock, selectors.EVENT_READ, wire)
            if number % 2:
                wire.send(b"S")
        while len(cut) < len(wires):
            now = time.monotonic()
            assert now - connected < deadline + 5 * SLACK, f"{len(wires) - len(cut)} are not cut"
            while drips and drips[0][0] <= now:
                due, _, wire = heapq.heappop(drips)
                if wire not in cut:
                    wire.send(b"S")
                    heapq.heappush(drips, (due + pause, id(wire), wire))
            for key, _ in selector.select(0.02):
                data = key.data.sock.recv(4096)
                if b"BYE :" in data:
                    assert b"a line or payload took longer" in data or b"no HELLO came" in data
                    cut.add(key.data)
                    last_cut = time.monotonic()
                    selector.unregister(key.fileobj)
            asked = time.monotonic()
            honest = connect(relay.endpoint, f"honest{len(logins)}")
            logins.append(time.monotonic() - asked)
            honest.close()
    assert connected - began < deadline - 0.5, "the machine is too slow for this test"
    assert last_cut - connected < deadline + 0.1 + 0.5 * SLACK
    assert len(logins) > 50 / SLACK
    assert sorted(logins)[len(logins) * 99 // 100] < 0.2 * SLACK
    for wire in wires:
        wire.close()
    survivor = connect(relay.endpoint, "survivor")

    def alone() -> bool:
        survivor.send("WHO")
        return survivor.until("END WHO") == ["HERE survivor", "END WHO"]

    wait_for(alone)


@pytest.mark.heavy
def test_a_flood_of_names_and_rooms(
    model: str, start_process: StartProcess, connect: Connect, wait_for: Callable[..., None]
) -> None:
    """Ever new names in ever new rooms: the limits hold, and what they took is given back."""
    relay = start_process(model, rooms=20, mailboxes=50)
    watcher = connect(relay.endpoint, "watcher")

    def alone() -> bool:
        watcher.send("WHO")
        return watcher.until("END WHO") == ["HERE watcher", "END WHO"]

    def flood(number: int) -> None:
        wires = [connect(relay.endpoint, f"{number}-{each}") for each in range(200)]
        for each, wire in enumerate(wires):
            rooms = (f"#{number}-{each}-{room}-".ljust(65, "x") for room in range(60))
            wire.send("\n".join(f"JOIN {room}" for room in rooms))
        for wire in wires:
            said = wire.sync()
            assert sum(line.startswith("JOINED ") for line in said) == 20
            assert sum(line.startswith("FAIL too-many JOIN ") for line in said) == 40
        wires[-1].send("POST 1 watcher :x")
        wires[-1].expect("FAIL quota POST :1: this relay keeps the mail of no more names")
        for wire in wires:
            wire.close()
        wait_for(alone)

    flood(0)
    once = relay.rss()
    for number in range(1, 5 if LONG else 3):
        flood(number)
    assert relay.rss() <= once * 1.1
