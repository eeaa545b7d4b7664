"""Sockets that are connected, agreed on TLS and upgraded to WebSocket, thousands at once.

Opening one is a coroutine that gives what it waits for, READ, WRITE or 0 for a short pause, to whoever
drives it: the loop of the load. A channel is the socket itself, plain or of the ssl module, which does not
block: what the load calls for each message is the system's own.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from contextlib import suppress
from types import coroutine
from typing import TYPE_CHECKING, Final

from hailer.endpoint import Endpoint, from_sockaddr
from hailer.errors import ConnectionLost, UsageError
from hailer.layers.tls_errors import explain
from hailer.layers.upgrade import ask_upgrade
from hailer.net.address import Address, scheme_of
from hailer.net.certificates import client_context
from hailer.net.dial import dial
from hailer.net.options import set_nodelay
from hailer.net.oserrors import map_os_error
from hailer.net.unix import open_datagram_client
from hailer.tools.bench.wire.poller import READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Generator

    from hailer.errors import HailerError
    from hailer.net.oserrors import Doing
    from hailer.tools.bench.wire.load import Load

__all__ = ["WOULD_BLOCK", "Opening", "Target"]

WOULD_BLOCK: Final = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket that does not block raises when there is nothing to read, or no room."""

_TLS: Final = ("tls", "wss")
_WEBSOCKET: Final = ("ws", "wss")
_WORD: Final = 64 * 1024
"""Bytes of a greeting at most."""


@coroutine
def _ready(mask: int) -> Generator[int, None, None]:
    """Wait until the socket can be read or written, or for a moment if neither is named."""
    yield mask


class Target:
    """Where the load goes, looked up once.

    Attributes:
        endpoint: what was asked for.
        datagram: whether messages are datagrams, which may be lost.
        record: whether one send is one message.
        websocket: whether messages are those of WebSocket.
    """

    def __init__(self, endpoint: Endpoint, load: Load) -> None:
        if endpoint.scheme in ("fd", "stdio"):
            raise UsageError(
                f"{endpoint} is one connection only: load an address, such as tcp://localhost:7000"
            )
        self.endpoint = endpoint
        self.datagram = endpoint.is_datagram
        self.websocket = endpoint.scheme in _WEBSOCKET
        self.record = self.datagram or endpoint.scheme == "unix+seqpacket"
        self._timeout = load.timeout
        self._first = load.first
        self._greeting = load.greeting
        self._name = load.tls.server_name or endpoint.host
        self._context: ssl.SSLContext | None = None
        if endpoint.scheme in _TLS:
            files = load.tls
            self._context = client_context(
                ca=files.ca, cert=files.cert, key=files.key, verify=not files.insecure
            )
        self._address: Address | None = None

    @property
    def where(self) -> str:
        """The server, for sentences."""
        return str(self.endpoint)

    def find(self) -> socket.socket:
        """Connect for the first time, which finds the address that all others take.

        Raises:
            HailerError: nobody can be reached; the sentence says what to do.
        """
        sock = dial(self.endpoint, timeout=self._timeout)
        self._address = Address(sock.family, sock.type, sock.proto, sock.getpeername())
        sock.setblocking(False)
        return sock

    def error(self, error: OSError, doing: Doing) -> HailerError:
        """An error of a connection in one sentence."""
        if isinstance(error, ssl.SSLError):
            return explain(error, self.endpoint.address_text, self._name, serving=False)
        return map_os_error(error, doing, self.endpoint.address_text)

    async def open(self, holder: Opening, sock: socket.socket | None = None) -> None:
        """Make a channel; the holder has the socket from the moment there is one, and closes it.

        Args:
            holder: gets the socket.
            sock: one that is connected already, from `find`.

        Raises:
            HailerError: it failed.
        """
        assert self._address is not None
        try:
            if sock is None:
                await self._connect(holder, self._address)
            else:
                holder.sock = sock
            assert holder.sock is not None
            set_nodelay(holder.sock)
            if self._context is not None:
                await self._agree(holder, self._context)
        except OSError as error:
            raise self.error(error, "dial") from error
        if self.websocket:
            await ask_upgrade(_Pipe(self, holder), self.endpoint, None, max_message=1 << 30)  # type: ignore[arg-type] # all that it calls
        if self._first or self._greeting:
            pipe = _Pipe(self, holder)
            await pipe.push(self._first)
            for _ in range(self._greeting):
                await self._read_line(pipe)

    async def _connect(self, holder: Opening, address: Address) -> None:
        if address.family == socket.AF_UNIX and address.type == socket.SOCK_DGRAM:
            sock = open_datagram_client()
        else:
            sock = address.open()
        holder.sock = sock
        sock.setblocking(False)
        while True:
            number = sock.connect_ex(address.sockaddr)
            # A Unix listener's queue is full; or all ports are in use for a moment.
            if number not in (errno.EAGAIN, errno.EADDRNOTAVAIL):
                break
            holder.hindered = True
            await _ready(0)
        if number in (errno.EINPROGRESS, errno.EINTR):
            await _ready(WRITE)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))

    async def _agree(self, holder: Opening, context: ssl.SSLContext) -> None:
        plain = holder.sock
        assert plain is not None
        wrapped = context.wrap_socket(
            plain, server_hostname=self._name or None, do_handshake_on_connect=False
        )
        holder.sock = wrapped
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await _ready(READ)
            except ssl.SSLWantWriteError:
                await _ready(WRITE)
            except (ssl.SSLEOFError, ConnectionError) as error:
                raise ConnectionLost(
                    f"{self.endpoint.address_text} broke off while TLS was being agreed on:"
                    " look whether it speaks TLS at all"
                ) from error
            else:
                return

    async def _read_line(self, pipe: _Pipe) -> None:
        said = b""
        while not said.endswith(b"\n"):
            data = await pipe.pull(1)
            said += data
            if not data or len(said) > _WORD:
                raise ConnectionLost(
                    f"{self.endpoint.address_text} gave no greeting of one line: look at what it says first"
                )


class Opening:
    """A channel on its way.

    Attributes:
        sock: the socket, once there is one.
        mask: what is waited for on it.
        began: when, by `clock`.
        hindered: whether this machine had no port, or the listener no room, for a moment.
    """

    __slots__ = ("began", "hindered", "mask", "sock", "steps")

    def __init__(self, target: Target, began: int, sock: socket.socket | None = None) -> None:
        self.sock: socket.socket | None = None
        self.mask = 0
        self.began = began
        self.hindered = False
        self.steps = target.open(self, sock)

    def close(self) -> None:
        """Give up."""
        self.steps.close()
        if self.sock is not None:
            self.sock.close()


class _Pipe:
    """The little of a `Transport` that asking for a WebSocket takes."""

    def __init__(self, target: Target, holder: Opening) -> None:
        assert holder.sock is not None
        self._target = target
        self._sock = holder.sock
        scheme = scheme_of(holder.sock) or "tcp"
        self.peer = target.endpoint
        with suppress(OSError):
            self.peer = from_sockaddr(scheme, holder.sock.getpeername())

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:  # noqa: ARG002 (the loop has one)
        """Read what has come."""
        while True:
            try:
                return self._sock.recv(limit)
            except WOULD_BLOCK:
                await _ready(READ)
            except OSError as error:
                raise self._target.error(error, "receive") from error

    async def push(self, data: bytes, deadline: float | None = None) -> None:  # noqa: ARG002
        """Send all of it."""
        while data:
            try:
                data = data[self._sock.send(data) :]
            except WOULD_BLOCK:
                await _ready(WRITE)
            except OSError as error:
                raise self._target.error(error, "receive") from error
