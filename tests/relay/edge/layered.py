"""Plain clients behind TLS and WebSocket, and certificates to try them with."""

from __future__ import annotations

import socket
import ssl
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import trustme
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as web_connect

from tests.conftest import Wire

if TYPE_CHECKING:
    from pathlib import Path

    from hailer.endpoint import Endpoint

AUTHORITY = trustme.CA()
OTHER_AUTHORITY = trustme.CA()
SERVER = AUTHORITY.issue_cert("localhost", "127.0.0.1")


def write_identity(cert: trustme.LeafCert, folder: Path, name: str) -> tuple[Path, Path]:
    """Write a certificate and its key to files."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(b"".join(pem.bytes() for pem in cert.cert_chain_pems))
    key.write_bytes(cert.private_key_pem.bytes())
    key.chmod(0o600)
    return chain, key


def trusting(
    cert: trustme.LeafCert | None = None, *, authority: trustme.CA = AUTHORITY, old: bool = False
) -> ssl.SSLContext:
    """What a client goes by; with `old` it knows no TLS 1.3."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if cert is not None:
        cert.configure_cert(context)
    if old:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


class WebSocketAsStream:
    """The part of a socket that `Wire` needs, over a WebSocket of the websockets library.

    Args:
        url: where.
        sock: connected to it.
        text: whether what is sent goes in text messages.
    """

    family = socket.AF_INET

    def __init__(self, url: str, sock: socket.socket, context: ssl.SSLContext | None, *, text: bool) -> None:
        options: dict[str, Any] = {} if context is None else {"ssl": context, "server_hostname": "localhost"}
        self._stack = ExitStack()
        opening = web_connect(url, sock=sock, compression=None, ping_interval=None, **options)
        self.web = self._stack.enter_context(opening)
        self._text = text

    def sendall(self, data: bytes) -> None:
        """Send one message."""
        self.web.send(data.decode() if self._text else data)

    def recv(self, size: int) -> bytes:
        """The next message; b"" at the end."""
        try:
            message = self.web.recv(timeout=30)
        except ConnectionClosed:
            return b""
        data = message.encode() if isinstance(message, str) else message
        return data or self.recv(size)

    def shutdown(self, how: int) -> None:
        """WebSocket knows no half-close."""
        raise NotImplementedError

    def close(self) -> None:
        """Say Close, and close."""
        self._stack.close()


class LayeredWire(Wire):
    """A `Wire` through the layers that its endpoint has.

    Args:
        endpoint: where the relay listens.
        context: what TLS goes by.
        text: whether a WebSocket is to send text.
        small: have the system keep little of what is not read yet.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        context: ssl.SSLContext | None = None,
        text: bool = False,
        small: bool = False,
    ) -> None:
        super().__init__(endpoint, small=small)
        sock: Any = self.sock
        context = context or trusting()
        try:
            if endpoint.scheme == "tls":
                sock = context.wrap_socket(self.sock, server_hostname="localhost", suppress_ragged_eofs=False)
            elif endpoint.scheme in ("ws", "wss"):
                secure = context if endpoint.scheme == "wss" else None
                sock = WebSocketAsStream(str(endpoint), self.sock, secure, text=text)
        except BaseException:
            self.sock.close()
            raise
        self.sock = sock
