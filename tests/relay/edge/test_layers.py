"""TLS and WebSocket at the relay's edge, under every model: what clients see of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import socket
import ssl
import subprocess
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

import hailer
from hailer import blocking
from hailer.endpoint import Endpoint
from hailer.errors import DialError, HailerError, TlsError, UsageError
from hailer.relay.app import RelayServer, Settings
from tests.relay.edge.layered import (
    AUTHORITY,
    OTHER_AUTHORITY,
    SERVER,
    LayeredWire,
    WebSocketAsStream,
    trusting,
    write_identity,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.relay.edge.conftest import MakeSettings

KINDS = ["tls", "ws", "wss"]
MIB = 1 << 20


class StartLayered(Protocol):
    """The type of the fixture `start`."""

    def __call__(
        self, *kinds: str, changes: dict[str, Any] | None = None, **limits: float
    ) -> RelayServer: ...


@pytest.fixture
def start(settings_for: MakeSettings, tmp_path: Path) -> Iterator[StartLayered]:
    """Starts relays under each model, on endpoints of these kinds."""
    cert, key = write_identity(SERVER, tmp_path, "server")
    AUTHORITY.cert_pem.write_to_path(tmp_path / "ca.pem")
    with contextlib.ExitStack() as stack:

        def start(*kinds: str, changes: dict[str, Any] | None = None, **limits: float) -> RelayServer:
            endpoints = [Endpoint.parse(f"{kind}://127.0.0.1:0") for kind in kinds]
            settings = settings_for(*endpoints, drain=0.2, **limits)
            if {"tls", "wss"} & set(kinds):
                settings = replace(settings, cert=str(cert), key=str(key))
            return stack.enter_context(RelayServer(replace(settings, **changes or {})))

        yield start


class Connect(Protocol):
    """The type of the fixture `connect`."""

    def __call__(self, endpoint: Endpoint, name: str = "", **options: Any) -> LayeredWire: ...


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects plain clients, logged in if they get a name, and closes them at the end."""
    with contextlib.ExitStack() as stack:

        def connect_to(endpoint: Endpoint, name: str = "", **options: Any) -> LayeredWire:
            wire = LayeredWire(endpoint, **options)
            stack.callback(wire.close)
            if name:
                wire.login(name)
            return wire

        yield connect_to


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of endpoint that has layers."""
    return str(request.param)


def cut_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of connections that were cut."""
    return [line for line in (r.getMessage() for r in caplog.records) if line.startswith("cut ")]


# talk


def test_rooms_names_and_any_bytes(start: StartLayered, connect: Connect, kind: str) -> None:
    server = start(kind, "tcp")
    where, plain = server.endpoints
    alice, bob, carol = connect(where, "alice"), connect(where, "Bob"), connect(plain, "carol")
    for wire in (alice, bob, carol):
        wire.send("JOIN #den")
        wire.until("JOINED #den")
    alice.sync()
    for number in range(200):
        alice.send(f"SEND bob :{number} é")
    bob.sync()
    alice.sync()
    bob.sync()
    carol.send("SEND #den :hello, all: of you")
    assert alice.until("MSG")[-1] == bob.until("MSG")[-1] == "MSG carol #den :hello, all: of you"
    payload = random.Random(4).randbytes(MIB)
    for wire, to in ((carol, alice), (alice, carol)):
        name = b"alice" if to is alice else b"carol"
        wire.send(b"SEND %s %d\n" % (name, len(payload)) + payload if wire is carol else b"")
        if wire is carol:
            assert to.until("MSG carol")[-1] == f"MSG carol alice {len(payload)}"
            assert to.raw(len(payload)) == payload


def test_messages_arrive_in_order(start: StartLayered, connect: Connect, kind: str) -> None:
    where = start(kind).endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    alice.send("".join(f"SEND bob :{number} é\n" for number in range(20_000)).encode())
    assert [bob.line() for _ in range(20_000)] == [f"MSG alice bob :{n} é" for n in range(20_000)]
    bob.send("SEND ALICE :thanks")
    assert alice.line() == "MSG bob alice :thanks"


def test_quit_ends_in_the_layers_own_way(start: StartLayered, connect: Connect, kind: str) -> None:
    where = start(kind).endpoints[0]
    alice = connect(where, "alice")
    alice.send("QUIT :good night")
    assert alice.rest() == b"BYE :good night\n"  # with TLS, an end without its goodbye would be an error
    sock: Any = alice.sock
    if isinstance(sock, WebSocketAsStream):
        assert sock.web.close_code == 1000
    again = connect(where, "alice")
    assert again.sync() == []


@pytest.mark.parametrize("form", ["asyncio", "blocking"])
def test_the_client(start: StartLayered, kind: str, form: str) -> None:
    where = start(kind).endpoints[0]
    options: dict[str, Any] = {"tls": trusting()} if kind != "ws" else {}
    payload = random.Random(5).randbytes(MIB)

    async def talk() -> None:
        async with (
            hailer.RelayClient("alice", where, **options) as alice,
            hailer.RelayClient("bob", str(where), on_ask=lambda asked: asked.text.upper(), **options) as bob,
        ):
            await bob.send("alice", "grüß dich")
            assert (await alice.receive(30)).text == "grüß dich"
            await alice.send("bob", payload)
            assert (await bob.receive(30)).payload == payload
            assert await alice.ask("bob", "loud") == b"LOUD"
            await asyncio.gather(*[alice.send("bob", str(number), confirm=False) for number in range(5000)])
            await alice.drain()
            assert [(await bob.receive(30)).text for _ in range(5000)] == [str(n) for n in range(5000)]

    if form == "asyncio":
        asyncio.run(talk())
        return
    with (
        blocking.RelayClient("alice", where, **options) as alice,
        blocking.RelayClient("bob", where, **options) as bob,
    ):
        alice.send("bob", payload)
        assert bob.receive(30).payload == payload
        bob.send("alice", "ok")
        assert alice.receive(30).text == "ok"


def test_openssl(start: StartLayered, require_program: Callable[[str], str], tmp_path: Path) -> None:
    where = start("tls").endpoints[0]
    command = [
        require_program("openssl"),
        "s_client",
        "-quiet",
        "-CAfile",
        str(tmp_path / "ca.pem"),
    ]
    command += ["-verify_return_error", "-servername", "localhost", "-connect", where.address_text]
    said = "HELLO ann\nSEND ann :hello me\nQUIT\n"
    done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=50, check=True)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["RELAY", "WELCOME", "MSG", "BYE"]
    assert lines[2] == "MSG ann ann :hello me"


def test_old_tls(start: StartLayered, connect: Connect) -> None:
    where = start("tls").endpoints[0]
    alice = connect(where, "alice", context=trusting(old=True))
    assert alice.sync() == []
    ancient = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(ancient)
    ancient.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ancient.minimum_version = ssl.TLSVersion.TLSv1
        ancient.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        connect(where, context=ancient)


# WebSocket's own


def test_text_is_completed_and_answered_as_text(start: StartLayered, connect: Connect) -> None:
    where = start("ws").endpoints[0]
    sock: Any = connect(where).sock
    web = sock.web
    assert web.recv(5).startswith("RELAY ")
    web.send("HELLO ann")
    assert web.recv(5).startswith("WELCOME ann ")
    web.send("SEND ann :one\nSEND ann :two é")
    assert web.recv(5) == "MSG ann ann :one\nMSG ann ann :two é\n"
    web.send("SEND ann :three\n")
    assert web.recv(5) == "MSG ann ann :three\n"
    web.send(b"SEND ann :fo")  # binary messages are a stream
    web.send(b"ur\nSEND ann 3\n\xff\x00")
    web.send(b"\xfe")
    got = web.recv(5)
    got = got if isinstance(got, bytes) else got.encode()
    while not got.endswith(b"\xfe"):
        more = web.recv(5)
        got += more if isinstance(more, bytes) else more.encode()
    assert got == b"MSG ann ann :four\nMSG ann ann 3\n\xff\x00\xfe"
    web.send("")
    web.send("PING after")
    assert web.recv(5) == "PONG after\n"


def test_large_text_is_cut_between_lines_and_characters(start: StartLayered, connect: Connect) -> None:
    where = start("ws").endpoints[0]
    bob: Any = connect(where, "bob").sock
    alice = connect(where, "alice")
    alice.send("".join(f"SEND bob :{number} {'é' * 100}\n" for number in range(3000)).encode())
    count = 0
    while count < 3000:
        message = bob.web.recv(5)
        assert isinstance(message, str)
        assert message.startswith("MSG alice bob :")
        assert message.endswith("\n")
        count += message.count("\n")
    text = "x" + "é" * 200_000
    alice.send(b"SEND bob %d\n" % len(text.encode()) + text.encode())
    parts: list[str] = []
    while sum(map(len, parts)) < len(text):
        message = bob.web.recv(5)
        assert isinstance(message, str)
        parts.append(message)
    assert "".join(parts).partition("\n")[2] == text


def test_pings_and_close(start: StartLayered, connect: Connect, kind: str) -> None:
    if kind == "tls":
        return
    server = start(kind)
    sock: Any = connect(server.endpoints[0], "ann").sock
    watcher = connect(server.endpoints[0], "bob")
    watcher.send("WATCH ann")
    watcher.sync()
    assert sock.web.ping("there?").wait(30)
    # What was said just before Close is done, and answered before the Close of the relay.
    sock.web.send("SEND bob :last words\nWHO")
    sock.web.close(4001, "enough")
    assert (sock.web.close_code, sock.web.close_reason) == (4001, "enough")
    assert watcher.line() == "MSG ann bob :last words"
    assert watcher.line() == "OFFLINE ann"


def test_answers_come_before_the_relays_close(start: StartLayered) -> None:
    where = start("ws").endpoints[0]
    with open_web_by_hand(where) as sock:
        sock.sendall(frame(b"HELLO ann\nWHO\nPING x") + frame(b"\x0f\xa1why", opcode=8))
        got = until_end(sock)
    assert re.search(
        rb"WELCOME ann .*HERE ann\nEND WHO\nPONG x\n.*BYE :end of input\n\x88\x05\x0f\xa1why$", got, re.DOTALL
    )


def test_a_web_client_that_closes_waits_for_no_answers(start: StartLayered, connect: Connect) -> None:
    where = start("ws").endpoints[0]
    bob = connect(where, "bob")
    bob.send("WATCH ann")
    bob.sync()
    with open_web_by_hand(where) as sock:
        sock.sendall(frame(b"HELLO ann\nASK q bob :will you answer?") + frame(b"", opcode=8))
        assert until_end(sock).endswith(b"\x88\x00")
    assert [bob.line() for _ in range(3)] == ["ONLINE ann", "ASKED q ann :will you answer?", "OFFLINE ann"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"\x83\x80\0\0\0\0", 1002),  # a frame of no known kind
        (b"\x81\x05hello", 1002),  # not masked
        (b"\x81\x82\0\0\0\0\xff\xff", 1007),  # text that is no UTF-8
        (b"\x82\xff\0\0\0\0\x7f\xff\xff\xff\0\0\0\0", 1009),  # longer than anything may be
    ],
)
def test_bad_frames(start: StartLayered, bad: bytes, code: int, caplog: pytest.LogCaptureFixture) -> None:
    where = start("ws").endpoints[0]
    with open_web_by_hand(where) as sock:
        sock.sendall(frame(b"HELLO ann\nPING x") + bad)
        got = until_end(sock)
    assert b"PONG x\n" in got
    assert b"BYE :what came was no WebSocket message that a relay takes\n" in got
    close = got[got.rindex(b"\x88") :]
    assert int.from_bytes(close[2:4], "big") == code
    assert len(cut_lines(caplog)) == 1


def test_paths_and_origins(start: StartLayered) -> None:
    anywhere = start("ws").endpoints[0]
    for path in ("/", "/ws", "/any?thing=1"):
        assert ask_upgrade(anywhere, path=path).startswith(b"HTTP/1.1 101")
    server = start(changes={"listen": (Endpoint.parse("ws://127.0.0.1:0/ws"),)})
    assert server.endpoints[0].path == "/ws"
    assert ask_upgrade(server.endpoints[0], path="/ws").startswith(b"HTTP/1.1 101")
    assert ask_upgrade(server.endpoints[0], path="/").startswith(b"HTTP/1.1 404")
    port = anywhere.port
    assert ask_upgrade(anywhere, origin=f"http://127.0.0.1:{port}").startswith(b"HTTP/1.1 101")
    assert ask_upgrade(anywhere, origin="https://evil.example").startswith(b"HTTP/1.1 403")
    rebound = ask_upgrade(anywhere, origin=f"http://evil.example:{port}", host=f"evil.example:{port}")
    assert rebound.startswith(b"HTTP/1.1 403")
    allowing = start("ws", changes={"origins": ("https://chat.example",)}).endpoints[0]
    assert ask_upgrade(allowing, origin="https://chat.example").startswith(b"HTTP/1.1 101")


# ends


def test_a_tls_client_that_has_finished_gets_its_answers(start: StartLayered, connect: Connect) -> None:
    server = start("tls")
    where = server.endpoints[0]
    bob = connect(where, "bob")
    with hailer.connect(where, tls=trusting(), server_name="localhost") as ann:
        ann.send(b"HELLO ann")
        ann.send(b"ASK q bob :still there?")
        ann.finish()
        assert bob.line() == "ASKED q ann :still there?"
        bob.send("ANSWER q ann :yes")
        lines = [bytes(line) for line in ann]
    assert lines[-2:] == [b"ANSWERED q bob :yes", b"BYE :end of input"]


def test_a_stream_cut_without_a_goodbye(start: StartLayered, connect: Connect, kind: str) -> None:
    where = start(kind).endpoints[0]
    watcher = connect(where, "bob")
    watcher.send("WATCH")
    watcher.sync()
    wire = connect(where, "ann")
    assert watcher.line() == "ONLINE ann"
    wire.send("SEND bob :whole")
    assert watcher.line() == "MSG ann bob :whole"
    sock: Any = wire.sock
    raw = sock.web.socket if isinstance(sock, WebSocketAsStream) else sock
    socket.socket.shutdown(raw, socket.SHUT_RDWR)
    assert watcher.line() == "OFFLINE ann"


def test_shutdown_says_goodbye(start: StartLayered, connect: Connect, kind: str) -> None:
    server = start(kind)
    alice = connect(server.endpoints[0], "alice")
    agreeing = socket.create_connection(("127.0.0.1", int(server.endpoints[0].port or 0)))
    with agreeing:
        server.stop()
        assert alice.rest() == b"BYE :the relay is shutting down\n"


# slow receivers


def test_a_receiver_that_catches_up(start: StartLayered, connect: Connect, kind: str, model: str) -> None:
    server = start(kind, waiting=4 * MIB, slow_seconds=30)
    where = server.endpoints[0]
    count = 6000
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        sock.settimeout(10)
        sock.connect((where.host, int(where.port or 0)))
        stream = ByHand(sock, trusting() if kind != "ws" else None)
        stream.send((b"" if kind == "tls" else upgrade_request(where)) + in_kind(kind, b"HELLO slow"))
        stream.until(b"WELCOME slow ")
        sender = connect(where, "sender")
        for start_at in range(0, count, 100):
            numbers = range(start_at, start_at + 100)
            sender.send("".join(f"SEND slow :{n:06}{'x' * 1000}\n" for n in numbers).encode())
        sender.sync()
        slow = next(session for session in sessions(server) if session.name == b"slow")
        assert slow.blocked
        if kind != "tls":
            before = slow.waiting
            stream.send(frame(b"are you there", opcode=9) * 20)
            if model != "workers":  # there the answers wait in the worker, which bounds them by itself
                wait_until(lambda: slow.waiting != before)
        stream.send(in_kind(kind, b"PING last"))
        got = stream.until(b"PONG last")
        assert [int(number) for number in re.findall(rb":(\d{6})x", got)] == list(range(count))
        assert got.count(b"are you there") == (20 if kind != "tls" else 0)
        # Nothing is counted that is not there: whoever is written to no more is waited for no more.
        wait_until(lambda: (slow.waiting, slow.blocked, slow.chunks) == (0, False, []))


@pytest.mark.heavy
@pytest.mark.parametrize("reads_later", [True, False])
def test_a_slow_receiver(
    start: StartLayered, connect: Connect, kind: str, reads_later: bool, quick_clocks: None
) -> None:
    limit = 128 * 1024
    server = start(
        kind, waiting=limit, patience=0.1, slow_seconds=1.0, parting_seconds=5.0 if reads_later else 0.3
    )
    where = server.endpoints[0]
    if not reads_later and kind != "tls":
        return  # the websockets library reads all by itself
    slow = connect(where, "slow", small=True) if kind == "tls" else None
    raw: socket.socket | None = None
    if slow is None:
        raw, shake = open_web_unread(where)
        raw.sendall(shake)
    try:
        sender = connect(where, "sender")
        wait_until(lambda: any(session.online and session.name == b"slow" for session in sessions(server)))
        most = 0
        block = "".join(f"SEND slow :{'x' * 1000}\n" for _ in range(50)).encode()
        give_up = time.monotonic() + 20
        while any(session.name == b"slow" and not session.closing for session in sessions(server)):
            assert time.monotonic() < give_up
            sender.send(block)
            most = max(most, max((s.waiting for s in sessions(server) if s.name == b"slow"), default=0))
        assert most <= 4 * limit + 200_000  # and what one piece grows by being encrypted
        assert server.counters.dropped
        sender.sync()
        if not reads_later:
            wait_until(lambda: not any(session.name == b"slow" for session in sessions(server)))
            return
        if slow is not None:
            assert slow.rest().endswith(b"BYE :too slow: your output waited for 1 seconds\n")
        elif kind == "ws":
            assert raw is not None
            assert b"BYE :too slow: your output waited for 1 seconds\n" in until_end(raw)
    finally:
        if raw is not None:
            raw.close()


@pytest.mark.heavy
def test_a_peer_that_pings_and_does_not_read(
    start: StartLayered, connect: Connect, quick_clocks: None
) -> None:
    limit = 64 * 1024
    server = start("ws", waiting=limit, slow_seconds=0.5, parting_seconds=0.3)
    where = server.endpoints[0]
    with open_web_by_hand(where) as sock:
        sock.sendall(frame(b"HELLO ann"))
        wait_until(lambda: any(session.online for session in sessions(server)))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        pings = frame(b"p" * 125, opcode=9) * 500
        most = 0
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(pings)
                most = max([most, *(session.waiting for session in sessions(server))])
    assert most < limit + 2 * MIB  # what one read of pings makes
    wait_until(lambda: not sessions(server))


# odd input


def test_one_byte_at_a_time(start: StartLayered, kind: str) -> None:
    where = start(kind).endpoints[0]
    with socket.create_connection(("127.0.0.1", int(where.port or 0)), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = ByHand(sock, trusting() if kind != "ws" else None, drip=True)
        if kind == "tls":
            stream.send(b"HELLO ann\nSEND ann :hello\nQUIT\n")
        else:
            stream.send(upgrade_request(where))
            assert stream.until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
            stream.send(frame(b"HELLO ann") + frame(b"SEND ann :hello\nQUIT"))
        got = stream.until(b"BYE :you quit\n")
    assert b"MSG ann ann :hello\n" in got


GARBAGE = [
    (b"", "broke off"),
    (b"HELLO ann\nSEND bob :x\n", "speaks no TLS"),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "speaks no TLS"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage" + bytes(600), "TLS with"),
    (bytes(range(256)) * 300, "speaks no TLS"),
]


def test_garbage_costs_only_its_own_connection(
    start: StartLayered, connect: Connect, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(kind)
    where = server.endpoints[0]
    alice = connect(where, "alice")
    for garbage, _ in GARBAGE:
        caplog.clear()
        with socket.create_connection(("127.0.0.1", int(where.port or 0)), timeout=5) as sock:
            with contextlib.suppress(OSError):
                sock.sendall(garbage)
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                answer = until_end(sock)
        if garbage.startswith(b"HELLO"):
            assert answer.startswith(b"BYE :this port speaks ")
        elif garbage.startswith(b"GET"):
            assert answer.startswith(b"HTTP/1.1 4")
        wait_until(lambda: len(sessions(server)) == 1)
        assert len(cut_lines(caplog)) == 1
    assert alice.sync() == []


def test_what_tls_garbage_is_told_as(start: StartLayered, caplog: pytest.LogCaptureFixture) -> None:
    server = start("tls")
    for garbage, told in GARBAGE:
        caplog.clear()
        address = ("127.0.0.1", int(server.endpoints[0].port or 0))
        with socket.create_connection(address, timeout=5) as sock, contextlib.suppress(OSError):
            sock.sendall(garbage)
            sock.shutdown(socket.SHUT_WR)
        wait_until(lambda: len(cut_lines(caplog)) == 1)
        assert told in cut_lines(caplog)[0]


def test_garbage_after_the_handshake(start: StartLayered, connect: Connect) -> None:
    server = start("tls")
    ann = connect(server.endpoints[0], "ann")
    watcher = connect(server.endpoints[0], "bob")
    watcher.send("WATCH ann")
    watcher.sync()
    raw = socket.socket(fileno=os.dup(ann.sock.fileno()))
    with raw:
        raw.sendall(b"SEND bob :this is not encrypted\n")
    assert watcher.line() == "OFFLINE ann"
    assert watcher.sync() == []
    with pytest.raises(ssl.SSLError):  # the alert that says why
        ann.rest()


@pytest.mark.heavy
def test_a_handshake_that_is_never_finished(
    start: StartLayered, connect: Connect, kind: str, quick_clocks: None, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(kind, login_seconds=3.0)  # enough for a whole handshake on a busy machine
    where = server.endpoints[0]
    # The time counts from the connection, and TLS alone is no log-in.
    silent = connect(where)
    begin = b"GET / HTTP/1.1\r\nHost: x\r\n" if kind == "ws" else b"\x16\x03\x01\x02\x00\x01"
    began = time.monotonic()
    address = ("127.0.0.1", int(where.port or 0))
    with (
        socket.create_connection(address, timeout=10) as one,
        socket.create_connection(address, timeout=10) as other,
    ):
        other.sendall(begin)
        for sock in (one, other):
            until_end(sock)
            assert time.monotonic() - began > 2.9
    assert b"BYE :no HELLO came within 3 seconds\n" in silent.rest()
    wait_until(lambda: len(cut_lines(caplog)) == 3)
    silent.close()
    wait_until(lambda: not sessions(server))


def test_a_message_that_drips_is_a_line_that_drips(start: StartLayered, quick_clocks: None) -> None:
    where = start("ws", line_seconds=0.3).endpoints[0]
    with open_web_by_hand(where) as sock:
        whole = frame(b"SEND ann :" + b"x" * 1000)
        sock.sendall(frame(b"HELLO ann") + whole[:100])
        got = until_end(sock)
    assert b"BYE :a line or payload took longer than 0.3 seconds\n" in got


@pytest.mark.heavy
def test_two_hundred_tls_clients_at_once(start: StartLayered) -> None:
    server = start("tls")
    where = server.endpoints[0]
    context = trusting()

    async def main() -> None:
        clients = [hailer.RelayClient(f"c{number}", where, tls=context, timeout=30) for number in range(200)]
        await asyncio.gather(*[client.connect() for client in clients])
        await asyncio.gather(*[client.send(f"c{number}", "hello") for number, client in enumerate(clients)])
        for client in clients:
            assert (await client.receive(10)).text == "hello"
        await asyncio.gather(*[client.close() for client in clients])

    asyncio.run(main())
    wait_until(lambda: not sessions(server))


# certificates


def serial_of(wire: LayeredWire) -> str:
    """The serial number of the certificate that the relay showed."""
    sock: Any = wire.sock
    return str(sock.getpeercert()["serialNumber"])


def test_a_certificate_is_replaced_under_load(
    start: StartLayered, connect: Connect, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = start("tls")
    where = server.endpoints[0]
    old = connect(where, "old")
    stop = threading.Event()
    sent: list[int] = []

    def load() -> None:
        with blocking.RelayClient("sender", where, tls=trusting(), reconnect=False) as sender:
            while not stop.is_set():
                sender.send("old", str(len(sent)))
                sent.append(1)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(load)
        try:
            assert old.line() == "MSG sender old :0"
            write_identity(AUTHORITY.issue_cert("localhost"), tmp_path, "server")
            assert serial_of(connect(where, "before")) == serial_of(old)
            server.reload()
            new = connect(where, "new")
            assert serial_of(new) != serial_of(old)
            (tmp_path / "server.pem").write_text("nonsense")
            server.reload()
            assert serial_of(connect(where, "newer")) == serial_of(new)
        finally:
            stop.set()
        running.result(10)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [error.getMessage().split()[0] for error in errors] == ["certificate"]
    caplog.clear()
    assert old.sync() == [f"MSG sender old :{number}" for number in range(1, len(sent))]


def test_client_certificates_prove_names(start: StartLayered, connect: Connect, tmp_path: Path) -> None:
    changes = {"client_ca": str(tmp_path / "ca.pem")}
    server = start("tls", "wss", changes=changes)
    for where in server.endpoints:
        for cert in (
            AUTHORITY.issue_cert("ignored.example", common_name="Ann"),
            AUTHORITY.issue_cert("Ann", common_name="not a name at all!"),
        ):
            ann = connect(where, context=trusting(cert))
            ann.login("ann")
            assert [session.certified for session in sessions(server)] == [b"ann"]
            ann.send("QUIT")
            ann.rest()
            ann.close()
            wait_until(lambda: not sessions(server))
        connect(where, "nobody").close()  # they are optional
        wait_until(lambda: not sessions(server))
    bob = connect(server.endpoints[0], context=trusting(AUTHORITY.issue_cert("x", common_name="bob")))
    bob.expect("RELAY ")
    bob.send("HELLO ann")
    assert bob.line().startswith("FAIL denied HELLO ")


def test_required_and_wrong_client_certificates(
    start: StartLayered, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"client_ca": str(tmp_path / "ca.pem"), "client_certs": "required"}
    server = start("tls", changes=changes)
    where = server.endpoints[0]

    async def login(cert: Any) -> None:
        async with hailer.RelayClient("ann", where, tls=trusting(cert), reconnect=False):
            pass

    asyncio.run(login(AUTHORITY.issue_cert("x", common_name="ann")))
    caplog.clear()
    with pytest.raises(TlsError, match="wants a certificate from this side"):
        asyncio.run(login(None))
    wait_until(lambda: len(cut_lines(caplog)) == 1)  # the client may know it first
    with pytest.raises(TlsError, match="does not trust the authority of this side's certificate"):
        asyncio.run(login(OTHER_AUTHORITY.issue_cert("x", common_name="ann")))
    wait_until(lambda: len(cut_lines(caplog)) == 2)
    lines = cut_lines(caplog)
    assert "showed no client certificate" in lines[0]
    assert "is signed by an authority that is not trusted here" in lines[1]


def test_a_client_that_does_not_trust_the_relay(
    start: StartLayered, caplog: pytest.LogCaptureFixture
) -> None:
    server = start("tls", "ws")
    where, web = server.endpoints
    for context, why in (
        (trusting(authority=OTHER_AUTHORITY), "not trusted here"),
        (None, "not trusted here"),
    ):
        with pytest.raises(TlsError, match=why), blocking.RelayClient("ann", where, tls=context):
            pass
    with pytest.raises(TlsError, match=r"is not for relay\.example"):
        blocking.RelayClient("ann", where, tls=trusting(), server_name="relay.example").connect()
    # TLS where there is none, and none where there is: neither falls back to the other.
    with pytest.raises(TlsError, match="look whether it speaks TLS at all"):
        blocking.RelayClient("ann", replace(web, scheme="tls", path="")).connect()
    with pytest.raises(HailerError):
        blocking.RelayClient("ann", replace(where, scheme="tcp"), reconnect=False, timeout=1).connect()
    with pytest.raises(DialError, match=r"opens no WebSocket|does not speak WebSocket"):
        blocking.RelayClient("ann", replace(where, scheme="ws", path="/")).connect()


def test_inherited_sockets_are_what_the_certificate_is_given_for(start: StartLayered, tmp_path: Path) -> None:
    cert, key = write_identity(SERVER, tmp_path, "server")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        passed = os.dup(listening.fileno())
        endpoints = (Endpoint.parse(f"fd://{passed}"), Endpoint.parse("tcp://127.0.0.1:0"))
        server = start(changes={"listen": endpoints, "cert": str(cert), "key": str(key)})
        assert [endpoint.scheme for endpoint in server.endpoints] == ["tls", "tcp"]
        with blocking.RelayClient("ann", server.endpoints[0], tls=trusting()) as ann:
            with blocking.RelayClient("bob", server.endpoints[1]) as bob:
                bob.send("ann", "hello")
            assert ann.receive(30).text == "hello"


# settings


@pytest.mark.parametrize(
    ("endpoint", "changes", "sentence"),
    [
        ("tls://localhost:0", {}, "needs a certificate: give --cert and --key"),
        ("wss://localhost:0", {}, "needs a certificate"),
        ("tcp://localhost:0", {"cert": "x.pem"}, "is not encrypted: write tls:// or wss://"),
        ("tcp://localhost:0", {"key": "x.key"}, "give --cert too"),
        ("tls://localhost:0", {"cert": "missing.pem"}, "cannot be read"),
        ("ws://*:0", {}, "listen on wss:// with a certificate"),
        ("tcp://*:0", {}, "listen on tls:// with a certificate"),
        ("tls://*:0", {"cert": "server.pem"}, "have accounts"),
        ("udp://localhost:0", {}, "a relay cannot listen on"),
    ],
)
def test_what_is_refused(tmp_path: Path, endpoint: str, changes: dict[str, str], sentence: str) -> None:
    write_identity(SERVER, tmp_path, "server")
    if "cert" in changes:
        changes = {"cert": str(tmp_path / changes["cert"]), "key": str(tmp_path / "server.key")}
    with pytest.raises(UsageError, match=re.escape(sentence)):
        RelayServer(Settings(listen=(Endpoint.parse(endpoint),), **changes))  # type: ignore[arg-type]


# helpers


def sessions(server: RelayServer) -> list[Any]:
    """The relay's connections, looked at from outside."""
    return list(server._edge.links.copy().values())


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up, "it did not come to be in time"
        time.sleep(0.005)


def until_end(sock: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def frame(payload: bytes, *, opcode: int = 1) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def upgrade_request(where: Endpoint, *, path: str = "/", origin: str = "", host: str = "") -> bytes:
    """A client's request for a WebSocket."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host or where.address_text}", "Upgrade: websocket"]
    lines += [
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    lines += [f"Origin: {origin}"] if origin else []
    return "\r\n".join([*lines, "", ""]).encode()


def in_kind(kind: str, line: bytes) -> bytes:
    """A line as it goes through the layers of this kind, but for TLS."""
    return line + b"\n" if kind == "tls" else frame(line)


def ask_upgrade(where: Endpoint, **request: str) -> bytes:
    """What the relay answers to a request for a WebSocket."""
    with socket.create_connection((where.host, int(where.port or 0)), timeout=5) as sock:
        sock.sendall(upgrade_request(where, **request))
        return sock.recv(65536)


@contextlib.contextmanager
def open_web_by_hand(where: Endpoint) -> Iterator[socket.socket]:
    """A WebSocket whose frames are the test's own; the banner has been read."""
    with socket.create_connection((where.host, int(where.port or 0)), timeout=10) as sock:
        sock.sendall(upgrade_request(where))
        got = b""
        while b"HELP\n" not in got:
            got += sock.recv(65536)
        yield sock


def open_web_unread(where: Endpoint) -> tuple[socket.socket, bytes]:
    """A socket with small buffers, and the bytes that log it in as slow; nothing of it is read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    sock.settimeout(10)
    sock.connect((where.host, int(where.port or 0)))
    if where.scheme == "ws":
        return sock, upgrade_request(where) + frame(b"HELLO slow")
    stream = ByHand(sock, trusting())
    return sock, stream.encrypt(upgrade_request(where) + frame(b"HELLO slow"))


class ByHand:
    """A stream over TLS or none, whose bytes go out one by one if need be."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None, *, drip: bool = False) -> None:
        self._sock = sock
        self._drip = drip
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = None
        if context is not None:
            self._ssl = context.wrap_bio(self._in, self._out, server_hostname="localhost")
            while True:
                try:
                    self._ssl.do_handshake()
                except ssl.SSLWantReadError:
                    self._push(self._out.read())
                    self._in.write(sock.recv(65536))
                else:
                    self._push(self._out.read())
                    break

    def _push(self, data: bytes) -> None:
        for start in range(0, len(data), 1 if self._drip else len(data) or 1):
            self._sock.sendall(data[start : start + (1 if self._drip else len(data))])

    def encrypt(self, data: bytes) -> bytes:
        """What goes over the wire for it."""
        if self._ssl is None:
            return data
        self._ssl.write(data)
        return self._out.read()

    def send(self, data: bytes) -> None:
        """Send it."""
        self._push(self.encrypt(data))

    def until(self, end: bytes) -> bytes:
        """What comes, up to and with these bytes."""
        got = b""
        while end not in got:
            if self._ssl is None:
                got += self._sock.recv(65536)
                continue
            try:
                got += self._ssl.read(65536)
            except ssl.SSLWantReadError:
                data = self._sock.recv(65536)
                assert data
                self._in.write(data)
        return got
