"""Receivers that are slow, or stop reading: who waits, what is lost and told, who is cut, what is kept."""

from __future__ import annotations

import selectors
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.relay.edge.conftest import LONG, SLACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Connect, Wire
    from tests.relay.edge.conftest import Start, StartProcess

MIB = 1 << 20


class Sender(threading.Thread):
    """Sends in a thread of its own; `seconds` is how long it took."""

    def __init__(self, wire: Wire, blocks: list[bytes]) -> None:
        super().__init__(daemon=True)
        self.seconds = 0.0
        self._wire = wire
        self._blocks = blocks
        self.failure: OSError | None = None
        self.start()

    def run(self) -> None:
        """Send all."""
        began = time.monotonic()
        try:
            for block in self._blocks:
                self._wire.sock.sendall(block)
        except OSError as error:
            self.failure = error
        self.seconds = time.monotonic() - began

    def finish(self, seconds: float = 30.0) -> None:
        """Wait until all is sent."""
        self.join(seconds)
        assert not self.is_alive(), "the sender is still waiting"
        assert self.failure is None


def blocks_of(to: str, count: int, size: int, *, at_once: int = 50) -> list[bytes]:
    """Numbered messages in blocks of so many."""
    lines = [b"SEND %s :%07d%s\n" % (to.encode(), number, b"." * (size - 7)) for number in range(count)]
    return [b"".join(lines[first : first + at_once]) for first in range(0, count, at_once)]


class Counted:
    """What one receiver got: its messages in order without doubles, and the rest."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.count = 0
        self.last = -1
        self.others: list[bytes] = []
        self._rest = bytes(wire.got)
        wire.got.clear()

    def feed(self, data: bytes) -> None:
        """Take what one read brought."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            head, _, text = line.partition(b" :")
            if head.startswith(b"MSG "):
                number = int(text[:7])
                assert number > self.last, f"{number} came after {self.last}"
                self.last = number
                self.count += 1
            else:
                self.others.append(line)

    def feed_until(self, holds: Callable[[Counted], bool]) -> None:
        """Read until something holds."""
        while not holds(self):
            data = self.wire.sock.recv(MIB)
            if not data:
                break
            self.feed(data)

    @property
    def gaps(self) -> int:
        """How many messages it was told that it lost."""
        return sum(int(line.split()[1]) for line in self.others if line.startswith(b"GAP "))


def read_all(receivers: list[Counted], count: int, seconds: float) -> None:
    """Read what the receivers get until each has so many messages."""
    give_up = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for receiver in receivers:
            receiver.wire.sock.setblocking(False)
            selector.register(receiver.wire.sock, selectors.EVENT_READ, receiver)
        left = len(receivers)
        while left:
            assert time.monotonic() < give_up, f"{left} of {len(receivers)} did not get all in time"
            for key, _ in selector.select(1):
                receiver = key.data
                data = receiver.wire.sock.recv(MIB)
                assert data, f"one that reads was cut: {receiver.others}"
                receiver.feed(data)
                if receiver.count >= count:
                    selector.unregister(receiver.wire.sock)
                    left -= 1


def test_one_of_fifty_stops_reading(model: str, start_process: StartProcess, connect: Connect) -> None:
    """The figures of the design: cut in time with its reason, +20 MiB at most, the other 49 lose nothing."""
    count, size = (50_000, 4000) if LONG else (4_000, 4000)
    limits: dict[str, Any] = {} if LONG else {"waiting": 256 * 1024, "patience": 1.0, "slow_seconds": 2.0}
    slow_seconds = 5.0 if LONG else 2.0
    relay = start_process(model, **limits)
    sender = connect(relay.endpoint, "sender")
    slow = connect(relay.endpoint, "slow", small=True)
    receivers = [connect(relay.endpoint, f"r{number}") for number in range(49)]
    for wire in (slow, *receivers, sender):
        wire.send("JOIN #all")
        wire.until(f"JOINED #all {'sender' if wire is sender else 'r' if wire in receivers else 'slow'}")
    for wire in receivers:
        wire.until("JOINED #all sender")
    watcher = connect(relay.endpoint, "watcher")
    watcher.send("WATCH slow")
    assert watcher.sync() == []
    before, most = relay.rss(), 0
    began = time.monotonic()
    sending = Sender(sender, blocks_of("#all", count, size))
    cut_after = [0.0]
    late = Counted(slow)

    def watch() -> None:
        nonlocal most
        watcher.sock.settimeout(0.05)
        while not cut_after[0] and time.monotonic() - began < 60:
            most = max(most, relay.rss())
            try:
                if watcher.line() == "OFFLINE slow":
                    cut_after[0] = time.monotonic() - began
                    late.feed_until(lambda _: False)  # it reads on, while it may
            except TimeoutError:
                pass

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    counted = [Counted(wire) for wire in receivers]
    read_all(counted, count, 120 if LONG else 50)
    sending.finish()
    watching.join()
    most = max(most, relay.rss())
    for receiver in counted:
        assert (receiver.count, receiver.last, receiver.gaps) == (count, count - 1, 0)
    # The last byte that it took left the relay at about the start.
    assert slow_seconds <= cut_after[0] < slow_seconds + 2.0 * SLACK
    # With workers, as much again is on its way to them, and kept by the allocator.
    assert most - before < (40 if model == "workers" else 20) * MIB, f"{(most - before) / MIB:.1f} MiB more"
    assert late.others[-1] == b"BYE :too slow: your output waited for %g seconds" % slow_seconds
    assert late.others[-2].startswith(b"GAP ")
    # No hole but those that it is told of: the last, and maybe one before the system took a little more.
    told_before = late.gaps - int(late.others[-2].split()[1])
    assert late.last + 1 - late.count == told_before
    assert late.count > 0
    assert 0 < late.gaps <= count - late.count


@pytest.mark.heavy
@pytest.mark.parametrize("to", ["slow", "#room"])
def test_a_merely_slow_receiver_makes_the_sender_wait(start_one: Start, connect: Connect, to: str) -> None:
    relay = start_one(patience=10, slow_seconds=20)
    where = relay.endpoints[0]
    alice, slow = connect(where, "alice"), connect(where, "slow", small=True)
    for wire in (slow, alice):
        wire.send("JOIN #room")
        wire.until("JOINED")
    count = 20_000
    sending = Sender(alice, blocks_of(to, count, 1000))
    receiver = Counted(slow)
    taken = -1
    while taken < relay.counters.received:  # until the buffers of the system are full, and the sender waits
        taken = relay.counters.received
        time.sleep(0.1)
    assert taken < count
    used = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - used < 0.1, "it is busy with waiting"
    while receiver.count < count:
        receiver.feed(slow.sock.recv(256 * 1024))
    sending.finish()
    assert relay.counters.held > 0
    assert (receiver.last, receiver.gaps, relay.counters.dropped) == (count - 1, 0, 0)
    assert [line for line in receiver.others if not line.startswith(b"JOINED")] == []
    assert alice.sync() == []


@pytest.mark.heavy
def test_the_others_wait_no_longer_than_the_patience(
    start_one: Start, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailer.relay.core.relay._SCAN", 60.0)  # so that only the instant itself can do it
    relay = start_one(waiting=512 * 1024, patience=0.5, slow_seconds=1.5)
    where = relay.endpoints[0]
    alice, deaf = connect(where, "alice"), connect(where, "deaf", small=True)
    for wire in (deaf, alice):
        wire.send("JOIN #room")
        wire.until("JOINED")
    good = connect(where, "good")
    good.send("JOIN #room")
    good.expect("JOINED #room good")
    count = 15_000
    sending = Sender(alice, blocks_of("#room", count, 1000))
    receiver = Counted(good)
    began = last = time.monotonic()
    longest = 0.0
    while receiver.count < count:
        receiver.feed(good.sock.recv(256 * 1024))
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    sending.finish()
    assert 0.25 < longest < 1.25 * SLACK
    while b"LEFT #room deaf" not in receiver.others:
        receiver.feed(good.sock.recv(4096))
    assert 1.5 <= time.monotonic() - began < 3.0 * SLACK
    assert receiver.gaps == 0


@pytest.mark.heavy
@pytest.mark.parametrize("to", ["slow", "#room"])
def test_a_laggard_that_comes_back_is_told_exactly_what_it_lost(
    start_one: Start, connect: Connect, to: str
) -> None:
    relay = start_one(waiting=64 * 1024, patience=0.05, slow_seconds=30)
    where = relay.endpoints[0]
    alice, slow = connect(where, "alice"), connect(where, "slow", small=True)
    for wire in (slow, alice):
        wire.send("JOIN #room")
        wire.until("JOINED")
    slow.until("JOINED #room alice")
    told = 0
    for _ in range(3):
        count = 15_000
        receiver = Counted(slow)
        sending = Sender(alice, blocks_of(to, count, 1000))
        refusals: list[str] = []
        # to be read meanwhile: the sender is told of each batch that was dropped
        reading = threading.Thread(target=lambda got=refusals: got.extend(alice.until("PONG")), daemon=True)
        reading.start()
        sending.finish()
        alice.send("PING done")
        reading.join()
        assert relay.counters.dropped > told
        receiver.feed_until(lambda r: r.gaps > 0)
        alice.send(f"SEND {to} :9999999 after")
        receiver.feed_until(lambda r: r.last == 9999999)
        assert receiver.count - 1 + receiver.gaps == count
        gap = next(line for line in receiver.others if line.startswith(b"GAP "))
        assert gap.split()[2] == (b"alice" if to == "slow" else b"#room")
        lost = relay.counters.dropped - told
        assert receiver.gaps == lost
        told += lost
        if to == "slow":  # a direct message that was not delivered is told to its sender too
            assert sum(int(line.split(": ")[1].split()[0]) for line in refusals[:-1]) == lost
        else:
            assert refusals[:-1] == []
    assert relay.counters.delivered + told == relay.counters.received


@pytest.mark.heavy
@pytest.mark.parametrize(
    "line",
    ["PING x", "SEND flooder :to myself", *(["WHO", "HELP", "JOIN #a\nLEAVE #a"] if LONG else [])],
)
def test_a_peer_that_asks_and_never_reads_costs_no_memory(
    model: str, start_process: StartProcess, connect: Connect, line: str
) -> None:
    relay = start_process(model, waiting=64 * 1024, slow_seconds=1.5)
    honest = connect(relay.endpoint, "honest")
    honest.send("WATCH flooder")
    assert honest.sync() == []
    flooder = connect(relay.endpoint, "flooder", small=True)
    honest.expect("ONLINE flooder")
    flooder.sock.settimeout(0.8)  # before it is cut, and what it sends is thrown away
    before, sent, block = relay.rss(), 0, (line + "\n").encode() * 1000
    try:
        for _ in range(10_000):
            sent += flooder.sock.send(block)
    except OSError:
        pass  # it is not read any more
    assert relay.rss() - before < 16 * MIB
    assert sent < 10_000 * len(block), "the relay took all of it: nobody would ever wait"
    began = time.monotonic()
    gone = honest.sync()
    assert gone in ([], ["OFFLINE flooder"])
    assert time.monotonic() - began < 0.5 * SLACK
    if line != "SEND flooder :to myself":  # messages may be dropped instead
        assert gone or honest.until("OFFLINE flooder")
    assert relay.rss() - before < 16 * MIB


@pytest.mark.heavy
def test_a_peer_that_never_reads_is_forgotten_and_its_descriptor_used_again(
    model: str, start_one: Start, connect: Connect, quick_clocks: None
) -> None:
    """Each round's receiver has the descriptor of the one before, and blocks like it."""
    if model == "workers":
        pytest.skip(
            "the number of a worker's link is not used again, and so short a patience loses what is late"
        )
    relay = start_one(waiting=16 * 1024, patience=0.05, slow_seconds=0.2, parting_seconds=0.1)
    where = relay.endpoints[0]
    alice = connect(where, "alice")
    alice.send("WATCH")
    assert alice.sync() == []
    for number in range(2):
        slow = connect(where, f"slow{number}", small=True)
        sending = Sender(alice, blocks_of(f"slow{number}", 8000, 1000))
        reading: list[str] = alice.until(f"OFFLINE slow{number}")
        assert reading[0] == f"ONLINE slow{number}"
        sending.finish()
        alice.sync()
        while relay._edge.counters.active > 1:
            time.sleep(0.02)
        slow.close()
    assert alice.sync() == []
