"""After much coming and going, and after floods, the relay holds what it held before."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger.disks import wait_until
from tests.relay.ledger.load import ROOMY, Load
from tests.relay.ledger.parties import Event, Stream
from tests.relay.ledger.running import RelayProcess
from tests.relay.ledger.usage import Usage

if TYPE_CHECKING:
    from tests.relay.ledger.conftest import TakeDown

LONG = os.environ.get("HAILER_LONG") == "1"
ROUNDS = 20 if LONG else 2

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="what a process holds is read from /proc"
)


def settled(relay: RelayProcess, like: Usage) -> Usage:
    """What the relay holds once its connections are closed."""
    wait_until(lambda: Usage.of(relay.pid).descriptors <= like.descriptors, "connections are closed")
    return Usage.of(relay.pid)


@pytest.mark.timeout(1200 if LONG else 240)
def test_churn_leaves_nothing_behind(tmp_path: Path, take_down: TakeDown) -> None:
    """Mail by many connections, each of which is lost soon; sessions, rooms and mailboxes are used again."""
    figures: dict[str, int] = {}
    with RelayProcess(tmp_path, None, "--sessions", "5", *ROOMY) as relay:
        fresh = Usage.of(relay.pid)
        before = fresh
        for number in range(ROUNDS * 2):
            with Load(relay, goes=0.2, seed=number, senders=3) as load:
                load.start()
                assert load.ledger.wait(30, acknowledged=1000)
                found = load.finish()
                found.check()
                load.acknowledge_all()
                figures = {kind: figures.get(kind, 0) + count for kind, count in found.row().items()}
            if number == ROUNDS - 1:
                before = settled(relay, fresh)
        after = settled(relay, fresh)
    take_down(figures, f"{before}; then {after}")
    assert after.threads == before.threads
    assert after.descriptors <= fresh.descriptors
    assert after.kib <= before.kib * 1.1


def flood(relay: RelayProcess, name: str, lines: list[bytes]) -> list[Event]:
    """Log in, say all this, log out; gives what came before the answer to the last line."""
    with Stream(relay.dial()) as stream:
        stream.hello(name, f"session={name}-{len(lines)}")
        events: list[Event] = []
        for at in range(0, len(lines), 500):
            stream.say(*lines[at : at + 500])
            events += stream.drain()
        stream.say(b"QUIT")
        stream.read_to_the_end()
    return events


def refusals(events: list[Event], code: bytes) -> int:
    return sum(event.words[:2] == (b"FAIL", code) for event in events)


@pytest.mark.timeout(600 if LONG else 240)
def test_floods_from_one_name_meet_limits(tmp_path: Path) -> None:
    """Rooms, watches, questions, sessions and posts that lead nowhere; afterwards memory is as before."""
    many = 1500
    with RelayProcess(tmp_path, None) as relay:
        fresh = Usage.of(relay.pid)
        usages = []
        for number in range(ROUNDS):
            rooms = [b"#room-%d-%d" % (number, each) for each in range(many)]
            events = flood(relay, "flooder", [b"JOIN " + room for room in rooms])
            assert sum(event.verb == b"JOINED" for event in events) == 100
            assert refusals(events, b"too-many") == many - 100
            # one is in a hundred rooms at most, now and for mail; those of earlier log-ins make way
            events = flood(
                relay, "flooder", [line for room in rooms for line in (b"JOIN " + room, b"LEAVE " + room)]
            )
            assert refusals(events, b"too-many") == 0
            events = flood(
                relay, "flooder", [b"WATCH " + b" ".join(b"n%d" % each for each in range(1001))] * 20
            )
            assert refusals(events, b"too-many") == 20
            events = flood(relay, "flooder", [b"ASK %d flooder :?" % each for each in range(many)])
            assert refusals(events, b"too-many") == many - 1000
            posts = [b"POST 1 %s-%d :x" % (rooms[each][1:], each) for each in range(many)]
            assert refusals(flood(relay, "flooder", posts), b"unknown") == many
            for session in range(120):
                with Stream(relay.dial()) as stream:
                    stream.hello("flooder", f"session=s{number}-{session}")
                    stream.sock.sendall(stream.post(1, "flooder", b"x"))
                    newest = int(stream.until(b"STORED").words[1])
                    stream.say(b"QUIT")
                    stream.read_to_the_end()
                    assert newest == 1
            usages.append(settled(relay, fresh))
        assert usages[-1].kib <= usages[0].kib * 1.1, usages


@pytest.mark.timeout(600 if LONG else 240)
def test_floods_of_names_meet_limits(tmp_path: Path) -> None:
    """Anybody can have any name on an open relay, but so many mailboxes."""
    most, many = 300, 600
    with RelayProcess(tmp_path, None, "--mailboxes", str(most)) as relay, ExitStack() as stack:
        asker = stack.enter_context(Stream(relay.dial()))
        asker.hello("asker", "")
        usages = []
        posted = 0  # to names that have a mailbox
        for number in range(ROUNDS):
            for each in range(many):
                flood(relay, f"name-{number}-{each}", [])
            for each in range(many):
                asker.sock.sendall(asker.post(posted + 1, f"name-{number}-{each}", b"x"))
                if not refusals(asker.drain(), b"unknown"):
                    posted += 1
            # the asker is one of those that may be, and so are the names of the rounds before
            assert posted <= most - 1, "more names have mailboxes than may be"
            usages.append(Usage.of(relay.pid))
        assert posted == most - 1
        assert usages[-1].kib <= usages[0].kib * 1.1, usages
