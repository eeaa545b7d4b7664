"""From a socket's transport to a connection: TLS and WebSocket, on either side, under every model."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, cast

from hailer.connection import Connection, RecordConnection
from hailer.framing import DEFAULT_MAX_MESSAGE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from hailer.endpoint import Endpoint
    from hailer.framing import Framing
    from hailer.transport import RecordTransport, Transport

__all__ = [
    "TLS_SCHEMES",
    "WEB_SCHEMES",
    "accept_layers",
    "connect_layers",
    "load_layers",
    "make_connection",
]

TLS_SCHEMES = ("tls", "wss")
WEB_SCHEMES = ("ws", "wss")


def make_connection(
    transport: Transport | RecordTransport,
    framing: Framing,
    *,
    max_message: int = DEFAULT_MAX_MESSAGE,
    timeout: float | None = None,
    message_timeout: float | None = None,
) -> Connection:
    """Make the connection over a transport of either kind; the framing is for streams only.

    Args are those of `Connection`.
    """
    if hasattr(transport, "pull_records"):
        return RecordConnection(cast("RecordTransport", transport), max_message=max_message, timeout=timeout)
    return Connection(
        transport, framing, max_message=max_message, timeout=timeout, message_timeout=message_timeout
    )


def load_layers(scheme: str) -> None:
    """Import what endpoints of this kind need, before the first connection waits for that.

    Children that are forked have it then; each would import it for itself otherwise.
    """
    if scheme in TLS_SCHEMES:
        import hailer.layers.tls  # noqa: PLC0415 (loaded by those who use it)
    if scheme in WEB_SCHEMES:
        import hailer.layers.websocket  # noqa: F401, PLC0415


async def accept_layers(
    leaf: Transport | RecordTransport,
    *,
    tls: ssl.SSLContext | None,
    paths: Mapping[int | str | None, str],
    origins: Sequence[str] | None,
    max_message: int,
    timeout: float,
) -> Transport | RecordTransport:
    """Do the server's side of TLS and WebSocket, as the scheme of the leaf asks for them.

    Args:
        leaf: the transport of an accepted socket.
        tls: the certificate and what else TLS is to be like.
        paths: of each port that serves one WebSocket path only, that path.
        origins: the origins of pages that may connect by WebSocket; None for the page's own host only.
        max_message: the most bytes of a message.
        timeout: seconds for all of it.

    Raises:
        TlsError: TLS was not agreed on.
        FramingError: the peer does not speak WebSocket.
        TimedOut: it took too long.
        ConnectionEnded: the peer went.
    """
    scheme = leaf.local.scheme
    deadline = time.monotonic() + timeout
    if scheme in TLS_SCHEMES:
        from hailer.layers.tls import TlsTransport  # noqa: PLC0415 (loaded by those who use it)

        assert tls is not None
        acknowledge = getattr(leaf, "acknowledge", None)
        leaf = await TlsTransport.accept(cast("Transport", leaf), tls, deadline)
        if acknowledge is not None:
            # Nothing answers the words of the client that end the handshake: there are no session tickets.
            acknowledge()
    if scheme in WEB_SCHEMES:
        from hailer.layers.websocket import WebSocketTransport  # noqa: PLC0415

        return await WebSocketTransport.accept(
            cast("Transport", leaf),
            deadline,
            path=paths.get(leaf.local.port),
            origins=origins,
            max_message=max_message,
        )
    return leaf


async def connect_layers(
    leaf: Transport | RecordTransport,
    endpoint: Endpoint,
    *,
    tls: ssl.SSLContext | None,
    server_name: str | None,
    max_message: int,
    deadline: float | None,
) -> Transport | RecordTransport:
    """Do the client's side of TLS and WebSocket, as the scheme of the endpoint asks for them.

    Args:
        leaf: the transport of a dialled socket.
        endpoint: what was dialled.
        tls: whom to trust; None for the system's authorities.
        server_name: the name that the certificate has to have; None for the endpoint's host.
        max_message: the most bytes of a message.
        deadline: when to stop, an instant of the monotonic clock.

    Raises:
        TlsError: TLS was not agreed on.
        FramingError: the peer does not speak WebSocket.
        TimedOut: it took too long.
        ConnectionEnded: the peer went.
    """
    if endpoint.scheme in TLS_SCHEMES:
        from hailer.layers.tls import TlsTransport  # noqa: PLC0415 (loaded by those who use it)

        leaf = await TlsTransport.connect(
            cast("Transport", leaf), tls or _system_trust(), server_name or endpoint.host, deadline
        )
    if endpoint.scheme in WEB_SCHEMES:
        from hailer.layers.websocket import WebSocketTransport  # noqa: PLC0415

        return await WebSocketTransport.connect(
            cast("Transport", leaf), endpoint, deadline, max_message=max_message
        )
    return leaf


@cache
def _system_trust() -> ssl.SSLContext:
    # Kept: to read a system's authorities takes tens of milliseconds, in which an event loop stands still.
    from hailer.net.certificates import client_context  # noqa: PLC0415 (loaded by those who use it)

    return client_context()
