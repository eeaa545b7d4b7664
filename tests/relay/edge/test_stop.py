"""How a relay ends: by signals, with peers that do not care."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import pytest

from hailer.relay.app import RelayServer
from tests.relay.edge.conftest import LONG, SLACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from tests.conftest import Connect
    from tests.relay.edge.conftest import MakeSettings, Start, StartProcess


# In a process of its own, so that what it does is not taken for the relay's slowness.
_LOAD = """
    import json, selectors, socket, sys, time

    host, port, peers, senders = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    socks = [socket.create_connection((host, port)) for _ in range(peers)]
    for number, sock in enumerate(socks):
        sock.sendall(b"HELLO n%d\\nJOIN #all\\nPING in\\n" % number)
    for sock in socks:
        got = b""
        while b"PONG in" not in got:
            got += sock.recv(1 << 20)
    tails = {sock: b"" for sock in socks}
    selector = selectors.DefaultSelector()
    for sock in socks:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    print("ready", flush=True)
    next_send = 0.0
    while selector.get_map():
        if time.monotonic() > next_send:
            next_send = time.monotonic() + 0.01
            for sock in socks[:senders]:
                try:
                    sock.send(b"SEND #all :load\\n" * 10)
                except OSError:
                    pass
        for key, _ in selector.select(0.005):
            sock = key.fileobj
            try:
                data = sock.recv(1 << 20)
            except BlockingIOError:
                continue
            except OSError as error:
                tails[sock] += repr(error).encode()
                data = b""
            tails[sock] = (tails[sock] + data)[-100:]
            if not data:
                selector.unregister(sock)
                sock.close()
    print(json.dumps([tail.decode() for tail in tails.values()]), flush=True)
"""


@pytest.mark.heavy
def test_a_signal_under_load(
    model: str,
    start_process: StartProcess,
    connect: Connect,
    can_connect: Callable[[Endpoint], bool],
) -> None:
    """500 peers in a room that is never silent; one never reads and never closes."""
    # The long run asks for the figures themselves; the short one may share the machine with other tests.
    drain, at_once, late = (2.0, 0.1, 0.5) if LONG else (5.0, 3.0, 15.0)
    relay = start_process(model, drain=drain)
    deaf = connect(relay.endpoint, "deaf", small=True)
    deaf.send("JOIN #all")
    script = [sys.executable, "-c", textwrap.dedent(_LOAD)]
    command = [*script, relay.endpoint.host, str(relay.endpoint.port), "499", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        try:
            assert load.stdout is not None
            assert load.stdout.readline() == "ready\n"
            time.sleep(0.3)  # let it be busy
            began = time.monotonic()
            relay.process.send_signal(signal.SIGTERM)
            while can_connect(relay.endpoint):
                assert time.monotonic() - began < at_once, "it still accepts"
                time.sleep(0.005)
            assert relay.process.wait(50) == 0
            took = time.monotonic() - began
            endings = json.loads(load.stdout.readline())
        finally:
            load.kill()
    assert drain - 0.1 < took < drain + late, "it did not end in time"
    wanting = [ending for ending in endings if not ending.endswith("\nBYE :the relay is shutting down\n")]
    assert wanting == []
    assert len(endings) == 499
    assert any("late peers=1 " in line for line in relay.log_lines)
    assert not any("Traceback" in line for line in relay.log_lines)


def test_a_second_signal_ends_it_at_once(model: str, start_process: StartProcess, connect: Connect) -> None:
    relay = start_process(model, drain=30.0)
    deaf = connect(relay.endpoint, "deaf")
    began = time.monotonic()
    relay.process.send_signal(signal.SIGTERM)
    assert deaf.line() == "BYE :the relay is shutting down"
    relay.process.send_signal(signal.SIGTERM)
    assert relay.process.wait(25) == 0
    assert time.monotonic() - began < 1.0 * SLACK


@pytest.mark.heavy
def test_a_second_signal_under_load(model: str, start_process: StartProcess, connect: Connect) -> None:
    relay = start_process(model, drain=30.0)
    deaf = connect(relay.endpoint, "deaf")
    script = [sys.executable, "-c", textwrap.dedent(_LOAD)]
    command = [*script, relay.endpoint.host, str(relay.endpoint.port), "200", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        try:
            assert load.stdout is not None
            assert load.stdout.readline() == "ready\n"
            relay.process.send_signal(signal.SIGTERM)
            assert deaf.line() == "BYE :the relay is shutting down"
            began = time.monotonic()
            relay.process.send_signal(signal.SIGTERM)
            assert relay.process.wait(25) == 0
            assert time.monotonic() - began < 0.5 * SLACK
        finally:
            load.kill()
    assert not any("Traceback" in line for line in relay.log_lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_when_all_have_gone(
    model: str, start_process: StartProcess, connect: Connect, number: signal.Signals
) -> None:
    relay = start_process(model, drain=30.0)
    wires = [connect(relay.endpoint, f"n{n}") for n in range(20)]
    began = time.monotonic()
    relay.process.send_signal(number)
    for wire in wires:
        assert wire.rest() == b"BYE :the relay is shutting down\n"
        wire.close()
    assert relay.process.wait(25) == 0
    assert time.monotonic() - began < 1.0 * SLACK


def test_an_idle_relay_ends_at_once(start: Start) -> None:
    began = time.monotonic()
    relay = start()
    relay.stop()
    assert relay._thread is not None
    relay._thread.join(20)
    assert not relay._thread.is_alive()
    assert time.monotonic() - began < 0.5 * SLACK


def test_stopped_before_it_serves(
    settings_for: MakeSettings, tcp: Endpoint, can_connect: Callable[[Endpoint], bool]
) -> None:
    relay = RelayServer(settings_for(tcp))
    relay.bind()
    relay.stop()
    relay.serve()
    assert not can_connect(relay.endpoints[0])


def test_the_with_statement_hands_on_what_happened(settings_for: MakeSettings, tcp: Endpoint) -> None:
    began = time.monotonic()
    with (
        pytest.raises(ZeroDivisionError),
        RelayServer(settings_for(tcp, drain=30)) as relay,
        socket.create_connection(("127.0.0.1", int(str(relay.endpoints[0].port)))),
    ):
        raise ZeroDivisionError
    assert time.monotonic() - began < 2 * SLACK


@pytest.mark.heavy
def test_a_crowded_room_is_shut_down_quickly(
    model: str, start_process: StartProcess, connect: Connect
) -> None:
    """Each BYE must not be told to everybody else: that would be a million lines here."""
    relay = start_process(model, drain=30.0)
    wires = [connect(relay.endpoint, f"n{number}") for number in range(1000)]
    for wire in wires:
        wire.send(b"JOIN #all\n" if wire is wires[0] else b"WATCH\n")
    for wire in wires:
        wire.sync()
    began = time.monotonic()
    relay.process.send_signal(signal.SIGTERM)
    for wire in wires:
        assert wire.rest().endswith(b"BYE :the relay is shutting down\n")
        wire.close()
    assert relay.process.wait(25) == 0
    assert time.monotonic() - began < 2 * SLACK


_STRUCK = """
    import signal, sys, threading
    from hailer.endpoint import Endpoint
    from hailer.relay.app import RelayServer, Settings

    listen = (Endpoint.parse("tcp4://127.0.0.1:0"),)
    relay = RelayServer(Settings(listen=listen, model=sys.argv[1], loop=sys.argv[2]))
    signal.signal(signal.SIGTERM, lambda *_: relay.stop())
    relay.bind()
    strike = lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
    threading.Timer(0.2, strike).start()
    relay.serve()
"""


def test_a_signal_that_another_thread_gets(model: str) -> None:
    """It interrupts nothing in the main thread, like one that comes just before that begins to wait."""
    kind, loop = {"thread": ("thread", "auto")}.get(model, ("asyncio", model))
    command = [sys.executable, "-c", textwrap.dedent(_STRUCK), kind, loop]
    assert subprocess.run(command, timeout=50, check=False).returncode == 0
