"""kill -9 of the relay under load: nothing acknowledged is lost, nothing comes twice, the order is kept."""

from __future__ import annotations

import os
import random
from statistics import median
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger.disks import slow_from_the_start
from tests.relay.ledger.load import ROOMY, Load
from tests.relay.ledger.running import RelayProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.relay.ledger.conftest import TakeDown

LONG = os.environ.get("HAILER_LONG") == "1"
KILLS = 200 if LONG else 20


def kill_under_load(load: Load, kills: int, *, acknowledged: tuple[int, int] = (50, 800)) -> None:
    """Kill and start again, each time after some more posts were acknowledged, at no moment in particular."""
    dice = random.Random(kills)
    ledger = load.ledger
    for _ in range(kills):
        more = ledger.acknowledgements + dice.randint(*acknowledged)
        assert ledger.wait(30, acknowledged=more), f"nothing is acknowledged any more: {load.relay.tail()}"
        load.relay.kill()
        load.relay.start()


@pytest.mark.timeout(1800 if LONG else 240)
@pytest.mark.parametrize(("model", "kills"), [("asyncio", KILLS), ("thread", KILLS // 5)])
def test_kill_9_loses_nothing_acknowledged(
    tmp_path: Path, take_down: TakeDown, model: str, kills: int
) -> None:
    with RelayProcess(tmp_path, None, "--model", model, *ROOMY) as relay, Load(relay) as load:
        load.start()
        kill_under_load(load, kills)
        found = load.finish()
        took = sorted(relay.restarts)
        note = f"restart {median(took):.2f} s, at most {took[-1]:.2f} s"
        take_down({"kills": kills} | found.row(), note)
        found.check()
        assert found.once > kills * 50
        assert found.unknown > 0 or kills < 20, (
            "no sender gave up what was in flight: the test tries less than it should"
        )
        assert not any(poster.forgotten for poster in load.posters), "a session went back"
        assert not any(taker.gaps for taker in load.takers)
        assert sum(taker.again for taker in load.takers) > 0, (
            "nothing came again: ACKs are not what is tested"
        )
        assert (median(took) if LONG else took[0]) < 2  # on a machine that does much else all may take longer
        load.acknowledge_all()


@pytest.mark.timeout(900 if LONG else 240)
def test_kill_9_between_word_and_disk(tmp_path: Path, take_down: TakeDown) -> None:
    """A commit lasts so long that it is there that the relay dies, most times: nothing was said too early."""
    before, kills = slow_from_the_start(0.02), max(KILLS // 4, 4)
    with RelayProcess(tmp_path, None, *ROOMY, before=before) as relay, Load(relay, window=20) as load:
        load.start()
        kill_under_load(load, kills, acknowledged=(20, 200))
        found = load.finish()
    take_down({"kills": kills} | found.row(), "each commit 20 ms longer")
    found.check()
    assert not any(poster.forgotten for poster in load.posters)


@pytest.mark.timeout(240)
def test_control_memory_forgets_what_it_acknowledged(tmp_path: Path, take_down: TakeDown) -> None:
    """The same load on a store that does not outlive the relay: the ledger says what is lost."""
    with RelayProcess(tmp_path, "memory", *ROOMY) as relay, Load(relay, goes=0.1, rooms=False) as load:
        load.start()
        kill_under_load(load, 3)
        for poster in load.posters:
            poster.end()
        found = load.end()
    take_down({"kills": 3} | found.row(), "memory: must lose")
    assert found.lost > 0
    assert any(poster.forgotten for poster in load.posters)


@pytest.mark.timeout(240)
def test_control_a_receiver_without_a_cursor_takes_some_twice(tmp_path: Path, take_down: TakeDown) -> None:
    with RelayProcess(tmp_path, None, *ROOMY) as relay, Load(relay, cursor=False, goes=0.1) as load:
        load.start()
        kill_under_load(load, 3)
        found = load.finish()
    take_down({"kills": 3} | found.row(), "no cursor: must double")
    assert found.doubled > 0
    assert set(found.faults) == {"doubled"}
