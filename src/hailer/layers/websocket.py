"""WebSocket (RFC 6455) over any stream: each message is one record.

Frames and the upgrade are the websockets library's, its half without I/O; what is here is when to read,
when to send, and what becomes of the end.

Messages are bytes, and go out in the kind, text or binary, of those that were pulled last; text before
anything was pulled; and as binary whatever is not UTF-8. One pull gives records of one kind only, so an
echo answers each in its kind, also when both kinds come in one read.

A ping is answered by the pull that reads it. Pongs that cannot be sent yet, as another task is sending to
a peer that does not read, wait; later ones take their place (section 5.5.3), so no more than one read's
are kept, and reading goes on.

WebSocket has no half-close: `finish` sends Close, after which the peer is to send its own and no more.
Its messages that come before still come. A Close of the peer is answered by the pull that gives the end,
thus after the answers to what came before it.

`close` sends Close and waits for the peer's, a second at most on a server: one that closed while messages
of the peer are under way would have the network take the last words from it. RFC 6455 section 7.1.1 would
have a server end the stream without waiting and a client wait for that, so a peer that never answers
holds up a server shortly, and a client for longer.

Compression is never agreed on: it costs a peer little to send what costs us a lot of memory and time,
and its state is most of what an idle connection would keep. Nor are there pings of our own: a peer that
vanished is noticed by TCP keep-alive.
"""

from __future__ import annotations

import time
from codecs import getincrementaldecoder
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from websockets.exceptions import PayloadTooBig
from websockets.frames import Close, CloseCode, Frame, Opcode

from hailer.connection import READ_SIZE
from hailer.errors import BadFrame, ConnectionClosed, ConnectionLost, FramingError, HailerError
from hailer.framing import DEFAULT_MAX_MESSAGE
from hailer.framing.base import check_max_message, too_long
from hailer.layers.order import Order
from hailer.layers.upgrade import answer_upgrade, ask_upgrade

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from websockets.client import ClientProtocol
    from websockets.http11 import Request, Response
    from websockets.server import ServerProtocol

    from hailer.endpoint import Endpoint
    from hailer.transport import Transport

__all__ = ["WebSocketTransport"]

CLOSE_TIMEOUT = 5.0
"""Seconds that anything owed to the peer waits for room, and that a client waits for a server's Close."""

ANSWER_TIMEOUT = 1.0
"""Seconds that a server waits for a client's Close once its own is sent."""

FINISH_TIMEOUT = 300.0
"""Seconds that finish waits for room for Close, as a server does for what a handler sends."""

_UTF8: Final = getincrementaldecoder("utf-8")


class WebSocketTransport:
    """A record transport over a stream; it owns the stream from now on. Made by `accept` and `connect`."""

    def __init__(
        self,
        inner: Transport,
        protocol: ServerProtocol | ClientProtocol,
        max_message: int,
        *,
        prompt: bool = True,
    ) -> None:
        self._inner = inner
        self._protocol = protocol
        self._masks = protocol.side.name == "CLIENT"  # RFC 6455 section 5.3
        self._max_message = max_message
        self._pulling = Order()
        self._pushing = Order()
        # What has come.
        self._kind = Opcode.TEXT  # of the records that were pulled last
        self._ready: deque[tuple[Opcode, bytes]] = deque()
        self._partial: bytearray | None = None  # a message whose last fragment has not come
        self._partial_kind = Opcode.TEXT
        self._text = _UTF8()
        self._over = False  # no more is read
        self._last: HailerError | None = None  # what stands at the end, if it is a bad one
        # What is owed to the peer.
        self._pongs = b""
        self._bye = b""
        self._said_bye = False
        self._prompt = prompt
        # What this side did.
        self._finished = False
        self._closed = False

    @classmethod
    async def accept(
        cls,
        inner: Transport,
        deadline: float | None = None,
        *,
        path: str | None = None,
        origins: Sequence[str] | None = None,
        max_message: int = DEFAULT_MAX_MESSAGE,
        prompt: bool = True,
    ) -> WebSocketTransport:
        """Open a WebSocket for a client that asks for one. If this fails, close the stream.

        Args:
            inner: the stream.
            deadline: the instant at which to stop waiting for the client's request.
            path: the only path that is served; others get 404; None serves all.
            origins: the origins of pages that may connect, such as ``https://example.org``, beside the
                host's own, which alone may if there are none; ``*`` lets all connect.
            max_message: the most bytes of a message, in however many fragments it comes.
            prompt: whether the pull that gives the end answers the client's Close, so that nothing can be
                sent after it; otherwise `finish` does.

        Raises:
            BadFrame: the client sent no request for a WebSocket, or was refused one.
            TimedOut: it did not send one in time.
            ConnectionLost: it went before.
        """
        check_max_message(max_message)
        protocol, rest = await answer_upgrade(
            inner, deadline, path=path, origins=origins, max_message=max_message
        )
        transport = cls(inner, protocol, max_message, prompt=prompt)
        if rest:
            transport._feed(rest)
        return transport

    @classmethod
    async def connect(
        cls,
        inner: Transport,
        endpoint: Endpoint,
        deadline: float | None = None,
        *,
        max_message: int = DEFAULT_MAX_MESSAGE,
    ) -> WebSocketTransport:
        """Ask a server for a WebSocket. If this fails, close the stream.

        Args:
            inner: the stream.
            endpoint: what was dialled, for the request's host and path.
            deadline: the instant at which to stop waiting for the answer.
            max_message: the most bytes of a message, in however many fragments it comes.

        Raises:
            BadFrame: the server refused it, or does not speak WebSocket.
            TimedOut: it did not answer in time.
            ConnectionLost: it went before.
        """
        check_max_message(max_message)
        protocol, frames = await ask_upgrade(inner, endpoint, deadline, max_message=max_message)
        transport = cls(inner, protocol, max_message)
        transport._take(frames)
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
    def peer_certificate(self) -> dict[str, object] | None:
        """See `hailer.Connection.peer_certificate`."""
        return cast("dict[str, object] | None", getattr(self._inner, "peer_certificate", None))

    @property
    def text(self) -> bool:
        """Whether the messages that were pulled last were text; set it to have the next ones sent as such.

        What is not UTF-8 is sent as binary all the same.
        """
        return self._kind is Opcode.TEXT

    @text.setter
    def text(self, text: bool) -> None:
        self._kind = Opcode.TEXT if text else Opcode.BINARY

    @property
    def partial(self) -> bool:
        """Whether a message has begun to come that is not whole yet."""
        return self._partial is not None or bool(self._protocol.reader.buffer)

    async def pull_records(self, limit: int, deadline: float | None = None) -> list[bytes | FramingError]:
        """See `RecordTransport.pull_records`; a fatal error is given once, and the end after it."""
        await self._pulling.take(deadline)
        try:
            while not self._closed:
                if self._pongs and not self._pushing.taken:
                    with suppress(HailerError):  # what came is given first; the next step meets it again
                        await self._push(b"", _within(deadline))
                if self._ready:
                    return self._give(limit)
                if self._over:
                    return await self._give_end(deadline)
                self._feed(await self._inner.pull(READ_SIZE, deadline))
            raise _closed_error()
        finally:
            self._pulling.give_on()

    async def push_records(self, records: Sequence[bytes], deadline: float | None = None) -> None:
        """See `RecordTransport.push_records`; all of them are sent, or none.

        The peer's Close ends this direction too, once a pull has given the end: `ConnectionLost`.
        """
        if self._finished and not self._closed:
            raise ConnectionClosed("this side has finished sending: send before finish()")
        frames = b"".join(map(self._frame, records))
        await self._push(frames, deadline)
        if self._pongs and not self._pushing.taken:
            # They came while this task had the turn, and whoever read them did not wait.
            with suppress(HailerError):
                await self._push(b"", _within(deadline))

    async def finish(self) -> None:
        """Send Close: no message can follow, and the peer is to send its own Close as soon as it can."""
        if self._closed:
            raise _closed_error()
        self._finished = True
        if not self._said_bye:
            self._bye = self._bye or self._close_frame(CloseCode.NORMAL_CLOSURE)
            await self._push(b"", time.monotonic() + FINISH_TIMEOUT, last=True)

    async def close(self) -> None:
        """Send Close, wait a bounded time for the peer's, and release everything; may be called twice."""
        if not self._closed:
            self._closed = True
            try:
                await self._leave()
            except HailerError:
                pass  # the peer has gone or does not answer: it has been waited for
            except BaseException:
                self._inner.abort()
                raise
        await self._inner.close()

    def abort(self) -> None:
        """Release everything now, without Close."""
        self._closed = True
        self._inner.abort()

    # Sending.

    def _frame(self, record: bytes) -> bytes:
        kind = self._kind
        if kind is Opcode.TEXT and not record.isascii():
            try:
                record.decode()
            except UnicodeDecodeError:
                kind = Opcode.BINARY
        return Frame(kind, record).serialize(mask=self._masks)

    def _close_frame(self, code: int, reason: str = "") -> bytes:
        return Frame(Opcode.CLOSE, Close(code, reason).serialize()).serialize(mask=self._masks)

    async def _push(self, frames: bytes, deadline: float | None, *, last: bool = False) -> None:
        """Send what is owed and these frames at once, in turn; with Close if it is the last time."""
        await self._pushing.take(deadline)
        try:
            if self._closed and not last:
                raise _closed_error()
            if self._said_bye:
                if frames:
                    raise ConnectionLost(f"{self.peer} has closed the WebSocket: connect again")
                return
            # What is owed is forgotten once it is sent: a push that fails has sent nothing of it, or the
            # stream takes no more.
            pongs, bye = self._pongs, self._bye if last else b""
            if data := pongs + frames + bye:
                await self._inner.push(data, deadline)
            if self._pongs is pongs:
                self._pongs = b""
            self._said_bye = last
        finally:
            self._pushing.give_on()

    # Receiving.

    def _give(self, limit: int) -> list[bytes | FramingError]:
        """Take the records up to where their kind changes."""
        self._kind = self._ready[0][0]
        records: list[bytes | FramingError] = []
        while self._ready and self._ready[0][0] is self._kind:
            record = self._ready.popleft()[1]
            records.append(record if len(record) <= limit else too_long(limit, len(record)))
        return records

    async def _give_end(self, deadline: float | None) -> list[bytes | FramingError]:
        if self._bye and not self._said_bye and self._prompt:
            with suppress(HailerError):  # it is tried again by finish and close
                await self._push(b"", _within(deadline), last=True)
                if not self._masks:
                    await self._inner.finish()  # a server ends the stream (section 7.1.1)
        if isinstance(self._last, FramingError):
            error, self._last = self._last, None
            return [error]
        if self._last is not None:
            raise self._last.with_traceback(None)
        return []

    def _feed(self, data: bytes) -> None:
        if data:
            self._protocol.receive_data(data)
            self._take(self._protocol.events_received())
            self._protocol.data_to_send()  # its answers: ours come in the order of the messages
        else:
            self._over = True
            self._last = ConnectionLost(
                f"{self.peer} ended the stream without closing the WebSocket: connect again"
            )
        if self._closed:
            self._ready.clear()

    def _take(self, frames: Iterable[Frame | Request | Response]) -> None:
        """Make messages of frames, answers of pings and an end of Close, up to the first that is wrong."""
        pongs = []
        for frame in frames:
            if self._over or not isinstance(frame, Frame):
                break
            if frame.opcode is Opcode.PING:
                pongs.append(Frame(Opcode.PONG, frame.data).serialize(mask=self._masks))
            elif frame.opcode is Opcode.CLOSE:
                self._over = True
                # Section 5.5.1: the answer repeats the code.
                self._bye = self._bye or Frame(Opcode.CLOSE, frame.data).serialize(mask=self._masks)
            elif frame.opcode is not Opcode.PONG:
                self._take_data(frame)
        if pongs:
            self._pongs = b"".join(pongs)
        error = self._protocol.parser_exc
        if error is not None and not self._over:
            sent = self._protocol.close_sent
            assert sent is not None
            if isinstance(error, PayloadTooBig):
                self._fail(CloseCode.MESSAGE_TOO_BIG, sent.reason, too_long(self._max_message, fatal=True))
            else:
                self._fail(sent.code, sent.reason, self._bad_frame(sent.reason))

    def _take_data(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._partial_kind = frame.opcode
        whole = frame.fin and self._partial is None
        size = len(frame.data) + len(self._partial or b"")
        if size > self._max_message:
            self._fail(
                CloseCode.MESSAGE_TOO_BIG,
                f"over size limit ({size} > {self._max_message} bytes)",
                too_long(self._max_message, size, fatal=True),
            )
            return
        if self._partial_kind is Opcode.TEXT:
            try:
                # Fragments may cut a character; whatever can be none already fails here (section 8.1).
                self._text.decode(frame.data, frame.fin)
            except UnicodeDecodeError as error:
                self._fail(CloseCode.INVALID_DATA, error.reason, self._bad_frame("text that is not UTF-8"))
                return
        if whole:
            self._ready.append((self._partial_kind, bytes(frame.data)))
            return
        # Fragments become one buffer at once: a million of one byte would cost forty times their size.
        self._partial = self._partial or bytearray()
        self._partial += frame.data
        if frame.fin:
            self._ready.append((self._partial_kind, bytes(self._partial)))
            self._partial = None

    def _bad_frame(self, what: str) -> BadFrame:
        return BadFrame(f"{self.peer} broke the rules of WebSocket ({what}): close the connection")

    def _fail(self, code: int, reason: str, error: FramingError) -> None:
        """Read no more, after what came before, and say why (section 7.1.7)."""
        self._over = True
        self._last = error
        self._partial = None
        self._bye = self._bye or self._close_frame(code, reason)

    # The end.

    async def _leave(self) -> None:
        self._ready.clear()
        if not self._said_bye:
            self._bye = self._bye or self._close_frame(CloseCode.NORMAL_CLOSURE)
            await self._push(b"", _within(None), last=True)
        deadline = time.monotonic() + (CLOSE_TIMEOUT if self._masks else ANSWER_TIMEOUT)
        # A pull that another task has begun reads on for us, up to the next that comes.
        await self._pulling.take(deadline)
        try:
            while not self._over:
                self._feed(await self._inner.pull(READ_SIZE, deadline))
        finally:
            self._pulling.give_on()


def _within(deadline: float | None) -> float:
    """At most some seconds from now: for what is owed to a peer that may not read."""
    end = time.monotonic() + CLOSE_TIMEOUT
    return end if deadline is None else min(deadline, end)


def _closed_error() -> ConnectionClosed:
    return ConnectionClosed("this side closed the connection: open another to go on")
