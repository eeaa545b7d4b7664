"""The store in SQLite: it conforms, and does what only a store on disk has to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hailer.errors import StoreError
from hailer.relay.core.batch import Batch, Box, Loaded, Member, Page, Segment, Sender
from hailer.relay.store import schema, sqlite
from hailer.relay.store.place import default_path
from hailer.relay.store.sqlite import SqliteStore
from hailer.testing.store import check_store

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = os.environ.get("HAILER_LONG") == "1"
BOB = Box(1, b"bob", b"Bob", 0, 0, 0, 0, False, "")
HELLO = Segment(1, 1, 1, 0, b"MAIL 1 ann Bob :hello\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "relay.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    yield made
    made.close()


def raw(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """What another program does to the file, and what the last statement gives."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        rows: list[tuple[object, ...]] = []
        for statement in statements:
            rows = db.execute(statement).fetchall()
        return rows
    finally:
        db.close()


def test_conforms(tmp_path: Path) -> None:
    check_store(lambda name: SqliteStore(tmp_path / name), durable=True)


def test_what_makes_a_commit_durable_is_set(store: SqliteStore) -> None:
    [synchronous] = store._one("PRAGMA synchronous")
    [journal] = store._one("PRAGMA journal_mode")
    [automatic] = store._one("PRAGMA wal_autocheckpoint")
    assert (synchronous, journal, automatic) == (2, "wal", 0)


def test_a_setting_that_does_not_hold_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the log cannot be a write-ahead one: SQLite then keeps the old mode and gives no error."""
    asked = SqliteStore._one

    def one(self: SqliteStore, sql: str, values: Any = ()) -> tuple[object, ...]:
        return ("delete",) if sql == "PRAGMA journal_mode" else asked(self, sql, values)

    monkeypatch.setattr(SqliteStore, "_one", one)
    with pytest.raises(StoreError, match=r"journal_mode is delete, not wal\): name a file on another disk"):
        SqliteStore(path)


def test_a_commit_is_one_statement_and_one_step(store: SqliteStore) -> None:
    seen: list[str] = []
    store._db.set_trace_callback(seen.append)
    segments = [Segment(1, n, n, 0, b"x" * 100) for n in range(1, 500)]
    store.commit(Batch(boxes=[BOB], segments=segments, senders=[Sender(1, b"s", 499, 0)]))
    store._db.set_trace_callback(None)
    # The parts of a trigger are told as what started it.
    assert len(set(seen)) == 1
    assert seen[0].startswith("INSERT INTO batch")


@pytest.mark.parametrize("count", [1, 1000])
def test_a_page_is_read_in_one_row(store: SqliteStore, count: int) -> None:
    store.commit(Batch(boxes=[BOB], segments=[Segment(1, n, n, 0, b"%d." % n) for n in range(1, count + 1)]))
    rows = store._db.execute(schema.READ, {"box": 1, "after": 0, "most": 10**9}).fetchall()
    assert len(rows) == 1
    assert rows[0][2] == b"".join(b"%d." % n for n in range(1, count + 1))


def test_a_message_alone_writes_two_pages(store: SqliteStore, path: Path) -> None:
    """That of its mailbox and that of its sender's session: a bare commit of SQLite writes one."""
    store.commit(Batch(boxes=[BOB], senders=[Sender(1, b"session", 0, 0)]))
    before = _frames(path)
    for number in range(1, 101):
        segment = Segment(1, number, number, 0, b"MAIL %d ann Bob :%s\n" % (number, b"x" * 64))
        store.commit(Batch(segments=[segment], senders=[Sender(1, b"session", number, 0)]))
    assert 200 <= _frames(path) - before <= 220  # now and then a page is split


def _frames(path: Path) -> int:
    """Pages in the log of a store that was just made: what follows them is zeros."""
    log = Path(f"{path}-wal").read_bytes()
    return sum(log[at : at + 4] != bytes(4) for at in range(32, len(log), 4096 + 24))


def test_the_log_is_written_over(store: SqliteStore, path: Path) -> None:
    """It is copied into the database when `tidy` is called or when it is very long, and then begun again."""
    log = Path(f"{path}-wal")
    store.commit(Batch(boxes=[BOB]))
    longest = 0
    for number in range(1, 40):
        store.commit(
            Batch(segments=[Segment(1, number, number, 0, b"x" * 1_000_000)], floors={1: number - 1})
        )
        longest = max(longest, log.stat().st_size)
        store.tidy()
    assert longest <= sqlite._AT_LAST * 4096  # as long as it was made at first
    for number in range(40, 140):
        store.commit(
            Batch(segments=[Segment(1, number, number, 0, b"x" * 1_000_000)], floors={1: number - 1})
        )
        longest = max(longest, log.stat().st_size)
    assert longest < (sqlite._AT_LAST + 2 * 300) * 4200
    assert path.stat().st_size < 5_000_000, "pages of what was dropped are not used again"


# The file and who may use it


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store = SqliteStore(tmp_path / "a" / "b" / "relay.db")
    finally:
        os.umask(old)
    store.commit(Batch(boxes=[BOB]))
    modes = {
        str(each.relative_to(tmp_path)): oct(each.stat().st_mode & 0o777)
        for each in sorted((tmp_path / "a").rglob("*"))
    }
    store.close()
    assert modes == {"a/b": "0o700", "a/b/relay.db": "0o600", "a/b/relay.db-wal": "0o600"}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    path.touch(0o644)
    SqliteStore(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "hailer" / "relay.db"
    monkeypatch.setenv("HOME", "/home/me")
    for ignored in ("", "not/absolute"):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert default_path() == Path("/home/me/.local/state/hailer/relay.db")


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"kept in .*file/relay.db \(.*\): correct that"):
        SqliteStore(tmp_path / "file" / "relay.db")
    with pytest.raises(StoreError, match="no regular file"):
        SqliteStore(tmp_path)


OPEN = """
import sys
from hailer.errors import StoreError
from hailer.relay.store.sqlite import SqliteStore
try:
    store = SqliteStore(sys.argv[1])
except StoreError as error:
    print("refused:", error)
else:
    print("opened", len(store.load().boxes), flush=True)
    if sys.argv[2:]:
        sys.stdin.readline()
"""


def test_a_second_relay_on_the_file_is_refused(store: SqliteStore, path: Path) -> None:
    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True, timeout=30
        ).stdout

    store.load()
    refused = f"{path} is in use, perhaps by another relay: stop that one, or name another file (--store)"
    assert other() == f"refused: {refused}\n"
    store.commit(Batch(boxes=[BOB]))
    with pytest.raises(StoreError, match="in use"):
        SqliteStore(path)
    assert other() == f"refused: {refused}\n", "a second store in this process took the lock away"
    assert store.commit(Batch(segments=[HELLO])) == {}
    store.close()
    assert other() == "opened 1\n"


def test_the_lock_is_gone_with_a_killed_process(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OPEN, str(path), "stay"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"opened 0\n"
        with pytest.raises(StoreError, match="in use"):
            SqliteStore(path)
        child.kill()
    SqliteStore(path).close()


# Versions of the tables


def test_older_tables_become_those_of_today(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = SqliteStore(path)
    older.commit(Batch(age=3, boxes=[BOB], segments=[HELLO]))
    older.close()
    more = (("ALTER TABLE boxes ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'",), ("CREATE TABLE more (x)",))
    monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, *more))
    for _ in range(2):  # the second time there is nothing to do
        newer = SqliteStore(path)
        assert newer.load() == Loaded(
            age=3, boxes=[BOB._replace(last=1, size=len(HELLO.data))], next_box=2, next_entry=1
        )
        assert newer.read(1, 0, 100) == Page(1, 1, HELLO.data)
        newer.close()
    assert raw(path, "SELECT colour FROM boxes") == [("red",)]
    assert raw(path, "PRAGMA user_version") == [(len(schema.STEPS),)]
    # A new file goes through all of them too.
    SqliteStore(path.with_name("new.db")).close()
    assert raw(path.with_name("new.db"), "SELECT count(colour) FROM boxes") == [(0,)]


def test_a_change_of_the_tables_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteStore(path).close()
    before = raw(path, "SELECT sql FROM sqlite_master ORDER BY name")
    steps = (*schema.STEPS, ("CREATE TABLE more (x)", "INSERT INTO missing VALUES (1)"))
    monkeypatch.setattr(schema, "STEPS", steps)
    with pytest.raises(StoreError, match="no such table: "):
        SqliteStore(path)
    assert raw(path, "SELECT sql FROM sqlite_master ORDER BY name") == before
    assert raw(path, "PRAGMA user_version") == [(len(steps) - 1,)]


def test_tables_of_a_newer_hailer_are_refused(path: Path) -> None:
    SqliteStore(path).close()
    raw(path, "PRAGMA user_version = 99")
    with pytest.raises(StoreError, match=r"written by a newer hailer .*version 99.*: use that one"):
        SqliteStore(path)


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE mine (x)"],
        ["PRAGMA application_id = 7"],
        ["PRAGMA user_version = 1"],
        ["PRAGMA journal_mode = WAL", "CREATE TABLE mine (x)"],
    ],
)
def test_the_database_of_another_program_is_left_alone(path: Path, statements: list[str]) -> None:
    raw(path, *statements)
    path.chmod(0o664)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is a database of another program: name another file"):
        SqliteStore(path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o664


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_text("shopping list: bread, milk\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"is no store of mail: name another file"):
        SqliteStore(path)
    assert path.read_bytes() == before


# Many, and errors


@pytest.mark.parametrize("boxes", [1, 100, 5000])
def test_a_million_waiting_messages_are_opened_within_a_second(path: Path, boxes: int) -> None:
    """The worst case: each of them a segment of its own."""
    SqliteStore(path).close()
    count = 1_000_000 // boxes
    upto = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n"
    raw(
        path,
        "PRAGMA synchronous = OFF",
        "PRAGMA journal_mode = OFF",
        f"INSERT INTO boxes SELECT i, x'61', x'61', 0, 0, 0, 0, '' FROM ({upto.format(boxes)})",
        f"UPDATE relay SET next_box = {boxes + 1}",
        "INSERT INTO senders SELECT number, x'0102030405060708', 5, 6 FROM boxes",
        f"""INSERT INTO segments SELECT number, i, i, 0, i * 40, zeroblob(40)
            FROM boxes CROSS JOIN ({upto.format(count)})""",
    )
    took = []
    for _ in range(3):  # the machine may have something else to do
        began = time.perf_counter()
        store = SqliteStore(path)
        loaded = store.load()
        took.append(time.perf_counter() - began)
        try:
            assert len(loaded.boxes) == len(loaded.senders) == boxes
            assert {(box.last, box.size) for box in loaded.boxes} == {(count, count * 40)}
            assert store.read(boxes, count - 1, 1000) == Page(count, count, bytes(40))
        finally:
            store.close()
    most = 1.0 if LONG else 10.0  # a short run shares its machine with other tests
    assert min(took) < most, f"opening a store with 1,000,000 messages in {boxes} mailboxes took {took} s"


def test_what_is_loaded_may_be_longer_than_a_value_of_sqlite(store: SqliteStore) -> None:
    """A thousand million bytes, which 70,000 names in a hundred rooms each come to."""
    boxes = [Box(n, b"%d" % n, b"%d" % n, 0, 0, 0, 0, False, "") for n in range(1, 4001)]
    members = [Member(b"#room", box.number) for box in boxes]
    store.commit(Batch(boxes=boxes, joined=members))
    store._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    loaded = store.load()
    assert loaded.boxes == boxes
    assert loaded.members == members


def test_after_an_error_nothing_is_taken_until_it_recovered(store: SqliteStore) -> None:
    store.commit(Batch(boxes=[BOB], segments=[HELLO]))
    with pytest.raises(StoreError, match="UNIQUE constraint failed"):
        # An entry that is there already: half of the batch had been written before.
        store.commit(Batch(boxes=[BOB._replace(number=2)], segments=[HELLO._replace(box=2), HELLO]))
    with pytest.raises(StoreError, match="UNIQUE constraint failed"):
        store.commit(Batch(age=5))
    store.tidy()
    assert store.read(1, 0, 100) == Page(1, 1, HELLO.data), "what is stored cannot be read"
    held = store.recover()
    assert held == Loaded(boxes=[BOB._replace(last=1, size=len(HELLO.data))], next_box=2)
    assert store.commit(Batch(segments=[HELLO._replace(first=2, last=2)], floors={1: 1})) == {
        1: len(HELLO.data)
    }


def test_a_damaged_file_is_told(path: Path) -> None:
    store = SqliteStore(path)
    store.commit(Batch(boxes=[BOB], segments=[HELLO._replace(data=bytes(100_000))]))
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    with pytest.raises(StoreError, match=r"is damaged: put it aside"):  # noqa: PT012
        store = SqliteStore(path)
        try:
            store.load()
        finally:
            store.close()


def test_a_closed_store_says_so(store: SqliteStore, path: Path) -> None:
    store.close()
    store.close()
    store.tidy()
    for use in (store.load, store.recover, lambda: store.read(1, 0, 1), lambda: store.commit(Batch(age=1))):
        with pytest.raises(StoreError, match=r"was closed: open it again"):
            use()
