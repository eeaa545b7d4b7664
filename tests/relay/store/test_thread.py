"""The thread of a store does its work in turn, and tidies when there is none."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from hailer.errors import StoreError
from hailer.relay.core.batch import Batch, Loaded
from hailer.relay.core.work import Commit, Recover
from hailer.relay.store.memory import MemoryStore
from hailer.relay.store.thread import StoreThread

if TYPE_CHECKING:
    from hailer.relay.core.work import Work

PATIENCE = 20.0


class Tidied(MemoryStore):
    """Says when it was tidied, and that it could not be."""

    def __init__(self) -> None:
        super().__init__()
        self.tidied: SimpleQueue[threading.Thread] = SimpleQueue()
        self.closed = threading.Event()

    def tidy(self) -> None:
        self.tidied.put(threading.current_thread())
        raise StoreError("the disk is full: make room")

    def close(self) -> None:
        self.closed.set()


def test_it_tidies_when_nothing_is_asked_of_it() -> None:
    store, told = Tidied(), SimpleQueue[tuple[object, StoreError | None]]()

    def done(_work: Work, result: object, error: StoreError | None) -> None:
        told.put((result, error))

    thread = StoreThread(store, done)
    for age in range(1, 4):
        thread.start(Commit(Batch(age=age, floors={7: 1})))
        assert told.get(timeout=PATIENCE) == ({7: 0}, None)
        assert store.tidied.get(timeout=PATIENCE) is not threading.current_thread()
    thread.start(Recover())
    assert told.get(timeout=PATIENCE) == (Loaded(age=3), None), "it ended by an error of what was put off"
    assert thread.close(PATIENCE)
    assert store.closed.is_set()
