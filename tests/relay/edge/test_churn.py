"""After much coming and going nothing is left behind."""

from __future__ import annotations

import gc
import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from hailer.relay.app import RelayServer
from hailer.relay.edge.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from hailer.relay.app import Settings
    from tests.conftest import Connect, Wire
    from tests.relay.edge.conftest import MakeSettings, StartProcess

LONG = os.environ.get("HAILER_LONG") == "1"


def come_and_go(endpoint: Endpoint, connect: Connect, dice: random.Random, count: int) -> None:
    """Connections of all kinds, some at the same time."""
    here: list[Wire] = []
    for number in range(count):
        kind = dice.randrange(8)
        wire = connect(endpoint, f"n{number}" if kind >= 2 else "")
        if kind >= 3:
            wire.send(f"JOIN #r{number % 3}\nWATCH\nSEND #r{number % 3} :hello")
        if kind >= 4 and here:
            other = number - 1
            wire.send(f"ASK q n{other} :?\nSEND n{other} :x\nJOIN #own{number}")
        if kind >= 5:
            wire.send("SEND x 100\nhalf a payl")
        if kind == 6:
            wire.send("QUIT")
        here.append(wire)
        if len(here) > 10:
            gone = here.pop(dice.randrange(len(here)))
            if dice.random() < 0.4:
                gone.reset()
            else:
                if dice.random() < 0.3:
                    gone.half_close()
                gone.close()
    for wire in here:
        wire.close()


def open_descriptors() -> int:
    """How many descriptors this process has."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def links() -> int:
    """How many links there are in this process."""
    gc.collect()
    return sum(isinstance(thing, Link) for thing in gc.get_objects())


def use(settings: Settings, connect: Connect, wait_for: Callable[[Callable[[], bool]], None]) -> None:
    """Come and go on a relay, and see that it forgets."""
    dice = random.Random(settings.model)
    with RelayServer(settings) as relay:
        come_and_go(relay.endpoints[0], connect, dice, 20)
        edge = relay._edge
        wait_for(lambda: not edge.links)
        serving = open_descriptors()
        running = set(threading.enumerate())
        come_and_go(relay.endpoints[0], connect, dice, 2000 if LONG else 330)
        wait_for(lambda: not edge.links)
        wait_for(lambda: set(threading.enumerate()) == running)
        assert open_descriptors() == serving
        core = edge.relay
        assert not core.sessions
        assert not core.directory.sessions
        assert not core.directory.rooms
        assert not core.directory._watchers
        assert not core.directory._watch_all
        assert not core.outboxes._blocked
        assert not core.outboxes._full
        assert edge.counters.active == 0
        assert edge.counters.accepted >= 350
        assert links() == 0
        late = connect(relay.endpoints[0], "late")
        late.send("JOIN #r1\nWHO #r1")
        late.expect("JOINED", "HERE #r1 late", "END WHO")
        late.close()


@pytest.mark.heavy
def test_nothing_is_left(
    settings_for: MakeSettings,
    where: Endpoint,
    connect: Connect,
    wait_for: Callable[[Callable[[], bool]], None],
) -> None:
    with RelayServer(settings_for(where)):
        pass  # the first event loop opens what later ones use again
    before = open_descriptors()
    threads = set(threading.enumerate())
    assert links() == 0
    use(settings_for(where, drain=0.2), connect, wait_for)
    assert open_descriptors() == before
    assert set(threading.enumerate()) == threads
    assert links() == 0


def test_nothing_is_left_of_those_who_stayed_to_the_end(
    settings_for: MakeSettings, where: Endpoint, connect: Connect
) -> None:
    threads = set(threading.enumerate())
    with RelayServer(settings_for(where, drain=0)) as relay:
        wires = [connect(relay.endpoints[0], f"n{number}") for number in range(30)]
    assert set(threading.enumerate()) == threads
    assert links() == 0
    for wire in wires:
        assert wire.rest() == b"BYE :the relay is shutting down\n"


@pytest.mark.heavy
def test_memory_comes_back(
    model: str,
    start_process: StartProcess,
    connect: Connect,
    wait_for: Callable[[Callable[[], bool]], None],
) -> None:
    """Connections by the hundred in a process of its own: the last third costs nothing more."""
    relay = start_process(model)
    dice = random.Random(model)
    alone = connect(relay.endpoint, "alone")

    def is_alone() -> bool:
        alone.send("WHO")
        return alone.until("END WHO") == ["HERE alone", "END WHO"]

    descriptors, threads = relay.descriptors(), relay.threads()
    sizes = []
    for _ in range(3):
        come_and_go(relay.endpoint, connect, dice, 700 if LONG else 150)
        wait_for(is_alone)
        wait_for(lambda: (relay.descriptors(), relay.threads()) == (descriptors, threads))
        sizes.append(relay.rss())
    assert sizes[2] - sizes[1] < 2 << 20
