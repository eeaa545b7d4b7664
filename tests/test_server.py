"""Servers: what they refuse, and what only a whole process shows: signals and the limit on descriptors."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import hailer
from hailer.errors import ListenError, UsageError
from hailer.server import MODELS, Server
from hailer.services.echo import echo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hailer.connection import Connection


def test_a_model_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="iterative, fork, prefork"):
        Server("localhost:0", echo, "bogus")  # type: ignore[arg-type]


def test_a_handler_that_is_no_coroutine_function() -> None:
    def plain(connection: Connection) -> None: ...

    with pytest.raises(UsageError, match="async def"):
        Server("localhost:0", plain)


def test_an_object_can_be_the_handler() -> None:
    class Handler:
        async def __call__(self, connection: Connection) -> None:
            await echo(connection)

    with Server("127.0.0.1:0", Handler()) as server:
        port = server.endpoints[0].port
        with socket.create_connection(("127.0.0.1", int(port or 0)), 5) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""


def test_no_connections_at_all_are_no_server() -> None:
    with pytest.raises(UsageError, match="max_connections"):
        Server("localhost:0", echo, max_connections=0)
    with pytest.raises(UsageError, match="at least 1"):
        Server("localhost:0", echo, max_message=0)


@pytest.mark.parametrize("model", MODELS)
def test_a_port_in_use(model: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Server(f"127.0.0.1:{taken.getsockname()[1]}", echo, model)
        with pytest.raises(ListenError):
            server.serve()


def test_a_server_serves_once() -> None:
    server = Server("127.0.0.1:0", echo)
    server.drain()
    server.serve()
    with pytest.raises(UsageError, match="another"):
        server.serve()


def test_all_addresses_of_a_name_are_served() -> None:
    with Server("localhost:0", echo, drain=0) as server:
        for endpoint in server.endpoints:
            with socket.create_connection((endpoint.host, int(endpoint.port or 0)), 5) as client:
                client.sendall(b"hello\n")
                assert client.recv(100) == b"hello\n"


def test_serving_in_a_loop_that_runs_already() -> None:
    async def main() -> None:
        server = Server("127.0.0.1:0", echo, drain=0)
        [endpoint] = server.bind()
        serving = asyncio.create_task(server.serve_async())
        async with hailer.connect(endpoint) as connection:
            await connection.send(b"hello")
            assert await connection.receive() == b"hello"
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        assert server.counters.active == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_only_asyncio_serves_in_a_loop() -> None:
    with pytest.raises(UsageError, match=r"use serve\(\)"):
        asyncio.run(Server("127.0.0.1:0", echo, "thread").serve_async())


def test_the_limit_stays_below_that_of_the_descriptors(caplog: pytest.LogCaptureFixture) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = Server("127.0.0.1:0", echo, max_connections=soft)
    assert server._policy.max_connections < soft
    assert "ulimit -n" in caplog.text
    caplog.clear()
    Server("127.0.0.1:0", echo, max_connections=10)
    assert not caplog.records


@pytest.mark.parametrize("model", MODELS)
def test_a_conversation_in_datagrams_counts_for_its_two_descriptors(model: Any) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = Server("udp://127.0.0.1:0", echo, model, max_connections=soft)._policy.max_connections
    each = 1 if model in ("iterative", "prefork") else 2
    assert soft - 100 < most * each < soft


@pytest.mark.parametrize("model", MODELS)
def test_without_descriptors_for_itself_a_server_leaves_nothing_open(model: Any) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))  # noqa: PTH208

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    failures = 0
    with Server("127.0.0.1:0", echo, model):
        pass  # what is imported, or opened once and kept, is there
    gc.collect()
    gc.freeze()  # all that other tests have left would be looked through each time
    before = descriptors()
    for more in range(16):
        server = Server("127.0.0.1:0", echo, model)
        server.bind()
        server.stop()
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, hard))
        try:
            server.serve(signals=False)
        except ListenError as error:
            failures += "too many files open" in str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        gc.collect()
        assert descriptors() == before, f"with {more} descriptors"
    gc.unfreeze()
    assert 0 < failures < 16


@pytest.mark.parametrize("model", ["thread", "select", "epoll", "asyncio"])
def test_the_silence_of_a_datagrams_sender_is_no_news(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="hailer.server")
    with Server("udp://127.0.0.1:0", echo, model, idle_timeout=0.05) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.sendto(b"x", ("127.0.0.1", int(server.endpoints[0].port or 0)))
            assert client.recv(10) == b"x"
        while server.counters.active:
            time.sleep(0.005)
    ends = [record for record in caplog.records if "connection from" in record.getMessage()]
    assert ends
    assert all(record.levelno == logging.DEBUG for record in ends)


@pytest.mark.parametrize("model", MODELS)
def test_the_end_of_listening_by_another_error_is_told(model: Any) -> None:
    server = Server("127.0.0.1:0", echo, model)
    server.bind()
    # A socket that does not listen: accept says EINVAL, which no waiting cures.
    with socket.socket() as wrong, server._listeners[0].socket:
        wrong.bind(("127.0.0.1", 0))
        server._listeners[0].socket = wrong
        with pytest.raises(ListenError):
            server.serve()


def test_a_thread_that_cannot_be_ended_is_left_behind_and_named(caplog: pytest.LogCaptureFixture) -> None:
    started, release = threading.Event(), threading.Event()

    async def stuck(connection: Connection) -> None:
        started.set()
        release.wait(20)  # blocks outside hailer: nothing can wake it

    with Server("127.0.0.1:0", stuck, "thread") as server, dial(int(server.endpoints[0].port or 0)):
        assert started.wait(5)
        workers = [thread for thread in threading.enumerate() if thread.name == "hailer-worker"]
        server.stop()
    assert "do not end" in caplog.text
    release.set()
    for worker in workers:
        worker.join(5)
        assert not worker.is_alive()


# Whole processes.

SERVE = """
import logging, resource, sys
from hailer import Server, sleep
logging.basicConfig(format="%(name)s %(message)s", level="INFO")

async def handle(connection):
    async for message in connection:
        if message == b"slow":
            await connection.send(b"started")
            await sleep(0.3)
        elif message == b"for ever":
            await connection.send(b"started")
            await sleep(1000)
        await connection.send(message)

server = Server("127.0.0.1:0", handle, sys.argv[1], drain=float(sys.argv[2]))
if len(sys.argv) > 3:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]),) * 2)
print(server.bind()[0].port, flush=True)
server.serve()
print(server.counters.accepted, server.counters.accept_failures)
"""


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", SERVE, *arguments]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            yield child, int(child.stdout.readline())
        finally:
            child.kill()


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("model", MODELS)
def test_a_signal_drains(model: str, number: signal.Signals) -> None:
    with process(model, "10") as (child, port), dial(port) as client:
        client.sendall(b"slow\n")
        assert client.recv(100) == b"started\n"
        client.shutdown(socket.SHUT_WR)
        child.send_signal(number)
        assert client.recv(100) == b"slow\n"
        assert client.recv(100) == b""
        assert child.wait(5) == 0
        assert child.stderr is not None
        assert "Traceback" not in child.stderr.read()


@pytest.mark.parametrize("model", MODELS)
def test_a_second_signal_stops(model: str) -> None:
    with process(model, "1000") as (child, port), dial(port) as client:
        client.sendall(b"for ever\n")
        assert client.recv(100) == b"started\n"
        child.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.2)
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == 0


@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_few_descriptors_and_many_connections(model: str) -> None:
    """48 descriptors, 150 connections: the old ones are served, the log is quiet, and all get their turn."""
    with process(model, "1", "48") as (child, port):
        old = dial(port)
        old.sendall(b"first\n")
        assert old.recv(100) == b"first\n"
        clients = [dial(port) for _ in range(150)]
        for client in clients:
            client.sendall(b"hello\n")
        slowest = 0.0
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            start = time.monotonic()
            old.sendall(b"still here\n")
            assert old.recv(100) == b"still here\n"
            slowest = max(slowest, time.monotonic() - start)
            select.select([], [], [], 0.02)
        assert slowest < 0.5  # generous: the machine may be busy
        waiting = set(clients)
        for client in clients:
            # Those that are served leave, and others come to their turn.
            assert client.recv(100) == b"hello\n"
            client.close()
            waiting.discard(client)
        assert not waiting
        old.close()
        child.send_signal(signal.SIGTERM)
        output, errors = child.communicate(timeout=10)
        accepted, failures = map(int, output.split())
        assert accepted == 151
        assert failures > 0, "the limit was never reached: the test tests nothing"
        assert failures < 100, "accepting was not paused"
        lines = [line for line in errors.splitlines() if "cannot accept" in line]
        assert 1 <= len(lines) <= 10
        assert "Traceback" not in errors


def test_the_serving_thread_ends_though_the_block_fails(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before = set(threading.enumerate())

    def failing() -> None:
        with (
            Server("127.0.0.1:0", echo, drain=1000) as server,
            dial(int(server.endpoints[0].port or 0)) as client,
        ):
            client.sendall(b"x\n")
            client.recv(10)
            raise KeyError("the test's own")

    with pytest.raises(KeyError):
        failing()
    assert set(threading.enumerate()) == before


STUBBORN = """
import asyncio, logging, os, sys
from hailer import Server, sleep
logging.basicConfig(format="%(name)s %(message)s", level="INFO")

async def handle(connection):
    async for message in connection:
        if message == b"fork":
            if (child := os.fork()) == 0:
                return
            await connection.send(b"child: %d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            return
        await connection.send(b"started")
        while True:
            try:
                await sleep(1000)
            except BaseException as error:
                if isinstance(error, GeneratorExit):
                    raise

server = Server("127.0.0.1:0", handle, sys.argv[1], loop=sys.argv[2], drain=0.1, workers=1)
print(server.bind()[0].port, flush=True)
server.serve()
"""


@contextmanager
def stubborn(model: str, loop: str = "auto") -> Iterator[tuple[subprocess.Popen[str], int]]:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, model, loop],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("loop", ["uvloop", "stock"])
def test_a_task_that_catches_its_cancellation_does_not_hold_the_server(loop: str) -> None:
    with stubborn("asyncio", loop) as (process, port), dial(port) as client:
        client.sendall(b"x\n")
        assert client.recv(100) == b"started\n"
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0
        assert "1 handlers do not end" in log


def test_a_handler_that_catches_everything_is_ended_by_the_fourth_signal() -> None:
    with stubborn("iterative") as (process, port), dial(port) as client:
        client.sendall(b"x\n")
        assert client.recv(100) == b"started\n"
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while "does not end" not in (line := process.stderr.readline()):
            assert line
        end = time.monotonic() + 20
        while process.poll() is None:
            assert time.monotonic() < end
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("model", MODELS)
def test_a_child_that_a_handler_forked_does_not_become_a_second_server(model: str) -> None:
    with stubborn(model) as (process, port):
        with dial(port) as client:
            client.sendall(b"fork\n")
            assert client.recv(100) == b"child: 1\n"
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)  # nobody else holds the pipe of the log
        assert process.returncode == 0
        assert log.count("a handler has forked") == 1


def test_what_connections_need_is_imported_before_they_come() -> None:
    """Children of the fork model would each import it for themselves, for longer than all else takes."""
    program = """
import sys
from hailer import Server
from hailer.services.echo import echo
server = Server("ws://127.0.0.1:0", echo, "fork")
assert "hailer.layers.websocket" not in sys.modules
server.stop()
server.serve()
assert "hailer.layers.websocket" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
