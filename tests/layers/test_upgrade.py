"""Who gets a WebSocket, and what is said to the others."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.endpoint import Endpoint
from hailer.errors import BadFrame, ConnectionLost, HailerError, TimedOut
from hailer.layers.websocket import WebSocketTransport
from hailer.testing.memory import MemoryTransport, memory_pair

UPGRADE = {
    "Host": "example.org:7000",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def request(path: str = "/", **headers: str | None) -> bytes:
    given = UPGRADE | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}\r\n" for name, value in given.items() if value is not None]
    return f"GET {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


class Public(MemoryTransport):
    """One whose own address is no loopback address."""

    @property
    def local(self) -> Endpoint:
        return Endpoint.parse("ws://192.0.2.1:7000/")


async def knock(
    data: bytes,
    *,
    public: bool = True,
    path: str | None = None,
    origins: list[str] | None = None,
    pieces: int = 1 << 20,
) -> tuple[bytes, HailerError | None]:
    """What a client with this request is answered, and what the server's side raises."""
    client, stream = memory_pair(room=1 << 20)
    if public:
        stream.__class__ = Public
    accepting = asyncio.create_task(WebSocketTransport.accept(stream, soon(), path=path, origins=origins))
    for at in range(0, len(data), pieces):
        try:
            await client.push(data[at : at + pieces])
        except ConnectionLost:
            break
        await asyncio.sleep(0)
    if b"\r\n\r\n" not in data:
        await client.finish()
    error = None
    try:
        await accepting
    except HailerError as caught:
        error = caught
    await stream.close()
    answer = b""
    try:
        while more := await client.pull(1 << 16):
            answer += more
    except ConnectionLost:
        pass
    await client.close()
    return answer, error


def status(data: bytes, **options: object) -> int:
    answer, error = asyncio.run(knock(data, **options))  # type: ignore[arg-type]
    code = int(answer.split()[1]) if answer else 0
    assert (error is None) == (code == 101)
    if error is not None:
        assert isinstance(error, BadFrame)
        assert str(error).isprintable()
        assert "\n" not in str(error)
        assert not answer or b"\r\nConnection: close\r\n" in answer
    return code


def test_a_request_for_a_websocket_is_granted_in_any_pieces() -> None:
    for pieces in (1, 7, 1000):
        assert status(request(), pieces=pieces) == 101
    answer, _ = asyncio.run(knock(request(Sec_WebSocket_Extensions="permessage-deflate")))
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"deflate" not in answer, "compression is never agreed on"


def test_others_get_a_short_answer() -> None:
    assert status(request(Upgrade=None, Connection=None)) == 426
    assert status(request(Sec_WebSocket_Key="short")) == 400
    assert status(request(Sec_WebSocket_Version="12")) == 400
    assert status(request().replace(b"GET", b"POST")) == 405
    answer, _ = asyncio.run(knock(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert b"You need a WebSocket client" in answer


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\0\x01\0\0\r\n\r\n", b"HELLO ann\r\n\r\n", b"\r\n\r\n"])
def test_what_is_no_http_is_told_from_what_is(data: bytes) -> None:
    assert status(data) == 0


def test_a_request_that_never_ends_is_bounded() -> None:
    # The library allows 128 lines of 8 KiB.
    assert status(b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 10_000) == 431
    assert (
        status(b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: %s\r\n" % (at, b"x" * 8000) for at in range(20)))
        == 431
    )
    assert status(b"GET /" + b"x" * 10_000) == 414


def test_a_client_that_goes_or_says_nothing() -> None:
    async def main() -> None:
        for sent in (b"", b"GET / HT"):
            client, stream = memory_pair()
            await client.push(sent)
            with pytest.raises(TimedOut):
                await WebSocketTransport.accept(stream, soon(0.02))
            await client.close()
            with pytest.raises(ConnectionLost):
                await WebSocketTransport.accept(stream, soon())
            await stream.close()

    asyncio.run(main())


def test_only_the_path_that_is_served() -> None:
    assert status(request("/chat?a=b"), path="/chat") == 101
    assert status(request("/chat"), path="/chat?x") == 101
    assert status(request("/other"), path="/chat") == 404
    assert status(request("/\x1b[2J".replace("\x1b", "%1b")), path="/chat") == 404
    assert status(request("/anything"), path=None) == 101


@pytest.mark.parametrize(
    ("origin", "host", "origins", "public", "expected"),
    [
        (None, "example.org", None, True, 101),  # no browser
        (None, "example.org", ["https://x"], True, 101),
        ("https://example.org", "example.org", None, True, 101),
        ("https://EXAMPLE.org:443", "example.ORG", None, True, 101),
        ("http://example.org", "example.org:80", None, True, 101),
        ("http://example.org:7000", "example.org:7000", None, True, 101),
        ("http://example.org:7001", "example.org:7000", None, True, 403),
        ("https://evil.example", "example.org", None, True, 403),
        ("https://evil.example", "example.org", ["https://example.com"], True, 403),
        ("https://evil.example", "example.org", ["*"], True, 101),
        ("https://example.com", "example.org", ["https://Example.com"], True, 101),
        ("https://example.org.evil.example", "example.org", None, True, 403),
        ("null", "example.org", None, True, 403),
        ("null", None, None, True, 403),
        ("", "", None, True, 403),
        # A name that was made to resolve to this machine.
        ("http://evil.example", "evil.example", None, False, 403),
        ("http://localhost:7000", "localhost:7000", None, False, 101),
        ("http://127.0.0.1:7000", "127.0.0.1:7000", None, False, 101),
        ("http://[::1]:7000", "[::1]:7000", None, False, 101),
        ("http://app.localhost", "app.localhost", None, False, 101),
        ("http://localhost.evil.example", "localhost.evil.example", None, False, 403),
        ("http://evil.example", "evil.example", ["http://evil.example"], False, 101),
    ],
)
def test_pages_of_other_origins_are_refused(
    origin: str | None, host: str | None, origins: list[str] | None, public: bool, expected: int
) -> None:
    assert status(request(Origin=origin, Host=host), origins=origins, public=public) == expected


def test_two_origins_are_refused() -> None:
    data = request(Origin="http://example.org:7000").replace(b"\r\n\r\n", b"\r\nOrigin: http://a\r\n\r\n")
    assert status(data) == 400


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_answered_with_errors_of_ours(data: bytes, pieces: int) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\n", request()[:-2]):
        answer, error = asyncio.run(knock(start + data + b"\r\n\r\n", pieces=pieces))
        assert answer.startswith(b"HTTP/1.1 ") or error is not None


# The client's side.


async def ask(endpoint: str, answer: bytes = b"") -> tuple[bytes, HailerError | None]:
    """The request that is sent to this endpoint, and what comes of the answer."""
    client, server = memory_pair()
    connecting = asyncio.create_task(WebSocketTransport.connect(client, Endpoint.parse(endpoint), soon()))
    sent = await server.pull(4096)
    await server.push(answer)
    await server.finish()
    error = None
    try:
        await connecting
    except HailerError as caught:
        error = caught
    await client.close()
    await server.close()
    return sent, error


@pytest.mark.parametrize(
    ("endpoint", "path", "host"),
    [
        ("ws://example.org", "/", "example.org"),
        ("wss://example.org:443/a/b?c=d", "/a/b?c=d", "example.org"),
        ("ws://example.org:443", "/", "example.org:443"),
        ("ws://[fe80::1%eth0]:7000/x", "/x", "[fe80::1]:7000"),
        ("ws://bücher.example:7000", "/", "xn--bcher-kva.example:7000"),
    ],
)
def test_the_request_names_the_host_and_the_path(endpoint: str, path: str, host: str) -> None:
    sent, _ = asyncio.run(ask(endpoint))
    assert sent.startswith(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n".encode())
    assert b"Extensions" not in sent


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"", ConnectionLost, "without an answer"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", BadFrame, "HTTP 404 Not"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", BadFrame, "HTTP 301"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000, BadFrame, "HTTP 403 No"),
        (b"HTTP/1.1 500 \xe9\x1b[2J\r\n\r\n", BadFrame, "HTTP 500"),
        (b"SSH-2.0-OpenSSH_9\r\n", BadFrame, "does not speak WebSocket"),
        (
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            BadFrame,
            "Sec-WebSocket-Accept",
        ),
        (b"x" * 100_000, BadFrame, "does not speak WebSocket"),
        (b"HTTP/1.1 101 Yes\r\n" + b"A: b\r\n" * 20_000, BadFrame, "does not speak WebSocket"),
    ],
    ids=range(9),
)
def test_answers_that_open_none(answer: bytes, kind: type[HailerError], words: str) -> None:
    _, error = asyncio.run(ask("ws://localhost:7000/chat", answer))
    assert type(error) is kind
    assert words in str(error)
    assert str(error).isprintable()
    assert "ws://localhost:7000/chat" in str(error)


def test_a_refusal_whose_page_does_not_end_is_told_at_once() -> None:
    async def main() -> None:
        client, server = memory_pair()
        connecting = asyncio.create_task(
            WebSocketTransport.connect(client, Endpoint.parse("ws://localhost:7000"), soon())
        )
        await server.pull(4096)
        for piece in (b"HTTP/1.1 403 Forbidden\r", b"\nServer: x\r\n\r", b"\n<html>"):
            await server.push(piece)
        async with asyncio.timeout(2):
            with pytest.raises(BadFrame, match="HTTP 403 Forbidden"):
                await connecting
        client.abort()
        server.abort()

    asyncio.run(main())


@given(st.binary(max_size=200))
def test_any_answer_gives_errors_of_ours(answer: bytes) -> None:
    for start in (b"", b"HTTP/1.1 101 Yes\r\n"):
        _, error = asyncio.run(ask("ws://localhost:7000/", start + answer))
        assert isinstance(error, HailerError)
