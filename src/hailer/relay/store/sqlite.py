"""Mail that is kept in a file, by SQLite: what was committed survives a power cut.

How it is kept so:

- Write-ahead log and synchronous=FULL: a commit ends with an fsync of the log. Both are read back when the
  store is opened. (On macOS fullfsync too, without which the disk's own cache is not flushed.)
- One connection writes, reads and makes checkpoints, and holds the file's lock as long as it is open: a
  second relay on the same file is refused, and no checkpoint ever meets a writer.
- A commit is one step of one statement (see `schema`), in a transaction of its own.
- A failed fsync is never tried again: the system may have thrown away what it could not write, and say the
  next time that all is well. After any error the batch is rolled back, which makes the log end where it
  ended before, and nothing more is taken until `recover`. That first copies all of the log that was flushed
  into the database, flushes that and cuts the log to nothing, so that a new log is begun whose every byte is
  new; then makes a real commit in it. Only when both have worked is anything taken again. (A checkpoint that
  failed may be tried again as it is: it writes every page anew, and the log keeps them until one has been
  flushed.)
- What a log holds that is found when the store is opened is written and flushed again before anything is said
  of it: the process that left it may have been killed before its flush, or after one that failed.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hailer.errors import StoreError
from hailer.relay.core.batch import Box, Loaded, Member, Page, Segment, Sender
from hailer.relay.store import schema
from hailer.relay.store.place import flush_again, lengthen, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hailer.relay.core.batch import Batch

__all__ = ["SqliteStore"]

_PAGE = 4096

# Mailboxes that are loaded at once, with all that is theirs.
_PART = 1000

# Pages of the log after which a checkpoint is due, and after which it is not put off any longer. SQLite's own
# habit is 1,000. A page that was changed often is copied once, so that a longer log saves something; but a
# log that grows costs a commit more than twice of what one does that is written over, as its length is to be
# flushed too, and it is read as a whole after a crash.
_DUE = 1000
_AT_LAST = 2 * _DUE

_JOINED = (
    "SELECT CAST(group_concat(piece, '') AS BLOB) FROM (SELECT x'00ff0a' AS piece UNION ALL SELECT x'80')"
)


class SqliteStore:
    """A `hailer.relay.store.base.Store` in one file.

    Args:
        path: the file; it and its directories are made, for this user alone.

    Raises:
        StoreError: it cannot be opened, is used by another relay, or is not ours.
    """

    _synchronous = "FULL"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100 (links are left as they are)
        self._broken = self._closed = ""
        self._totals: dict[int, int] = {}
        self._pages = 0
        # What the relay's row holds, which posts alone need not write.
        self._age = self._next_entry = -1
        mode = prepare(self.path)
        with self._told():
            self._db = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with self._told():
                self._set_up()
        except BaseException:
            self._db.close()
            if mode is not None:
                with suppress(OSError):
                    self.path.chmod(mode)  # it may be somebody else's
            raise

    def load(self) -> Loaded:
        """All that is held but the entries."""
        with self._told():
            name, age, next_box, next_entry = self._one(schema.LOAD)
        self._age, self._next_entry = age, next_entry
        loaded = Loaded(store=name, age=age, next_box=next_box, next_entry=next_entry)
        for first in range(0, next_box, _PART):
            self._load_part(loaded, first)
        return loaded

    def _load_part(self, loaded: Loaded, first: int) -> None:
        with self._told():
            boxes, senders, members = self._one(schema.LOAD_PART, {"first": first, "end": first + _PART})
        for number, key, name, last, floor, size, used, notices, gaps, total in json.loads(boxes):
            loaded.boxes.append(
                Box(number, _bytes(key), _bytes(name), last, floor, size, used, bool(notices), gaps)
            )
            self._totals[number] = total
        loaded.senders += [
            Sender(box, _bytes(id_), stored, used) for box, id_, stored, used in json.loads(senders)
        ]
        loaded.members += [Member(_bytes(room), box) for room, box in json.loads(members)]

    def commit(self, batch: Batch) -> dict[int, int]:
        """Put a batch on disk."""
        if self._broken:
            raise StoreError(self._broken)
        if self._pages >= _AT_LAST:
            self._checkpoint("PASSIVE")
        known = batch.age <= self._age and batch.next_entry <= self._next_entry
        if known and _is_one_post(batch):
            self._commit_one(batch.segments[0], batch.senders[0])
            return {}
        written = _Written(batch, self._totals)
        with self._told(refuse=True):
            if written.floors:
                [weighed] = self._one(schema.WEIGH, (written.floors,))
                written.freed.update(
                    {box: freed + written.freed.get(box, 0) for box, freed in json.loads(weighed)}
                )
            if known and written.posts is not None:
                self._db.execute(schema.POSTS, written.posts)
            else:
                self._db.execute(schema.INSERT, written.row)
                self._age = max(self._age, batch.age)
                self._next_entry = max(self._next_entry, batch.next_entry)
        self._totals.update(written.totals)
        for box in batch.forgotten:
            self._totals.pop(box, None)
        self._pages += written.pages
        return written.freed

    def _commit_one(self, segment: Segment, sender: Sender) -> None:
        """Put a batch on disk that is one post, for whose sender each microsecond is one of waiting."""
        box, first, last, at, data = segment
        total = self._totals.get(box, 0) + len(data)
        with self._told(refuse=True):
            self._db.execute(schema.POST, (box, last, first, at, total, data, *sender))
        self._totals[box] = total
        self._pages += 3 + len(data) // _PAGE

    def read(self, box: int, after: int, most: int) -> Page:
        """Read entries of a mailbox."""
        with self._told():
            first, last, data, size = self._one(schema.READ, {"box": box, "after": after, "most": most})
        if first is None:
            return Page(0, 0, b"")
        if len(data) != size:
            raise StoreError(
                f"{self.path} is damaged: entries {first} to {last} of mailbox {box} are not whole"
            )
        return Page(first, last, data)

    def older(self, at: int, most: int) -> list[Segment]:
        """The oldest segments of each mailbox that were accepted before an age of the relay."""
        with self._told():
            rows, data = self._one(schema.OLDER, {"at": at, "most": most})
        found, start = [], 0
        for box, first, last, accepted, size in json.loads(rows):
            found.append(Segment(box, first, last, accepted, data[start : start + size]))
            start += size
        return found

    def recover(self) -> Loaded:
        """Begin a new log, and see whether a test commit reaches the disk."""
        with self._told(refuse=True):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        self._checkpoint("TRUNCATE")
        with self._told(refuse=True):
            self._db.execute("UPDATE relay SET recoveries = recoveries + 1")
        self._totals.clear()
        loaded = self.load()
        self._broken = ""
        return loaded

    def tidy(self) -> None:
        """Make a checkpoint if the log is long enough for one: some 10 ms, for which nobody waits now."""
        if self._pages >= _DUE and not self._broken:
            self._checkpoint("PASSIVE")

    def close(self) -> None:
        """Close the file; the log goes into it."""
        self._closed = self._broken = f"{self.path} was closed: open it again"
        self._db.close()

    def _set_up(self) -> None:
        db = self._db
        # First of all, so that the log has no index that is shared: it is used by this connection alone.
        db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        if self._one(_JOINED) != (b"\x00\xff\x0a\x80",):  # older ones end at the first NUL
            raise StoreError(
                f"SQLite {sqlite3.sqlite_version} is too old to keep mail with: use a newer Python"
            )
        db.execute("PRAGMA temp_store = MEMORY")
        version = schema.version_of(db, self.path)  # from here on the lock is held
        flush_again(Path(f"{self.path}-wal"))
        schema.migrate(db, version)
        # FAST: deleted mail is overwritten where that writes no page more than the deletion does.
        for setting in (
            "secure_delete = FAST",
            "fullfsync = ON",
            "checkpoint_fullfsync = ON",
            "cache_size = -16384",
            f"journal_size_limit = {(_AT_LAST + _DUE) * _PAGE}",
        ):
            db.execute(f"PRAGMA {setting}").fetchall()
        for name, setting, wanted in (
            ("journal_mode", "WAL", "wal"),
            ("synchronous", self._synchronous, {"NORMAL": 1, "FULL": 2}[self._synchronous]),
            ("wal_autocheckpoint", "0", 0),
            ("locking_mode", "EXCLUSIVE", "exclusive"),
        ):
            db.execute(f"PRAGMA {name} = {setting}").fetchall()
            [is_now] = self._one(f"PRAGMA {name}")
            if is_now != wanted:
                raise StoreError(
                    f"mail cannot be kept safely in {self.path} (SQLite's {name} is {is_now}, not {wanted}):"
                    " name a file on another disk"
                )
        for statement in schema.PREPARE:
            db.execute(statement)
        lengthen(Path(f"{self.path}-wal"), _AT_LAST * _PAGE)

    def _checkpoint(self, how: str) -> None:
        """Copy the log into the database and flush that; what is written next begins the log again."""
        with self._told(refuse=True):
            busy, frames, copied = self._one(f"PRAGMA wal_checkpoint({how})")
            if busy or frames != copied:
                raise sqlite3.OperationalError(f"only {copied} of {frames} pages of the log were copied")
        self._pages = 0

    def _one(self, sql: str, values: tuple[str, ...] | dict[str, int] = ()) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._db.execute(sql, values).fetchone()
        return row

    @contextmanager
    def _told(self, *, refuse: bool = False) -> Iterator[None]:
        """Make errors of SQLite sentences.

        Args:
            refuse: it is then not known what is on disk: roll back, and take no more until `recover`.
        """
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            sentence = self._closed or _sentence(self.path, error)
            if refuse:
                self._broken = sentence
                if not self._closed and self._db.in_transaction:
                    with suppress(sqlite3.Error):  # `recover` tries again
                        self._db.execute("ROLLBACK")
            raise StoreError(sentence) from error


def _is_one_post(batch: Batch) -> bool:
    return len(batch.segments) == len(batch.senders) == 1 and not (
        batch.boxes
        or batch.floors
        or batch.forgotten_senders
        or batch.joined
        or batch.left
        or batch.forgotten
    )


class _Written:
    """A batch as the view takes it: JSON for each list, and one run of bytes that it points into.

    Args:
        batch: what is to be written.
        totals: by mailbox, the bytes of its segments until now.

    Attributes:
        row: the values of `schema.INSERT`.
        posts: those of `schema.POSTS`; None if there is more to write.
        floors: those of `schema.WEIGH`; empty if nothing is dropped.
        freed: bytes of segments that are dropped before they were ever written.
        totals: what changes of the argument.
        pages: of the log, at most.
    """

    __slots__ = ("_data", "_size", "floors", "freed", "pages", "posts", "row", "totals")

    def __init__(self, batch: Batch, totals: dict[int, int]) -> None:
        # Counted from 1; the first is nobody's, so that there always is one.
        self._data = [b"."]
        self._size = 2
        self.freed = dict.fromkeys(batch.floors, 0)
        self.totals: dict[int, int] = {}
        put = self._put
        newest: dict[int, int] = {}
        segments = []
        for box, first, last, at, data in batch.segments:
            if batch.floors and last <= batch.floors.get(box, 0):
                self.freed[box] += len(data)
                newest[box] = last
                continue
            total = self.totals.get(box)
            self.totals[box] = total = (totals.get(box, 0) if total is None else total) + len(data)
            segments.append((box, last, first, at, total, *put(data)))
        boxes = [
            (
                box.number,
                *put(box.key),
                *put(box.name),
                box.last,
                box.floor,
                box.used,
                int(box.notices),
                box.gaps,
            )
            for box in batch.boxes
        ]
        floors = [(box, floor, newest.get(box, 0)) for box, floor in batch.floors.items()]
        senders = [(box, *put(id_), stored, used) for box, id_, stored, used in batch.senders]
        forgotten_senders = [(box, *put(id_)) for box, id_ in batch.forgotten_senders]
        joined = [(box, *put(room.lower()), *put(room)) for room, box in batch.joined]
        left = [(box, *put(room.lower())) for room, box in batch.left]
        lists: tuple[Sequence[object], ...] = (
            boxes,
            segments,
            floors,
            senders,
            forgotten_senders,
            joined,
            left,
            batch.forgotten,
        )
        self.floors = _json(floors)
        self.row = (
            batch.age,
            max((box.number for box in batch.boxes), default=0) + 1,
            batch.next_entry,
            *map(_json, lists),
            b"".join(self._data),
        )
        others = (boxes, floors, forgotten_senders, joined, left, batch.forgotten)
        self.posts = None if any(others) else (_json(segments), _json(senders), self.row[-1])
        self.pages = 2 + sum(len(rows) for rows in lists) + self._size // _PAGE

    def _put(self, data: bytes) -> tuple[int, int]:
        at = self._size
        self._data.append(data)
        self._size = at + len(data)
        return at, len(data)


def _json(rows: Sequence[object]) -> str | None:
    return json.dumps(rows, separators=(",", ":")) if rows else None


_bytes = bytes.fromhex

# By primary result code (https://www.sqlite.org/rescode.html).
_SENTENCES = {
    sqlite3.SQLITE_FULL: "the disk of {path} is full: make room, and mail is taken again",
    sqlite3.SQLITE_IOERR: "{path} cannot be read or written ({name}): look at its disk and the system's log",
    sqlite3.SQLITE_BUSY: (
        "{path} is in use, perhaps by another relay: stop that one, or name another file (--store)"
    ),
    sqlite3.SQLITE_NOTADB: "{path} is no store of mail: name another file",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged: put it aside, and take a copy of it back or begin without",
    sqlite3.SQLITE_READONLY: "{path} cannot be written ({name}): give this user the right to",
    sqlite3.SQLITE_CANTOPEN: "{path} cannot be opened ({name}): give this user the right to",
}


def _sentence(path: Path, error: sqlite3.Error | OSError) -> str:
    if isinstance(error, OSError):
        name = str(error.strerror)
        code = sqlite3.SQLITE_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else sqlite3.SQLITE_IOERR
    else:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        name = getattr(error, "sqlite_errorname", type(error).__name__)
    sentence = _SENTENCES.get(
        code, "mail cannot be kept in {path} ({name}: {error}): restart the relay, and report it"
    )
    return sentence.format(path=path, name=name, error=error)
