"""Child processes: what they inherit, what they tell, and that nothing is left of them."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hailer.errors import UsageError
from hailer.runtime.process import Child, Parent, SharedCounters, check_fork, spawn
from hailer.server import Server
from hailer.services.echo import echo

if TYPE_CHECKING:
    from collections.abc import Callable


def nothing() -> None:
    pass


def outcome(child: Child) -> tuple[bytes, int | None]:
    """What a child has told, and its status."""
    told = b""
    poll = select.poll()
    poll.register(child, select.POLLIN)
    while True:
        assert poll.poll(10_000), "the child does not end"
        data = child.read()
        if data == b"":
            break
        told += data or b""
    assert child.reap(wait=True)
    child.close()
    child.close()
    return told, child.status


def descriptors() -> list[str]:
    return sorted(os.listdir("/dev/fd"))  # noqa: PTH208 (Path.iterdir would be counted differently)


def test_a_child_tells_and_ends() -> None:
    before = descriptors()

    def run(parent: Parent) -> int:
        parent.tell(b"hello from %d" % os.getpid())
        return 7

    child = spawn(run, nothing)
    assert outcome(child) == (b"hello from %d" % child.pid, 7)
    assert child.end() == "ended with status 7"
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)


def test_what_has_not_ended_is_not_reaped() -> None:
    reader, writer = os.pipe()
    child = spawn(lambda _parent: len(os.read(reader, 1)), nothing)
    assert not child.reap()
    assert child.read() is None
    os.write(writer, b"!")
    assert outcome(child) == (b"", 1)
    os.close(reader)
    os.close(writer)


def test_a_killed_child_is_told_by_the_name_of_the_signal() -> None:
    child = spawn(lambda _parent: signal.pause(), nothing)
    child.send_signal(signal.SIGKILL)
    assert outcome(child) == (b"", -signal.SIGKILL)
    assert child.end() == "was killed by SIGKILL"
    child.send_signal(signal.SIGKILL)  # reaped: its number may be another's


def test_what_a_child_raises_is_logged_and_is_its_end(capfd: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    logging.getLogger("hailer").addHandler(handler)
    try:

        def run(_parent: Parent) -> int:
            raise SystemExit("enough")

        child = spawn(run, nothing)
        assert outcome(child) == (b"", 1)
    finally:
        logging.getLogger("hailer").removeHandler(handler)
    assert f"process {child.pid} ended with SystemExit('enough')" in capfd.readouterr().err


def test_a_child_has_default_signals_and_leaves_ctrl_c_to_its_parent() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    handled: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: handled.append(number))
    wakeup = signal.set_wakeup_fd(writer)

    def run(parent: Parent) -> None:
        names = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        parent.tell(
            f"{names == [signal.SIG_DFL, signal.SIG_IGN]} {signal.set_wakeup_fd(-1)} {blocked}".encode()
        )
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        assert outcome(spawn(run, nothing)) == (b"True -1 set()", -signal.SIGTERM)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        assert not select.select([reader], [], [], 0)[0], "the parent was woken by the child's signals"
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGTERM, before)
        os.close(reader)
        os.close(writer)
    assert handled == []


def test_what_is_the_parents_is_closed_first() -> None:
    reader, writer = os.pipe()

    def run(_parent: Parent) -> int:
        try:
            os.fstat(writer)
        except OSError:
            return 0
        return 1

    assert outcome(spawn(run, lambda: os.close(writer))) == (b"", 0)
    os.write(writer, b"still open here")
    os.close(writer)
    os.close(reader)


def test_a_child_of_the_child_does_not_hold_the_pipe() -> None:
    reader, writer = os.pipe()

    def run(_parent: Parent) -> int:
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)  # until the test is over
            os._exit(0)
        return 0

    child = spawn(run, nothing)
    assert outcome(child) == (b"", 0)
    os.close(writer)
    os.close(reader)


def test_children_of_others_are_not_reaped() -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"]) as other:
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert outcome(spawn(lambda _parent: 3, nothing)) == (b"", 3)
        assert other.wait() == 5


def test_a_child_that_somebody_else_has_reaped() -> None:
    child = spawn(lambda _parent: 3, nothing)
    os.waitpid(child.pid, 0)
    assert outcome(child) == (b"", 0)


PRINTS = """
import atexit, os, sys
from hailer.runtime.process import spawn
atexit.register(print, "at exit")
print("parent's", end=" ")
try:
    child = spawn(lambda parent: print("child's"), lambda: None)
    child.reap(wait=True)
finally:
    print("finally")
"""


def program(text: str) -> subprocess.CompletedProcess[str]:
    # What is printed is to be buffered, as it is for most programs.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-c", text],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )


def test_what_is_printed_comes_once_and_the_parents_end_is_its_own() -> None:
    done = program(PRINTS)
    assert done.stdout == "parent's child's\nfinally\nat exit\n"
    assert done.stderr == ""


CLOSED = """
import sys
from hailer.runtime.process import spawn
sys.stdout.close()
child = spawn(lambda parent: 4, lambda: None)
child.reap(wait=True)
sys.stderr.write(child.end())
"""


def test_a_child_gets_by_without_standard_output() -> None:
    assert program(CLOSED).stderr == "ended with status 4"


def test_counters_are_added_up_over_processes() -> None:
    counters = SharedCounters(3)

    def count(row: int) -> Callable[[Parent], None]:
        def run(_parent: Parent) -> None:
            for _ in range(1000):
                counters.row(row).accepted += 1
            counters.row(row).active += row

        return run

    children = [spawn(count(row), nothing) for row in (1, 2)]
    counters.row(0).handler_failures += 5
    for child in children:
        outcome(child)
    assert counters.accepted == 2000
    assert counters.active == 3
    assert counters.handler_failures == 5
    assert counters.accept_failures == 0
    assert counters.row(1).accepted == 1000


@pytest.mark.parametrize("model", ["fork", "prefork"])
def test_without_fork_the_models_are_refused(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    check_fork()
    monkeypatch.delattr(os, "fork")
    with pytest.raises(UsageError, match="no fork"):
        check_fork()
    with pytest.raises(UsageError, match="no fork"):
        Server("127.0.0.1:0", echo, model)  # type: ignore[arg-type]
