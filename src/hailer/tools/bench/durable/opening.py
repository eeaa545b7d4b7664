"""How long a relay takes to open a store with many messages that wait.

    python -m hailer.tools.bench.durable.opening FILE MESSAGES

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
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.durable.stores import at
from hailer.tools.bench.machine import pinned
from hailer.tools.bench.relay.dialects import Step
from hailer.tools.bench.relay.meter import Outcome
from hailer.tools.bench.relay.party import LoadError, converse
from hailer.tools.bench.relay.peers import free_port, output_of, stop

if TYPE_CHECKING:
    from hailer.tools.bench.relay.peers import Peer

__all__ = ["BOXES", "open_filled"]

BOXES: Final = 100
"""Mailboxes: a million messages are as many in each as the default allows."""
LISTEN_TIMEOUT: Final = 60.0
"""Seconds."""


def fill(file: str, messages: int) -> None:
    """Put messages into a new store, each in a row of its own, evenly in `BOXES` mailboxes; leave it open."""
    from hailer.relay.core.batch import Batch, Box, Segment  # noqa: PLC0415 (only the process that fills)
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


def open_filled(peer: Peer, core: int | None, data: Path, messages: int) -> list[Outcome]:
    """Fill the store of a relay, start the relay, wait until it listens and gives somebody the first message.

    Args:
        peer: the relay, as `stores.find_stores` gives it.
        core: where it runs.
        data: an empty folder.
        messages: how many are put into the store.

    Returns:
        `start_ms`, from the start of the process on, for the parts ``empty`` (until it listens on an empty
        store), ``full`` and ``first`` (until the first message of a mailbox has come).

    Raises:
        LoadError: it did not listen, or a mailbox has not what was put there.
        PeerError: the store could not be filled.
    """
    peer = at(peer, data)
    file = Path(peer.command[peer.command.index("--store") + 1])
    empty, _ = listening(peer, core, data, None)
    for each in data.iterdir():
        each.unlink()
    output_of([sys.executable, "-m", "hailer.tools.bench.durable.opening", str(file), str(messages)])
    full, first = listening(peer, core, data, messages // BOXES)
    times = {"empty": empty, "full": full, "first": first}
    return [Outcome({"start_ms": round(took * 1000, 1)}, part=part) for part, took in times.items()]


def listening(peer: Peer, core: int | None, data: Path, waiting: int | None) -> tuple[float, float]:
    """Start the relay; returns the seconds until it listens, and until the first message came."""
    port = free_port()
    command = [part.replace("{port}", str(port)) for part in peer.command]
    start = time.perf_counter()
    with pinned(core):
        process = subprocess.Popen(  # noqa: S603 (this package)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=data,
            start_new_session=True,
        )
    with process:
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
                hello = rb"^WELCOME [^\n]*\bmail=%d\b.*^MAIL 1 someone" % waiting
                steps = [Step(b"HELLO r00001\n", re.compile(hello, re.MULTILINE | re.DOTALL))]
                converse(port, "r00001", steps)[0].close()
            return took, time.perf_counter() - start
        finally:
            stop(process)


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]))
    os._exit(0)  # without a last word to the store
