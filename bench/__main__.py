"""`python -m bench`: start each relay by itself, put the same loads on it, and print how they compare.

`python -m bench echo` measures the library's echo servers instead, `python -m bench durable` messages that
are stored: see `bench.echo` and `bench.durable`.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench import durable, echo
from bench.command import Watch, words
from bench.load import LOADS, LoadError, raise_descriptor_limit
from bench.peers import PEER_NAMES, Peer, PeerError, cores_to_use, find_peers, pinned, running
from bench.report import Cell, Results, render

if TYPE_CHECKING:
    from bench.load import Figures

LONG = (
    Cell("pipeline", 10),
    Cell("scatter", 100),
    Cell("scatter", 1000),
    Cell("fanout", 100),
    Cell("fanout", 1000),
    Cell("pingpong", 10),
    Cell("pingpong", 100),
    Cell("pingpong", 1000),
    Cell("pipeline", 10, 1024),
    Cell("pipeline", 10, 16 * 1024),
    Cell("idle", 5000),
)
SHORT = (
    Cell("pipeline", 10),
    Cell("scatter", 100),
    Cell("fanout", 100),
    Cell("pingpong", 100),
    Cell("idle", 1000),
)
LOAD_TIMEOUT = 120.0  # seconds for one measurement, logins included


def measure_once(peer: Peer, cell: Cell, results: Results, folder: Path) -> Figures:
    """Start the relay, put the load on it from the other core, stop the relay.

    Raises:
        PeerError: the relay did not start.
        LoadError: it did not do its work.
    """
    with running(peer, results.cores.relay, folder) as (port, pid):
        command = [sys.executable, "-m", "bench.load", cell.load, peer.dialect, str(port), "--pid", str(pid)]
        command += ["--count", str(cell.count), "--size", str(cell.size), "--seconds", str(results.seconds)]
        with pinned(results.cores.load):
            try:
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    timeout=LOAD_TIMEOUT,
                    cwd=Path(__file__).parent.parent,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise LoadError(f"not done after {LOAD_TIMEOUT:g} s") from None
    if done.returncode:
        raise LoadError((done.stderr.strip().splitlines() or ["the load died without a word"])[-1])
    figures: Figures = json.loads(done.stdout)
    return figures


def run(results: Results, minutes: float, folder: Path) -> bool:
    """All rounds; returns whether every measurement succeeded."""
    clean, deadline = True, time.monotonic() + minutes * 60
    steps = list(itertools.product(range(1, results.rounds + 1), results.cells, results.peers))
    for done, (number, cell, peer) in enumerate(steps):
        part = f"{done} of {len(steps)} measurements were made"
        if time.monotonic() > deadline:
            results.notes.append(f"stopped after {minutes:g} minutes: {part}; --minutes allows more")
            return clean
        title = f"[{done + 1}/{len(steps)}] round {number}, {cell}: {peer.name} "
        print(title, end="", file=sys.stderr, flush=True)
        watch = Watch()
        try:
            figures = measure_once(peer, cell, results, folder)
        except (LoadError, PeerError) as error:
            clean = False
            results.notes.append(f"{peer.name}, {cell}, round {number} FAILED: {error}")
            print(f"FAILED: {error}", file=sys.stderr)
            continue
        except KeyboardInterrupt:
            results.notes.append(f"interrupted: {part}")
            print("interrupted", file=sys.stderr)
            return False
        others = watch.others()
        if others is not None:
            results.others.append(others)
            figures["others"] = round(others, 2)
        results.figures.setdefault((cell, peer.name), []).append(figures)
        print(summary(figures), file=sys.stderr)
    return clean


def summary(figures: Figures) -> str:
    if "messages_per_s" in figures:
        return f"{figures['messages_per_s']:,} messages/s, {figures.get('cpu_us', '?')} µs a message"
    return f"{figures.get('kib_per_connection', '?')} KiB a connection"


def main() -> int:
    """Parse the command line, measure, write the results; returns the exit status."""
    if sys.argv[1:2] == ["echo"]:
        return echo.main(sys.argv[2:])
    if sys.argv[1:2] == ["durable"]:
        return durable.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="five loads, about two minutes (all: about ten)")
    parser.add_argument("--rounds", type=int, help="measurements of each load and relay (default 3, short 2)")
    parser.add_argument("--seconds", type=float, help="length of one measurement (default 2, short 0.8)")
    parser.add_argument("--minutes", type=float, help="stop after this long (default 30, short 5)")
    parser.add_argument("--only", default=",".join(PEER_NAMES), help="which relays (default %(default)s)")
    parser.add_argument("--loads", default=",".join(LOADS), help="which loads (default %(default)s)")
    parser.add_argument("--nats", metavar="PATH", help="the nats-server to use, if it is not on PATH")
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the page here too")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write every round's figures here")
    options = parser.parse_args()
    names = words(options.only, PEER_NAMES, "--only", parser)
    loads = words(options.loads, LOADS, "--loads", parser)
    rounds = options.rounds if options.rounds is not None else 2 if options.short else 3
    seconds = options.seconds if options.seconds is not None else 0.8 if options.short else 2.0
    minutes = options.minutes if options.minutes is not None else 5.0 if options.short else 30.0
    if rounds < 1 or seconds <= 0 or minutes <= 0:
        parser.error("--rounds, --seconds and --minutes must be more than 0")
    if not hasattr(select, "epoll"):
        parser.error("the load waits with epoll, which only Linux has: run it there")
    # Being told to end must stop the relay that runs, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    raise_descriptor_limit()
    cells = [cell for cell in (SHORT if options.short else LONG) if cell.load in loads]
    with tempfile.TemporaryDirectory(prefix="hailer-bench-") as name:
        folder = Path(name)
        peers, missing = find_peers(names, folder, options.nats)
        results = Results(cells, peers, cores_to_use(), rounds, seconds)
        for peer, reason in missing.items():
            results.notes.append(f"{peer} was not measured: {reason}")
            print(f"without {peer}: {reason}", file=sys.stderr)
        for found in peers:
            print(f"{found.name}: {found.version}; {found.settings}", file=sys.stderr)
        if not peers:
            print("bench: none of the relays asked for is here", file=sys.stderr)
            return 2
        clean = run(results, minutes, folder)
    page = render(results)
    if options.output:
        options.output.write_text(page)
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    with contextlib.suppress(BrokenPipeError):
        print(page)
    return 0 if clean and "hailer" not in missing else 1


if __name__ == "__main__":
    sys.exit(main())
