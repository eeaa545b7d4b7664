"""What plain SQLite does: rows of a size put in a table, so many a commit, at synchronous=FULL.

    python -m hailer.tools.bench.durable.sqlite FILE [--rows N] [--size BYTES] [--seconds S]

prints one JSON object. It is the bound of what stands on it: nothing is received, nobody is answered.
"""

from __future__ import annotations

import argparse
import sqlite3
import time

from hailer.tools.bench.relay.load import tell
from hailer.tools.bench.relay.meter import Outcome, curve_of, percentiles_of

__all__ = ["commits"]


def commits(path: str, rows: int, size: int, seconds: float) -> Outcome:
    """Commit `rows` rows of `size` bytes again and again for `seconds`; the first quarter does not count.

    Returns:
        Its figures are `stored_per_s` (rows), or the time of one commit for commits of one row.
    """
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    database.execute("CREATE TABLE mail (number INTEGER PRIMARY KEY, box INTEGER, data BLOB)")
    body = b"x" * size
    batch = [(n % 10, body) for n in range(rows)]
    waits: list[float] = []
    clock = time.perf_counter
    counting, begin = False, clock()
    end = begin + 1.25 * seconds
    while (start := clock()) < end:
        if not counting and start - begin >= seconds / 4:
            counting, begin = True, start
            waits.clear()
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO mail (box, data) VALUES (?, ?)", batch)
        database.execute("COMMIT")
        waits.append(clock() - start)
    took = clock() - begin
    database.close()
    if rows > 1:
        return Outcome({"stored_per_s": round(len(waits) * rows / took, 1)})
    curve = curve_of((wait, 1) for wait in waits)
    return Outcome(percentiles_of(curve), curve)


def main() -> None:
    """Measure once, as told on the command line."""
    parser = argparse.ArgumentParser(prog="python -m hailer.tools.bench.durable.sqlite", description=__doc__)
    parser.add_argument("file", help="the database, which must not be there")
    parser.add_argument("--rows", type=int, default=1, help="rows of a commit (default 1)")
    parser.add_argument("--size", type=int, default=64, help="bytes of a row (default 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure (default 2)")
    options = parser.parse_args()
    tell(lambda: [commits(options.file, options.rows, options.size, options.seconds)])


if __name__ == "__main__":
    main()
