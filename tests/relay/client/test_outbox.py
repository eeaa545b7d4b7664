"""The outbox as a file: who may have it, and what happens when it cannot be used."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from typing import TYPE_CHECKING

import pytest

from hailer import RelayClient
from hailer.errors import ConnectionLost, DialError, HailerError, StoreError, UsageError
from hailer.relay.client.outbox import Changes, Held, Outbox

if TYPE_CHECKING:
    from pathlib import Path

    from hailer.relay.app import RelayServer


def opened(path: Path, name: str = "ann") -> tuple[Outbox, Held]:
    outbox = Outbox(path)
    return outbox, outbox.open(name, "session")


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "box"
    outbox, held = opened(path)
    assert held == Held("session", 0, 0, [], [])
    outbox.commit(
        Changes(added=[(1, "bob", b"\xff\x00"), (2, "#room", b""), (3, "bob", b"c"), (4, "bob", b"d")])
    )
    outbox.commit(Changes(stored=1, stored_key=1))
    outbox.commit(Changes(refused=[(3, "quota", "full")]))
    outbox.close()
    outbox.close()
    outbox, held = opened(path, "ANN")
    posts = [(2, "#room", b""), (4, "bob", b"d")]
    assert held == Held("session", 1, 4, posts, [(3, "bob", b"c", "quota", "full")])
    changes = Changes(told=[3])
    changes.begin("another")
    outbox.commit(changes)
    outbox.close()
    outbox, held = opened(path)
    assert held == Held("another", 0, 4, posts, [])
    outbox.close()
    with pytest.raises(StoreError, match="is closed"):
        outbox.commit(Changes())


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "box"
    before = os.umask(0)
    try:
        outbox, _ = opened(path)
        outbox.commit(Changes(added=[(1, "bob", b"x")]))
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        outbox.close()
    finally:
        os.umask(before)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        opened(path)


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    first, _ = opened(tmp_path / "box")
    with pytest.raises(UsageError, match="used by another client"):
        opened(tmp_path / "box")
    first.close()
    second, _ = opened(tmp_path / "box")
    second.close()
    with pytest.raises(UsageError, match="is ann's"):
        opened(tmp_path / "box", "bob")


def test_what_is_no_outbox(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"no database at all, but long enough to be looked at as one" * 100)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("create table t(x)")
    database.close()
    newer = tmp_path / "newer"
    opened(newer)[0].close()
    database = sqlite3.connect(newer)
    database.execute("pragma user_version = 2")
    database.close()
    for path in (text, other):
        path.chmod(0o600)
        with pytest.raises(UsageError, match="is no outbox"):
            opened(path)
    with pytest.raises(UsageError, match="newer hailer"):
        opened(newer)
    with pytest.raises(UsageError, match="is no file"):
        opened(_fifo(tmp_path))
    with pytest.raises(StoreError, match="cannot be opened"):
        opened(tmp_path)
    with pytest.raises(StoreError, match="cannot be opened"):
        opened(tmp_path / "nowhere" / "box")
    assert text.read_bytes().startswith(b"no database")


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "fifo", 0o600)
    return folder / "fifo"


async def test_a_disk_that_fails_ends_posting_and_keeps_what_is_there(
    tcp_relay: RelayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, path = tcp_relay.endpoints[0], tmp_path / "box"
    async with RelayClient("ann", where, outbox=path) as ann:
        await ann.post("ann", "stored")
        real = Outbox.commit

        def full(self: Outbox, changes: Changes) -> None:
            if changes.added:
                raise StoreError("the disk is full: make room")
            real(self, changes)

        monkeypatch.setattr(Outbox, "commit", full)
        with pytest.raises(StoreError, match="disk is full"):
            await ann.post("ann", "not stored")
        with pytest.raises(StoreError, match="disk is full"):
            await ann.post("ann", "nor this")
        await ann.send("ann", "live")  # the rest goes on
        assert [(await ann.receive(30)).text for _ in range(2)] == ["stored", "live"]
    monkeypatch.undo()
    async with RelayClient("ann", where, outbox=path) as ann:
        assert ann.posts_waiting == 0
        await ann.post("ann", "again")
        assert [(await ann.receive(30)).text for _ in range(2)] == ["stored", "again"]


async def test_what_is_in_the_outbox_is_said_to_stay_there(tmp_path: Path, tcp_relay: RelayServer) -> None:
    where, path = tcp_relay.endpoints[0], tmp_path / "box"
    async with RelayClient("ann", where, outbox=path) as ann:
        with pytest.raises(UsageError, match="used by another client"):
            await RelayClient("ann", where, outbox=path).connect()
        ann._posts._line.window = 0  # nothing goes out
        await ann.post("ann", "kept", confirm=False)
        waiting = asyncio.ensure_future(ann.post("ann", "kept too"))
        await ann.ping()
    with pytest.raises(ConnectionLost, match="stays in the outbox"):
        await waiting
    async with RelayClient("ann", where, outbox=path) as ann:
        await ann.drain()
        assert [(await ann.receive(30)).text for _ in range(2)] == ["kept", "kept too"]


async def test_a_client_that_cannot_connect_leaves_the_outbox_to_others(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(DialError):
            await RelayClient("ann", f"unix:{tmp_path}/nobody", outbox=tmp_path / "box").connect()
    with pytest.raises(HailerError):
        await RelayClient("bob", f"unix:{tmp_path}/nobody", outbox=tmp_path / "box").connect()
