"""How a stream becomes a WebSocket: HTTP's upgrade, RFC 6455 section 4, on either side.

Who may connect: programs send no Origin and pass. A browser sends that of the page, any page of the web,
which would otherwise speak with the user's own rights to what only the user's machine can reach. So an
Origin has to be the host that was asked for, or one of those that are allowed by name. On a loopback
address that host has to be this machine's: any name may be made to resolve to 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import logging
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from websockets.client import ClientProtocol
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.uri import WebSocketURI

from hailer.connection import READ_SIZE
from hailer.errors import BadFrame, ConnectionLost, HailerError
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.frames import Frame

    from hailer.endpoint import Endpoint
    from hailer.transport import Transport

__all__ = ["answer_upgrade", "ask_upgrade"]

_MOST_HEAD: Final = 64 * 1024
"""Bytes of a request's lines. The library takes 8 KiB a line; all of them together are bounded here."""

_CONTROL: Final = 125
"""Bytes of the largest control frame (RFC 6455 section 5.5): the library holds them against the limit too."""

# What the library tells its users ("connection open") our own events tell.
_LOGGER = logging.getLogger("hailer.layers.websocket")
_LOGGER.setLevel(logging.ERROR)


async def answer_upgrade(
    inner: Transport,
    deadline: float | None,
    *,
    path: str | None,
    origins: Sequence[str] | None,
    max_message: int,
) -> tuple[ServerProtocol, bytes]:
    """Read a client's request and answer it; one that is refused gets its reason as a short text.

    Returns:
        The protocol, open, and what came after the request.

    Raises:
        BadFrame: it is no request, or none that can be granted.
        TimedOut: it did not come in time.
        ConnectionLost: the client went before.
    """
    protocol = ServerProtocol(max_size=max_message + _CONTROL, logger=_LOGGER)
    request, rest = await _read_request(inner, protocol, deadline)
    refused = ""
    if request is not None:
        refused, status, text = _refusal(request, inner, path, origins)
        response = protocol.reject(status, text) if refused else protocol.accept(request)
        protocol.send_response(response)
    answer = b"".join(protocol.data_to_send())
    if request is not None and not refused and protocol.handshake_exc is None:
        await inner.push(answer, deadline)
        return protocol, rest
    with suppress(HailerError):
        await inner.push(answer, deadline)
        await inner.finish()
    raise BadFrame(
        refused
        or f"{inner.peer} opened no WebSocket ({_reason(protocol.handshake_exc)}): use a WebSocket client"
    )


async def _read_request(
    inner: Transport, protocol: ServerProtocol, deadline: float | None
) -> tuple[Request | None, bytes]:
    """Read up to the empty line and no further: nothing may be taken for frames before the answer."""
    left = _MOST_HEAD
    tail = b""
    while left > 0:
        data = await inner.pull(min(READ_SIZE, left), deadline)
        if not data:
            raise ConnectionLost(f"{inner.peer} went before it asked for a WebSocket: connect again")
        left -= len(data)
        seen = tail + data
        at = seen.find(b"\r\n\r\n")
        end = len(data) if at < 0 else at + 4 - len(tail)
        protocol.receive_data(data[:end])
        for event in protocol.events_received():
            if isinstance(event, Request):
                return event, data[end:]
        if protocol.handshake_exc is not None:
            return None, b""
        tail = seen[-3:]
    protocol.handshake_exc = BadFrame(f"its request has more than {_MOST_HEAD} bytes")
    protocol.send_response(protocol.reject(431, "The request's header fields are too large.\n"))
    return None, b""


def _refusal(
    request: Request, inner: Transport, path: str | None, origins: Sequence[str] | None
) -> tuple[str, int, str]:
    """Judge what the library does not look at: the path, and who asks.

    Returns:
        Our own sentence, the HTTP status and the text for the peer; empty when nothing is wrong.
    """
    if path is not None and request.path.partition("?")[0] != path.partition("?")[0]:
        return (
            f"{inner.peer} asked for a WebSocket at {printable(request.path)[:100]}: connect to {path}",
            404,
            f"There is no WebSocket at this path: connect to {path}\n",
        )
    given = request.headers.get_all("Origin")
    hosts = request.headers.get_all("Host")
    if len(given) != 1 or (origins is not None and "*" in origins):
        return "", 0, ""  # several are refused by the library
    origin = given[0].lower()
    if origins is not None and origin in map(str.lower, origins):
        return "", 0, ""
    scheme, _, netloc = origin.partition("://")
    port = {"http": ":80", "https": ":443"}.get(scheme, "")
    host = hosts[0].lower().removesuffix(port) if len(hosts) == 1 else ""
    if host and netloc.removesuffix(port) == host and (_is_loopback(host) or not inner.local.is_loopback):
        return "", 0, ""
    return (
        f"a page of {printable(origin)[:100]} asked {inner.local} for a WebSocket: allow it if it is yours",
        403,
        "Pages of this origin may not connect: have the server allow it by name.\n",
    )


def _is_loopback(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _reason(error: BaseException | None) -> str:
    """What was wrong, with the peer's own words made fit to be shown."""
    if error is None:
        return ""
    while error.__cause__ is not None:
        error = error.__cause__
    return printable(str(error))[:200]


async def ask_upgrade(
    inner: Transport, endpoint: Endpoint, deadline: float | None, *, max_message: int
) -> tuple[ClientProtocol, list[Frame]]:
    """Send a client's request and read the answer.

    Returns:
        The protocol, open, and the frames that came with the answer.

    Raises:
        BadFrame: the server refuses, or does not speak WebSocket.
        TimedOut: it did not answer in time.
        ConnectionLost: it went before.
    """
    protocol = ClientProtocol(_uri(endpoint, inner.peer), max_size=max_message + _CONTROL, logger=_LOGGER)
    protocol.send_request(protocol.connect())
    await inner.push(b"".join(protocol.data_to_send()), deadline)
    left = _MOST_HEAD
    head = b""
    response = None
    frames: list[Frame] = []
    while response is None:
        data = await inner.pull(min(READ_SIZE, left), deadline) if left > 0 else b""
        left -= len(data)
        head += data
        _check_status(head, len(data), endpoint)
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            if isinstance(event, Response):
                response = event
            elif not isinstance(event, Request):
                frames.append(event)
        error = protocol.handshake_exc
        if error is not None:
            if not data and left == _MOST_HEAD:
                raise ConnectionLost(f"{endpoint} closed the connection without an answer: try again later")
            raise BadFrame(
                f"{endpoint} does not speak WebSocket ({_reason(error)}): check host, port and kind"
            )
    return protocol, frames


def _check_status(head: bytes, new: int, endpoint: Endpoint) -> None:
    """Raise what a refusal says once its head is there: the page that follows may be long, or not end."""
    if head.startswith(b"HTTP/1.") and b"\r\n\r\n" in head[max(0, len(head) - new - 3) :]:
        status = head.partition(b"\r\n")[0].partition(b" ")[2]
        if not status.startswith(b"101"):
            said = printable(status[:100].decode("latin-1"))
            raise BadFrame(f"{endpoint} opens no WebSocket (HTTP {said}): check its path and who may connect")


def _uri(endpoint: Endpoint, peer: Endpoint) -> WebSocketURI:
    """Where to ask: Host is a name as others write it, in ASCII (RFC 3490), without a zone (RFC 6874)."""
    host = endpoint.host.partition("%")[0]
    if not host.isascii():
        host = host.encode("idna").decode()
    secure = endpoint.scheme == "wss"
    port = endpoint.port if isinstance(endpoint.port, int) else peer.port  # a service's name is no URI's port
    path, _, query = endpoint.path.partition("?")
    return WebSocketURI(secure, host, port if isinstance(port, int) else 443 if secure else 80, path, query)
