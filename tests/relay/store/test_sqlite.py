"""The store in SQLite: it conforms, and does what only a store on disk has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.relay.store.sqlite import SqliteStore
from hailer.testing.store import check_store

if TYPE_CHECKING:
    from pathlib import Path


def test_conforms(tmp_path: Path) -> None:
    check_store(lambda name: SqliteStore(tmp_path / name), durable=True)
