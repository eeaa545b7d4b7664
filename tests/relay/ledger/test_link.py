"""A link that delays, stalls, cuts in the middle of a line and resets: 0 lost, 0 doubled, in order."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger.link import FATES, Proxy
from tests.relay.ledger.load import ROOMY, Load
from tests.relay.ledger.running import RelayProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.relay.ledger.conftest import TakeDown

LONG = os.environ.get("HAILER_LONG") == "1"


@pytest.mark.timeout(600 if LONG else 120)
def test_a_bad_link_loses_and_doubles_nothing(tmp_path: Path, take_down: TakeDown) -> None:
    """Each party talks through the proxy; half-dead connections that the relay believes in are taken over."""
    with RelayProcess(tmp_path, None, *ROOMY) as relay:
        proxy = Proxy(lambda: relay.address, random.Random(7), delay=0.05)
        with proxy:
            load = Load(relay, dial=proxy.dial, forgetful=0, patience=0.5)
            load.start()
            assert load.ledger.wait(300 if LONG else 40, acknowledged=100_000 if LONG else 5_000)
            found = load.finish()
    broken = {fate: proxy.met[fate] for fate in FATES if proxy.met[fate]}
    take_down(found.row(), ", ".join(f"{count} {fate}" for fate, count in broken.items()))
    found.check()
    assert found.unknown == 0
    assert {"cut", "reset", "stall", "late"} <= set(broken)
    assert not any(poster.forgotten for poster in load.posters)
