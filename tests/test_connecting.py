"""hailer.connect: the same call with an event loop and without."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import hailer
from hailer.errors import (
    DialError,
    EndpointError,
    FramingError,
    HailerError,
    ResolveError,
    TimedOut,
    UsageError,
)
from hailer.matrix import MODELS, why_not_model, why_not_transport
from hailer.runtime.sockets import RESET_ON_CLOSE
from hailer.services.echo import echo

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from hailer.matrix import ModelName
    from hailer.runtime.blocking import BlockingConnection


@pytest.fixture
def server() -> Iterator[hailer.Server]:
    with hailer.Server(["tcp://127.0.0.1:0", "udp://127.0.0.1:0", "ws://127.0.0.1:0/echo"], echo) as server:
        yield server


@pytest.mark.parametrize("at", [0, 1, 2])
def test_four_ways_to_the_same_connection(server: hailer.Server, at: int) -> None:
    endpoint = str(server.endpoints[at])

    with hailer.connect(endpoint, receive_timeout=15) as blocking:
        blocking.send(b"with")
        assert blocking.receive() == b"with"
    opened = hailer.connect(endpoint, receive_timeout=15).open()
    opened.send(b"open")
    assert opened.receive() == b"open"
    opened.close()

    async def in_a_loop() -> None:
        async with hailer.connect(endpoint, receive_timeout=15) as connection:
            await connection.send(b"async with")
            assert await connection.receive() == b"async with"
        awaited = await hailer.connect(endpoint, receive_timeout=15)
        await awaited.send(b"await")
        assert await awaited.receive() == b"await"
        await awaited.close()

    asyncio.run(in_a_loop())


def test_it_would_hold_up_the_event_loop(server: hailer.Server) -> None:
    async def wrong() -> None:
        with hailer.connect(server.endpoints[0]):
            pass

    with pytest.raises(UsageError, match="hold up the event loop"):
        asyncio.run(wrong())


@pytest.mark.parametrize("framing", ["null", "length", "netstring", "delimiter:END"])
def test_framings(framing: str) -> None:
    with (
        hailer.Server("tcp://127.0.0.1:0", echo, framing=framing) as server,
        hailer.connect(server.endpoints[0], framing=framing, receive_timeout=15) as client,
    ):
        client.send(b"a\nb")
        assert client.receive() == b"a\nb"


def test_what_cannot_be_is_said_before_anything_is_opened() -> None:
    with pytest.raises(UsageError, match="takes no framing"):
        hailer.connect("udp://localhost:7", framing="line")
    with pytest.raises(UsageError, match="is no framing"):
        hailer.connect("localhost:7", framing="nonsense")
    with pytest.raises(EndpointError):
        hailer.connect("localhost")
    with pytest.raises(UsageError, match="is not encrypted"):
        hailer.connect("localhost:7", tls=hailer.client_context())
    with pytest.raises(UsageError, match="shows no certificate"):
        hailer.connect("localhost:7", server_name="example.org")
    with pytest.raises(UsageError, match="at least 1"):
        hailer.connect("localhost:7", max_message=0)


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("seconds", [math.inf, 30 * 86400.0, 1e12])
def test_time_outs_may_be_as_long_as_one_likes(server: hailer.Server, at: int, seconds: float) -> None:
    endpoint = server.endpoints[at]
    with hailer.connect(endpoint, timeout=seconds, receive_timeout=seconds) as client:
        client.send(b"blocking")
        assert client.receive() == b"blocking"

    async def in_a_loop() -> None:
        async with hailer.connect(endpoint, timeout=seconds, receive_timeout=seconds) as connection:
            await connection.send(b"in a loop")
            assert await connection.receive() == b"in a loop"

    asyncio.run(in_a_loop())


@pytest.mark.parametrize("scheme", ["tcp", "udp", "ws"])
@pytest.mark.parametrize("model", MODELS)
def test_and_those_of_servers_too(model: ModelName, scheme: str) -> None:
    with (
        hailer.Server(f"{scheme}://127.0.0.1:0", echo, model, idle_timeout=1e12, workers=1) as server,
        hailer.connect(server.endpoints[0], receive_timeout=15) as client,
    ):
        client.send(b"hello")
        assert client.receive() == b"hello"


def test_used_twice_at_once_and_one_after_the_other(server: hailer.Server) -> None:
    connecting = hailer.connect(server.endpoints[0], receive_timeout=15)
    for _ in range(2):
        with connecting as client:
            client.send(b"hello")
            assert client.receive() == b"hello"
            with pytest.raises(UsageError, match="open already"), connecting:
                pass

    async def in_a_loop() -> None:
        for _ in range(2):
            async with connecting as client:
                await client.send(b"hello")
                assert await client.receive() == b"hello"
                with pytest.raises(UsageError, match="open already"):
                    async with connecting:
                        pass

    asyncio.run(in_a_loop())
    nobody = hailer.connect("no-such-host.invalid:7")
    for _ in range(2):
        with pytest.raises(ResolveError), nobody:
            pass


def descriptors() -> set[str]:
    """What this process has open; a listing has one of its own, which is gone by the time it is looked at."""
    found = set()
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(f"{each.name} {each.readlink()}")
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are looked up in /proc")
@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "wss"])
def test_a_connect_that_is_cancelled_at_any_step_leaves_nothing_open(
    scheme: str, tmp_path: Path, authority: trustme.CA
) -> None:
    serving, connecting = contexts(tmp_path, authority, shown=False, asked=False)
    encrypted = scheme in ("tls", "wss")

    async def cancel_after(endpoint: hailer.Endpoint, turns: int) -> bool:
        before = descriptors()
        task = asyncio.ensure_future(connect_and_close(endpoint))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        await asyncio.sleep(0)  # asyncio closes a socket in its next turn
        assert descriptors() == before
        return isinstance(outcome, asyncio.CancelledError)

    async def connect_and_close(endpoint: hailer.Endpoint) -> None:
        connection = await hailer.connect(endpoint, tls=connecting if encrypted else None)
        connection.abort()

    async def every(endpoint: hailer.Endpoint) -> list[bool]:
        return [await cancel_after(endpoint, turns) for turns in range(30)]

    with hailer.Server(f"{scheme}://127.0.0.1:0", echo, "fork", tls=serving if encrypted else None) as server:
        assert asyncio.run(every(server.endpoints[0]))[0]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are looked up in /proc")
@pytest.mark.parametrize("scheme", ["tls", "ws", "wss"])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x03\0", b"HTTP/1.1 403 Forbidden\r\n\r\n", b"nonsense\r\n"])
@pytest.mark.parametrize("end", ["close", "reset", "silence"])
def test_a_connect_that_fails_at_any_step_leaves_nothing_open(scheme: str, said: bytes, end: str) -> None:
    before = descriptors()

    def answer(listener: socket.socket, over: threading.Event) -> None:
        with ExitStack() as peers:
            for _ in range(2):
                peer = peers.enter_context(listener.accept()[0])
                peer.recv(1000)
                peer.sendall(said)
                if end == "reset":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                if end != "silence":
                    peer.close()
            over.wait(15)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()
        thread = threading.Thread(target=answer, args=(listener, over))
        thread.start()
        endpoint = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(HailerError) as failed:
            hailer.connect(endpoint, timeout=0.1 if end == "silence" else 15).open()
        with pytest.raises(type(failed.value)):
            asyncio.run(connected(endpoint, 0.1 if end == "silence" else 15))
        over.set()
        thread.join()
        assert ": " in str(failed.value)
    assert descriptors() == before


async def connected(endpoint: str, timeout: float = 10.0) -> hailer.Connection:
    return await hailer.connect(endpoint, timeout=timeout)


def test_nobody_listens_and_nobody_is_called_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(DialError, match="nobody listens"):
        hailer.connect(f"127.0.0.1:{port}").open()
    with pytest.raises(DialError, match="nobody listens"):
        asyncio.run(connected(f"127.0.0.1:{port}"))
    with pytest.raises(ResolveError):
        hailer.connect("no-such-host.invalid:7").open()


def test_retries_until_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    tried: list[int] = []
    begun: list[hailer.Server] = []

    def begin(_error: HailerError, number: int, _wait: float) -> None:
        tried.append(number)
        if number == 2:
            begun.append(hailer.Server(f"tcp://127.0.0.1:{port}", echo).__enter__())

    try:
        with hailer.connect(f"127.0.0.1:{port}", retries=5, retry_delay=0.01, on_retry=begin) as client:
            client.send(b"at last")
            assert client.receive(15) == b"at last"
    finally:
        for server in begun:
            server.__exit__(None, None, None)
    assert tried == [1, 2]


@pytest.mark.parametrize("scheme", ["tls", "ws", "wss"])
def test_a_peer_that_accepts_and_is_silent(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(TimedOut):
            hailer.connect(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2).open()
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("scheme", ["ws", "tls"])
def test_a_peer_that_speaks_something_else(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as wrong:

        def answer() -> None:
            peer, _ = wrong.accept()
            with peer:
                peer.sendall(b"220 mail.example ESMTP\r\n")
                while peer.recv(1000):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises((FramingError, hailer.TlsError)):
            hailer.connect(f"{scheme}://127.0.0.1:{wrong.getsockname()[1]}", timeout=15).open()
        thread.join()


def test_time_outs_of_receiving(server: hailer.Server) -> None:
    with hailer.connect(server.endpoints[0], receive_timeout=0.05) as client:
        with pytest.raises(TimedOut):
            client.receive()
        client.send(b"still good")
        assert client.receive(15) == b"still good"


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("model", MODELS)
def test_a_handler_that_connects_itself(server: hailer.Server, model: ModelName, at: int) -> None:
    behind = str(server.endpoints[at])

    async def pass_on(connection: hailer.Connection) -> None:
        async with hailer.connect(behind) as inner:
            async for message in connection:
                await inner.send(message)
                await connection.send(b"from behind: " + await inner.receive())

    with (
        hailer.Server("tcp://127.0.0.1:0", pass_on, model) as front,
        hailer.connect(front.endpoints[0], receive_timeout=15) as client,
    ):
        for message in (b"hello", b"again"):
            client.send(message)
            assert client.receive() == b"from behind: " + message


SEQPACKET = pytest.param(
    "unix+seqpacket",
    marks=pytest.mark.skipif(why_not_transport("unix+seqpacket") is not None, reason="there is none"),
)
READY = [model for model in ("select", "epoll") if why_not_model(model) is None]


@pytest.mark.parametrize("model", READY)
def test_a_handler_that_would_hold_up_all_others(
    model: ModelName, server: hailer.Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def connects(connection: hailer.Connection) -> None:
        hailer.connect(server.endpoints[0]).open()

    with (
        hailer.Server("tcp://127.0.0.1:0", connects, model) as front,
        hailer.connect(front.endpoints[0], receive_timeout=15) as client,
    ):
        assert list(client) == []
    assert "write await hailer.connect(...) here" in caplog.text


@pytest.mark.parametrize("model", ["thread", "iterative"])
def test_a_blocking_handler_that_connects_itself(server: hailer.Server, model: ModelName) -> None:
    def pass_on(connection: BlockingConnection) -> None:
        with hailer.connect(server.endpoints[0], receive_timeout=15) as inner:
            for message in connection:
                inner.send(message)
                connection.send(inner.receive())

    with (
        hailer.Server("tcp://127.0.0.1:0", pass_on, model) as front,
        hailer.connect(front.endpoints[0], receive_timeout=15) as client,
    ):
        client.send(b"hello")
        assert client.receive() == b"hello"


@pytest.mark.parametrize("model", [*READY, "asyncio"])
def test_others_are_served_while_a_handler_connects(model: ModelName) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, ExitStack() as stack:
        for _ in range(3):  # which fill its queue, so that it answers no more
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        failures: list[HailerError] = []

        async def connects(connection: hailer.Connection) -> None:
            if await connection.receive() == b"connect":
                try:
                    await hailer.connect(f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.3)
                except HailerError as error:
                    failures.append(error)
            await connection.send(b"done")

        with (
            hailer.Server("tcp://127.0.0.1:0", connects, model) as front,
            hailer.connect(front.endpoints[0], receive_timeout=15) as slow,
            hailer.connect(front.endpoints[0], receive_timeout=15) as quick,
        ):
            slow.send(b"connect")
            with pytest.raises(TimedOut):
                slow.receive(timeout=0.05)
            quick.send(b"")
            assert quick.receive() == b"done"
            assert not failures
            assert slow.receive() == b"done"
        assert [type(error) for error in failures] == [TimedOut]


@pytest.mark.parametrize("model", MODELS)
def test_a_server_that_is_stopped_while_a_handler_connects(model: ModelName) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, ExitStack() as stack:
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())

        async def connects(connection: hailer.Connection) -> None:
            await connection.send(b"now")
            await hailer.connect(f"127.0.0.1:{silent.getsockname()[1]}", timeout=1)

        with (
            hailer.Server("tcp://127.0.0.1:0", connects, model, drain=0.05) as front,
            hailer.connect(front.endpoints[0], receive_timeout=15) as client,
        ):
            assert client.receive() == b"now"
        assert front.counters.active == 0


@pytest.mark.parametrize("model", READY)
def test_names_are_looked_up_beside_the_loop(
    model: ModelName, server: hailer.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, may = socket.getaddrinfo, threading.Event()

    def answer(host: Any, port: Any, family: int, type_: int, proto: int = 0, flags: int = 0) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return real(host, port, family, type_, proto, flags)
        assert may.wait(15)
        return real("127.0.0.1", port, family, type_, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    where = f"slow.test:{server.endpoints[0].port}"

    async def connects(connection: hailer.Connection) -> None:
        if await connection.receive() == b"connect":
            with pytest.raises(TimedOut, match="looking up"):
                await hailer.connect(where, timeout=0.05)
            may.set()
            async with hailer.connect(where) as inner:
                await inner.send(b"found")
                await connection.send(await inner.receive())

    with (
        hailer.Server("tcp://127.0.0.1:0", connects, model) as front,
        hailer.connect(front.endpoints[0], receive_timeout=15) as client,
    ):
        client.send(b"connect")
        assert client.receive() == b"found"


def test_nothing_waits_outside_of_loops_and_handlers() -> None:
    with pytest.raises(UsageError, match=r"\.open\(\)"):
        connected("localhost:7").send(None)


@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "wss", "unix", SEQPACKET])
def test_one_thread_receives_while_others_send(scheme: str, tmp_path: Path, authority: trustme.CA) -> None:
    serving, connecting = contexts(tmp_path, authority, shown=False, asked=False)
    encrypted = scheme in ("tls", "wss")
    count, senders = 200, 3
    with (
        hailer.Server(
            f"{scheme}:{tmp_path}/s" if scheme.startswith("unix") else f"{scheme}://127.0.0.1:0",
            echo,
            "fork",
            tls=serving if encrypted else None,
        ) as server,
        hailer.connect(
            server.endpoints[0], tls=connecting if encrypted else None, receive_timeout=15
        ) as client,
    ):

        def send(name: int) -> None:
            for number in range(count):
                client.send(b"%d %d %s" % (name, number, b"." * 3000))

        threads = [threading.Thread(target=send, args=(name,)) for name in range(senders)]
        for thread in threads:
            thread.start()
        seen = dict.fromkeys(range(senders), 0)
        for _ in range(count * senders):
            name, number, _dots = client.receive().split()
            assert seen[int(name)] == int(number)
            seen[int(name)] += 1
        for thread in threads:
            thread.join()


async def tell_who(connection: hailer.Connection) -> None:
    async for _ in connection:
        certificate = connection.peer_certificate
        await connection.send(repr(certificate and certificate["subject"]).encode())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts(
    folder: Path, authority: trustme.CA, *, shown: bool, asked: bool
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS for a server, which may ask for certificates, and for a client, which may show one."""
    ca, server, client = folder / "ca.pem", folder / "server.pem", folder / "client.pem"
    authority.cert_pem.write_to_path(str(ca))
    for path, cert in (
        (server, authority.issue_cert("127.0.0.1")),
        (client, authority.issue_cert("ann@example.org", common_name="ann")),
    ):
        path.touch(0o600)
        cert.private_key_and_cert_chain_pem.write_to_path(str(path))
    return (
        hailer.server_context(server, client_ca=ca if asked else None),
        hailer.client_context(ca=ca, cert=client if shown else None),
    )


@pytest.mark.parametrize("scheme", ["tls", "wss"])
@pytest.mark.parametrize("model", MODELS)
def test_a_handler_sees_who_connected(
    scheme: str, model: ModelName, tmp_path: Path, authority: trustme.CA
) -> None:
    serving, connecting = contexts(tmp_path, authority, shown=True, asked=True)
    with (
        hailer.Server(f"{scheme}://127.0.0.1:0", tell_who, model, tls=serving, workers=2) as server,
        hailer.connect(server.endpoints[0], tls=connecting, receive_timeout=15) as client,
    ):
        client.send(b"who am I?")
        assert b"(('commonName', 'ann'),)" in client.receive()
        assert client.peer_certificate is not None
        assert ("IP Address", "127.0.0.1") in client.peer_certificate["subjectAltName"]


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_nobody_is_told_who_was_not_proved(scheme: str, tmp_path: Path, authority: trustme.CA) -> None:
    serving, connecting = contexts(tmp_path, authority, shown=True, asked=False)
    with (
        hailer.Server(f"{scheme}://127.0.0.1:0", tell_who, tls=serving) as server,
        hailer.connect(server.endpoints[0], tls=connecting, receive_timeout=15) as client,
    ):
        client.send(b"who am I?")
        assert client.receive() == b"None"


def test_without_tls_there_is_no_certificate(server: hailer.Server) -> None:
    for endpoint in server.endpoints:
        with hailer.connect(endpoint) as client:
            assert client.peer_certificate is None
