"""How a relay ends: by signals, with peers that do not care."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest

from hailer.relay.app import RelayServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from tests.conftest import Connect, Wire
    from tests.relay.edge.conftest import MakeSettings, Start, StartProcess


@pytest.mark.heavy
def test_a_signal_under_load(
    model: str,
    start_process: StartProcess,
    connect: Connect,
    can_connect: Callable[[Endpoint], bool],
) -> None:
    """200 peers in a room that is never silent; one never reads and never closes."""
    relay = start_process(model, drain=0.7)
    deaf = connect(relay.endpoint, "deaf", small=True)
    deaf.send("JOIN #all")
    wires = [connect(relay.endpoint, f"n{number}") for number in range(199)]
    for wire in wires:
        wire.send("JOIN #all")
    endings: list[bytes] = []

    def receive(mine: list[Wire]) -> None:
        for wire in mine:
            tail = b""
            try:
                while data := wire.sock.recv(1 << 20):
                    tail = (tail + data)[-100:]
            except OSError as error:
                tail = repr(error).encode()
            endings.append(tail)
            wire.close()

    def send(wire: Wire) -> None:
        try:
            while True:
                wire.sock.sendall(b"SEND #all :load\n" * 10)
                time.sleep(0.005)
        except OSError:
            pass  # the relay has ended

    senders = [threading.Thread(target=send, args=(wire,), daemon=True) for wire in wires[:3]]
    for thread in senders:
        thread.start()
    time.sleep(0.2)
    began = time.monotonic()
    relay.process.send_signal(signal.SIGTERM)
    receivers = [threading.Thread(target=receive, args=(wires[n::10],), daemon=True) for n in range(10)]
    for thread in receivers:
        thread.start()
    while can_connect(relay.endpoint):
        assert time.monotonic() - began < 1.0, "it still accepts"
        time.sleep(0.01)
    assert relay.process.wait(10) == 0
    took = time.monotonic() - began
    for thread in (*receivers, *senders):
        thread.join(5)
        assert not thread.is_alive()
    assert took < 0.7 + 1.0, "it did not end in time"
    wanting = [ending for ending in endings if not ending.endswith(b"\nBYE :the relay is shutting down\n")]
    assert wanting == []
    assert len(endings) == 199
    assert any("late peers=1 " in line for line in relay.log_lines)
    assert not any("Traceback" in line for line in relay.log_lines)


def test_a_second_signal_ends_it_at_once(model: str, start_process: StartProcess, connect: Connect) -> None:
    relay = start_process(model, drain=30.0)
    deaf = connect(relay.endpoint, "deaf")
    began = time.monotonic()
    relay.process.send_signal(signal.SIGTERM)
    assert deaf.line() == "BYE :the relay is shutting down"
    relay.process.send_signal(signal.SIGTERM)
    assert relay.process.wait(5) == 0
    assert time.monotonic() - began < 1.0


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
    assert relay.process.wait(5) == 0
    assert time.monotonic() - began < 1.0


def test_an_idle_relay_ends_at_once(start: Start) -> None:
    began = time.monotonic()
    relay = start()
    relay.stop()
    assert relay._thread is not None
    relay._thread.join(2)
    assert not relay._thread.is_alive()
    assert time.monotonic() - began < 0.5


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
    assert time.monotonic() - began < 2


@pytest.mark.heavy
def test_a_crowded_room_is_shut_down_quickly(
    model: str, start_process: StartProcess, connect: Connect
) -> None:
    """Each BYE must not be told to everybody else: that would be a million lines here."""
    relay = start_process(model, drain=5.0)
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
    assert relay.process.wait(5) == 0
    assert time.monotonic() - began < 2


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
    assert subprocess.run(command, timeout=5, check=False).returncode == 0
