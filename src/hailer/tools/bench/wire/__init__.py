"""Load on any server that `hailer.endpoint` can name, from one process or several.

    load = Load(messages=numbered_lines(64), clients=10)
    outcome = run_load(Endpoint.parse("tcp://localhost:7000"), load, 5)

What the load is, is a `Load`; what came of it, an `Outcome`. `open_load` keeps the clients connected from one
measurement to the next, and `LoadProcess` does so in a process of its own, on a core of its own.
"""

from __future__ import annotations

from hailer.tools.bench.wire.histogram import Histogram
from hailer.tools.bench.wire.load import Interval, Load, Outcome, TlsFiles, WrongAnswer, numbered_lines
from hailer.tools.bench.wire.process import LoadProcess, LoadProcesses, run_in_processes
from hailer.tools.bench.wire.session import check_load, open_load, run_load

__all__ = [
    "Histogram",
    "Interval",
    "Load",
    "LoadProcess",
    "LoadProcesses",
    "Outcome",
    "TlsFiles",
    "WrongAnswer",
    "check_load",
    "numbered_lines",
    "open_load",
    "run_in_processes",
    "run_load",
]
