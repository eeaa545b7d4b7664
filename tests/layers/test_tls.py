"""TLS over any transport: its promises, its failures, and foreign programs at the other end."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hailer.connection import Connection
from hailer.errors import (
    ConnectionClosed,
    ConnectionLost,
    EndOfStream,
    HailerError,
    TimedOut,
    TlsError,
    UsageError,
)
from hailer.framing import framing
from hailer.layers import tls
from hailer.layers.tls import TlsTransport
from hailer.runtime import aio
from hailer.runtime.aio import AioTransport
from hailer.runtime.blocking import BlockingTransport, run_to_end
from hailer.testing.memory import MemoryTransport, lockstep_pair, memory_pair
from hailer.testing.transport import check_blocking_transport, check_transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from hailer.transport import Transport

VERSIONS = [
    pytest.param(ssl.TLSVersion.TLSv1_2, id="TLSv1.2"),
    pytest.param(ssl.TLSVersion.TLSv1_3, id="TLSv1.3"),
]
AUTHORITY = trustme.CA()
CERT = AUTHORITY.issue_cert("localhost", "127.0.0.1")
DAY = dt.timedelta(days=1)
PATIENCE = 10.0

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def soon(seconds: float = PATIENCE) -> float:
    return time.monotonic() + seconds


def serving(
    version: ssl.TLSVersion | None = None,
    cert: trustme.LeafCert | None = CERT,
    client_ca: trustme.CA | None = None,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if cert is not None:
        cert.configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if client_ca is not None:
        client_ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def connecting(
    version: ssl.TLSVersion | None = None,
    ca: trustme.CA | None = AUTHORITY,
    cert: trustme.LeafCert | None = None,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        ca.configure_trust(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if cert is not None:
        cert.configure_cert(context)
    return context


async def agree(
    inner: tuple[Transport, Transport],
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    name: str | None = "localhost",
) -> tuple[TlsTransport, TlsTransport]:
    """Wrap both ends; the client comes first."""
    one, other = await asyncio.gather(
        TlsTransport.connect(inner[0], client, name, soon()), TlsTransport.accept(inner[1], server, soon())
    )
    return one, other


async def outcome(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost"
) -> tuple[TlsTransport | BaseException, TlsTransport | BaseException]:
    inner = memory_pair()
    one, other = await asyncio.gather(
        TlsTransport.connect(inner[0], client, name, soon()),
        TlsTransport.accept(inner[1], server, soon()),
        return_exceptions=True,
    )
    return one, other


def by_connecting(inner: Transport, deadline: float | None) -> Awaitable[TlsTransport]:
    return TlsTransport.connect(inner, connecting(), "localhost", deadline)


def by_accepting(inner: Transport, deadline: float | None) -> Awaitable[TlsTransport]:
    return TlsTransport.accept(inner, serving(), deadline)


def sockets() -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


# The promises of a transport.


@pytest.mark.parametrize("version", VERSIONS)
def test_it_conforms_in_memory(version: ssl.TLSVersion) -> None:
    async def make_pair() -> tuple[TlsTransport, TlsTransport]:
        return await agree(memory_pair(), serving(version), connecting(version))

    asyncio.run(check_transport(make_pair))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("loop", ["uvloop", "stock"])
def test_it_conforms_over_sockets_of_an_event_loop(loop: Any, version: ssl.TLSVersion) -> None:
    async def make_pair() -> tuple[TlsTransport, TlsTransport]:
        one, other = sockets()
        inner = (await AioTransport.adopt(one, "tls"), await AioTransport.adopt(other, "tls"))
        # Which side is the server must make no difference: each is the first in one of the two.
        client, server = await agree(inner, serving(version), connecting(version))
        return (client, server) if loop == "stock" else (server, client)

    with asyncio.Runner(loop_factory=aio.loop_factory(loop)) as runner:
        runner.run(check_transport(make_pair))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("server_first", [False, True])
def test_it_conforms_over_blocking_sockets(version: ssl.TLSVersion, server_first: bool) -> None:
    def make_pair() -> tuple[TlsTransport, TlsTransport]:
        one, other = sockets()
        made: list[TlsTransport] = []

        def accept() -> None:
            made.append(
                run_to_end(TlsTransport.accept(BlockingTransport(other, "tls"), serving(version), soon()))
            )

        thread = threading.Thread(target=accept)
        thread.start()
        client = run_to_end(
            TlsTransport.connect(BlockingTransport(one, "tls"), connecting(version), "localhost", soon())
        )
        thread.join()
        return (made[0], client) if server_first else (client, made[0])

    check_blocking_transport(make_pair)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_needs_no_buffer_below(version: ssl.TLSVersion) -> None:
    async def main() -> None:
        context = serving(version)
        context.num_tickets = 0  # else the server says one thing more after a TLS 1.3 handshake
        one, other = await agree(lockstep_pair(), context, connecting(version))
        pulled, _ = await asyncio.gather(other.pull(100, soon()), one.push(b"hello", soon()))
        assert pulled == b"hello"
        await asyncio.gather(one.finish(), other.pull(1, soon()))
        assert await other.pull(1, soon()) == b""
        pulled, _ = await asyncio.gather(one.pull(100, soon()), other.push(b"answer", soon()))
        assert pulled == b"answer"
        one.abort()
        other.abort()

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    messages=st.lists(st.integers(0, 70_000), max_size=6),
    limits=st.lists(st.integers(1, 100_000), min_size=1, max_size=4),
    pieces=st.lists(st.integers(1, 30_000), min_size=1, max_size=4),
)
def test_any_pieces_make_the_same_stream(
    version: ssl.TLSVersion, messages: list[int], limits: list[int], pieces: list[int]
) -> None:
    """However the ciphertext is cut, whatever is asked for at once, and with finish in the midst of it."""

    class Cut(MemoryTransport):
        turn = 0

        async def pull(self, limit: int, deadline: float | None = None) -> bytes:
            self.turn += 1
            return await super().pull(min(limit, pieces[self.turn % len(pieces)]), deadline)

    async def main() -> None:
        one, other = memory_pair(room=1 << 30)
        other.__class__ = Cut
        client, server = await agree((one, other), serving(version), connecting(version))
        sent = b"".join(bytes([number % 251]) * size for number, size in enumerate(messages))
        for number, size in enumerate(messages):
            await client.push(bytes([number % 251]) * size, soon())
        await client.finish()
        came = b""
        turn = 0
        while data := await server.pull(limits[turn % len(limits)], soon()):
            assert len(data) <= limits[turn % len(limits)]
            came += data
            turn += 1
            if turn == 2:
                await server.push(b"answer")
                await server.finish()
        assert came == sent
        if turn >= 2:
            assert await client.pull(100, soon()) == b"answer"
            assert await client.pull(100, soon()) == b""
        await client.close()
        await server.close()

    asyncio.run(main())


def test_one_push_is_one_push_below() -> None:
    pushes = []

    class Counting(MemoryTransport):
        async def push(self, data: bytes, deadline: float | None = None) -> None:
            pushes.append(len(data))
            await super().push(data, deadline)

    async def main() -> None:
        inner = memory_pair(room=1 << 30)
        inner[0].__class__ = Counting
        client, server = await agree(inner, serving(), connecting())
        pushes.clear()
        await client.push(bytes(1 << 20))
        assert len(pushes) == 1
        left = 1 << 20
        while left:
            data = await server.pull(1 << 16, soon())
            assert len(data) == min(left, 1 << 16) or len(data) >= 1 << 14  # several records at once
            left -= len(data)
        await client.close()
        await server.close()

    asyncio.run(main())


def test_much_costs_no_more_than_its_size() -> None:
    async def carry(size: int) -> float:
        client, server = await agree(memory_pair(room=1 << 30), serving(), connecting())
        started = time.process_time()
        await client.push(bytes(size))
        left = size
        while left:
            left -= len(await server.pull(1 << 16, soon()))
        spent = time.process_time() - started
        await client.close()
        await server.close()
        return spent

    asyncio.run(carry(1 << 16))
    assert asyncio.run(carry(16 << 20)) < 3  # 0.1 s; were it quadratic in 64 KiB pieces it would be 256 times


def test_tasks_push_while_another_pulls() -> None:
    async def main() -> None:
        client, server = await agree(memory_pair(room=1000), serving(), connecting())
        many = Connection(client, framing("line")), Connection(server, framing("line"))

        async def say(number: int) -> None:
            for turn in range(20):
                await many[0].send(b"%d %d" % (number, turn) + b"." * 300)

        async def hear() -> None:
            seen = dict.fromkeys(range(8), 0)
            for _ in range(160):
                number, turn = (await many[1].receive(PATIENCE)).rstrip(b".").split()
                assert seen[int(number)] == int(turn)
                seen[int(number)] += 1

        async with asyncio.TaskGroup() as group:
            group.create_task(hear())
            for number in range(8):
                group.create_task(say(number))
        await many[0].close()
        await many[1].close()

    asyncio.run(main())


# How streams end.


def test_what_tls_itself_has_to_say_does_not_stand_in_the_way_of_reading() -> None:
    async def main() -> None:
        version = ssl.TLSVersion.TLSv1_2  # in which a handshake ends with nothing unread
        client, server = await agree(lockstep_pair(), serving(version), connecting(version))
        # The peer reads only once it has been read from, and wants an answer of TLS's own meanwhile.
        sending = asyncio.create_task(server.push(b"much", soon()))
        await asyncio.sleep(0)
        server._outgoing.write(b"such as the answer to a key update")
        answering = asyncio.create_task(client.push(b"first read this", soon()))
        assert await server.pull(100, soon()) == b"first read this"
        await answering
        client.abort()
        server.abort()
        await asyncio.gather(sending, return_exceptions=True)

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_an_end_without_goodbye_is_a_loss(version: ssl.TLSVersion) -> None:
    async def main() -> None:
        inner = memory_pair()
        client, server = await agree(inner, serving(version), connecting(version))
        await client.push(b"all of it")
        await inner[0].finish()  # as one on the way could do by a forged FIN
        assert await server.pull(100, soon()) == b"all of it"
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="without TLS's goodbye"):
                await server.pull(100, soon())
        await server.push(b"still heard")
        assert await client.pull(100, soon()) == b"still heard"
        await client.close()
        await server.close()

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_what_had_come_before_finish_is_kept(version: ssl.TLSVersion) -> None:
    async def main() -> None:
        client, server = await agree(memory_pair(), serving(version), connecting(version))
        await server.push(b"a" * 20_000)
        assert await client.pull(1, soon()) == b"a"  # the rest waits here, decrypted or not
        await client.finish()
        await server.push(b"b" * 50)
        await server.finish()
        assert await server.pull(1, soon()) == b""
        came = b""
        while data := await client.pull(777, soon()):
            came += data
        assert came == b"a" * 19_999 + b"b" * 50
        await client.close()
        await server.close()

    asyncio.run(main())


def test_a_push_given_up_leaves_no_gap() -> None:
    async def main() -> None:
        client, server = await agree(memory_pair(room=100), serving(), connecting())
        await client.push(b"x" * 200)
        with pytest.raises(TimedOut):
            await client.push(b"lost", soon(0.02))
        with pytest.raises(ConnectionLost, match="cut off"):
            await client.push(b"more", soon())
        await client.close()
        assert await server.pull(1000, soon()) == b"x" * 200
        with pytest.raises(ConnectionLost):  # and no goodbye: the peer must see that something is missing
            await server.pull(1000, soon())
        await server.close()

    asyncio.run(main())


def test_a_push_cancelled_while_another_has_the_turn_sends_nothing() -> None:
    async def main() -> None:
        client, server = await agree(memory_pair(room=100), serving(), connecting())
        await client.push(b"x" * 200)
        first = asyncio.ensure_future(client.push(b"first", soon()))
        await asyncio.sleep(0)
        with pytest.raises(TimedOut):
            await client.push(b"second", soon(0.02))
        second = asyncio.ensure_future(client.push(b"second", soon()))
        await asyncio.sleep(0)
        second.cancel()
        assert await server.pull(1000, soon()) == b"x" * 200
        await first
        await client.push(b"third", soon())
        assert await server.pull(5, soon()) + await server.pull(5, soon()) == b"firstthird"
        await client.close()
        await server.close()

    asyncio.run(main())


@pytest.mark.parametrize("sending", [False, True])
def test_finish_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch, sending: bool) -> None:
    monkeypatch.setattr(tls, "FINISH_TIMEOUT", 0.05)

    async def main() -> None:
        client, server = await agree(memory_pair(room=100), serving(), connecting())
        await client.push(b"x" * 200)
        first = asyncio.ensure_future(client.push(b"first", soon())) if sending else None
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            with pytest.raises(TimedOut):
                await client.finish()
        client.abort()
        server.abort()
        if first is not None:
            with pytest.raises(HailerError):
                await first

    asyncio.run(main())


def test_close_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "CLOSE_TIMEOUT", 0.05)

    async def main() -> None:
        client, server = await agree(memory_pair(room=100), serving(), connecting())
        await client.push(b"x" * 200)
        async with asyncio.timeout(5):
            await client.close()
        with pytest.raises(ConnectionClosed):
            await client.pull(1)
        await server.close()

        # A push that has its turn and waits for room ends by the close.
        client, server = await agree(memory_pair(room=100), serving(), connecting())
        await client.push(b"x" * 200)
        waiting = asyncio.ensure_future(client.push(b"more"))
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await client.close()
        with pytest.raises(ConnectionClosed):
            await waiting
        await server.close()

    asyncio.run(main())


def test_changed_bytes_are_an_error_that_stays() -> None:
    async def main() -> None:
        inner = memory_pair()
        client, server = await agree(inner, serving(), connecting())
        await client.push(b"good")
        await inner[0].push(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await server.pull(100, soon()) == b"good"
        for _ in range(2):
            with pytest.raises(TlsError, match=r"was changed on its way: connect again"):
                await server.pull(100, soon())
        with pytest.raises(TlsError):
            await server.push(b"x")
        with pytest.raises(TlsError):  # the alert says why
            await client.pull(100, soon())
        await client.close()
        await server.close()

    asyncio.run(main())


def test_a_full_name_may_end_in_a_dot() -> None:
    async def main() -> None:
        client, server = await agree(memory_pair(), serving(), connecting(), "localhost.")
        await client.close()
        await server.close()

    asyncio.run(main())


def test_what_was_agreed_on_is_told() -> None:
    async def main() -> None:
        me = AUTHORITY.issue_cert("me@example.org", common_name="me")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            inner = memory_pair()
            client, server = await agree(
                inner, serving(version, client_ca=AUTHORITY), connecting(version, cert=me)
            )
            assert client.version == server.version == version.name.replace("_", ".")
            assert client.cipher == server.cipher != ""
            assert (client.local, client.peer) == (inner[0].local, inner[0].peer)
            assert client.peer_certificate is not None
            assert ("DNS", "localhost") in client.peer_certificate["subjectAltName"]  # type: ignore[operator]
            assert server.peer_certificate is not None
            assert (("commonName", "me"),) in server.peer_certificate["subject"]  # type: ignore[operator]
            await client.close()
            await server.close()
        client, server = await agree(memory_pair(), serving(), connecting())
        assert server.peer_certificate is None
        await client.close()
        await server.close()

    asyncio.run(main())


# Handshakes that fail: one sentence each that says what to do next.


def expired(*names: str) -> trustme.LeafCert:
    now = dt.datetime.now(dt.UTC)
    return AUTHORITY.issue_cert(*names, not_before=now - 2 * DAY, not_after=now - DAY)


def early(*names: str) -> trustme.LeafCert:
    now = dt.datetime.now(dt.UTC)
    return AUTHORITY.issue_cert(*names, not_before=now + DAY, not_after=now + 2 * DAY)


def weak_cipher() -> ssl.SSLContext:
    context = connecting(ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # the certificate has an elliptic key
    return context


Fail = tuple["Callable[[], ssl.SSLContext]", "Callable[[], ssl.SSLContext]", str, str, str]
FAILURES: dict[str, Fail] = {
    "unknown authority": (
        serving,
        lambda: connecting(ca=trustme.CA()),
        "localhost",
        "the certificate of @other is signed by an authority that is not trusted here: name .* --ca",
        "@one does not trust the authority of this side's certificate: ",
    ),
    "wrong host": (
        serving,
        connecting,
        "example.org",
        "the certificate of @other is not for example.org: connect by a name that it has",
        "@one refused this side's certificate: look whether it has the name",
    ),
    "wrong address": (serving, connecting, "192.0.2.1", "is not for 192.0.2.1: ", "refused"),
    "expired": (
        lambda: serving(cert=expired("localhost")),
        connecting,
        "localhost",
        "the certificate of @other has expired: ",
        "@one says that this side's certificate has expired: renew it",
    ),
    "early": (
        lambda: serving(cert=early("localhost")),
        connecting,
        "localhost",
        "the certificate of @other is not valid yet: look at the clocks",
        "@one refused this side's certificate: ",
    ),
    "old client": (
        lambda: serving(ssl.TLSVersion.TLSv1_3),
        lambda: connecting(ssl.TLSVersion.TLSv1_2),
        "localhost",
        "@other shares no version of TLS with this side: have it",
        "@one shares no version of TLS with this side: have it",
    ),
    "old server": (
        lambda: serving(ssl.TLSVersion.TLSv1_2),
        lambda: connecting(ssl.TLSVersion.TLSv1_3),
        "localhost",
        "@other shares no version of TLS",
        "@one shares no version of TLS",
    ),
    "no cipher": (serving, weak_cipher, "localhost", "refused to agree on TLS: ", "shares no cipher"),
    "no certificate": (
        lambda: serving(cert=None),
        connecting,
        "localhost",
        "@other refused to agree on TLS: ",
        "or this side has no certificate: ",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_handshake_says_why_on_both_sides(failure: str) -> None:
    server, client, name, client_says, server_says = FAILURES[failure]
    one, other = asyncio.run(outcome(server(), client(), name))
    for error, sentence in ((one, client_says), (other, server_says)):
        assert isinstance(error, TlsError)
        assert re.search(sentence, str(error)), str(error)
        assert str(error).count(": ") == 1
        assert "_" not in str(error)


CLIENTS = {
    "none": (None, "showed no client certificate: ", "wants a certificate from this side: |refused to agree"),
    "unknown": (
        trustme.CA().issue_cert("me@example.org"),
        "the client certificate of .* is signed by an authority that is not trusted here: .*--client-ca",
        "does not trust the authority of this side's certificate: ",
    ),
    "expired": (
        expired("me@example.org"),
        "the client certificate of .* has expired: ",
        "says that this side's certificate has expired: ",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", CLIENTS)
def test_a_client_that_is_not_let_in_learns_why(version: ssl.TLSVersion, who: str) -> None:
    cert, server_says, client_says = CLIENTS[who]

    async def main() -> None:
        one, other = await outcome(
            serving(version, client_ca=AUTHORITY), connecting(version, cert=cert), "localhost"
        )
        assert isinstance(other, TlsError)
        assert re.search(server_says, str(other)), str(other)
        if version is ssl.TLSVersion.TLSv1_3:  # the client is done before the server has looked
            assert isinstance(one, TlsTransport)
            with pytest.raises(TlsError) as caught:
                await one.pull(100, soon())
            await one.close()
            one = caught.value
        assert isinstance(one, TlsError)
        assert re.search(client_says, str(one)), str(one)

    asyncio.run(main())


@pytest.mark.parametrize(
    "said", [b"220 mail.example.org\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"\0", b"\x1b[2J\xff\xfe", b"h"]
)
def test_a_peer_without_tls_is_known_by_its_first_byte(said: bytes) -> None:
    async def main() -> None:
        for wrap, advice in (
            (by_connecting, "connect with tcp://"),
            (by_accepting, "have it connect with tls://"),
        ):
            one, other = memory_pair()
            await other.push(said)
            with pytest.raises(TlsError) as caught:
                await wrap(one, soon())
            assert f"@other speaks no TLS (it began with {repr(said[:16])[1:]}): " in str(caught.value)
            assert advice in str(caught.value)
            assert str(caught.value).isprintable()
            with pytest.raises(ConnectionClosed):
                await one.push(b"x")  # it was closed
            await other.close()

    asyncio.run(main())


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=600), st.booleans())
def test_garbage_is_refused(garbage: bytes, whole_header: bool) -> None:
    if whole_header:
        garbage = b"\x16\x03\x01" + len(garbage).to_bytes(2, "big") + garbage

    async def main() -> None:
        for wrap in (by_connecting, by_accepting):
            one, other = memory_pair()
            await other.push(garbage)
            await other.finish()
            with pytest.raises(TlsError):
                await wrap(one, soon())
            await other.close()

    asyncio.run(main())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_handshake_a_byte_at_a_time_and_one_cut_anywhere(version: ssl.TLSVersion) -> None:
    class Drip(MemoryTransport):
        left = 1 << 30

        async def pull(self, limit: int, deadline: float | None = None) -> bytes:
            if not self.left:
                return b""
            self.left -= 1
            return await super().pull(1, deadline)

    async def main() -> None:
        one, other = memory_pair()
        other.__class__ = one.__class__ = Drip
        client, server = await agree((one, other), serving(version), connecting(version))
        await client.push(b"hello")
        assert await server.pull(100, soon()) == b"hello"
        taken = (1 << 30) - other.left  # type: ignore[attr-defined]
        await client.close()
        await server.close()
        for cut in (0, 1, 5, 6, 50, taken // 2, taken - 80):
            one, other = memory_pair()
            other.__class__ = Drip
            other.left = cut  # type: ignore[attr-defined]
            work = asyncio.ensure_future(TlsTransport.connect(one, connecting(version), "localhost", soon()))
            with pytest.raises(TlsError, match="broke off while TLS was being agreed on: "):
                await TlsTransport.accept(other, serving(version), soon())
            try:
                await (await work).close()
            except TlsError:
                pass

    asyncio.run(main())


def test_a_peer_that_never_speaks_costs_only_its_deadline() -> None:
    async def main() -> None:
        for wrap in (by_connecting, by_accepting):
            one, other = memory_pair()
            started = time.monotonic()
            with pytest.raises(TimedOut, match=r"@other did not agree on TLS in time: "):
                await wrap(one, soon(0.05))
            assert time.monotonic() - started < 10
            with pytest.raises(ConnectionLost):  # the peer sees it end
                await other.push(b"anyone?")

    asyncio.run(main())


def test_a_cancelled_handshake_lets_go() -> None:
    async def main() -> None:
        one, other = memory_pair()
        work = asyncio.ensure_future(TlsTransport.accept(one, serving(), None))
        await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        with pytest.raises(ConnectionLost):
            await other.pull(1, soon())
        one, other = memory_pair()
        work = asyncio.ensure_future(TlsTransport.accept(one, serving(), None))
        await asyncio.sleep(0)
        one.abort()  # as a server that stops does
        with pytest.raises(ConnectionClosed):
            await work

    asyncio.run(main())


def test_a_context_for_the_other_side_is_misuse() -> None:
    async def main() -> None:
        one, _ = memory_pair()
        with pytest.raises(UsageError, match=r"server_context\(\)"):
            await TlsTransport.accept(one, connecting(), soon())
        one, _ = memory_pair()
        with pytest.raises(UsageError, match=r"client_context\(\)"):
            await TlsTransport.connect(one, serving(), "localhost", soon())
        one, _ = memory_pair()
        with pytest.raises(UsageError, match=r"no name to check\): give it .* the name of the server"):
            await TlsTransport.connect(one, connecting(), None, soon())
        one, _ = memory_pair()
        with pytest.raises(UsageError, match="TLS cannot be set up"):
            await TlsTransport.connect(one, connecting(), ".nonsense", soon())

    asyncio.run(main())


# Foreign programs.


@contextmanager
def echo_server(context: ssl.SSLContext, connections: int = 1) -> Iterator[tuple[int, list[HailerError]]]:
    """A blocking server that answers with what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)
    errors: list[HailerError] = []

    async def serve(leaf: BlockingTransport) -> None:
        try:
            transport = await TlsTransport.accept(leaf, context, soon())
            while data := await transport.pull(65536, soon()):
                await transport.push(data, soon())
            await transport.close()
        except HailerError as error:
            errors.append(error)
            await leaf.close()

    def run() -> None:
        for _ in range(connections):
            sock, _ = listener.accept()
            sock.settimeout(None)
            run_to_end(serve(BlockingTransport(sock, "tls")))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1], errors
    finally:
        thread.join(PATIENCE)
        listener.close()
    assert not thread.is_alive()


@needs_openssl
@pytest.mark.parametrize("flag", ["-tls1_2", "-tls1_3"])
def test_openssl_as_client(flag: str, tmp_path: Path) -> None:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with echo_server(serving()) as (port, errors):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", flag, "-quiet", "-no_ign_eof"]
        command += [
            "-CAfile",
            str(tmp_path / "ca.pem"),
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
        ]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"hello\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"hello\n"
            client.stdin.close()
            client.wait(PATIENCE)
    assert errors == []  # it says goodbye


@needs_openssl
@pytest.mark.parametrize("flag", ["-tls1_2", "-tls1_3"])
def test_openssl_as_server(flag: str, tmp_path: Path) -> None:
    CERT.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    command = ["openssl", "s_server", "-accept", "127.0.0.1:0", flag, "-rev", "-naccept", "1"]
    with subprocess.Popen(
        [*command, "-cert", str(tmp_path / "both.pem")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as server:
        assert server.stdout is not None
        watchdog = threading.Timer(2 * PATIENCE, server.kill)
        watchdog.start()
        try:
            port = 0
            while not port:
                line = server.stdout.readline()
                assert line, "it ended"
                found = re.search(rb"ACCEPT 127\.0\.0\.1:(\d+)", line)
                port = int(found[1]) if found else 0

            async def talk() -> None:
                leaf = BlockingTransport(socket.create_connection(("127.0.0.1", port)), "tls")
                transport = await TlsTransport.connect(leaf, connecting(), "localhost", soon())
                connection = Connection(transport, framing("line"))
                assert transport.version == flag[1:].replace("tls1_", "TLSv1.")
                for _ in range(3):
                    await connection.send(b"hello", PATIENCE)
                    assert await connection.receive(PATIENCE) == b"olleh"
                await connection.finish()
                with pytest.raises(EndOfStream):
                    await connection.receive(PATIENCE)
                await connection.close()

            run_to_end(talk())
            assert server.wait(PATIENCE) == 0
        finally:
            watchdog.cancel()
            server.kill()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_as_client(tmp_path: Path) -> None:
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)
    heard = bytearray()

    async def answer(leaf: BlockingTransport) -> None:
        transport = await TlsTransport.accept(leaf, serving(), soon())
        while b"\r\n\r\n" not in heard:
            heard.extend(await transport.pull(65536, soon()))
        # Without a length the end alone tells that it is whole: curl asks for the goodbye.
        await transport.push(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000, soon())
        await transport.close()

    def run() -> None:
        sock, _ = listener.accept()
        sock.settimeout(None)
        run_to_end(answer(BlockingTransport(sock, "tls")))

    thread = threading.Thread(target=run)
    thread.start()
    url = f"https://localhost:{listener.getsockname()[1]}/x"
    command = ["curl", "-sS", "--noproxy", "*", "--ipv4", "--cacert", str(tmp_path / "ca.pem"), url]
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    thread.join(PATIENCE)
    listener.close()
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"x" * 100_000)
    assert heard.startswith(b"GET /x HTTP/1.1\r\n")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_socket_that_is_dropped_loses_no_message(version: ssl.TLSVersion) -> None:
    with echo_server(serving(version)) as (port, errors):
        plain = socket.create_connection(("127.0.0.1", port))
        with connecting(version).wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
    [error] = errors
    assert isinstance(error, ConnectionLost)
    assert "without TLS's goodbye" in str(error)


@pytest.mark.parametrize("version", VERSIONS)
def test_asyncio_streams_as_client(version: ssl.TLSVersion) -> None:
    async def main(port: int) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=connecting(version), server_hostname="localhost"
        )
        payload = bytes(range(256)) * 4096
        sending = asyncio.ensure_future(_write(writer, payload))
        assert await reader.readexactly(len(payload)) == payload
        await sending
        writer.close()
        await writer.wait_closed()

    with echo_server(serving(version)) as (port, errors):
        asyncio.run(main(port))
    assert all(isinstance(error, ConnectionLost) for error in errors)  # it does not wait for our goodbye


async def _write(writer: asyncio.StreamWriter, payload: bytes) -> None:
    for start in range(0, len(payload), 65536):
        writer.write(payload[start : start + 65536])
        await writer.drain()


def test_a_message_sent_and_a_connection_dropped_at_once_arrives() -> None:
    """No session tickets are on their way to a closed socket, whose reset would overtake the message."""
    from hailer.net.certificates import server_context  # noqa: PLC0415

    context = server_context_of(server_context)
    rounds = 30
    heard = []

    async def serve(leaf: BlockingTransport) -> None:
        transport = await TlsTransport.accept(leaf, context, soon())
        heard.append(await transport.pull(100, soon()))
        await transport.close()

    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        for _ in range(rounds):
            sock, _ = listener.accept()
            run_to_end(serve(BlockingTransport(sock, "tls")))

    thread = threading.Thread(target=run)
    thread.start()
    client = connecting()
    for _ in range(rounds):
        with client.wrap_socket(
            socket.create_connection(listener.getsockname()), server_hostname="localhost"
        ) as sock:
            sock.sendall(b"only this")
    thread.join(PATIENCE)
    listener.close()
    assert heard == [b"only this"] * rounds


def server_context_of(make: Callable[..., ssl.SSLContext]) -> ssl.SSLContext:
    with CERT.private_key_and_cert_chain_pem.tempfile() as path:
        return make(path)
