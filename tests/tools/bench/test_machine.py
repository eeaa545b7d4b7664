"""Cores, limits and what processes use."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from hailer.tools.bench.conditions import conditions, disturbance, installed
from hailer.tools.bench.machine import (
    Cores,
    Usage,
    Watch,
    cores_to_use,
    pinned,
    raise_descriptor_limit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no pinning on this system")
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="only Linux tells it")  # noqa: PTH112

SPIN = "import os\nwhile sum(os.times()[:2]) < {}: pass\n"


@contextmanager
def child(code: str) -> Iterator[int]:
    """A process that has said "ready" and waits for the end of its input."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


WAIT = "print('ready', flush=True); import sys; sys.stdin.read()"


@needs_affinity
def test_what_is_started_while_pinned_stays_there_and_we_do_not() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    with pinned(core):
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == f"[{core}]"
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_pinning_ends_with_an_error_too_and_none_changes_nothing() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ValueError, match="oops"), pinned(min(before)):
        raise ValueError("oops")
    assert os.sched_getaffinity(0) == before
    with pinned(None):
        assert os.sched_getaffinity(0) == before


def test_cores_are_said_in_words() -> None:
    assert str(Cores(0, 1)) == "what is measured was kept to core 0, the load to core 1"
    assert "the only one" in str(Cores(0, 0))
    assert "this system cannot" in str(Cores(None, None))
    assert cores_to_use().subject in ({None} | set(range(os.cpu_count() or 1)))


def test_the_limit_of_files_is_raised_to_the_most_that_is_allowed() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        assert raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_use_of_a_tree_counts_children_that_live_and_those_that_ended() -> None:
    code = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {SPIN.format(0.3)!r}], check=True)
other = subprocess.Popen([sys.executable, "-c", {SPIN.format(0.3)!r} + {WAIT!r}], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
other.stdout.readline()
{WAIT}
other.communicate()
"""
    with child(code) as pid:
        usage = Usage.of(pid)
    assert usage.processes == 2
    assert usage.user + usage.system >= 0.55  # of each 0.3 s, told in hundredths
    assert usage.rss_kib > 4000


def test_what_was_used_since_then_in_figures() -> None:
    earlier = Usage(10.0, 1.0, 2.0, 0, None, 1, {(1, 1): (10, 1)}, 3.0)
    later = Usage(12.0, 2.0, 2.5, 0, None, 1, {(1, 1): (25, 3), (1, 2): (5, 0)}, 4.5)
    used = later.since(earlier)
    assert (used.seconds, used.user, used.system, used.switches) == (2, 1, 0.5, (20, 2))
    assert used.busy == 0.75
    assert used.figures(100) == {
        "subject_busy": 0.75,
        "cpu_us": 15000,
        "cpu_user_us": 10000,
        "cpu_system_us": 5000,
        "context_switches": 0.22,
        "voluntary_switches": 0.2,
        "involuntary_switches": 0.02,
    }
    assert used.figures(0) == {"subject_busy": 0.75}


def test_a_process_that_is_gone_uses_nothing() -> None:
    with child(WAIT) as pid:
        before = Usage.of(pid)
    after = Usage.of(pid)
    assert (after.processes, after.rss_kib) == (0, 0)
    assert after.since(before).cpu == 0


@needs_proc
def test_context_switches_of_all_threads_count() -> None:
    code = """
import threading, time
done, worked = threading.Event(), threading.Barrier(5)
def work():
    for _ in range(100): time.sleep(0.0005)
    worked.wait()
    done.wait()
for _ in range(4): threading.Thread(target=work).start()
worked.wait()
"""
    with child(code + WAIT + "\ndone.set()") as pid:
        usage = Usage.of(pid)
    assert len(usage.switches) == 5
    assert sum(voluntary for voluntary, _ in usage.switches.values()) >= 400


@needs_proc
def test_memory_that_is_shared_counts_once_if_it_is_asked_for() -> None:
    with child(WAIT) as pid:
        usage = Usage.of(pid, shared=True, switches=False)
        assert Usage.of(pid).pss_kib is None
    assert usage.pss_kib is not None
    assert 0 < usage.pss_kib <= usage.rss_kib
    assert usage.switches == {}


def test_a_watch_does_not_take_our_own_children_for_others() -> None:
    watch = Watch()
    stop = threading.Event()
    with child(SPIN.format(0.2) + WAIT):
        stop.wait(0.05)
        share = watch.others()
    assert 0 <= share <= 1


def test_the_conditions_name_what_figures_depend_on() -> None:
    told = conditions(Cores(0, 1), others=[0.1, 0.3, 0.2], libraries=["no-such-library"])
    assert told["cores"] == str(Cores(0, 1))
    assert told["other programs"] == "used 20% of all cores (median over the measurements; 30% at worst)"
    assert told["no-such-library"] == "not installed"
    for key in ("date", "hailer", "python", "openssl", "sqlite", "kernel", "processor", "memory", "tuning"):
        assert told[key]
    assert "other programs" not in conditions("somewhere")


def test_versions_are_told() -> None:
    assert installed("click")[0].isdigit()
    assert disturbance([0.5]).startswith("used 50%")
