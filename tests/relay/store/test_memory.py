"""The store in memory keeps what every store has to keep."""

from __future__ import annotations

from hailer.relay.store.memory import MemoryStore
from hailer.testing.store import check_store


def test_conforms() -> None:
    check_store(lambda _name: MemoryStore())
