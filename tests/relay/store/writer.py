"""Batches that can be told from another, a program that commits them one by one, and what then is held.

The program: ``python writer.py FILE COUNT SYNCHRONOUS [LIMIT [PATIENCE]]``. It says on its output what it
does, at once: ``held 2`` to begin with, ``begin 3``, then ``did 3`` or ``not 3`` and the sentence; after the
latter it recovers (``back 2``, or ``still`` and the sentence) and goes on from what is held. It ends as by
kill -9, without closing anything.

LIMIT stands for a disk that is full, until it did not recover three times: a number of bytes that no file may
be longer than, or the path of a file that takes the room away. PATIENCE is how often it tries to recover.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.errors import StoreError
from hailer.relay.core.batch import Batch, Box, Loaded, Member, Page, Segment, Sender
from hailer.relay.store import sqlite
from hailer.relay.store.memory import MemoryStore
from hailer.relay.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from hailer.relay.store.base import Store


def batch(number: int) -> Batch:
    """What is committed: `newest` tells that it was this one."""
    sizes = (10, 700, 60, 5000, 300, 1, 20_000)
    made = Batch(
        age=number // 3,
        segments=[
            Segment(1, number, number, number, b"<%d>" % number * sizes[number % len(sizes)]),
            Segment(2, number, number, number, b"<%d>" % number),
        ],
        senders=[Sender(1, b"session", number, number)],
    )
    if number == 1:
        made.boxes = [Box(each, b"n%d" % each, b"N%d" % each, 0, 0, 0, 0, False, "") for each in (1, 2)]
    if number % 6 == 0:
        made.boxes = [Box(number, b"more", b"More", 0, 0, 0, 0, True, "{}")]
        made.segments.append(Segment(number, 1, 5, number, bytes(range(256)) * number))
        made.joined = [Member(b"#room", number)]
        made.forgotten = [number - 12] if number > 12 else []
    if number % 5 == 0:
        made.floors = {1: number - 7, 2: number - 30}
    return made


def newest(held: Loaded) -> int:
    """The number of the last batch of which a store has something; 0 if none."""
    return max((sender.stored for sender in held.senders), default=0)


def state(store: Store) -> tuple[Loaded, list[Page]]:
    """All that a store holds, to be compared."""
    loaded = store.load()
    loaded.boxes.sort()
    loaded.members.sort()
    return loaded, [store.read(box.number, 0, 10**9) for box in loaded.boxes]


def states(count: int) -> list[tuple[Loaded, list[Page]]]:
    """What has to be held after each batch, none included."""
    memory = MemoryStore()
    found = [state(memory)]
    for number in range(1, count + 1):
        memory.commit(batch(number))
        found.append(state(memory))
    return found


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


class _Normal(SqliteStore):
    """The control: what a power cut takes from it was acknowledged."""

    _synchronous = "NORMAL"


def main(path: str, count: int, synchronous: str, limit: str = "", patience: str = "200") -> None:
    sqlite._DUE, sqlite._AT_LAST = 30, 60  # so that there are many checkpoints
    if synchronous == "ONCE":  # the other control: what is found is not flushed again
        vars(sqlite)["flush_again"] = lambda path: None
    try:
        store = _Normal(path) if synchronous == "NORMAL" else SqliteStore(path)
        held = newest(store.load())
        if limit.isdigit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    except StoreError as error:
        say(f"unopened {error}")
        os._exit(0)
    say(f"held {held}")
    while held < count:
        number = held + 1
        say(f"begin {number}")
        try:
            store.commit(batch(number))
        except StoreError as error:
            say(f"not {number} {error}")
        else:
            held = number
            say(f"did {number}")
        try:
            if number % 2:
                store.tidy()
        except StoreError as error:
            say(f"untidy {error}")
        if store._broken:
            held, limit = recovered(store, limit, int(patience))
    os._exit(0)


def recovered(store: SqliteStore, limit: str, patience: int) -> tuple[int, str]:
    for attempt in range(patience):
        if limit and attempt == 3:
            say("room")
            if limit.isdigit():
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            else:
                Path(limit).unlink()
            limit = ""
        try:
            held = newest(store.recover())
        except StoreError as error:
            say(f"still {error}")
        else:
            say(f"back {held}")
            return held, limit
    say("lost patience")
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
