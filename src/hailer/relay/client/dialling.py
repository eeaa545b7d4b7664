"""A stream of bytes to a relay, over whatever its endpoint asks for: TLS, WebSocket, both or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hailer.errors import BadFrame, DialError, FramingError
from hailer.framing import DEFAULT_MAX_MESSAGE
from hailer.relay.grammar import MAX_LINE
from hailer.runtime.dialled import dial_aio
from hailer.runtime.establish import WEB_SCHEMES, connect_layers

if TYPE_CHECKING:
    import ssl

    from hailer.endpoint import Endpoint
    from hailer.layers.websocket import WebSocketTransport
    from hailer.transport import Transport

__all__ = ["WebStream", "dial_relay"]


async def dial_relay(endpoint: Endpoint, *, tls: ssl.SSLContext | None, server_name: str | None) -> Transport:
    """Connect to where a relay is, in the running event loop.

    Args:
        endpoint: where.
        tls: whom to trust, for ``tls://`` and ``wss://``; None for the system's authorities.
        server_name: the name that the certificate has to have; None for the endpoint's host.

    Raises:
        DialError: nobody listens there, or what does opens no WebSocket (a proxy whose relay is away).
        ResolveError: the host is not known.
        TlsError: the certificate is not to be trusted, or there is no TLS.
        ConnectionEnded: the peer went.
    """
    leaf = await dial_aio(endpoint, timeout=None, advice="start one with hailer relay")
    try:
        transport = await connect_layers(
            leaf,
            endpoint,
            tls=tls,
            server_name=server_name,
            max_message=DEFAULT_MAX_MESSAGE,
            deadline=None,
        )
    except BadFrame as error:
        leaf.abort()
        raise DialError(str(error)) from error
    except BaseException:
        leaf.abort()
        raise
    if endpoint.scheme in WEB_SCHEMES:
        return WebStream(cast("WebSocketTransport", transport))
    return cast("Transport", transport)


class WebStream:
    """The relay's stream of bytes in the messages of a WebSocket.

    What is sent goes in binary messages, which a relay takes for the stream that they are.

    Args:
        inner: the WebSocket; owned from now on.
    """

    def __init__(self, inner: WebSocketTransport) -> None:
        self._inner = inner
        self._ahead = b""

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""
        return self._inner.local

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""
        return self._inner.peer

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        """See `hailer.transport.Transport`."""
        while not self._ahead:
            records = await self._inner.pull_records(DEFAULT_MAX_MESSAGE, deadline)
            if not records:
                return b""
            for record in records:
                if isinstance(record, FramingError):
                    raise record
            self._ahead = b"".join(cast("list[bytes]", records))
        data, self._ahead = self._ahead[:limit], self._ahead[limit:]
        return data

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        """See `hailer.transport.Transport`; in pieces that every relay takes."""
        self._inner.text = False
        pieces = [data[start : start + MAX_LINE] for start in range(0, len(data), MAX_LINE)]
        await self._inner.push_records(pieces, deadline)

    async def finish(self) -> None:
        """See `hailer.transport.Transport`; WebSocket's Close ends both directions."""
        await self._inner.finish()

    async def close(self) -> None:
        """See `hailer.transport.Transport`."""
        await self._inner.close()

    def abort(self) -> None:
        """See `hailer.transport.Transport`."""
        self._inner.abort()
