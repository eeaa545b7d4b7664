"""SIGTERM and SIGHUP under load: a polite end loses nothing and comes in time, and a reload drops nobody."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger.load import ROOMY, Load
from tests.relay.ledger.parties import Stream
from tests.relay.ledger.running import RelayProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.relay.ledger.conftest import TakeDown

LONG = os.environ.get("HAILER_LONG") == "1"
ENDS = 50 if LONG else 5
DRAIN = 1.0


@pytest.mark.timeout(600 if LONG else 240)
@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_what_was_stored_is_there_after_a_polite_end(model: str, tmp_path: Path, take_down: TakeDown) -> None:
    """Somebody never closes, too, each time."""
    options = ("--model", model, "--drain", str(DRAIN), *ROOMY)
    took: list[float] = []
    with RelayProcess(tmp_path, None, *options) as relay, Load(relay) as load:
        load.start()
        for _ in range(ENDS):
            more = load.ledger.acknowledgements + 200
            assert load.ledger.wait(30, acknowledged=more), (
                f"nothing is acknowledged any more: {relay.tail()}"
            )
            with Stream(relay.dial()) as deaf:
                deaf.hello("deaf", "")
                began = time.monotonic()
                assert relay.stop() == 0
                took.append(time.monotonic() - began)
            relay.start()
        found = load.finish()
        take_down({"kills": ENDS} | found.row(), f"SIGTERM, {model}: ended in {max(took):.2f} s at most")
        found.check()
        assert found.once > ENDS * 200
        assert "mail-not-stored" not in relay.log.read_text(), "there was time to store all"
    assert min(took) > DRAIN - 0.1, "who never closes was not waited for"
    assert max(took) < DRAIN + (0.5 if LONG else 3.0), took


@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_a_reload_under_load_drops_nobody(model: str, tmp_path: Path, take_down: TakeDown) -> None:
    with RelayProcess(tmp_path, None, "--model", model, "-v", *ROOMY) as relay, Load(relay, goes=0) as load:
        load.start()
        for _ in range(20):
            more = load.ledger.acknowledgements + 50
            assert load.ledger.wait(30, acknowledged=more), (
                f"nothing is acknowledged any more: {relay.tail()}"
            )
            os.kill(relay.pid, signal.SIGHUP)
        log = relay.log.read_text()
        found = load.finish()
        take_down({"kills": 0} | found.row(), f"20 times SIGHUP, {model}")
        found.check()
        assert relay.stop() == 0
    assert " gone " not in log
    assert " cut " not in log
    assert 1 <= log.count(" reloaded ") <= 20, "signals that come together are one"
