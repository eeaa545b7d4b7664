"""TLS and WebSocket between a socket of the relay and its core, in plain calls.

What encrypts and frames are the coroutines of `hailer.layers`, over an inner transport in memory. They wait
for nothing but what is fed to it: so each call here runs them until they want more, and nobody awaits.

WebSocket carries the protocol's stream, and where its messages end says nothing but this: a text message
whose last line has no LF is completed by one, so that a page says ``socket.send("HELLO ann")``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from hailer.connection import READ_SIZE
from hailer.errors import BadFrame, ConnectionClosed, FramingError, HailerError, TlsError
from hailer.layers.tls import TlsTransport
from hailer.layers.websocket import WebSocketTransport
from hailer.relay import grammar
from hailer.runtime.establish import TLS_SCHEMES, WEB_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Mapping

    from hailer.endpoint import Endpoint
    from hailer.relay.edge.link import Gate

__all__ = ["Layers", "certified_name"]

_NO_TLS: Final = b"BYE :this port speaks TLS: connect with tls:// or wss://\n"
_NO_TLS_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks TLS: connect with https:// or wss://\n"
)
_NO_WEB: Final = b"BYE :this port speaks WebSocket: connect with ws://\n"
"""What is said to who speaks something else."""


class Layers:
    """TLS, WebSocket or both of one connection.

    Args:
        local: the endpoint of this side; its kind says which layers there are.
        peer: that of the other side.
        gate: what they go by.

    Attributes:
        opened: what was to be agreed on is: there are bytes of the core's to come and to go.
        certified: the name, in lower case, that the peer's certificate proves; empty for none.
        ended: the peer said that it sends no more.
        failure: why nothing more comes, unless it is the end.
    """

    __slots__ = ("_got", "_inner", "_tls", "_web", "_work", "certified", "ended", "failure", "opened")

    def __init__(self, local: Endpoint, peer: Endpoint, gate: Gate) -> None:
        self.opened = False
        self.certified = b""
        self.ended = False
        self.failure: HailerError | None = None
        self._inner = _Memory(local, peer)
        self._tls: TlsTransport | None = None
        self._web: WebSocketTransport | None = None
        self._got: list[bytes] = []
        self._work: Coroutine[None, None, None] | None = self._run(gate)
        self._go_on()

    @property
    def ends_both(self) -> bool:
        """Whether a peer that has ended hears no more: WebSocket has no half-close."""
        return self._web is not None

    @property
    def speaks(self) -> bool:
        """Whether the core's words can still be sent, though what came was wrong."""
        return self.opened and isinstance(self.failure, FramingError)

    @property
    def partial(self) -> bool:
        """Whether a part of a message waits here for the rest."""
        return self._web is not None and self._web.partial

    def feed(self, raw: bytes) -> bytes:
        """Take what came from the socket.

        Args:
            raw: the bytes; ``b""`` at the end of the stream.

        Returns:
            What it holds for the core; `output` may have an answer, and the attributes may have changed.
        """
        self._inner.feed(raw)
        self._go_on()
        got = self._got
        data = got[0] if len(got) == 1 else b"".join(got)
        got.clear()
        return data

    def output(self) -> bytes:
        """Take what the layers themselves have to say, to be written after all that was encoded before."""
        return self._inner.take_sent()

    def cut(self, data: memoryview, most: int) -> int:
        """The place up to which a chunk that is longer than `most` is best encoded now."""
        if self._web is None:
            return most
        end = bytes(data[:most]).rfind(b"\n") + 1
        if not end:
            end = most
            while end > most - 4 and data[end] & 0xC0 == 0x80:  # not within a character
                end -= 1
        return end

    def encode(self, data: bytes) -> bytes:
        """Make wire bytes of the core's; they have to be written in the order in which they were made.

        Raises:
            HailerError: nothing can be sent any more.
        """
        if self._web is not None:
            self._web.text = True
            _complete(self._web.push_records((data,)))
        elif self._tls is not None:
            _complete(self._tls.push(data))
        return self._inner.take_sent()

    def finish(self) -> bytes:
        """Make the wire bytes of the goodbye, after which nothing can be sent; once."""
        try:
            if self._web is not None:
                _complete(self._web.finish())
            if self._tls is not None:
                _complete(self._tls.finish())
        except HailerError:
            pass  # nothing can be sent any more: there is no goodbye either
        self.opened = False
        return self._inner.take_sent()

    def close(self) -> None:
        """Forget everything."""
        work, self._work = self._work, None
        if work is not None:
            work.close()
        self._tls = self._web = None
        self.opened = False

    def _go_on(self) -> None:
        if self._work is None:
            return
        try:
            self._work.send(None)
        except StopIteration:
            self._work = None
        except HailerError as error:
            self._work = None
            self.failure = error.with_traceback(None)

    async def _run(self, gate: Gate) -> None:
        """Agree on the layers, then take what comes through them up to the end."""
        inner = self._inner
        scheme = inner.local.scheme
        if scheme in TLS_SCHEMES:
            assert gate.tls is not None
            try:
                self._tls = await TlsTransport.accept(inner, gate.tls, None)
            except TlsError:
                if inner.readable:
                    http = inner.readable in (b"GET", b"HEAD", b"POST", b"OPTIONS")
                    await inner.push(_NO_TLS_HTTP if http else _NO_TLS)
                raise
            self.certified = certified_name(self._tls.peer_certificate)
        if scheme in WEB_SCHEMES:
            try:
                self._web = await WebSocketTransport.accept(
                    self._tls or inner,
                    path=gate.paths.get(inner.local.port),
                    origins=gate.origins,
                    max_message=gate.max_message,
                    prompt=False,
                )
            except BadFrame:
                if inner.readable and inner.silent:
                    await inner.push(_NO_WEB)
                raise
            self.opened = True
            await self._take_messages(self._web, gate.max_message)
        elif self._tls is not None:
            self.opened = True
            while data := await self._tls.pull(READ_SIZE):
                self._got.append(data)
        self.ended = True

    async def _take_messages(self, web: WebSocketTransport, limit: int) -> None:
        while records := await web.pull_records(limit):
            ending = b"\n" if web.text else b""
            for record in records:
                if isinstance(record, FramingError):
                    raise record
                self._got.append(record)
                if ending and not record.endswith(ending):
                    self._got.append(ending)


class _Memory:
    """The inner transport: what is fed comes out of `pull`, what is pushed waits for `take_sent`."""

    __slots__ = ("_ended", "_fed", "_first", "_sent", "local", "peer")

    def __init__(self, local: Endpoint, peer: Endpoint) -> None:
        self.local = local
        self.peer = peer
        self._fed = bytearray()
        self._ended = False
        self._first = b""
        self._sent: list[bytes] = []

    def feed(self, raw: bytes) -> None:
        self._first = self._first or raw[:8]
        self._fed += raw
        self._ended = self._ended or not raw

    def take_sent(self) -> bytes:
        sent = self._sent
        data = sent[0] if len(sent) == 1 else b"".join(sent)
        sent.clear()
        return data

    @property
    def readable(self) -> bytes:
        """The word with which the peer began, if it is one."""
        word = self._first.split(maxsplit=1)[0] if self._first.strip() else b""
        return word if word.isalpha() and word.isascii() else b""

    @property
    def silent(self) -> bool:
        """Whether nothing waits for `take_sent`."""
        return not self._sent

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        """See `hailer.transport.Transport`; the edge keeps the time."""
        del deadline
        while not self._fed:
            if self._ended:
                return b""
            await _Fed()
        data = bytes(self._fed[:limit])
        del self._fed[:limit]
        return data

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        """See `hailer.transport.Transport`; it never waits."""
        del deadline
        if data:
            self._sent.append(data)

    async def finish(self) -> None:
        """See `hailer.transport.Transport`; the edge shuts the socket down."""

    async def close(self) -> None:
        """See `hailer.transport.Transport`; the edge closes the socket."""

    def abort(self) -> None:
        """See `hailer.transport.Transport`; the edge closes the socket."""


class _Fed:
    """Awaited until something is fed."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Run to its end what never waits, for `_Memory` takes everything and nobody else pushes."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise ConnectionClosed("the layers of this connection wait for what does not come: connect again")


def certified_name(certificate: Mapping[str, object] | None) -> bytes:
    """The name that a verified certificate proves.

    Args:
        certificate: as `ssl.SSLSocket.getpeercert` gives it.

    Returns:
        The subject's common name if it can be a name at the relay, else the first DNS name of its
        alternative names that can, in lower case; empty if none can.
    """
    found: Any = certificate or {}
    names = [value for part in found.get("subject", ()) for key, value in part if key == "commonName"]
    names += [value for kind, value in found.get("subjectAltName", ()) if kind == "DNS"]
    for name in names:
        word = name.encode()
        if grammar.is_name(word):
            return bytes(word.lower())
    return b""
