"""A receiver killed between effect and ACK: exactly once, if its cursor is kept with the effect."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger import effects
from tests.relay.ledger.book import Ledger, Value, Verdicts
from tests.relay.ledger.load import ROOMY
from tests.relay.ledger.parties import Poster, Taker
from tests.relay.ledger.running import RelayProcess

if TYPE_CHECKING:
    from tests.relay.ledger.conftest import TakeDown

LONG = os.environ.get("HAILER_LONG") == "1"
KILLS = 200 if LONG else 20

NAME, SESSION = "keeper", "keepers-own-session"


class Receiver:
    """The receiver's process, started again whenever it was killed."""

    def __init__(self, relay: RelayProcess, path: Path, way: str) -> None:
        self.command = [sys.executable, "-m", effects.__name__, str(relay.address[1]), NAME, SESSION]
        self.command += [str(path), way]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        root = Path(__file__).parents[3]
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command, stdin=pipe, stdout=pipe, bufsize=0, cwd=root)

    def effect(self) -> None:
        """Wait until it has had an effect and has not said ACK."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == b"effect\n", "the receiver ended by itself"

    def go_on(self) -> None:
        """Let it say ACK."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def kill_and_start(self) -> None:
        """End it by SIGKILL, and start it again."""
        self.kill()
        self.process = self._start()


def kill_receiver(relay: RelayProcess, path: Path, way: str, kills: int) -> Verdicts:
    """Kill a receiver so often, most times between effect and ACK, with mail coming in all the time."""
    ledger, dice = Ledger(), random.Random(kills)
    first = Taker(relay.dial, NAME, ledger)  # makes the mailbox
    first.start()
    assert first.ready.wait(20)
    first.hang_up()
    first.check()
    to = {NAME: (NAME,)}
    # more than what the kills below can come to, and not so much that the rest takes long
    posters = [Poster(relay.dial, f"s{n}", ledger, to, window=20, most=kills * 15) for n in range(2)]
    for poster in posters:
        poster.start()
    receiver = Receiver(relay, path, way)
    try:
        for _ in range(kills):
            for _ in range(dice.randrange(4)):
                receiver.effect()
                receiver.go_on()
            if dice.random() < 0.7:
                receiver.effect()  # else it dies at any moment, perhaps within the transaction
            receiver.kill_and_start()
        for poster in posters:
            poster.end()
        for poster in posters:
            poster.check()
        with closing(effects.open_effects(str(path))) as database:
            while (
                database.execute("SELECT count(DISTINCT value) FROM effect").fetchone()[0]
                < ledger.acknowledgements
            ):
                receiver.effect()
                receiver.go_on()
            for number, value in database.execute("SELECT number, value FROM effect ORDER BY place"):
                ledger.shown(NAME, number, Value.parse(value))
                ledger.took(NAME, Value.parse(value))
    finally:
        receiver.kill()
        for poster in posters:
            poster.hang_up()
    return ledger.verdicts()


@pytest.mark.timeout(600 if LONG else 240)
def test_effect_and_cursor_in_one_transaction_are_exactly_once(tmp_path: Path, take_down: TakeDown) -> None:
    with RelayProcess(tmp_path, None, *ROOMY) as relay:
        found = kill_receiver(relay, tmp_path / "effects.db", "joint", KILLS)
    take_down({"kills": KILLS} | found.row(), "kills of the receiver")
    found.check()
    assert found.once > 200


@pytest.mark.timeout(240)
@pytest.mark.parametrize("way", ["apart", "none"])
def test_control_effect_and_cursor_apart_are_not(tmp_path: Path, take_down: TakeDown, way: str) -> None:
    with RelayProcess(tmp_path, None, *ROOMY) as relay:
        found = kill_receiver(relay, tmp_path / "effects.db", way, 5)
    take_down({"kills": 5} | found.row(), "kills of the receiver: must double")
    assert set(found.faults) == {"doubled"}
