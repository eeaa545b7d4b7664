"""The open loop: latencies count from when messages were due."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from hailer.tools.bench.relay.dialects import LineDialect
from hailer.tools.bench.relay.meter import curve_of, percentiles_of
from hailer.tools.bench.relay.paced import has_core_of_its_own, pace, spread
from hailer.tools.bench.relay.party import Lane, LoadError, Party
from hailer.tools.bench.relay.streams import assign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAIRS = 3


@pytest.fixture
def party() -> Iterator[Party]:
    """Pairs whose relay is the test itself: what a sender says is to be copied with another head."""
    party = Party(LineDialect(), 0, stall=1)
    ends = []
    for n in range(PAIRS):
        for lanes, name in ((party.senders, f"s{n}"), (party.receivers, f"r{n}")):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            lanes.append(Lane(name, ours))
            ends.append(theirs)
    assign(party, "pipeline", 20)
    party.ends = ends  # type: ignore[attr-defined]
    yield party
    party.close()
    for end in ends:
        end.close()


def relaying(party: Party, stop: Callable[[float], float]) -> threading.Thread:
    """Relay in a thread until the senders have ended; `stop` says for each read how long to do nothing."""
    ends: list[socket.socket] = party.ends  # type: ignore[attr-defined]

    def relay() -> None:
        inputs = {ends[2 * n].fileno(): n for n in range(PAIRS)}
        partial = dict.fromkeys(inputs, b"")
        begin = time.perf_counter()
        with select.epoll() as poller:
            for fd in inputs:
                poller.register(fd, select.EPOLLIN)
            while inputs:
                for fd, _ in poller.poll():
                    data = ends[2 * inputs[fd]].recv(65536)
                    if not data:
                        poller.unregister(fd)
                        del inputs[fd]
                        continue
                    time.sleep(stop(time.perf_counter() - begin))
                    n = inputs[fd]
                    *lines, partial[fd] = (partial[fd] + data).split(b"\n")
                    out = b"".join(line.replace(b"SEND ", b"MSG s%d " % n) + b"\n" for line in lines)
                    ends[2 * n + 1].sendall(out)

    thread = threading.Thread(target=relay)
    thread.start()
    return thread


@pytest.mark.parametrize("spin", [True, False])
def test_a_stop_of_the_relay_is_seen_by_all_that_were_due_meanwhile(party: Party, spin: bool) -> None:
    stops = [0.2]

    def stop(since: float) -> float:
        return stops.pop() if stops and since > 0.1 else 0

    thread = relaying(party, stop)
    try:
        pacing = pace(party, 500, 0.5, spin=spin)
    finally:
        for lane in party.senders:
            lane.sock.shutdown(socket.SHUT_WR)
        thread.join()
    assert not stops
    assert pacing.delivered == 249  # three pairs of 83
    assert sum(count for _, count in pacing.arrivals) == pacing.delivered
    assert sum(count for _, count in pacing.departures) == pacing.delivered
    assert 0.49 < pacing.took < 3
    # A closed loop would have one late message of each pair. Here two fifths are late, by up to 200 ms.
    late = list(spread(pacing.arrivals, pacing.interval))
    assert sum(weight for _, weight in late) == pytest.approx(pacing.delivered)
    assert sum(weight for latency, weight in late if latency > 0.02) > 60
    assert max(late)[0] >= 0.18
    assert min(late)[0] >= 0


def test_what_is_lost_is_found_out(party: Party) -> None:
    ends: list[socket.socket] = party.ends  # type: ignore[attr-defined]
    ends[1].sendall(b"MSG s0 r0 :00garbled")
    with pytest.raises(LoadError, match="garbled, lost or reordered a message to r0"):
        pace(party, 100, 0.1, spin=True)


def test_a_relay_that_stops_is_found_out(party: Party) -> None:
    party.stall = 0.2
    with pytest.raises(LoadError, match=r"nothing came for 0.2 s, and 3 of 3 receivers wait"):
        pace(party, 100, 0.1, spin=True)


def test_a_ramp_stands_for_each_of_its_messages() -> None:
    assert list(spread([(0.5, 3)], 0.125)) == [(0.5, 1), (0.375, 1), (0.25, 1)]
    many = list(spread([(1.0, 1000)], 0.001))
    assert len(many) == 16
    assert many[0] == (1.0, 62.5)
    assert sum(weight for _, weight in many) == 1000


def test_percentiles_are_those_of_the_messages() -> None:
    curve = curve_of((n / 1e6, 1) for n in range(1, 1001))
    assert dict(curve) == pytest.approx(
        {
            50: 500,
            75: 750,
            90: 900,
            95: 950,
            99: 990,
            99.5: 995,
            99.9: 999,
            99.95: 1000,
            99.99: 1000,
            100: 1000,
        }
    )
    assert percentiles_of(curve)["p999_us"] == pytest.approx(999)
    assert dict(curve_of([(1e-6, 989), (5e-6, 11)]))[99] == 5
    assert curve_of([]) == []


def test_this_process_shares_its_cores_with_itself() -> None:
    import os  # noqa: PLC0415

    assert not has_core_of_its_own(os.getpid())
