"""Real packets are lost, doubled, delayed and reordered: 0 lost, 0 doubled, in order."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger import packets

if TYPE_CHECKING:
    from tests.relay.ledger.conftest import TakeDown

LONG = os.environ.get("HAILER_LONG") == "1"


def in_a_network_of_its_own() -> list[str]:
    """What runs a program in a network namespace with a TUN device; skips where there is none to be had."""
    before = ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("unshare and ip are needed for a network of its own")
    attempt = "import os; os.open('/dev/net/tun', os.O_RDWR)"
    if subprocess.run([*before, sys.executable, "-c", attempt], capture_output=True, check=False).returncode:
        pytest.skip("a TUN device in a network namespace cannot be had here: run this as root")
    return before


@pytest.mark.timeout(400 if LONG else 240)
def test_lost_packets_lose_nothing(tmp_path: Path, take_down: TakeDown) -> None:
    command = [sys.executable, "-m", packets.__name__, str(tmp_path), str(50_000 if LONG else 2_000)]
    ran = subprocess.run(
        [*in_a_network_of_its_own(), *command],
        capture_output=True,
        check=False,
        text=True,
        cwd=Path(__file__).parents[3],
        timeout=400,
    )
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    met = result["met"]
    take_down(result["figures"], ", ".join(f"{count} packets {fate}" for fate, count in met.items()))
    assert not result["faults"]
    assert min(met[fate] for fate in ("lost", "doubled", "held back")) > 5
