"""What only the blocking client has: its thread, interrupts, and the end of the program."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import hailer
from hailer import blocking
from hailer.errors import ConnectionClosed, DialError, Refused, UsageError

if TYPE_CHECKING:
    from hailer.relay.app import RelayServer
    from hailer.relay.client.events import Asked


def test_both_clients_have_the_same_names_and_arguments() -> None:
    def parts(kind: type[Any]) -> dict[str, list[tuple[str, Any, Any]]]:
        return {
            name: [(p.name, p.kind, p.default) for p in inspect.signature(value).parameters.values()]
            for name, value in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_") or name == "__init__"
        }

    assert parts(hailer.RelayClient) == parts(blocking.RelayClient)
    assert parts(hailer.Message).keys() - {"__init__"} == parts(blocking.Message).keys() - {"__init__"}


def test_iteration_ends_when_another_thread_closes(tcp_relay: RelayServer) -> None:
    client = blocking.RelayClient("alice", tcp_relay.endpoints[0])
    with client:
        client.send("alice", "one")
        for message in client:
            assert message.text == "one"
            threading.Thread(target=client.close).start()
    with pytest.raises(ConnectionClosed):
        client.ping()


def test_a_dropped_client_logs_out(tcp_relay: RelayServer) -> None:
    where = tcp_relay.endpoints[0]
    client = blocking.RelayClient("alice", where)
    client.connect()
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    while True:
        try:
            with blocking.RelayClient("alice", where) as again:
                assert again.who() == ["alice"]
            break
        except Refused:
            time.sleep(0.005)


def test_a_callback_cannot_use_the_client_and_a_handler_can(tcp_relay: RelayServer) -> None:
    failures: list[BaseException] = []
    where = tcp_relay.endpoints[0]

    def connected() -> None:
        try:
            alice.ping()
        except UsageError as error:
            failures.append(error)

    alice = blocking.RelayClient("alice", where, on_connected=connected)

    @alice.on_ask
    def answer(question: Asked) -> str:
        alice.send(question.sender, "first this")
        return "then that"

    with alice, blocking.RelayClient("bob", where) as bob:
        assert "cannot use it" in str(failures[0])
        assert bob.ask("alice", "?") == b"then that"
        assert bob.receive(30).text == "first this"


def test_a_handler_that_exits_ends_only_itself(tcp_relay: RelayServer, caplog: Any) -> None:
    where = tcp_relay.endpoints[0]
    with blocking.RelayClient("alice", where, on_ask=lambda _: sys.exit(3)) as alice:
        assert alice.ask("alice", "?").startswith(b"error:")
        assert alice.ask("alice", "?").startswith(b"error:")


def test_what_it_does_not_take() -> None:
    async def handler(_: Asked) -> str:
        return await asyncio.sleep(0, "x")

    with pytest.raises(UsageError, match="async"):
        blocking.RelayClient("alice", on_ask=handler)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        blocking.Message("bob", "alice", b"hi").reply("x")
    client = blocking.RelayClient("alice", "tcp://127.0.0.1:1")
    with pytest.raises(DialError):
        client.connect()
    with pytest.raises(UsageError, match="connects once"):
        client.connect()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_cannot_use_it_and_does_not_hang(tcp_relay: RelayServer) -> None:
    code = """
import os, sys, warnings
from hailer.blocking import RelayClient
from hailer.errors import ConnectionClosed
warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: to fork with threads is what is tested
with RelayClient("alice", sys.argv[1]) as alice:
    child = os.fork()
    if not child:
        try:
            alice.ping()
        except ConnectionClosed:
            alice.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    alice.ping()
"""
    done = run(code, tcp_relay)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_does_not_close_ends_at_once_and_quietly(tcp_relay: RelayServer) -> None:
    code = """
import sys, threading, time
from hailer.blocking import RelayClient
client = RelayClient("alice", sys.argv[1], on_ask=lambda question: time.sleep(60))
client.connect()
for number in range(150):
    client.send("carl", f"{number:010000}", confirm=False)
other = RelayClient("bob", sys.argv[1])
other.connect()
threading.Thread(target=lambda: list(other), daemon=True).start()
threading.Thread(target=lambda: other.ask("alice", "?"), daemon=True).start()
"""
    with blocking.RelayClient("carl", tcp_relay.endpoints[0]) as carl:
        numbers: list[int] = []
        thread = threading.Thread(
            target=lambda: numbers.extend(int(carl.receive(10).text[-9:]) for _ in range(150)), daemon=True
        )
        thread.start()
        started = time.monotonic()
        done = run(code, tcp_relay, "-X", "dev")
        # The threads that were left waiting are the program's own, and say that their client was closed.
        assert done.returncode == 0
        assert time.monotonic() - started < 5
        thread.join()
        assert numbers == list(range(150))


def test_an_interrupt_ends_the_wait_and_loses_nothing(tcp_relay: RelayServer) -> None:
    code = """
import sys
from hailer.blocking import RelayClient
with RelayClient("alice", sys.argv[1]) as alice:
    try:
        print("ready", flush=True)
        alice.receive()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    alice.send("alice", "still here")
    print(alice.receive(30).text, flush=True)
    for message in alice:
        pass
"""
    where = str(tcp_relay.endpoints[0])
    with subprocess.Popen(
        [sys.executable, "-c", code, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert process.stdout.readline() == "still here\n"
            process.send_signal(signal.SIGINT)
            readable, _, _ = select.select([process.stdout], [], [], 10)
            assert readable
            assert process.stdout.read() == ""
            assert process.stderr.read().rstrip().endswith("KeyboardInterrupt")
            assert process.wait(10) in (1, -signal.SIGINT)
        finally:
            process.kill()


def run(code: str, relay: RelayServer, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program that is told where the relay is."""
    command = [sys.executable, *options, "-c", code, str(relay.endpoints[0])]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
