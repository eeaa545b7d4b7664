"""How long a relay takes to open a store with many messages that wait.

    python -m bench.durable_opening FILE MESSAGES

fills a store and ends without closing it, as a killed relay would.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.dialects import Step
from bench.durable_party import converse
from bench.load import LoadError
from bench.peers import STOP_TIMEOUT, free_port, output_of, pinned

if TYPE_CHECKING:
    from bench.load import Figures
    from bench.peers import Peer

__all__ = ["BOXES", "fill", "open_filled"]

BOXES = 100  # mailboxes: a million messages are as many in each as the default allows
LISTEN_TIMEOUT = 60.0  # seconds
ROOT = Path(__file__).parent.parent


def fill(file: str, messages: int) -> None:
    """Put messages into a new store, each in a row of its own, evenly in `BOXES` mailboxes; leave it open."""
    from hailer.relay.core.batch import Batch, Box, Segment  # noqa: PLC0415 (only this wants them)
    from hailer.relay.store.sqlite import SqliteStore  # noqa: PLC0415

    store = SqliteStore(file)
    store.load()
    each = messages // BOXES
    for number in range(1, BOXES + 1):
        name = b"r%05d" % number
        segments = [
            Segment(number, n, n, 0, b"MAIL %d someone %s :%s\n" % (n, name, b"x" * 64))
            for n in range(1, each + 1)
        ]
        box = Box(number, name, name, each, 0, 0, 0, False, "")
        store.commit(Batch(boxes=[box], segments=segments))


def open_filled(peer: Peer, core: int | None, data: Path, messages: int) -> Figures:
    """Fill the store of a relay, start the relay, wait until it listens and gives somebody the first message.

    Returns:
        `listening_s` from the start of the process on, `first_s` until the first message of a mailbox has
        come, and `empty_s`, the first with an empty store.

    Raises:
        LoadError: it did not listen, or a mailbox has not what was put there.
        PeerError: the store could not be filled.
    """
    figures: Figures = {"messages": messages}
    empty, _ = listening(peer, core, data, None)
    for file in data.iterdir():
        file.unlink()
    output_of([sys.executable, "-m", "bench.durable_opening", str(data / "mail.db"), str(messages)], cwd=ROOT)
    took, first = listening(peer, core, data, messages // BOXES)
    figures |= {"empty_s": round(empty, 3), "listening_s": round(took, 3), "first_s": round(first, 3)}
    return figures


def listening(peer: Peer, core: int | None, data: Path, waiting: int | None) -> tuple[float, float]:
    """Start the relay; returns the seconds until it listens, and until the first message came."""
    port = free_port()
    command = [part.replace("{port}", str(port)) for part in peer.command]
    start = time.perf_counter()
    with pinned(core):
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=data,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        said = b""
        while b"listening on" not in said:
            ready, _, _ = select.select([process.stdout], [], [], LISTEN_TIMEOUT)
            heard = os.read(process.stdout.fileno(), 65536) if ready else b""
            said += heard
            if not heard:
                raise LoadError(f"it did not listen within {LISTEN_TIMEOUT:g} s; it said {said[-300:]!r}")
        took = time.perf_counter() - start
        if waiting is not None:
            steps = [
                Step(b"HELLO r00001\n", re.compile(rb"^WELCOME .*\bmail=%d\b" % waiting, re.MULTILINE)),
                Step(b"PING here\n", re.compile(rb"^(?:MAIL 1 someone|PONG here)", re.MULTILINE)),
            ]
            converse(port, steps)[0].close()
        return took, time.perf_counter() - start
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]))
    os._exit(0)  # without a last word to the store
