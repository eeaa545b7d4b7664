"""Many clients that do many things at once: nothing is doubled, disordered or lost without a word."""

from __future__ import annotations

import os
import random
import re
import selectors
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hailer.relay.app import RelayServer
    from tests.conftest import Connect, Wire
    from tests.relay.edge.conftest import Start

LONG = os.environ.get("HAILER_LONG") == "1"


class Party:
    """Clients in one thread that both write and read whenever their sockets let them."""

    def __init__(self, wires: list[Wire]) -> None:
        self.out: dict[Wire, bytearray] = {wire: bytearray() for wire in wires}
        self.lines: dict[Wire, list[bytes]] = {wire: [] for wire in wires}
        self.ended: set[Wire] = set()
        self._rest: dict[Wire, bytes] = {wire: bytes(wire.got) for wire in wires}
        self._selector = selectors.DefaultSelector()
        for wire in wires:
            wire.sock.setblocking(False)
            self._selector.register(wire.sock, selectors.EVENT_READ, wire)

    def turn(self, deaf: frozenset[Wire] = frozenset()) -> None:
        """Write and read what can be."""
        for wire, out in self.out.items():
            if wire not in self.ended:
                events = (selectors.EVENT_READ if wire not in deaf else 0) | (
                    selectors.EVENT_WRITE if out else 0
                )
                if not events:
                    events = selectors.EVENT_WRITE
                self._selector.modify(wire.sock, events, wire)
        for key, mask in self._selector.select(0.05):
            wire = key.data
            try:
                if mask & selectors.EVENT_WRITE and self.out[wire]:
                    sent = wire.sock.send(self.out[wire][:65536])
                    del self.out[wire][:sent]
                if mask & selectors.EVENT_READ:
                    self._read(wire)
            except BlockingIOError:
                pass
            except OSError:
                self.leave(wire)

    def _read(self, wire: Wire) -> None:
        data = wire.sock.recv(1 << 18)
        if not data:
            self.leave(wire)
            return
        *lines, self._rest[wire] = (self._rest[wire] + data).split(b"\n")
        self.lines[wire] += lines

    def leave(self, wire: Wire) -> None:
        """One has gone."""
        self.ended.add(wire)
        self._selector.unregister(wire.sock)

    def until_pong(self, wires: list[Wire], seconds: float) -> None:
        """Turn until each of these has had the answer to a PING sent now, after all that was to be sent."""
        give_up = time.monotonic() + seconds
        for wire in wires:
            self.out[wire] += b"PING end\n"
        left = set(wires)
        while left:
            assert time.monotonic() < give_up, f"{len(left)} are stuck"
            self.turn()
            left = {wire for wire in left if b"PONG end" not in self.lines[wire] and wire not in self.ended}

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()


def test_fifty_clients_all_send_to_all(start: Start, connect: Connect) -> None:
    """All hold each other up in turns; with patience enough nothing is lost, and nobody waits for ever."""
    relay = start(waiting=32 * 1024, patience=20, slow_seconds=30)
    where = relay.endpoints[0]
    wires = [connect(where, f"n{number}", small=True) for number in range(50)]
    for wire in wires:
        wire.send("JOIN #all")
        wire.sync()
    party = Party(wires)
    count = 100 if LONG else 20
    for wire in wires:
        for number in range(count):
            party.out[wire] += b"SEND #all :%d %s\n" % (number, b"." * 500)
    party.until_pong(wires, 60)
    give_up = time.monotonic() + 30
    expected = {f"n{n}".encode(): list(range(count)) for n in range(50)}
    while True:
        got = [messages(party.lines[wire]) for wire in wires]
        if all(sum(map(len, one.values())) == 49 * count for one in got):
            break
        assert time.monotonic() < give_up
        party.turn()
    party.close()
    for number, one in enumerate(got):
        name = f"n{number}".encode()
        assert one == {sender: sent for sender, sent in expected.items() if sender != name}
    assert relay.counters.dropped == 0


def messages(lines: list[bytes]) -> dict[bytes, list[int]]:
    """The numbers that came from each sender."""
    found: defaultdict[bytes, list[int]] = defaultdict(list)
    for line in lines:
        if line.startswith(b"MSG "):
            _, sender, _, number, *_ = line.split(b" ")
            found[sender].append(int(number.removeprefix(b":")))
    return dict(found)


@pytest.mark.parametrize("pressure", ["none", "some"])
@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_random_interleavings(
    start_on: Callable[..., RelayServer], connect: Connect, tmp_path: Path, seed: int, pressure: str
) -> None:
    """Sends, joins, leaves, quits, resets and deafness at random.

    What a receiver gets from one sender is in order and not doubled; and what reaches a receiver that is
    there all the time, plus what it is told that it lost, is what was sent.
    """
    dice = random.Random(seed)
    relay = start_on(
        # the system keeps little for a Unix socket, so that the relay's own limits are met soon
        Endpoint.parse(f"unix:{tmp_path}/relay.sock" if pressure == "some" else "tcp4://127.0.0.1:0"),
        waiting=16 * 1024 if pressure == "some" else 4 << 20,
        patience=0 if pressure == "some" else 20,
        slow_seconds=30,
    )
    where = relay.endpoints[0]
    stable = [connect(where, f"s{number}", small=True) for number in range(8)]
    for wire in stable:
        wire.send("JOIN #all")
        wire.sync()
    wild = [connect(where, f"w{number}", small=True) for number in range(20)]
    party = Party(stable + wild)
    sent: dict[Wire, int] = dict.fromkeys(stable + wild, 0)
    direct: defaultdict[tuple[Wire, Wire], int] = defaultdict(int)
    to_room: defaultdict[Wire, int] = defaultdict(int)
    padding = b"." * (4000 if pressure == "some" else 50)
    deaf: frozenset[Wire] = frozenset()
    for turn in range(1500 if LONG else 400):
        for wire in dice.sample(stable, 3):
            for _ in range(dice.randrange(6)):
                sent[wire] += 1
                if dice.random() < 0.5:
                    to_room[wire] += 1
                    party.out[wire] += b"SEND #all :%d %s\n" % (sent[wire], padding)
                else:
                    to = dice.randrange(8)
                    direct[wire, stable[to]] += 1
                    party.out[wire] += b"SEND s%d :%d %s\n" % (to, sent[wire], padding)
        for wire in dice.sample(wild, 5):
            if wire in party.ended:
                continue
            match dice.randrange(12):
                case 0:
                    party.out[wire] += b"JOIN #all\n"
                case 1:
                    party.out[wire] += b"LEAVE #all\n"
                case 2:
                    party.out[wire] += b"SEND s1 4\na\nb\nSEND #none :x\nWHO #all\nWATCH\n"
                case 3 if dice.random() < 0.2:
                    party.out[wire] += b"QUIT\n"
                case 4 if dice.random() < 0.2:
                    party.leave(wire)
                    wire.reset()
                case 5:
                    party.out[wire] += b"ASK a%d s2 :?\n" % turn
                case _:
                    sent[wire] += 1
                    party.out[wire] += b"SEND s%d :%d %s\n" % (dice.randrange(8), sent[wire], padding)
        if turn % 50 == 0 and (relay.counters.dropped or not deaf):
            deaf = frozenset(dice.sample(stable + wild, 6)) if pressure == "some" else frozenset()
        party.turn(deaf)
    give_up = time.monotonic() + 20
    while pressure == "some" and not relay.counters.dropped:
        assert time.monotonic() < give_up
        party.turn(deaf)
    # those that answer to nothing more go, so that all is settled among the stable ones
    for wire in wild:
        if wire not in party.ended:
            party.leave(wire)
            wire.reset()
    party.until_pong(stable, 30)
    for wire in stable:
        party.lines[wire] = [line for line in party.lines[wire] if line != b"PONG end"]
    party.until_pong(stable, 30)  # all that was sent before the first PONG has left the relay
    party.close()
    names = {f"s{number}".encode(): wire for number, wire in enumerate(stable)}
    lost_in_all = 0
    for wire in stable:
        got = messages([line for line in party.lines[wire] if not re.search(rb" 4$", line)])
        for numbers in got.values():
            assert numbers == sorted(set(numbers)), "doubled or out of order"
        gaps: defaultdict[bytes, int] = defaultdict(int)
        for line in party.lines[wire]:
            if line.startswith(b"GAP "):
                gaps[line.split()[2]] += int(line.split()[1])
        lost_in_all += sum(gaps.values())
        from_room = sum(
            line.startswith(b"MSG s") and line.split()[2] == b"#all" for line in party.lines[wire]
        )
        assert from_room + gaps[b"#all"] == sum(to_room.values()) - to_room[wire]
        for name, sender in names.items():
            came = sum(
                line.startswith(b"MSG %s s" % name) for line in party.lines[wire]
            )  # direct ones: the third word is a name
            assert came + gaps[name] == direct[sender, wire]
    assert (lost_in_all > 0) == (pressure == "some")
    if pressure == "none":
        assert relay.counters.dropped == 0


def test_threads_that_send_to_each_other_in_pairs(start: Start, connect: Connect) -> None:
    """Each client has a thread that sends and one that reads, as a program would have."""
    relay = start(waiting=64 * 1024, patience=20, slow_seconds=30)
    where = relay.endpoints[0]
    count = 2000
    wires = [connect(where, f"n{number}") for number in range(10)]
    wrong: list[str] = []

    def send(wire: Wire, to: int) -> None:
        for first in range(0, count, 20):
            wire.sock.sendall(b"".join(b"SEND n%d :%d\n" % (to, n) for n in range(first, first + 20)))

    def read(wire: Wire, number: int) -> None:
        for expected in range(count):
            line = wire.line()
            if line != f"MSG n{(number - 1) % 10} n{number} :{expected}":
                wrong.append(line)

    threads = [
        threading.Thread(target=work, args=arguments, daemon=True)
        for number, wire in enumerate(wires)
        for work, arguments in ((send, (wire, (number + 1) % 10)), (read, (wire, number)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "stuck"
    assert wrong == []
