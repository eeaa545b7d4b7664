"""The tables of a store in SQLite, how older ones become today's, and the one statement that writes.

A batch is written by a single INSERT into a view, whose trigger puts each part where it belongs. So a
commit is one step of one statement, however many rows it has: each step gives Python's global lock up, and
beside an event loop that is busy may wait 5 ms to have it again. The view and the trigger are temporary:
they belong to the connection, not to the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = [
    "APPLICATION_ID",
    "INSERT",
    "LOAD",
    "LOAD_PART",
    "OLDER",
    "POST",
    "POSTS",
    "PREPARE",
    "READ",
    "STEPS",
    "WEIGH",
    "migrate",
    "version_of",
]

APPLICATION_ID = 0x6861696C
"""What marks a file as ours (``hail``), in the header of every SQLite database."""

STEPS: tuple[tuple[str, ...], ...] = (
    (
        # One row. `recoveries` is there to have something to write in a test commit.
        """CREATE TABLE relay (
            id INTEGER PRIMARY KEY CHECK (id = 1), age INTEGER NOT NULL, next_box INTEGER NOT NULL,
            next_entry INTEGER NOT NULL, recoveries INTEGER NOT NULL, name TEXT NOT NULL)""",
        "INSERT INTO relay VALUES (1, 0, 1, 1, 0, lower(hex(randomblob(6))))",
        # `last` is what was the newest entry when entries were dropped; the segments know of newer ones.
        """CREATE TABLE boxes (
            number INTEGER PRIMARY KEY, "key" BLOB NOT NULL, name BLOB NOT NULL, last INTEGER NOT NULL,
            floor INTEGER NOT NULL, used INTEGER NOT NULL, notices INTEGER NOT NULL, gaps TEXT NOT NULL)""",
        # `total`: the bytes of this and of earlier segments of its mailbox. The first and the last
        # segment's give the mailbox's size, and a page's end is found without adding up.
        """CREATE TABLE segments (
            box INTEGER NOT NULL, last INTEGER NOT NULL, first INTEGER NOT NULL, at INTEGER NOT NULL,
            total INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (box, last)) WITHOUT ROWID""",
        """CREATE TABLE senders (
            box INTEGER NOT NULL, id BLOB NOT NULL, stored INTEGER NOT NULL, used INTEGER NOT NULL,
            PRIMARY KEY (box, id)) WITHOUT ROWID""",
        """CREATE TABLE members (
            box INTEGER NOT NULL, "key" BLOB NOT NULL, room BLOB NOT NULL,
            PRIMARY KEY (box, "key")) WITHOUT ROWID""",
    ),
)
"""What makes each version of the tables out of the one before, the first out of nothing. Only added to."""


def _row(*columns: str) -> str:
    """SQL that takes apart an item of a JSON array: ``.`` before a column is for bytes, kept in `data`."""
    parts, at = [], 0
    for column in columns:
        if column.startswith("."):
            # None of no bytes is NULL.
            piece = f"substr(NEW.data, json_extract(value, '$[{at}]'), json_extract(value, '$[{at + 1}]'))"
            parts.append(f"coalesce({piece}, x'') AS \"{column[1:]}\"")
            at += 2
        else:
            parts.append(f"json_extract(value, '$[{at}]') AS \"{column}\"")
            at += 1
    return ", ".join(parts)


_INSERT_SEGMENTS = f"""INSERT INTO segments (box, last, first, at, total, data)
            SELECT {_row("box", "last", "first", "at", "total", ".data")} FROM json_each(NEW.segments);"""  # noqa: S608
_INSERT_SENDERS = f"""INSERT INTO senders (box, id, stored, used)
            SELECT {_row("box", ".id", "stored", "used")} FROM json_each(NEW.senders) WHERE true
            ON CONFLICT (box, id) DO UPDATE SET stored = excluded.stored, used = excluded.used;"""  # noqa: S608

PREPARE = (
    """CREATE TEMP VIEW batch AS SELECT NULL AS age, NULL AS next_box, NULL AS next_entry, NULL AS boxes,
        NULL AS segments, NULL AS floors, NULL AS senders, NULL AS forgotten_senders, NULL AS joined,
        NULL AS parted, NULL AS forgotten, NULL AS data""",
    # A list that is NULL has no rows.
    f"""CREATE TEMP TRIGGER write_batch INSTEAD OF INSERT ON batch BEGIN
        UPDATE relay SET age = max(age, NEW.age), next_box = max(next_box, NEW.next_box),
            next_entry = max(next_entry, NEW.next_entry)
            WHERE age < NEW.age OR next_box < NEW.next_box OR next_entry < NEW.next_entry;
        INSERT INTO boxes (number, "key", name, last, floor, used, notices, gaps)
            SELECT {_row("number", ".key", ".name", "last", "floor", "used", "notices", "gaps")}
            FROM json_each(NEW.boxes) WHERE true
            ON CONFLICT (number) DO UPDATE SET "key" = excluded."key", name = excluded.name,
                last = max(last, excluded.last), floor = max(floor, excluded.floor), used = excluded.used,
                notices = excluded.notices, gaps = excluded.gaps;
        {_INSERT_SEGMENTS}
        UPDATE boxes SET floor = max(boxes.floor, new_floor), last = max(boxes.last, new_last,
                coalesce((SELECT max(s.last) FROM segments s WHERE s.box = number), 0))
            FROM (SELECT {_row("of", "new_floor", "new_last")} FROM json_each(NEW.floors))
            WHERE number = of;
        DELETE FROM segments WHERE (box, last) IN (
            SELECT s.box, s.last FROM (SELECT {_row("of", "upto")} FROM json_each(NEW.floors))
            CROSS JOIN segments s ON s.box = of AND s.last <= upto);
        {_INSERT_SENDERS}
        DELETE FROM senders WHERE (box, id) IN (
            SELECT {_row("box", ".id")} FROM json_each(NEW.forgotten_senders));
        INSERT INTO members (box, "key", room)
            SELECT {_row("box", ".key", ".room")} FROM json_each(NEW.joined) WHERE true
            ON CONFLICT (box, "key") DO UPDATE SET room = excluded.room;
        DELETE FROM members WHERE (box, "key") IN (
            SELECT {_row("box", ".key")} FROM json_each(NEW.parted));
        DELETE FROM segments WHERE box IN (SELECT value FROM json_each(NEW.forgotten));
        DELETE FROM senders WHERE box IN (SELECT value FROM json_each(NEW.forgotten));
        DELETE FROM members WHERE box IN (SELECT value FROM json_each(NEW.forgotten));
        DELETE FROM boxes WHERE number IN (SELECT value FROM json_each(NEW.forgotten));
    END""",  # noqa: S608 (made of constants)
    "CREATE TEMP VIEW posts AS SELECT NULL AS segments, NULL AS senders, NULL AS data",
    f"""CREATE TEMP TRIGGER write_posts INSTEAD OF INSERT ON posts BEGIN
        {_INSERT_SEGMENTS}
        {_INSERT_SENDERS}
    END""",
    """CREATE TEMP VIEW post AS SELECT NULL AS box, NULL AS last, NULL AS first, NULL AS at, NULL AS total,
        NULL AS data, NULL AS owner, NULL AS id, NULL AS stored, NULL AS used""",
    """CREATE TEMP TRIGGER write_post INSTEAD OF INSERT ON post BEGIN
        INSERT INTO segments (box, last, first, at, total, data)
            VALUES (NEW.box, NEW.last, NEW.first, NEW.at, NEW.total, NEW.data);
        INSERT INTO senders (box, id, stored, used) VALUES (NEW.owner, NEW.id, NEW.stored, NEW.used)
            ON CONFLICT (box, id) DO UPDATE SET stored = excluded.stored, used = excluded.used;
    END""",
)
"""What each connection needs before `INSERT`."""

POST = f"INSERT INTO post VALUES ({', '.join('?' * 10)})"  # noqa: S608
"""Writes one segment and its sender, in half the time again."""

POSTS = "INSERT INTO posts VALUES (?, ?, ?)"
"""Writes a batch of nothing but segments and senders, in half the time: one step, too."""

INSERT = f"INSERT INTO batch VALUES ({', '.join('?' * 12)})"  # noqa: S608
"""Writes a batch and commits it: one step."""

# Everything that is read is gathered into one row, for the same reason.

WEIGH = """
    SELECT json_group_array(json_array(of, coalesce(
        (SELECT total FROM segments WHERE box = of AND last <= upto ORDER BY last DESC LIMIT 1)
        - (SELECT total - length(data) FROM segments WHERE box = of ORDER BY last LIMIT 1), 0)))
    FROM (SELECT json_extract(value, '$[0]') AS of, json_extract(value, '$[1]') AS upto FROM json_each(?))"""
"""How many bytes floors will drop."""

# The page ends before the first segment with which it would be over its limit, or after the first segment.
READ = """
    SELECT min(first), max(last), CAST(group_concat(data, '') AS BLOB), max(total) - min(total - length(data))
    FROM (SELECT first, last, total, data FROM segments
        WHERE box = :box AND last > :after AND last < max(
            1 + (SELECT last FROM segments WHERE box = :box AND last > :after ORDER BY last LIMIT 1),
            coalesce((SELECT last FROM segments WHERE box = :box AND last > :after AND total > :most +
                (SELECT total - length(data) FROM segments WHERE box = :box AND last > :after
                    ORDER BY last LIMIT 1)
                ORDER BY last LIMIT 1), 9223372036854775807))
        ORDER BY last)"""

# Segments of a mailbox are in order of age too, so that each mailbox is looked at up to the first young one.
OLDER = """
    SELECT json_group_array(json_array(box, first, last, at, length(data))),
        CAST(group_concat(data, '') AS BLOB)
    FROM (SELECT s.box, s.first, s.last, s.at, s.data FROM boxes CROSS JOIN segments s
        ON s.box = number AND s.last < coalesce((SELECT young.last FROM segments young
            WHERE young.box = number AND young.at >= :at ORDER BY young.last LIMIT 1), 9223372036854775807)
        ORDER BY number, s.last LIMIT :most)"""

LOAD = "SELECT name, age, next_box, next_entry FROM relay"

# A part at a time, by the numbers of mailboxes: SQLite has no value of more than 10**9 bytes.
LOAD_PART = """
    SELECT
        (SELECT json_group_array(json_array(number, hex("key"), hex(name), max(last, coalesce(newest, 0)),
            floor, coalesce(total - start, 0), used, notices, gaps, coalesce(total, 0)))
            FROM (SELECT *,
                (SELECT s.last FROM segments s WHERE s.box = number ORDER BY s.last DESC LIMIT 1) AS newest,
                (SELECT total FROM segments s WHERE s.box = number ORDER BY s.last DESC LIMIT 1) AS total,
                (SELECT total - length(data) FROM segments s WHERE s.box = number ORDER BY s.last LIMIT 1)
                    AS start
                FROM boxes WHERE number >= :first AND number < :end)),
        (SELECT json_group_array(json_array(box, hex(id), stored, used)) FROM senders
            WHERE box >= :first AND box < :end),
        (SELECT json_group_array(json_array(hex(room), box)) FROM members
            WHERE box >= :first AND box < :end)"""


def version_of(db: sqlite3.Connection, path: Path) -> int:
    """The version of a file's tables; 0 if it is empty.

    Raises:
        StoreError: the file is something else, or of a newer hailer.
    """
    [(application,)] = db.execute("PRAGMA application_id").fetchall()
    [(version,)] = db.execute("PRAGMA user_version").fetchall()
    [(tables,)] = db.execute("SELECT count(*) FROM sqlite_master").fetchall()
    if application != APPLICATION_ID and (application or version or tables):
        raise StoreError(f"{path} is a database of another program: name another file to keep mail in")
    if version > len(STEPS):
        raise StoreError(
            f"{path} was written by a newer hailer (its tables are of version {version}, known here are those"
            f" up to {len(STEPS)}): use that one, or name another file to keep mail in"
        )
    return int(version)


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Make today's tables of those of a version: all of it, or nothing."""
    if version == len(STEPS):
        return
    db.execute("BEGIN IMMEDIATE")
    for step in STEPS[version:]:
        for statement in step:
            db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {len(STEPS)}")
    db.execute("COMMIT")
