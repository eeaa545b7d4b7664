"""Sender, relay and receiver are killed in turn: what was in the outbox has its effect once, in order."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger import programs
from tests.relay.ledger.book import Ledger, Value
from tests.relay.ledger.disks import wait_until
from tests.relay.ledger.effects import open_effects
from tests.relay.ledger.load import ROOMY
from tests.relay.ledger.parties import Stream
from tests.relay.ledger.running import RelayProcess

if TYPE_CHECKING:
    from tests.relay.ledger.conftest import TakeDown

LONG = os.environ.get("HAILER_LONG") == "1"
KILLS = 200 if LONG else 6


class Program:
    """One of the two programs, started again whenever it was killed."""

    def __init__(self, what: str, relay: RelayProcess, path: Path, ledger: Ledger) -> None:
        self.what = what
        self.relay = relay
        self.path = path
        self.ledger = ledger
        self.serial = 0
        self.kept = -1  # the last serial number that is in the outbox
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", programs.__name__, self.what, str(self.relay.address[1])]
        self.process = subprocess.Popen(
            [*command, str(self.path), str(self.serial)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        """Take down what it says; a line that was cut short is not heard."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            verb, _, number = line.decode().partition(" ")
            if not number.endswith("\n"):
                break
            value = Value(programs.SENDER, int(number))
            if verb == "posting":
                self.ledger.posted(value, (programs.RECEIVER,))
                self.serial = value.serial + 1
            else:
                self.kept = value.serial
                self.ledger.acknowledged(value)

    def kill(self) -> None:
        """End it by SIGKILL."""
        assert self.process.poll() is None, self._error()
        self.process.kill()
        self._reap()

    def finish(self) -> None:
        """Have it store what is in its outbox, and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert self.process.returncode == 0, self._error()
        self._reap()

    def _error(self) -> str:
        assert self.process.stderr is not None
        return f"the {self.what} ended by itself: {self.process.stderr.read().decode()}"

    def _reap(self) -> None:
        self.reader.join(30)
        self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.timeout(900 if LONG else 240)
def test_outbox_and_cursor_survive_kills_of_everybody(tmp_path: Path, take_down: TakeDown) -> None:
    dice, ledger = random.Random(KILLS), Ledger()
    kills = dict.fromkeys(("sender", "relay", "receiver"), 0)
    with (
        RelayProcess(tmp_path, None, *ROOMY) as relay,
        closing(open_effects(str(tmp_path / "effects"))) as database,
    ):
        with Stream(relay.dial()) as stream:
            stream.hello(programs.RECEIVER, "")  # makes the mailbox
        sender = Program("sender", relay, tmp_path / "outbox", ledger)
        receiver = Program("receiver", relay, tmp_path / "effects", ledger)

        def newest() -> int:
            row = database.execute("SELECT value FROM effect ORDER BY place DESC LIMIT 1").fetchone()
            return Value.parse(row[0]).serial if row else -1

        try:
            for _ in range(KILLS):
                more, before = ledger.acknowledgements + dice.randrange(1, 100), newest()
                assert ledger.wait(30, acknowledged=more)
                wait_until(lambda before=before: newest() > before, "something has its effect")  # type: ignore[misc]
                who = dice.choice(list(kills))
                kills[who] += 1
                if who == "relay":
                    relay.kill()
                    relay.start()
                else:
                    program = sender if who == "sender" else receiver
                    program.kill()
                    program.start()
            sender.finish()
            wait_until(lambda: newest() >= sender.kept, "all has its effect", 30)
        finally:
            for program in (sender, receiver):
                if program.process.returncode is None:
                    program.kill()
        for number, value in database.execute("SELECT number, value FROM effect ORDER BY place"):
            ledger.shown(programs.RECEIVER, number, Value.parse(value))
            ledger.took(programs.RECEIVER, Value.parse(value))
    found = ledger.verdicts()
    take_down({"kills": KILLS} | found.row(), ", ".join(f"{who} {count}" for who, count in kills.items()))
    found.check()
    assert found.once > KILLS
