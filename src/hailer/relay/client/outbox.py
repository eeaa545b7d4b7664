"""An outbox on disk: what was posted and is not known to be stored outlives the program.

A post is in the outbox before it is sent, and leaves it after the relay has said that it is stored. The
session's id and the number of the last stored post are kept with the posts and change with them in one
transaction: a post's number is its place after that one, also after a restart.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hailer.errors import StoreError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Changes", "Held", "Outbox"]

_APPLICATION = 0x68616F62
"""What the file says that it is: "haob", for a hailer outbox."""

_VERSION = 1

_SCHEMA = (
    "create table session(one integer primary key check (one = 1), name text, id text, stored integer)",
    "create table post(key integer primary key, receiver text, payload blob)",
    "create table refused(key integer primary key, receiver text, payload blob, code text, explanation text)",
    f"pragma application_id = {_APPLICATION}",
    f"pragma user_version = {_VERSION}",
)


@dataclass(slots=True)
class Changes:
    """One commit.

    Attributes:
        added: posts: key, receiver, payload.
        session: the id of a new session, which has nothing stored.
        stored: every post of the session up to this number is stored; None: as before.
        stored_key: posts up to this key leave the outbox.
        refused: posts to put aside: key, code, explanation.
        told: keys of posts that were put aside and need not be kept.
    """

    added: list[tuple[int, str, bytes]] = field(default_factory=list)
    session: str | None = None
    stored: int | None = None
    stored_key: int = 0
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)

    def begin(self, session: str) -> None:
        """A new session begins with the posts that are there."""
        self.session, self.stored = session, 0


@dataclass(frozen=True, slots=True)
class Held:
    """What an outbox holds.

    Attributes:
        session: the session's id.
        stored: every post of it up to this number is stored.
        last_key: the highest key that was ever given out, as far as one can tell.
        posts: key, receiver, payload; in order.
        refused: key, receiver, payload, code, explanation.
    """

    session: str
    stored: int
    last_key: int
    posts: list[tuple[int, str, bytes]]
    refused: list[tuple[int, str, bytes, str, str]]


class Outbox:
    """The file; used by one thread.

    Args:
        path: where it is. It is made, for its owner alone, if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database: sqlite3.Connection | None = None

    def open(self, name: str, session: str) -> Held:
        """Open it, and keep every other process out.

        Args:
            name: who posts.
            session: the session of a new outbox.

        Raises:
            UsageError: it is another name's or another program's, or in use, or others can read it.
            StoreError: it cannot be read or written.
        """
        self._check_file()
        try:
            self._database = sqlite3.connect(
                self.path, isolation_level=None, timeout=0, check_same_thread=False
            )
            held = self._take(self._database, name, session)
        except sqlite3.Error as error:
            self.close()
            raise self._error(error) from error
        except BaseException:
            self.close()
            raise
        return held

    def commit(self, changes: Changes) -> None:
        """Put changes on disk: when this returns, they survive a power cut.

        Raises:
            StoreError: it is not known whether they do.
        """
        database = self._database
        if database is None:
            raise StoreError(f"the outbox {self.path} is closed: open it again")
        try:
            database.execute("begin")
            if changes.added:
                database.executemany("insert into post values(?, ?, ?)", changes.added)
            for key, code, explanation in changes.refused:
                database.execute(
                    "insert into refused select key, receiver, payload, ?, ? from post where key = ?",
                    (code, explanation, key),
                )
                database.execute("delete from post where key = ?", (key,))
            if changes.stored_key:
                database.execute("delete from post where key <= ?", (changes.stored_key,))
            database.executemany("delete from refused where key = ?", [(key,) for key in changes.told])
            if changes.session is not None:
                database.execute("update session set id = ?", (changes.session,))
            if changes.stored is not None:
                database.execute("update session set stored = ?", (changes.stored,))
            database.execute("commit")
        except sqlite3.Error as error:
            self.close()
            raise self._error(error) from error

    def close(self) -> None:
        """Let others open it. May be called twice."""
        if self._database is not None:
            try:
                self._database.close()
            except sqlite3.Error:
                pass  # what was committed is on disk, and no more was promised
            self._database = None

    def _check_file(self) -> None:
        """Make the file for its owner alone, or see that it is so; SQLite gives its journal the same mode."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise StoreError(f"the outbox {self.path} cannot be opened ({why}): name another file") from error
        with closing(os.fdopen(descriptor, "rb", buffering=0)) as file:
            mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(f"the outbox {self.path} is no file: name one, or one that is not there yet")
        if mode & 0o077:
            raise UsageError(
                f"the outbox {self.path} can be read by others: make it yours with chmod 600 {self.path}"
            )

    def _take(self, database: sqlite3.Connection, name: str, session: str) -> Held:
        # Exclusive from the first read on to the end: SQLite keeps the lock between transactions.
        database.execute("pragma locking_mode = exclusive")
        database.execute("begin exclusive")
        (application,) = database.execute("pragma application_id").fetchone()
        (version,) = database.execute("pragma user_version").fetchone()
        new = not database.execute("select count(*) from sqlite_master").fetchone()[0]
        database.execute("commit")
        if not new and application != _APPLICATION:
            raise UsageError(f"{self.path} is no outbox: name another file")
        if version > _VERSION:
            raise UsageError(f"the outbox {self.path} was made by a newer hailer: use that one")
        if database.execute("pragma journal_mode = wal").fetchone()[0] != "wal":
            raise StoreError(
                f"the outbox {self.path} cannot have a write-ahead log there: name another place"
            )
        database.execute("pragma synchronous = full")
        if database.execute("pragma synchronous").fetchone()[0] != 2:
            raise StoreError(f"the outbox {self.path} cannot be told to flush: use another build of SQLite")
        if new:
            database.execute("begin")
            for statement in _SCHEMA:
                database.execute(statement)
            database.execute("insert into session values(1, ?, ?, 0)", (name, session))
            database.execute("commit")
        owner, session, stored = database.execute("select name, id, stored from session").fetchone()
        if owner.lower() != name.lower():
            raise UsageError(f"the outbox {self.path} is {owner}'s: log in as {owner}, or name another file")
        posts = database.execute("select key, receiver, payload from post order by key").fetchall()
        refused = database.execute(
            "select key, receiver, payload, code, explanation from refused order by key"
        ).fetchall()
        last = max((row[0] for row in (*posts[-1:], *refused[-1:])), default=0)
        return Held(session, stored, last, posts, refused)

    def _error(self, error: sqlite3.Error) -> StoreError | UsageError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return UsageError(f"the outbox {self.path} is used by another client: wait for its end")
        if code == sqlite3.SQLITE_NOTADB:
            return UsageError(f"{self.path} is no outbox: name another file")
        if code == sqlite3.SQLITE_FULL:
            return StoreError(
                f"the outbox {self.path} cannot be written (disk full): make room, and start again with it"
            )
        return StoreError(f"the outbox {self.path} cannot be used ({error}): look at the disk")
