"""TLS as a transport over a transport: the ssl module between two memory buffers.

It awaits nothing but the inner transport, so it runs under every concurrency model.
"""

from __future__ import annotations

import ssl
import threading
import time
from typing import TYPE_CHECKING, Final

from hailer.errors import ConnectionClosed, ConnectionLost, HailerError, TimedOut, TlsError, UsageError
from hailer.layers.order import Order
from hailer.layers.tls_errors import explain, no_tls_error

if TYPE_CHECKING:
    from hailer.endpoint import Endpoint
    from hailer.transport import Transport

__all__ = ["TlsTransport"]

_READ = 64 * 1024
"""Bytes of ciphertext asked of the inner transport at once: what is held of a peer is bounded by them."""

_RECORD = 16 * 1024
"""The most plaintext in a record (RFC 8446 section 5.1), which is the most that one read of ssl gives."""

_FIRST_BYTES: Final = b"\x15\x16"
"""What a TLS peer may begin with: an alert or a handshake record (RFC 8446 section 5.1)."""

CLOSE_TIMEOUT = 5.0
"""Seconds that close waits for room for the goodbye."""

FINISH_TIMEOUT = 300.0
"""Seconds that finish waits for room for it, as a server does for what a handler sends."""

_LAST_WORD = 1.0
"""Seconds for the alert that tells the peer why this side breaks off."""


class TlsTransport:
    """A transport whose bytes go encrypted over another transport.

    Made by `accept` and `connect`. A stream ends by TLS's own goodbye, close_notify (RFC 8446 section
    6.1). An inner stream that ends without one may have been cut by anybody on the way, so that is a
    `ConnectionLost` here, after all that came has been given, as in Go and in curl with OpenSSL. Python's
    own sockets and asyncio take it for the end instead; but here a framing such as ``eof`` goes by the end
    alone, and no layer above could tell. A program that sends whole messages and then drops the
    connection, as many do, loses none of them by this.

    Nor is half-close lost: after `finish` the answers can be read, if the peer's TLS still sends any.
    """

    __slots__ = (
        "_ahead",
        "_closed",
        "_ended",
        "_finished",
        "_incoming",
        "_inner",
        "_lock",
        "_lost",
        "_name",
        "_order",
        "_outgoing",
        "_serving",
        "_ssl",
        "_unsendable",
    )

    def __init__(self, inner: Transport, context: ssl.SSLContext, name: str | None, *, serving: bool) -> None:
        self._inner = inner
        self._name = name
        self._serving = serving
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            if name is None and context.check_hostname and not serving:
                raise ValueError("there is no name to check")  # noqa: TRY301 (ssl says so only in the handshake)
            self._ssl = context.wrap_bio(
                self._incoming, self._outgoing, server_side=serving, server_hostname=name
            )
        except (ssl.SSLError, ValueError) as error:
            # A client's context for a server or the reverse, or a name that no certificate can have.
            make = "server_context()" if serving else "client_context() and the name of the server"
            raise UsageError(f"TLS cannot be set up ({_text(error)}): give it {make}") from error
        self._order = Order()
        # One thread may pull while another pushes, and OpenSSL takes one call at a time.
        self._lock = threading.Lock()
        self._ahead = bytearray()  # plaintext that was read before it was pulled
        self._ended = False  # the peer said goodbye
        self._finished = False  # this side did
        self._closed = False
        self._lost: HailerError | None = None  # what each further pull meets
        self._unsendable: HailerError | None = None  # what each further push meets

    @classmethod
    async def accept(cls, inner: Transport, context: ssl.SSLContext, deadline: float | None) -> TlsTransport:
        """Do the server's side of the handshake.

        Args:
            inner: the accepted transport; owned from now on, and closed if this fails.
            context: such as `hailer.net.certificates.server_context` makes.
            deadline: the instant at which the handshake has to be done.

        Raises:
            TlsError: the peer speaks no TLS, or nothing could be agreed on.
            TimedOut: it was not done in time.
            ConnectionClosed: this side closed or aborted the inner transport.
            UsageError: the context is not for servers.
        """
        return await cls._agree(inner, context, None, deadline, serving=True)

    @classmethod
    async def connect(
        cls, inner: Transport, context: ssl.SSLContext, server_name: str | None, deadline: float | None
    ) -> TlsTransport:
        """Do the client's side of the handshake.

        Args:
            inner: the connected transport; owned from now on, and closed if this fails.
            context: such as `hailer.net.certificates.client_context` makes.
            server_name: the name or address that the server's certificate has to have; without one the
                context must not ask for it.
            deadline: the instant at which the handshake has to be done.

        Raises:
            TlsError: the server's certificate is not to be trusted, it speaks no TLS, or nothing could be
                agreed on. A server that does not like this side's certificate may say so only at the first
                pull (TLS 1.3).
            TimedOut: it was not done in time.
            ConnectionClosed: this side closed or aborted the inner transport.
            UsageError: the context is not for clients, or a name is missing.
        """
        if server_name is not None:
            # No certificate has the zone of an IPv6 address, nor the dot that ends a full name (RFC 6066).
            server_name = server_name.partition("%")[0].removesuffix(".")
        return await cls._agree(inner, context, server_name, deadline, serving=False)

    @classmethod
    async def _agree(
        cls,
        inner: Transport,
        context: ssl.SSLContext,
        name: str | None,
        deadline: float | None,
        *,
        serving: bool,
    ) -> TlsTransport:
        try:
            transport = cls(inner, context, name, serving=serving)
            await transport._handshake(deadline)
        except TlsError:
            await inner.close()  # not abort: an alert that is on its way is to arrive
            raise
        except BaseException:
            inner.abort()
            raise
        return transport

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""
        return self._inner.local

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""
        return self._inner.peer

    @property
    def version(self) -> str:
        """The version that was agreed on, such as ``TLSv1.3``."""
        return self._ssl.version() or ""

    @property
    def cipher(self) -> str:
        """The cipher suite that was agreed on, by OpenSSL's name."""
        chosen = self._ssl.cipher()
        return chosen[0] if chosen else ""

    @property
    def peer_certificate(self) -> dict[str, object] | None:
        """See `hailer.Connection.peer_certificate`."""
        return dict(self._ssl.getpeercert() or ()) or None

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        while True:
            if self._closed:
                raise _closed_error()
            with self._lock:
                data = self._take(limit)
                unsent = self._outgoing.pending
            if data is not None:
                return data
            if self._lost is not None:
                if unsent:
                    await self._say_last_word()
                raise self._lost.with_traceback(None)
            if unsent:
                await self._flush(deadline)
            # From here to the next turn nothing is awaited but this pull, so whoever cancels loses nothing.
            raw = await self._inner.pull(_READ, deadline)
            if raw:
                with self._lock:
                    self._incoming.write(raw)
            else:
                self._lost = ConnectionLost(
                    f"{self._where} ended without TLS's goodbye, so what it sent may have been cut short: "
                    "connect again if something is missing"
                )

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        order = self._order
        await order.take(deadline)
        try:
            self._check_sending()
            if data:
                self._encrypt(data)
                await self._send(deadline)
        finally:
            order.give_on()

    async def finish(self) -> None:
        deadline = time.monotonic() + FINISH_TIMEOUT
        await self._order.take(deadline)
        try:
            if self._finished and not self._closed:
                return
            self._check_sending()
            self._finished = True
            with self._lock:
                self._say_goodbye()
            # The goodbye waits for room: the peer may be busy, and its answers are still wanted.
            await self._send(deadline)
            await self._inner.finish()
        finally:
            self._order.give_on()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            # No goodbye after a gap: the peer must see that something is missing. One whose turn is taken by
            # a push would have to wait for a peer that does not read; closing ends that push, which is a gap.
            if not self._finished and self._unsendable is None and not self._order.taken:
                self._finished = True
                try:
                    async with self._order:
                        with self._lock:
                            self._say_goodbye()
                        await self._send(time.monotonic() + CLOSE_TIMEOUT)
                except HailerError:
                    pass  # the peer has gone, or does not read
                except BaseException:
                    self._inner.abort()
                    raise
        self._ahead.clear()
        await self._inner.close()

    def abort(self) -> None:
        self._closed = True
        self._inner.abort()

    @property
    def _where(self) -> str:
        return self._inner.peer.address_text

    async def _handshake(self, deadline: float | None) -> None:
        began = b""
        try:
            while True:
                try:
                    self._ssl.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError as error:
                    await self._say_last_word()
                    raise explain(error, self._where, self._name, serving=self._serving) from error
                else:
                    break
                if self._outgoing.pending:
                    await self._inner.push(self._outgoing.read(), deadline)
                raw = await self._inner.pull(_READ, deadline)
                if not raw:
                    raise self._broken_off()
                if not began:
                    began = raw[:16]
                    if began[0] not in _FIRST_BYTES:
                        raise no_tls_error(began, self._where, serving=self._serving)
                self._incoming.write(raw)
            if self._outgoing.pending:
                await self._inner.push(self._outgoing.read(), deadline)
        except TimedOut as error:
            raise TimedOut(
                f"{self._where} did not agree on TLS in time: look whether it speaks TLS, or allow more time"
            ) from error
        except ConnectionLost as error:
            raise self._broken_off() from error

    def _broken_off(self) -> TlsError:
        what_next = "look at what its program says" if self._serving else "look whether it speaks TLS at all"
        return TlsError(f"{self._where} broke off while TLS was being agreed on: {what_next}")

    def _take(self, limit: int) -> bytes | None:
        """Decrypt what has come, up to a limit; None when there is none yet or no more."""
        if self._ahead:
            data = bytes(self._ahead[:limit])
            del self._ahead[:limit]
            return data
        parts = self._decrypt(limit)
        if parts:
            return parts[0] if len(parts) == 1 else b"".join(parts)
        return b"" if self._ended else None

    def _decrypt(self, limit: int) -> list[bytes]:
        """Read from ssl until it has no more or the limit is reached; what ended that is noted."""
        parts: list[bytes] = []
        # Asking first whether there is anything saves an exception a read.
        while (
            limit
            and not self._ended
            and self._lost is None
            and (self._incoming.pending or self._ssl.pending())
        ):
            try:
                data = self._ssl.read(min(limit, _RECORD))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self._lost = self._unsendable = explain(error, self._where, self._name, serving=self._serving)
                self._lost.__cause__ = error
                break
            if not data:
                self._ended = True
                break
            parts.append(data)
            limit -= len(data)
        return parts

    def _check_sending(self) -> None:
        if self._closed:
            raise _closed_error()
        if self._finished:
            raise ConnectionClosed("this side has finished sending: send before finish()")
        if self._unsendable is not None:
            raise self._unsendable.with_traceback(None)

    def _encrypt(self, data: bytes) -> None:
        view: bytes | memoryview = data
        try:
            with self._lock:
                while (done := self._ssl.write(view)) < len(view):
                    view = memoryview(view)[done:]
        except ssl.SSLError as error:
            self._unsendable = explain(error, self._where, self._name, serving=self._serving)
            raise self._unsendable from error

    async def _send(self, deadline: float | None) -> None:
        """Push what is encrypted, in one piece; the caller has the turn.

        A record that was made and not sent leaves a gap in the sequence that the peer checks, so after that
        nothing more can be sent, whether the inner transport sent a part of it or none.
        """
        with self._lock:
            data = self._outgoing.read()
        try:
            await self._inner.push(data, deadline)
        except BaseException as error:
            self._unsendable = (
                error
                if isinstance(error, HailerError) and not isinstance(error, TimedOut)
                else ConnectionLost(
                    "an earlier message was cut off before it was sent: open another connection"
                )
            )
            raise

    async def _flush(self, deadline: float | None) -> None:
        """Push what TLS itself has to say, such as that it does not renegotiate.

        While somebody else is sending this is left to the next to do so: a peer that reads only once it is
        read from would make both wait for ever.
        """
        if self._order.take_if_free():
            try:
                await self._send(deadline)
            finally:
                self._order.give_on()

    async def _say_last_word(self) -> None:
        """Push the alert that says why, if there is one and the peer takes it at once or nearly so."""
        if self._outgoing.pending and self._order.take_if_free():
            try:
                await self._inner.push(self._outgoing.read(), time.monotonic() + _LAST_WORD)
            except HailerError:
                pass  # it has gone, or does not read
            finally:
                self._order.give_on()

    def _say_goodbye(self) -> None:
        """Encrypt close_notify, and keep the other direction readable.

        ssl's unwrap sends close_notify and then waits for the peer's: OpenSSL would take data that comes
        first for a fault. So what has come is decrypted before, and its wait ends at once, for there is
        nothing more to read.
        """
        self._ahead += b"".join(self._decrypt(_READ * 2))
        try:
            self._ssl.unwrap()
        except ssl.SSLError:
            pass  # SSLWantReadError: the peer's goodbye has not come; others: _decrypt has noted them


def _closed_error() -> ConnectionClosed:
    return ConnectionClosed("this side closed the connection: open another to go on")


def _text(error: Exception) -> str:
    text = error.reason if isinstance(error, ssl.SSLError) else str(error)
    return (text or "unknown").replace("_", " ").lower()
