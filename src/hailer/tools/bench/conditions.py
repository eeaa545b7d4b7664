"""What figures depend on: the machine, how it is tuned, the versions, and who else used it."""

from __future__ import annotations

import os
import platform
import sqlite3
import ssl
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from hailer._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hailer.tools.bench.machine import Cores

__all__ = ["conditions", "disturbance", "installed"]


def conditions(
    cores: Cores | str, *, others: Sequence[float] = (), libraries: Iterable[str] = ("uvloop", "websockets")
) -> dict[str, str]:
    """Everything about the machine that the figures depend on, each as a text for the reader.

    Args:
        cores: where the subject and the load ran.
        others: for each measurement the share of all cores that others used, see `machine.Watch`.
        libraries: packages whose versions count.

    Returns:
        Texts by what they are about. What is known of the measurement itself, such as its rounds, is to
        be added.
    """
    told = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "hailer": _hailer(),
        "python": _python(),
        **{name: installed(name) for name in libraries},
        "openssl": ssl.OPENSSL_VERSION,
        "sqlite": sqlite3.sqlite_version,
        "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "cores": str(cores),
        "tuning": _tuning(),
    }
    if others:
        told["other programs"] = disturbance(others)
    return told


def disturbance(others: Sequence[float]) -> str:
    """What other programs used of all cores, as a text."""
    middle, worst = statistics.median(others), max(others)
    return f"used {middle:.0%} of all cores (median over the measurements; {worst:.0%} at worst)"


def installed(package: str) -> str:
    """The version of a package, or that it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _hailer() -> str:
    """The version and, where it runs from a checkout, the commit."""
    root = Path(__file__).parents[4]
    if not (root / ".git").exists():
        return __version__
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603 (fixed words)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__} ({commit})"


def _python() -> str:
    version = f"{platform.python_implementation()} {platform.python_version()}"
    free = not getattr(sys, "_is_gil_enabled", lambda: True)()
    return version + (", free-threaded" if free else "")


def _processor() -> str:
    """The processor's name, where the system tells it, and how many cores there are."""
    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
            break
    return f"{name or platform.machine()}, {os.cpu_count()} cores"


def _tuning() -> str:
    """What an administrator may have set that changes figures."""
    facts = []
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in {os.SCHED_FIFO, os.SCHED_RR}:
        facts.append("real-time scheduling: before other programs")
    for path, name in (
        ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "governor"),
        ("/sys/devices/system/cpu/smt/active", "SMT"),
        ("/proc/sys/net/core/somaxconn", "somaxconn"),
        ("/proc/sys/net/core/rmem_default", "rmem_default"),
        ("/proc/sys/net/core/wmem_default", "wmem_default"),
    ):
        try:
            facts.append(f"{name} {Path(path).read_text().strip()}")
        except OSError:
            continue
    return ", ".join(facts) or "unknown"
