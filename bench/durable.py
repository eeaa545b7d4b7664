"""Messages that are stored: hailer's mailboxes beside JetStream, redis streams, MQTT and plain SQLite.

    python -m bench durable [--short] [--only S,…] [--parts post,receive,alone,…]

One store is alive at a time; all of them take their turn in each round. Its files are in a folder of their
own on a disk, which is removed after each measurement.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.command import Watch, words
from bench.durable_opening import open_filled
from bench.durable_peers import STORES, at, build_delay, find_stores, slowed
from bench.durable_report import DurableCell, DurableResults, render
from bench.load import LoadError, raise_descriptor_limit
from bench.peers import PeerError, cores_to_use, pinned, running

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.load import Figures
    from bench.peers import Peer

__all__ = ["disk_of", "main"]

ROOT = Path(__file__).parent.parent
LOAD_TIMEOUT = 150.0  # seconds for one measurement
PARTS = ("post", "receive", "alone", "beside", "opening")
LIVE = ("pingpong", "pipeline")
PAIRS = 10  # of live senders and receivers
EVERY = 0.01  # seconds from one window of stored messages to the next, beside live ones
SLOW = 0.02  # seconds that a flush takes longer on a slow disk
WAITING = 1_000_000  # messages in the store that is opened
QUIET = 0.15  # the share of all cores that others may use before a measurement is made again, with --tries
PATIENCE = 10.0  # seconds to wait for that before each try
BESIDE = ("hailer", "nats-always", "redis")  # whose live messages are measured


def cells_of(parts: Sequence[str], *, short: bool) -> list[DurableCell]:
    cells = []
    if "post" in parts:
        for senders, size in itertools.product(
            (10, 100) if short else (1, 10, 100), (64,) if short else (64, 1024)
        ):
            cells.append(DurableCell("post", senders, size))
        if not short:
            cells.append(DurableCell("post", 100, 64, apart=False))
    if "receive" in parts:
        sizes = ((100, 64),) if short else ((1, 64), (100, 64), (100, 1024))
        cells += [DurableCell("receive", senders, size) for senders, size in sizes]
    if "alone" in parts:
        cells += [DurableCell("alone", size=size) for size in ((64,) if short else (64, 1024))]
    if "beside" in parts:
        for live, commits in itertools.product(LIVE, ("none", "fast", "slow")):
            cells.append(DurableCell("beside", PAIRS, live=live, commits=commits))
    if "opening" in parts:
        cells.append(DurableCell("opening", WAITING // 10 if short else WAITING))
    return cells


def wanted(cell: DurableCell, peer: Peer) -> bool:
    """Whether a store is measured in a cell at all."""
    if cell.part == "opening":
        return peer.name == "hailer"
    if cell.part == "beside":
        # nats-server is linked statically: its flushes cannot be made slow.
        return peer.name in BESIDE and not (cell.commits == "slow" and peer.dialect.startswith("nats"))
    if cell.part == "receive" and peer.name == "sink":
        return False
    if peer.name.startswith("sqlite-"):
        if cell.part == "receive":
            return False
        return (cell.part == "alone") == (peer.name == "sqlite-1") and cell.apart
    return True


def load(module: str, told: Sequence[object], core: int | None) -> subprocess.Popen[str]:
    """Start a load on its core."""
    with pinned(core):
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, told)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )


def figures_of(process: subprocess.Popen[str]) -> Figures:
    """Wait for a load.

    Raises:
        LoadError: it failed, or was not done in time.
    """
    try:
        out, err = process.communicate(timeout=LOAD_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise LoadError(f"not done after {LOAD_TIMEOUT:g} s") from None
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise LoadError((err.strip().splitlines() or ["the load died without a word"])[-1])
    figures: dict[str, Any] = json.loads(out)
    return figures


def measure_once(
    peer: Peer, cell: DurableCell, results: DurableResults, folder: Path, delay: Path | None
) -> Figures:
    """Start the store, measure one cell, stop it and remove its files.

    Raises:
        PeerError: the store did not start.
        LoadError: it did not do its work.
    """
    store_core, load_core = (results.cores.relay, results.cores.load) if cell.apart else (None, None)
    size, seconds = ["--size", cell.size], ["--seconds", results.seconds]
    with tempfile.TemporaryDirectory(prefix="data-", dir=folder) as data:
        peer = at(peer, Path(data))
        if cell.part == "opening":
            return open_filled(peer, store_core, Path(data), cell.senders)
        if not peer.dialect:
            rest = peer.command[peer.command.index("bench.durable_sqlite") + 1 :]
            return figures_of(load("bench.durable_sqlite", [*rest, *size, *seconds], store_core))
        if cell.commits == "slow":
            assert delay is not None
            peer = slowed(peer, delay, SLOW)
        with running(peer, store_core, folder) as (port, pid):
            if cell.part != "beside":
                window = 1 if cell.part == "alone" else 100
                told = [peer.dialect, port, "--pid", pid, "--senders", cell.senders, "--window", window]
                told += ["--receive"] * (cell.part == "receive")
                return figures_of(load("bench.durable_load", [*told, *size, *seconds], load_core))
            with contextlib.ExitStack() as stack:
                beside = None
                if cell.commits != "none":
                    # It outlives the live load, which takes its logins and a trial first.
                    told = [peer.dialect, port, "--every", EVERY, "--seconds", results.seconds * 2 + 2]
                    beside = load("bench.durable_load", told, load_core)
                    stack.callback(beside.wait)
                    stack.callback(beside.kill)
                dialect = "nats" if peer.dialect.startswith("nats") else peer.dialect
                told = [cell.live, dialect, port, "--pid", pid, "--count", cell.senders]
                figures = figures_of(load("bench.load", [*told, *seconds], load_core))
                if beside is not None:
                    stored = figures_of(beside)
                    figures |= {f"stored_{name}": stored[name] for name in ("p50_us", "p99_us")}
                return figures


def await_quiet() -> None:
    """Wait until other programs leave the machine alone for a moment, or `PATIENCE` is over."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        watch = Watch()
        time.sleep(0.25)
        if (watch.others() or 0.0) <= QUIET:
            return


def quietest(
    peer: Peer, cell: DurableCell, results: DurableResults, folder: Path, delay: Path | None
) -> Figures:
    """Measure a cell, again while the machine is not quiet, `DurableResults.tries` times at most.

    Returns:
        The figures of the quietest time.

    Raises:
        PeerError: the store did not start.
        LoadError: it did not do its work.
    """
    best: Figures = {}
    for _ in range(results.tries):
        if results.tries > 1:
            await_quiet()
        watch = Watch()
        figures = measure_once(peer, cell, results, folder, delay)
        others = watch.others()
        if others is None:
            return figures
        figures["others"] = round(others, 2)
        if not best or others < float(best["others"]):
            best = figures
        if others <= QUIET:
            break
    return best


def run(results: DurableResults, minutes: float, folder: Path, delay: Path | None) -> bool:
    """All rounds; returns whether every measurement succeeded."""
    clean, deadline = True, time.monotonic() + minutes * 60
    steps = [
        (number, cell, peer)
        for number, cell, peer in itertools.product(
            range(1, results.rounds + 1), results.cells, results.peers
        )
        if wanted(cell, peer) and (cell.commits != "slow" or delay is not None)
    ]
    for done, (number, cell, peer) in enumerate(steps):
        if time.monotonic() > deadline:
            part = f"{done} of {len(steps)} measurements were made"
            results.notes.append(f"stopped after {minutes:g} minutes: {part}; --minutes allows more")
            return clean
        title = f"[{done + 1}/{len(steps)}] round {number}, {cell.part} {cell}: {peer.name} "
        print(title, end="", file=sys.stderr, flush=True)
        try:
            figures = quietest(peer, cell, results, folder, delay)
        except (LoadError, PeerError) as error:
            clean = False
            results.notes.append(f"{peer.name}, {cell.part} {cell}, round {number} FAILED: {error}")
            print(f"FAILED: {error}", file=sys.stderr)
            continue
        except KeyboardInterrupt:
            results.notes.append(f"interrupted: {done} of {len(steps)} measurements were made")
            print("interrupted", file=sys.stderr)
            return False
        if "others" in figures:
            results.others.append(float(figures["others"]))
        results.figures.setdefault((cell, peer.name), []).append(figures)
        names = ("messages_per_s", "cpu_us", "p50_us", "p99_us", "stored_p50_us", "listening_s", "others")
        print(", ".join(f"{name} {figures[name]:,}" for name in names if name in figures), file=sys.stderr)
    return clean


def disk_of(folder: Path) -> str:
    """The file system that a folder is on, where Linux tells it."""
    try:
        lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:
        return "unknown"
    place = folder.resolve()
    mounts = [fields for fields in lines if place.is_relative_to(fields[1])]
    device, _, kind = max(mounts, key=lambda fields: len(fields[1]))[:3]
    return f"{kind} on {device}"


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, measure, write the results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench durable", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer cells, about three minutes")
    parser.add_argument("--rounds", type=int, help="measurements of each cell and store (default 3, short 1)")
    parser.add_argument("--seconds", type=float, help="length of one measurement (default 2, short 0.8)")
    parser.add_argument("--minutes", type=float, help="stop after this long (default 40, short 6)")
    parser.add_argument(
        "--tries",
        type=int,
        default=1,
        help="measure again, so often at most, while others use the machine (1)",
    )
    parser.add_argument("--only", default=",".join(STORES), help="which stores (default %(default)s)")
    parser.add_argument("--parts", default=",".join(PARTS), help="which parts (default %(default)s)")
    parser.add_argument("--nats", metavar="PATH", help="the nats-server to use, if it is not on PATH")
    parser.add_argument(
        "--folder", default="/var/tmp", help="where the stores' files go (default %(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the page here too")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write every round's figures here")
    options = parser.parse_args(arguments)
    names = words(options.only, STORES, "--only", parser)
    parts = words(options.parts, PARTS, "--parts", parser)
    rounds = options.rounds if options.rounds is not None else 1 if options.short else 3
    seconds = options.seconds if options.seconds is not None else 0.8 if options.short else 2.0
    minutes = options.minutes if options.minutes is not None else 6.0 if options.short else 40.0
    if rounds < 1 or options.tries < 1 or seconds <= 0 or minutes <= 0:
        parser.error("--rounds, --tries, --seconds and --minutes must be more than 0")
    if not hasattr(select, "epoll"):
        parser.error("the load waits with epoll, which only Linux has: run it there")
    if not os.access(options.folder, os.W_OK):
        parser.error(f"--folder: {options.folder} is no folder that can be written to")
    # Being told to end must stop the store that runs, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="hailer-bench-", dir=options.folder) as name:
        folder = Path(name)
        peers, missing = find_stores(names, options.nats)
        cells = cells_of(parts, short=options.short)
        results = DurableResults(
            cells, peers, cores_to_use(), rounds, seconds, disk_of(folder), options.tries
        )
        for peer, reason in missing.items():
            results.notes.append(f"{peer} was not measured: {reason}")
            print(f"without {peer}: {reason}", file=sys.stderr)
        if "tmpfs" in results.disk:
            results.notes.append("the stores' files were in memory: name a folder on a disk with --folder")
        for found in peers:
            print(f"{found.name}: {found.version}; {found.settings}", file=sys.stderr)
        if not peers:
            print("bench: none of the stores asked for is here", file=sys.stderr)
            return 2
        delay = None
        if "beside" in parts:
            try:
                delay = build_delay(folder)
            except PeerError as error:
                results.notes.append(f"a slow disk was not measured: {error}")
        clean = run(results, minutes, folder, delay)
    page = render(results)
    if options.output:
        options.output.write_text(page)
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    with contextlib.suppress(BrokenPipeError):
        print(page)
    return 0 if clean and not any(name.startswith("hailer") for name in missing) else 1
