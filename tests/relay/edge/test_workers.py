"""Worker processes: who has which connection, and what happens when one ends."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import UsageError
from hailer.relay.app import RelayServer, Settings
from hailer.relay.core import groups
from hailer.relay.edge import far
from hailer.relay.edge.far import FarSocket
from hailer.relay.edge.workers import WorkersEdge
from tests.relay.edge.conftest import limits_of
from tests.relay.edge.test_stress import Party, messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Connect, Wire
    from tests.relay.edge.conftest import StartProcess

TCP = Endpoint.parse("tcp4://127.0.0.1:0")


@pytest.fixture
def start_workers() -> Iterator[Callable[..., RelayServer]]:
    """Starts relays with workers."""
    with ExitStack() as stack:

        def start(*, workers: int = 2, **limits: float) -> RelayServer:
            settings = Settings(listen=(TCP,), workers=workers, limits=limits_of(limits), drain=0.5)
            return stack.enter_context(RelayServer(settings))

        yield start


def edge_of(relay: RelayServer) -> WorkersEdge:
    """The edge, to look at."""
    assert isinstance(relay._edge, WorkersEdge)
    return relay._edge


def is_far(relay: RelayServer, name: str) -> bool:
    """Whether a worker has the socket of who has this name."""
    links = [link for link in list(relay._edge.links.values()) if link.name == name.encode()]
    assert len(links) == 1
    return isinstance(links[0].sock, FarSocket)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        return (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split())[0] != "Z"
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


def test_of_two_processes_each_has_half(start_workers: Callable[..., RelayServer], connect: Connect) -> None:
    relay = start_workers()
    wires = [connect(relay.endpoints[0], f"n{number}") for number in range(8)]
    assert [is_far(relay, f"n{number}") for number in range(8)] == [True, False] * 4
    for wire in wires:
        for number in range(8):
            wire.send(f"SEND n{number} :hello")
    before = [wire.sync() for wire in wires]  # when each has had its answer, all is delivered
    for number, wire in enumerate(wires):
        got = before[number] + wire.sync()
        assert sorted(got) == [f"MSG n{other} n{number} :hello" for other in range(8)]


def test_workers_go_with_asyncio() -> None:
    for settings in (Settings(model="thread", workers=2), Settings(workers=0)):
        with pytest.raises(UsageError, match="asyncio"):
            RelayServer(settings)


def test_of_three_processes_the_first_has_none(
    start_workers: Callable[..., RelayServer], connect: Connect
) -> None:
    relay = start_workers(workers=3)
    for number in range(6):
        connect(relay.endpoints[0], f"n{number}")
        assert is_far(relay, f"n{number}")
    assert [len(worker.links) for worker in edge_of(relay)._workers] == [3, 3]


def scatter(names: list[str], count: int, seed: int) -> tuple[bytes, dict[str, list[str]]]:
    """Many short lines to these in a random order, and what each is to get."""
    order = random.Random(seed).choices(names, k=count)
    wanted: dict[str, list[str]] = {name: [] for name in names}
    for number, name in enumerate(order):
        wanted[name].append(f"MSG sender {name} :{number} {'.' * (number % 60)}")
    lines = b"".join(b"SEND %s :%d %s\n" % (n.encode(), i, b"." * (i % 60)) for i, n in enumerate(order))
    return lines, wanted


@pytest.mark.parametrize("first", [True, False], ids=["given away at once", "moved when it scatters"])
def test_a_sender_to_many_is_grouped_in_a_worker(
    start_workers: Callable[..., RelayServer], connect: Connect, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """And nobody can tell: each gets its lines in order, once; also those to a name in other letters."""
    grouped = 0
    deliver = groups.deliver_groups

    def counting(*arguments: Any) -> bool:
        nonlocal grouped
        done = deliver(*arguments)
        grouped += done
        return done

    monkeypatch.setattr("hailer.relay.edge.workers.deliver_groups", counting)
    # The relay's process says that it works all the time, so that the worker groups what it can.
    clock = iter(range(0, 1 << 60, 10**9))
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(clock))
    relay = start_workers(slow_seconds=60, patience=60)
    names = [f"n{number}" for number in range(40)]
    if not first:
        connect(relay.endpoints[0], "spare")
    sender = connect(relay.endpoints[0], "sender")
    wires = {name: connect(relay.endpoints[0], name) for name in names}
    assert is_far(relay, "sender") is first
    rounds = 6
    want: dict[str, list[str]] = {name: [] for name in names}
    party = Party([sender, *wires.values()])
    for seed in range(rounds):
        data, wanted = scatter(names, 40_000, seed)
        party.out[sender] += data + b"SEND N7 :odd\n" + data[: data.index(b"\n") + 1]
        for name in names:
            want[name] += wanted[name]
        want["n7"].append("MSG sender n7 :odd")
        again = next(line for lines in wanted.values() for line in lines if " :0 " in line + " ")
        want[again.split(" ")[2]].append(again)
    party.until_pong([sender], 60)
    give_up = time.monotonic() + 60
    while any(len(party.lines[wires[name]]) < len(want[name]) for name in names):
        assert time.monotonic() < give_up
        party.turn()
    party.close()
    for name in names:
        assert [line.decode() for line in party.lines[wires[name]]] == want[name]
    assert is_far(relay, "sender")
    assert grouped > 0
    assert relay.counters.received == relay.counters.delivered == sum(map(len, want.values()))


def test_receivers_that_go_are_told_of(start_workers: Callable[..., RelayServer], connect: Connect) -> None:
    """Whatever was grouped: each line is delivered or refused, and what others get is not touched."""
    relay = start_workers(slow_seconds=60, patience=60)
    names = [f"n{number}" for number in range(30)]
    sender = connect(relay.endpoints[0], "sender")
    wires = {name: connect(relay.endpoints[0], name) for name in names}
    party = Party([sender, *wires.values()])
    total = 0
    want: dict[str, list[str]] = {name: [] for name in names}
    for seed in range(8):
        data, wanted = scatter(names, 20_000, seed)
        party.out[sender] += data
        total += 20_000
        for name in names:
            want[name] += wanted[name]
        if seed > 1:
            gone = names[seed]
            party.out[wires[gone]] += b"QUIT\n"
        for _ in range(20):
            party.turn()
    party.until_pong([sender], 60)
    give_up = time.monotonic() + 60
    stay = [name for name in names if wires[name] not in party.ended and names.index(name) not in range(2, 8)]
    while any(len(party.lines[wires[name]]) < len(want[name]) for name in stay):
        assert time.monotonic() < give_up
        party.turn()
    refused = sum(line.startswith(b"FAIL offline SEND") for line in party.lines[sender])
    for name in stay:
        assert [line.decode() for line in party.lines[wires[name]]] == want[name]
    for name in names[2:8]:
        lines = [line.decode() for line in party.lines[wires[name]] if line.startswith(b"MSG")]
        assert lines == want[name][: len(lines)]
    assert refused
    assert relay.counters.delivered + refused == total
    party.close()


def load(party: Party, senders: dict[Wire, str], seconds: float, numbers: dict[Wire, int]) -> None:
    """Have each sender send numbered lines to its receiver for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for wire, name in senders.items():
            if len(party.out[wire]) < 20_000 and wire not in party.ended:
                first = numbers[wire]
                numbers[wire] += 50
                party.out[wire] += b"".join(
                    b"SEND %s :%d\n" % (name.encode(), number) for number in range(first, first + 50)
                )
        party.turn()


@needs_proc
def test_a_worker_is_killed_under_load(
    start_workers: Callable[..., RelayServer],
    connect: Connect,
    wait_for: Callable[[Callable[[], bool]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its connections are gone; the others lose nothing; another worker takes its place; nothing leaks."""
    relay = start_workers()
    edge = edge_of(relay)
    where = relay.endpoints[0]
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for round_ in range(3):
        (worker,) = edge._workers
        pid = worker.process.pid
        wires: dict[str, Wire] = {}
        for number in range(8):
            wires[f"r{round_}n{number}"] = connect(where, f"r{round_}n{number}")
        near = [name for name in wires if not is_far(relay, name)]
        distant = [name for name in wires if is_far(relay, name)]
        assert len(near) == len(distant) == 4
        party = Party(list(wires.values()))
        pairs = {wires[near[0]]: near[1], wires[distant[0]]: distant[1], wires[distant[2]]: near[2]}
        numbers = dict.fromkeys(pairs, 0)
        load(party, pairs, 0.3, numbers)
        os.kill(pid, signal.SIGKILL)
        load(party, pairs, 0.5, numbers)
        party.until_pong([wires[name] for name in near], 30)
        give_up = time.monotonic() + 30
        while len(party.lines[wires[near[1]]]) < numbers[wires[near[0]]] or len(party.ended) < 4:
            assert time.monotonic() < give_up
            party.turn()
        assert party.ended == {wires[name] for name in distant}
        got = [line for line in party.lines[wires[near[1]]] if line.startswith(b"MSG")]
        assert messages(got) == {near[0].encode(): list(range(numbers[wires[near[0]]]))}
        for receiver in (distant[1], near[2]):
            for some in messages(party.lines[wires[receiver]]).values():
                assert some == list(range(len(some)))
        party.close()
        for wire in wires.values():
            wire.close()
        wait_for(lambda: len(edge._workers) == 1 and edge._workers[0].up and not edge.links)
        assert not is_alive(pid)
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
    lost = [record for record in caplog.records if record.getMessage().startswith("worker-lost")]
    assert len(lost) == 3
    assert all("connections=4" in record.getMessage() for record in lost)
    caplog.clear()  # they are errors, but not ours


@needs_proc
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "under load"])
def test_a_worker_that_hangs_is_replaced(
    start_workers: Callable[..., RelayServer],
    connect: Connect,
    wait_for: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    quick_clocks: None,
    busy: bool,
) -> None:
    relay = start_workers()
    edge = edge_of(relay)
    (worker,) = edge._workers
    wires = [connect(relay.endpoints[0], f"n{number}") for number in range(12)]
    monkeypatch.setattr(far, "_STUCK", 1.0)
    os.kill(worker.process.pid, signal.SIGSTOP)
    if busy:  # more than fits on the way to it, so that the relay waits for it
        line = b"".join(b"SEND n%d :%s\n" % (number, b"." * 60000) for number in range(0, 12, 2))
        sending = threading.Thread(target=wires[1].sock.sendall, args=(line * 20,))
        sending.start()
        sending.join()
    wait_for(lambda: bool(edge._workers) and edge._workers[0] is not worker and edge._workers[0].up)
    wires[3].send("SEND n5 :still here")
    wires[3].sync()
    assert wires[5].sync() == ["MSG n3 n5 :still here"]
    newcomers = [connect(relay.endpoints[0], f"new{number}") for number in range(2)]
    assert {is_far(relay, f"new{number}") for number in range(2)} == {True, False}
    newcomers[0].send("SEND new1 :hello")
    newcomers[0].sync()
    assert newcomers[1].sync() == ["MSG new0 new1 :hello"]
    caplog.clear()


def test_what_a_worker_did_not_take_at_once_it_gets_without_asking(
    start_workers: Callable[..., RelayServer],
    connect: Connect,
    wait_for: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that has a part of a batch has nothing to tell that would have the rest sent."""
    monkeypatch.setattr(far, "_KERNEL", 4096)
    relay = start_workers()
    (worker,) = edge_of(relay)._workers
    wires = [connect(relay.endpoints[0], f"n{number}") for number in range(2)]
    assert [is_far(relay, f"n{number}") for number in range(2)] == [True, False]
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        wires[1].send(f"SEND n0 :{'.' * 5000}\n" * 60)
        wait_for(lambda: worker.channel.backlog > 0)
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
    assert len(wires[0].raw(len(f"MSG n1 n0 :{'.' * 5000}\n") * 60)) > 300_000


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_relay(
    start_process: StartProcess,
    connect: Connect,
    wait_for: Callable[[Callable[[], bool]], None],
    number: signal.Signals,
) -> None:
    relay = start_process("workers", drain=1.0)
    wires = [connect(relay.endpoint, f"n{number}") for number in range(6)]
    workers = children(relay.process.pid)
    assert len(workers) == 1
    for worker in workers:  # Ctrl-C and a terminal that closes come to all processes
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(worker, other)
    wires[0].send("SEND n1 :hello")
    assert wires[1].line() == "MSG n0 n1 :hello"
    relay.process.send_signal(number)
    if number == signal.SIGTERM:
        for wire in wires:
            assert wire.rest().endswith(b"BYE :the relay is shutting down\n")
            wire.close()
        assert relay.process.wait(30) == 0
        assert relay.log_lines == []
    else:
        for wire in wires:
            wire.sock.settimeout(10)
            try:
                assert wire.sock.recv(1) == b""
            except ConnectionResetError:
                pass
    wait_for(lambda: not any(map(is_alive, workers)))


def test_what_waits_in_a_worker_waits(
    connect: Connect, tmp_path: Path, wait_for: Callable[[Callable[[], bool]], None], quick_clocks: None
) -> None:
    """What has left the relay's process and is not taken counts: who reads gets it, who does not is cut.

    How much of it that is differs with the reads that brought it.
    """
    where = Endpoint.parse(f"unix:{tmp_path}/relay.sock")  # its buffers do not grow
    limits = limits_of({"waiting": 8 << 20, "slow_seconds": 1.0})
    with RelayServer(Settings(listen=(where,), workers=2, limits=limits, drain=0.5)) as relay:
        slow = connect(where, "slow")
        sender = connect(where, "sender")
        (link,) = [link for link in relay._edge.links.values() if link.name == b"slow"]
        far_socket = cast("FarSocket", link.sock)
        line = f"SEND slow :{'.' * 10_000}\n"
        size = len(line.replace("SEND", "MSG sender")) * 80
        sender.send(line * 80)
        sender.sync()
        wait_for(lambda: far_socket.stuck)

        def away() -> int:
            return far_socket.given - far_socket.taken

        wait_for(lambda: 0 < away() == link.waiting - sum(map(len, link.chunks)))
        assert link.blocked
        assert slow.raw(size).count(b"\n") == 80
        wait_for(lambda: (link.waiting, link.blocked, far_socket.stuck) == (0, False, False))
        sender.send(line * 80)
        wait_for(lambda: link.closing)
        assert link.reason == b"too slow: your output waited for 1 seconds"
        assert relay.counters.dropped == 0


def test_a_long_answer_to_who_has_ended(
    start_workers: Callable[..., RelayServer], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """The relay is through with it long before its socket takes the last words: they come all the same."""
    caplog.set_level(logging.INFO)
    relay = start_workers(slow_seconds=60, parting_seconds=60)
    where = relay.endpoints[0]
    wire = connect(where, "late", small=True)
    assert is_far(relay, "late")
    count = 1000
    wire.send(b"".join(b"PING %d%s\n" % (number, b"." * 50) for number in range(count)))
    wire.half_close()
    time.sleep(0.2)  # for its output to become stuck; without that the test is only easier
    lines = wire.rest().splitlines()
    assert [line for line in lines if line.startswith(b"PONG")] == [
        b"PONG %d%s" % (number, b"." * 50) for number in range(count)
    ]
    assert lines[-1] == b"BYE :end of input"
