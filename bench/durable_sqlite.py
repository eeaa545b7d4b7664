"""What plain SQLite does: rows of a size put in a table, so many a commit, at synchronous=FULL.

    python -m bench.durable_sqlite FILE [--rows N] [--size BYTES] [--seconds S]

prints one JSON object. It is the bound of what stands on it: nothing is received, nobody is answered.
"""

from __future__ import annotations

import argparse
import gc
import json
import sqlite3
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.load import Figures

__all__ = ["commits"]


def commits(path: str, rows: int, size: int, seconds: float) -> Figures:
    """Commit `rows` rows of `size` bytes again and again for `seconds`; the first quarter does not count.

    Returns:
        `messages_per_s` (rows), and the time of one commit as `p50_us` and `p99_us`.
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
    delivered = len(waits) * rows
    waits.sort()
    figures: Figures = {"window": rows, "size": size, "delivered": delivered, "seconds": round(took, 3)}
    figures["messages_per_s"] = round(delivered / took)
    for percent in (50, 99):
        figures[f"p{percent}_us"] = round(waits[len(waits) * percent // 100] * 1e6)
    return figures


def main() -> None:
    """Measure once, as told on the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.durable_sqlite", description=__doc__)
    parser.add_argument("file", help="the database, which must not be there")
    parser.add_argument("--rows", type=int, default=1, help="rows of a commit (default 1)")
    parser.add_argument("--size", type=int, default=64, help="bytes of a row (default 64)")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to measure (default 2)")
    options = parser.parse_args()
    gc.disable()
    print(json.dumps(commits(options.file, options.rows, options.size, options.seconds)))


if __name__ == "__main__":
    main()
