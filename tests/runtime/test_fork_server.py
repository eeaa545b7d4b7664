"""Servers of several processes: who ends when, what is replaced, and that nothing is left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 15.0
LONG = os.environ.get("HAILER_LONG") == "1"
MODELS = ["fork", "prefork"]

SERVE = """
import logging, os, resource, signal, sys, time
from hailer import Server, sleep

logging.basicConfig(format="%(message)s", level="INFO")

async def handle(connection):
    async for message in connection:
        if message == b"pid":
            await connection.send(b"%d" % os.getpid())
        elif message == b"spin":
            await connection.send(b"spinning")
            while True:
                pass
        elif message == b"slow":
            await connection.send(b"started")
            await sleep(0.3)
            await connection.send(b"slow")
        elif message == b"nap":
            await connection.send(b"napping")
            await sleep(1000)
        elif message == b"print":
            print("printed", end=" ")
            await connection.send(b"printed")
        elif message == b"fail":
            raise ValueError("a failure")
        elif message == b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        else:
            await connection.send(message)

server = Server("127.0.0.1:0", handle, sys.argv[1], **eval(sys.argv[2]))
print(server.bind()[0].port, flush=True)
exec(sys.argv[3])
server.serve()
counters = server.counters
print(counters.accepted, counters.active, counters.accept_failures, counters.handler_failures)
"""


class Served:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.pid = process.pid
        self.port = int(process.stdout.readline())
        self._open: list[socket.socket] = []

    def dial(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self._open.append(client)
        return client

    def ask(self, message: bytes) -> bytes:
        client = self.dial()
        answer = ask(client, message)
        client.close()
        return answer

    def finish(self, number: signal.Signals = signal.SIGTERM) -> tuple[list[int], str]:
        """Drain; give the counters and the log."""
        self.process.send_signal(number)
        output, log = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, log
        assert "Traceback" not in log
        return [int(word) for word in output.split()[-4:]], log

    def close(self) -> None:
        for client in self._open:
            client.close()


@contextmanager
def serving(model: str, options: str = "{}", before: str = "") -> Iterator[Served]:
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", SERVE, model, options, before]
    # What is printed is to be buffered, as it is for most programs.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            served = Served(process)
            try:
                yield served
            finally:
                served.close()
        finally:
            process.kill()
            # Whatever is left of it holds the pipe of its log, and the test would wait for ever.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def ask(client: socket.socket, message: bytes) -> bytes:
    client.sendall(message + b"\n")
    return client.recv(1000).rstrip(b"\n")


def until(condition: Callable[[], bool]) -> None:
    """Wait for something in another process."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.005)


def children(pid: int) -> dict[int, str]:
    """The children of a process, each with its state: Z is a zombie."""
    listing = subprocess.run(
        ["ps", "-A", "-o", "ppid=,pid=,stat="],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split() for line in listing.stdout.splitlines()]
    return {int(row[1]): row[2] for row in rows if int(row[0]) == pid}


def zombies(pid: int) -> list[int]:
    return [child for child, state in children(pid).items() if state.startswith("Z")]


def alive(pid: int) -> bool:
    """Whether a process, maybe not a child of ours, runs."""
    listing = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    return listing.stdout.strip() not in ("", "Z", "Zs")


def descriptors(pid: int) -> int:
    if not os.path.isdir(f"/proc/{pid}/fd"):  # noqa: PTH112
        pytest.skip("only Linux tells what another process has open")
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


@pytest.mark.parametrize("model", MODELS)
def test_a_thousand_connections_leave_neither_zombie_nor_descriptor(model: str) -> None:
    with serving(model, "{'workers': 2}") as served:
        served.ask(b"first")
        until(lambda: len(children(served.pid)) == (0 if model == "fork" else 2))
        before = descriptors(served.pid)
        for number in range(1000):
            message = b"%d" % number
            assert served.ask(message) == message
        until(lambda: len(children(served.pid)) == (0 if model == "fork" else 2))
        until(lambda: not zombies(served.pid))
        assert descriptors(served.pid) == before
        workers = list(children(served.pid))
        counters, log = served.finish()
        assert counters == [1001, 0, 0, 0]
        assert log.count("\n") == 2, "listening, stopped"
        assert not any(alive(worker) for worker in workers)


def test_a_connection_has_a_process_of_its_own() -> None:
    with serving("fork") as served:
        clients = [served.dial() for _ in range(3)]
        pids = {int(ask(client, b"pid")) for client in clients}
        assert len(pids) == 3
        assert set(children(served.pid)) == pids


def test_workers_share_the_connections_and_hold_many_each() -> None:
    with serving("prefork", "{'workers': 2, 'max_connections': 6}") as served:
        clients = [served.dial() for _ in range(6)]
        pids = [int(ask(client, b"pid")) for client in clients]
        assert sorted(pids.count(pid) for pid in set(pids)) == [3, 3]
        late = served.dial()
        late.sendall(b"pid\n")
        assert not select.select([late], [], [], 0.1)[0], "more than the limit were served"
        clients[0].close()
        assert int(late.recv(100)) == pids[0]


def test_as_many_workers_as_connections_have_one_each() -> None:
    with serving("prefork", "{'workers': 3, 'max_connections': 3}") as served:
        assert len({ask(served.dial(), b"pid") for _ in range(3)}) == 3


@pytest.mark.parametrize("model", MODELS)
def test_a_process_killed_takes_no_other_with_it(model: str) -> None:
    with serving(model, "{'workers': 2, 'max_connections': 2}") as served:
        victim, other = served.dial(), served.dial()
        pid = int(ask(victim, b"pid"))
        assert ask(other, b"here") == b"here"
        os.kill(pid, signal.SIGKILL)
        assert victim.recv(100) == b""
        assert ask(other, b"still here") == b"still here"
        assert served.ask(b"next") == b"next"
        other.close()
        until(lambda: not zombies(served.pid))
        counters, log = served.finish()
        assert counters == [3, 0, 0, 1 if model == "fork" else 0]
        assert log.count("was killed by SIGKILL") == 1
        assert str(pid) in log


def test_a_worker_that_is_killed_is_replaced_at_once() -> None:
    with serving("prefork", "{'workers': 2}") as served:
        until(lambda: len(children(served.pid)) == 2)
        first = set(children(served.pid))
        victim = first.pop()
        start = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(set(children(served.pid)) - {victim}) == 2)
        assert time.monotonic() - start < (1 if LONG else 10)
        assert first < set(children(served.pid))


def test_a_worker_told_to_drain_is_replaced() -> None:
    with serving("prefork", "{'workers': 1}") as served:
        client = served.dial()
        worker = int(ask(client, b"pid"))
        client.sendall(b"slow\n")
        assert client.recv(100) == b"started\n"
        os.kill(worker, signal.SIGTERM)
        assert client.recv(100) == b"slow\n", "it ends what it has begun"
        client.close()
        assert int(served.ask(b"pid")) != worker


def test_workers_that_are_killed_again_and_again_bring_nobody_down() -> None:
    with serving("prefork", "{'workers': 4}") as served:
        end = time.monotonic() + (30 if LONG else 2)
        killed = 0
        while time.monotonic() < end:
            for worker in list(children(served.pid))[:1]:
                os.kill(worker, signal.SIGKILL)
                killed += 1
            time.sleep(0.1)
        assert killed >= 4
        assert served.process.poll() is None
        until(lambda: len(children(served.pid)) == 4)
        assert served.ask(b"well?") == b"well?"
        until(lambda: not zombies(served.pid))
        counters, log = served.finish()
        assert counters[1] == 0
        assert log.count("was killed by SIGKILL") == killed


def test_workers_that_die_at_their_start_are_replaced_ever_more_slowly() -> None:
    crash = "import hailer.runtime.fork_server as f; f.obey_signals = lambda model: os._exit(9)"
    with serving("prefork", "{'workers': 1}", crash) as served:
        assert served.process.stderr is not None
        lines: list[str] = []
        start = time.monotonic()
        while len(lines) < 5:
            line = served.process.stderr.readline()
            if "ended with status 9" in line:
                lines.append(line.rpartition("its place ")[2].strip())
        assert lines == ["at once", "in 0.1 s", "in 0.2 s", "in 0.4 s", "in 0.8 s"]
        assert time.monotonic() - start >= 0.7
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE) == 0


def test_a_crash_of_a_handler_is_counted() -> None:
    with serving("fork") as served:
        assert served.ask(b"crash") == b""
        until(lambda: not children(served.pid))
        counters, log = served.finish()
        assert counters == [1, 0, 0, 1]
        assert log.count("was killed by SIGSEGV") == 1


@pytest.mark.parametrize("model", MODELS)
def test_a_failure_is_logged_once_and_counted(model: str) -> None:
    with serving(model) as served:
        client = served.dial()
        client.sendall(b"fail\n")
        assert client.recv(100) == b""
        served.process.send_signal(signal.SIGTERM)
        output, log = served.process.communicate(timeout=PATIENCE)
        assert output.split()[-4:] == ["1", "0", "0", "1"]
        assert log.count("the handler failed") == 1
        assert "a failure" in log


@pytest.mark.parametrize("model", MODELS)
def test_what_handlers_print_is_there(model: str) -> None:
    with serving(model) as served:
        assert served.ask(b"print") == b"printed"
        served.process.send_signal(signal.SIGTERM)
        output, _ = served.process.communicate(timeout=PATIENCE)
        assert output.count("printed") == 1


@pytest.mark.parametrize("model", MODELS)
def test_a_handler_that_ignores_everything_is_killed_in_the_end(model: str) -> None:
    with serving(model, "{'drain': 0.3, 'workers': 2}") as served:
        client = served.dial()
        assert ask(client, b"spin") == b"spinning"
        processes = list(children(served.pid))
        start = time.monotonic()
        counters, log = served.finish()
        assert counters == [1, 0, 0, 0]
        assert 0.3 < time.monotonic() - start < 8
        assert "the time to drain is over: 1 connections are aborted" in log
        assert log.count("do not end") == 1
        assert not any(alive(each) for each in processes)


@pytest.mark.parametrize("model", MODELS)
def test_ctrl_c_at_the_terminal_drains(model: str) -> None:
    with serving(model, "{'workers': 2}") as served:
        client = served.dial()
        assert ask(client, b"slow") == b"started"
        os.killpg(served.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        assert client.recv(100) == b"slow\n"
        client.close()
        assert served.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("model", MODELS)
def test_a_signal_to_all_processes_drains(model: str, number: signal.Signals) -> None:
    """systemd sends SIGTERM to every process of a unit, and a terminal that goes SIGHUP."""
    with serving(model, "{'workers': 2}") as served:
        client = served.dial()
        assert ask(client, b"slow") == b"started"
        os.killpg(served.pid, number)
        assert client.recv(100) == b"slow\n"
        client.close()
        assert served.process.wait(PATIENCE) == 0
        assert served.process.stderr is not None
        assert "Traceback" not in served.process.stderr.read()


def test_whoever_ignores_the_end_of_the_terminal_goes_on_to() -> None:
    with serving("fork", "{}", "signal.signal(signal.SIGHUP, signal.SIG_IGN)") as served:
        client = served.dial()
        assert ask(client, b"hello") == b"hello"
        os.killpg(served.pid, signal.SIGHUP)
        assert ask(client, b"still here") == b"still here"
        client.close()
        assert served.ask(b"and others") == b"and others"
        served.finish()


def test_the_process_of_a_connection_that_is_told_to_end_drains() -> None:
    with serving("fork", "{'drain': 0.3}") as served:
        client, idle = served.dial(), served.dial()
        assert ask(client, b"slow") == b"started"
        pid = int(ask(idle, b"pid"))
        for process in children(served.pid):
            os.kill(process, signal.SIGTERM)
        assert client.recv(100) == b"slow\n"
        assert idle.recv(100) == b"", "but only for so long"
        until(lambda: not alive(pid))
        assert served.ask(b"others") == b"others"


@pytest.mark.parametrize("model", MODELS)
def test_a_drain_refuses_new_connections_and_lets_the_old_end(model: str) -> None:
    with serving(model, "{'workers': 2}") as served:
        client = served.dial()
        assert ask(client, b"hello") == b"hello"
        served.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                served.dial().close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass
            return False

        until(refused)
        assert ask(client, b"and on") == b"and on"
        client.close()
        assert served.process.wait(PATIENCE) == 0


def test_workers_end_after_their_parent_was_killed() -> None:
    with serving("prefork", "{'workers': 2, 'drain': 10}") as served:
        client = served.dial()
        assert ask(client, b"slow") == b"started"
        workers = list(children(served.pid))
        served.process.kill()
        served.process.wait()
        assert client.recv(100) == b"slow\n", "what was begun is ended"
        client.close()
        until(lambda: not any(alive(worker) for worker in workers))


def test_a_connection_outlives_its_killed_parent_and_its_process_ends_with_it() -> None:
    with serving("fork") as served:
        client = served.dial()
        pid = int(ask(client, b"pid"))
        served.process.kill()
        served.process.wait()
        assert ask(client, b"still here") == b"still here"
        client.close()
        until(lambda: not alive(pid))


@pytest.mark.parametrize("doing", [b"hello", b"nap", b"spin"])
@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_left_of_a_server_that_was_killed(model: str, doing: bytes) -> None:
    with serving(model, "{'workers': 2, 'drain': 0.3}") as served:
        clients = [served.dial() for _ in range(3)]
        for client in clients:
            ask(client, doing)
        processes = list(children(served.pid))
        assert len(processes) == (3 if model == "fork" else 2)
        served.process.kill()
        served.process.wait()
        start = time.monotonic()

        def is_free() -> bool:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    sock.bind(("127.0.0.1", served.port))
                    sock.listen()
                except OSError:
                    return False
            return True

        until(is_free)  # also while they end
        until(lambda: not any(alive(process) for process in processes))
        assert time.monotonic() - start < 8
        assert served.process.stderr is not None
        log = served.process.stderr.read()
        assert "Traceback" not in log
        assert ("do not end" in log) is (doing == b"spin" and model == "prefork"), log


UNPRIVILEGED = """
if os.getuid() == 0:
    os.setuid(65534)  # the limit does not hold for root
hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard)))
"""


@pytest.mark.parametrize("model", MODELS)
def test_when_the_system_gives_no_process_connections_wait(model: str) -> None:
    with serving(model, "{'workers': 1}", UNPRIVILEGED) as served:
        clients = [served.dial() for _ in range(5)]
        for client in clients:
            client.sendall(b"hello\n")
        assert served.process.stderr is not None
        line = served.process.stderr.readline()
        while "cannot accept now" not in line:
            assert line, "the limit did not hold: the test tests nothing"
            line = served.process.stderr.readline()
        assert "fork: Resource temporarily unavailable" in line
        assert not select.select(clients, [], [], 0.3)[0]
        served.process.send_signal(signal.SIGUSR1)
        for client in clients:
            assert client.recv(100) == b"hello\n"
            client.close()
        counters, log = served.finish()
        assert counters[:2] == [5, 0]
        assert 3 <= counters[2] < 100, "it was tried again, but not all the time"
        assert log.count("cannot accept now") <= 3


WITH = """
import sys, time
from hailer import Server
from hailer.services.echo import echo
with Server(sys.argv[2], echo, sys.argv[1]) as server:
    print(server._process._child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("model", MODELS)
def test_a_server_beside_a_program_that_is_killed_ends(model: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-c", WITH, model, f"unix:{path}"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        supervisor = int(program.stdout.readline())
        program.kill()
        until(lambda: not alive(supervisor))
        assert not path.exists(), "the file of its socket is gone"


@pytest.mark.parametrize("model", MODELS)
def test_a_server_beside_a_program_takes_its_socket_away(model: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = [sys.executable, "-c", WITH, model, f"unix:{path}"]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        assert path.exists()
        program.communicate("", timeout=PATIENCE)
        assert program.returncode == 0
        assert not path.exists()


@pytest.mark.parametrize("model", MODELS)
def test_once_ends_after_one_connection(model: str) -> None:
    with serving(model, "{'once': True}") as served:
        assert served.ask(b"the only one") == b"the only one"
        output, _ = served.process.communicate(timeout=PATIENCE)
        assert output.split()[-4:] == ["1", "0", "0", "0"]


@pytest.mark.parametrize("model", MODELS)
def test_children_of_the_program_are_its_own(model: str) -> None:
    before = """
import subprocess
other = subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"])
os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
import atexit
atexit.register(lambda: print("other", other.wait(), file=sys.stderr))
"""
    with serving(model, "{}", before) as served:
        assert served.ask(b"hello") == b"hello"
        _, log = served.finish()
        assert "other 5" in log
        assert log.count("other 5") == 1, "what is registered for the parent's end is not done by children"
