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

BREAKS = ("cut", "reset", "stall", "late")
TIMES = 50 if LONG else 3
"""How often each kind of break has to have happened."""


@pytest.mark.timeout(600 if LONG else 240)
def test_a_bad_link_loses_and_doubles_nothing(tmp_path: Path, take_down: TakeDown) -> None:
    """Each party talks through the proxy; half-dead connections that the relay believes in are taken over."""
    with RelayProcess(tmp_path, None, *ROOMY) as relay:
        proxy = Proxy(lambda: relay.address, random.Random(7), fates=(*BREAKS, "slow"), bytes_till=10_000)
        with proxy, Load(relay, dial=proxy.dial, forgetful=0, patience=0.5, window=20, size=200) as load:
            load.start()
            while min(proxy.met[fate] for fate in BREAKS) < TIMES:
                more = load.ledger.acknowledgements + 100
                assert load.ledger.wait(30, acknowledged=more), "nothing is acknowledged any more"
            found = load.finish()
    broken = {fate: proxy.met[fate] for fate in FATES if proxy.met[fate]}
    take_down(found.row(), ", ".join(f"{count} {fate}" for fate, count in broken.items()))
    found.check()
    assert found.unknown == 0
    assert not any(poster.forgotten for poster in load.posters)
