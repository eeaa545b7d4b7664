"""Echo of lines: the library under each model beside servers written by hand and what others offer.

    python -m bench echo [--models M,…] [--servers S,…] [--sizes 64,65536] [--connections 1,64,1000]

All servers of one model are up at once, each with its load connected, and are measured in turn, one slice of
time each, again and again: what else the machine does meets them all alike. The rest rests meanwhile.
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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.echo_report import EchoCell, EchoResults, Slice, render
from bench.echo_servers import GROUPS, reason_against
from hailer.tools.bench.machine import Usage, cores_to_use, pinned, raise_descriptor_limit
from hailer.tools.bench.relay.peers import PeerError, output_of, program_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["build_load", "main", "measure_group", "own_group"]

START_TIMEOUT = 60.0  # seconds for a server to say its port, and for a load to connect
ONE_AT_A_TIME = {"iterative", "prefork"}  # models whose servers leave other connections waiting
TURNS = 100  # batches after which a connection to such a server makes way for the next
ROOT = Path(__file__).parent.parent


def build_load(folder: Path) -> Path:
    """Compile the load into a folder.

    Raises:
        PeerError: there is no C compiler, or it refused.
    """
    program = folder / "echo_load"
    source = Path(__file__).with_name("echo_load.c")
    output_of([program_at("cc", "install a C compiler"), "-O2", "-o", str(program), str(source)])
    return program


def own_group(command: Sequence[str], core: int | None, log: Path) -> subprocess.Popen[str]:
    """Start a program that talks over pipes, as a process group of its own on one core."""
    with log.open("w") as sink, pinned(core):
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )


@dataclass
class Pair:
    """A server that runs, and the load that is connected to it."""

    name: str
    server: subprocess.Popen[str]
    load: subprocess.Popen[str]
    log: Path
    slices: list[Slice] = field(default_factory=list)

    def measure(self, seconds: float) -> Slice:
        """Let the load run for so long.

        Raises:
            PeerError: the server or the load failed.
        """
        before = Usage.of(self.server.pid, switches=False)
        assert self.load.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.load.stdin.write(f"{seconds}\n")
            self.load.stdin.flush()
        words = heard(self.load, self.name, self.log, seconds + START_TIMEOUT).split()
        spent = Usage.of(self.server.pid, switches=False).since(before).cpu
        messages, length, busy = int(words[0]), float(words[1]), float(words[2])
        if not messages:
            raise PeerError(f"{self.name}: no message came back within {length:.1f} s")
        return Slice(messages / length, spent / messages * 1e6, spent / length, busy / length)


def heard(process: subprocess.Popen[str], name: str, log: Path, seconds: float) -> str:
    """One line of a program's output.

    Raises:
        PeerError: it did not come in time, or the program has ended.
    """
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    line = process.stdout.readline() if ready else ""
    if not line.strip():
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise PeerError(f"{name}: {said[0] if said else 'it said nothing in time'}")
    return line.strip()


def stop(process: subprocess.Popen[str]) -> None:
    # All of the group: a server that forks leaves children. It is ours alone, see `own_group`.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@contextlib.contextmanager
def paired(name: str, cell: EchoCell, program: Path, results: EchoResults) -> Iterator[Pair]:
    """Start a server and connect the load to it.

    Raises:
        PeerError: the server did not start, or refused connections.
    """
    log = program.parent / f"{name.replace(':', '-')}.log"
    turns = TURNS if cell.connections > 1 and name.partition(":")[2] in ONE_AT_A_TIME else 0
    with ExitStack() as stack:
        command = [sys.executable, "-m", "bench.echo_servers", name]
        server = own_group(command, results.cores.subject, log)
        stack.callback(stop, server)
        port = heard(server, name, log, START_TIMEOUT)
        numbers = [cell.connections, cell.size, cell.pipeline, turns]
        load = own_group([str(program), port, *map(str, numbers)], results.cores.load, log)
        stack.callback(stop, load)
        heard(load, name, log, START_TIMEOUT)
        yield Pair(name, server, load, log)


def measure_group(names: Sequence[str], cell: EchoCell, program: Path, results: EchoResults) -> list[Pair]:
    """Measure the servers of one model in turn; one that fails is noted, and the others go on."""
    with ExitStack() as stack:
        pairs = []
        for name in names:
            try:
                pair = stack.enter_context(paired(name, cell, program, results))
                pair.measure(results.seconds / 2)  # not counted: accepting, first pages, caches
            except PeerError as error:
                results.notes.append(f"{cell}: FAILED: {error}")
                continue
            pairs.append(pair)
        for number in range(results.rounds):
            # Forwards and backwards, so that a drift of the machine does not favour a place in the row.
            for pair in pairs[:: -1 if number % 2 else 1]:
                try:
                    pair.slices.append(pair.measure(results.seconds))
                except PeerError as error:
                    results.notes.append(f"{cell}: FAILED: {error}")
                    pair.slices.clear()
            pairs = [pair for pair in pairs if pair.slices]
        return pairs


def chosen(text: str, known: Sequence[str], option: str, parser: argparse.ArgumentParser) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in known:
            parser.error(f"{option}: {word} is none of {', '.join(known)}")
    return [word for word in known if word in words]


def numbers(text: str) -> list[int]:
    found = [int(word) for word in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError("give numbers of at least 1, with commas between them")
    return found


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, measure, write the results; returns the exit status."""
    every = list(dict.fromkeys(itertools.chain.from_iterable(GROUPS.values())))
    parser = argparse.ArgumentParser(prog="python -m bench echo", description=__doc__)
    parser.add_argument("--models", default=",".join(GROUPS), help="which models (default %(default)s)")
    parser.add_argument(
        "--servers", default=",".join(every), help="which servers (default all); floors are always measured"
    )
    parser.add_argument("--sizes", type=numbers, default=[64, 65536], help="bytes of a message (64,65536)")
    parser.add_argument("--connections", type=numbers, default=[1, 64, 1000], help="how many (1,64,1000)")
    parser.add_argument("--pipeline", type=numbers, default=[1, 32], help="lines sent at once (1,32)")
    parser.add_argument(
        "--seconds", type=float, default=0.4, help="length of one slice (default %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="slices of each, median counts (default %(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE.md", help="write the page here too")
    parser.add_argument("--json", type=Path, metavar="FILE.json", help="write every slice here")
    options = parser.parse_args(arguments)
    models = chosen(options.models, list(GROUPS), "--models", parser)
    servers = chosen(options.servers, every, "--servers", parser)
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds must be more than 0")
    if not hasattr(select, "epoll"):
        parser.error("the load waits with epoll, which only Linux has: run it there")
    # Being told to end must stop the servers that run, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    raise_descriptor_limit()
    cells = [
        EchoCell(size, connections, pipeline)
        for size, connections, pipeline in itertools.product(
            options.sizes, options.connections, options.pipeline
        )
        # 32 large messages in flight are a thousand large buffers, and show nothing new.
        if size < 65536 or pipeline == 1
    ]
    results = EchoResults(cells, models, cores_to_use(), options.rounds, options.seconds)
    for name in every:
        if name in servers and (reason := reason_against(name)):
            results.notes.append(f"{name} was not measured: {reason}")
            print(f"without {name}: {reason}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="hailer-bench-") as folder:
        try:
            program = build_load(Path(folder))
        except PeerError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        for cell, model in itertools.product(cells, models):
            floor, *rest = [name for name in GROUPS[model] if reason_against(name) is None]
            begin = time.monotonic()
            group = [floor, *(name for name in rest if name in servers)]
            pairs = measure_group(group, cell, program, results)
            for pair in pairs:
                results.slices[model, cell, pair.name] = pair.slices
            print(
                f"{model}, {cell}: {results.summary(model, cell)} ({time.monotonic() - begin:.0f} s)",
                file=sys.stderr,
            )
    page = render(results)
    if options.output:
        options.output.write_text(page)
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    with contextlib.suppress(BrokenPipeError):
        print(page)
    return 1 if any("FAILED" in note for note in results.notes) else 0
