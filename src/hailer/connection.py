"""Connections: all that a handler sees of the network.

A `Connection` moves messages and is written once on top of a transport, which moves bytes or records
and is what a concurrency model supplies. So a handler that awaits only its connection and `sleep` runs
under every model.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Self, cast

from hailer.errors import (
    BusyError,
    ConnectionClosed,
    EndOfStream,
    FramingError,
    HailerError,
    UsageError,
)
from hailer.framing import DEFAULT_MAX_MESSAGE
from hailer.framing.base import check_max_message, encoder_of_many

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from hailer.endpoint import Endpoint
    from hailer.framing import Framing
    from hailer.transport import RecordTransport, Transport

__all__ = [
    "READ_SIZE",
    "Connection",
    "Dial",
    "Handler",
    "RecordConnection",
    "dialler",
    "sleep",
    "sleeper",
    "turns",
]

READ_SIZE = 256 * 1024
"""Bytes asked of a transport at once, unless the framing asks for another number.

What uvloop and asyncio read at once: with less, what they have read would have to be cut. A transport that
makes room before it reads takes less by itself.
"""

sleeper: ContextVar[Callable[[float], Awaitable[None]] | None] = ContextVar("sleeper", default=None)
"""What `sleep` awaits in this context; the driver of a concurrency model sets it."""

turns: ContextVar[Callable[[], Any] | None] = ContextVar("turns", default=None)
"""Makes what tasks wait with for each other in this context, such as `hailer.runtime.ready_task.Turn`; the
driver of a concurrency model sets it, unless tasks are asyncio's or threads."""

Dial = Callable[..., Awaitable["Transport | RecordTransport"]]
"""``async def dial(endpoint, *, timeout, retries, retry_delay, on_retry, local)``: gives a transport."""

dialler: ContextVar[Dial | None] = ContextVar("dialler", default=None)
"""What `hailer.connect` dials with in this context; the driver of a concurrency model sets it."""


class Connection:
    """Messages in and out.

    One task receives at a time; sends from several tasks are each whole. Iterating over a connection
    gives its messages until the peer finishes.

    Args:
        transport: what carries the bytes; the connection owns it from now on.
        framing: how messages are marked off in the bytes.
        max_message: the most bytes of a message that the peer may send.
        timeout: seconds for a receive or a send that names none; None waits for ever.
        message_timeout: seconds from the first bytes of a message to its end, whatever the timeout.
        now: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        transport: Transport,
        framing: Framing,
        *,
        max_message: int = DEFAULT_MAX_MESSAGE,
        timeout: float | None = None,
        message_timeout: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start(transport, timeout, now)
        # A framing that depends on the reads asks for its own number of bytes, which only a whole pull does.
        whole = framing.read_size is not None or not hasattr(transport, "pull_now")
        # Its methods are not kept bound: of a thousand connections they would have to be fetched from memory.
        self._steps: Any = _Steps(transport, framing.read_size or READ_SIZE) if whole else transport
        self._framing = framing
        self._encode_many = encoder_of_many(framing)
        self._decoder: Any = framing.decoder(max_message)
        self._message_timeout: float | None = message_timeout

    def _start(
        self, ends: Transport | RecordTransport, timeout: float | None, now: Callable[[], float]
    ) -> None:
        """Set what the two kinds of connection share."""
        self._ends = ends
        self._timeout = timeout
        self._now = now
        self._arrived: deque[bytes | FramingError] = deque()
        self._receiving = False
        self._over = False  # for one of these reasons nothing can be received any more
        self._ended = False
        self._closed = False
        self._broken: FramingError | None = None

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""
        return self._ends.local

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""
        return self._ends.peer

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The certificate by which the other side proved who it is, as `ssl.SSLSocket.getpeercert` gives it.

        None without TLS, when it showed none, and when this side does not verify certificates: then nothing
        that stands in one could be relied on.
        """
        # Only of transports that are encrypted, or lie over one that is.
        return cast("dict[str, Any] | None", getattr(self._ends, "peer_certificate", None))

    async def receive(self, timeout: float | None = None) -> bytes:
        """Wait for the next message.

        A cancelled or timed out receive loses nothing: the next one goes on where it stopped.

        Args:
            timeout: seconds for the whole message, however many pieces it comes in; `math.inf` waits for
                ever; None is the connection's own timeout.

        Raises:
            EndOfStream: the peer finished; it may still read, so answers can be sent.
            TimedOut: the message was not complete in time.
            MessageTooLong: a message over the limit was skipped; the connection goes on, unless the error
                is fatal.
            FramingError: the bytes are no frames; close the connection.
            ConnectionLost: the peer vanished.
            ConnectionClosed: this side closed the connection.
            BusyError: another task is receiving already.
        """
        arrived = self._arrived
        if arrived:
            item = arrived.popleft()
        else:
            if self._receiving or self._over:
                raise self._hindrance()
            if timeout is None:
                timeout = self._timeout
            deadline = None if timeout is None else self._deadline(timeout)
            self._receiving = True
            try:
                data = self._steps.pull_now(deadline)
                while data is None:
                    data = await self._steps.arrival
                    if data is None:
                        data = self._steps.data
                        if data is None:
                            data = self._steps.pull_now(deadline)
                received: list[bytes | FramingError] = self._decoder.feed(data)
                if not received or not data:
                    received = await self._go_on(data, received, deadline)
            except BaseException:
                self._steps.stop_pull()
                raise
            finally:
                self._receiving = False
            item = received[0]
            if len(received) > 1:
                arrived.extend(received)
                arrived.popleft()
        if isinstance(item, FramingError):
            raise self._note(item)
        return item

    async def receive_many(self, timeout: float | None = None) -> list[bytes]:
        """Wait for messages and take all that have come: what one read brought is one unit of work.

        Raises:
            The same as `receive`; an error stands in its place, after the messages before it.
        """
        arrived = self._arrived
        if not arrived:
            # As in receive: a coroutine for both would be one more object, and one more step, for each read.
            if self._receiving or self._over:
                raise self._hindrance()
            if timeout is None:
                timeout = self._timeout
            deadline = None if timeout is None else self._deadline(timeout)
            self._receiving = True
            try:
                data = self._steps.pull_now(deadline)
                while data is None:
                    data = await self._steps.arrival
                    if data is None:
                        data = self._steps.data
                        if data is None:
                            data = self._steps.pull_now(deadline)
                received: list[bytes | FramingError] = self._decoder.feed(data)
                if not received or not data:
                    received = await self._go_on(data, received, deadline)
            except BaseException:
                self._steps.stop_pull()
                raise
            finally:
                self._receiving = False
            # What one read brought goes straight through where no error is among it, which C can tell.
            if (len(received) == 1 and type(received[0]) is bytes) or _are_bytes(received):
                return received  # type: ignore[return-value]  # as has just been seen
            arrived.extend(received)
        messages = [item for item in arrived if not isinstance(item, FramingError)]
        if len(messages) == len(arrived):
            arrived.clear()
            return messages
        messages = []
        while not isinstance(arrived[0], FramingError):
            messages.append(arrived[0])
            arrived.popleft()
        if not messages:
            raise self._note(cast("FramingError", arrived.popleft()))
        return messages

    async def send(self, message: bytes, timeout: float | None = None) -> None:
        """Send one message; a peer that does not read makes this wait (back-pressure).

        Args:
            message: the message, without its framing.
            timeout: seconds to wait for room; `math.inf` waits for ever; None is the connection's own.

        Raises:
            MessageError: the framing cannot carry this message; nothing was sent.
            TimedOut: the peer made no room in time.
            ConnectionLost: the peer vanished.
            ConnectionClosed: this side finished or closed the connection.
        """
        data = self._framing.encode(message)
        if timeout is None:
            timeout = self._timeout
        deadline = None if timeout is None else self._deadline(timeout)
        if not self._steps.push_now(data, deadline):
            await self._steps.push(data, deadline)

    async def send_many(self, messages: Iterable[bytes], timeout: float | None = None) -> None:
        """Send a batch of messages at once, all of them or none.

        Raises:
            The same as `send`; a message that the framing cannot carry stops the whole batch.
        """
        batch = messages if type(messages) is list else list(messages)
        data = self._framing.encode(batch[0]) if len(batch) == 1 else self._encode_many(batch)
        if timeout is None:
            timeout = self._timeout
        deadline = None if timeout is None else self._deadline(timeout)
        if data and not self._steps.push_now(data, deadline):
            await self._steps.push(data, deadline)

    async def finish(self) -> None:
        """Tell the peer that no more will be sent; its answers can still be received.

        Raises:
            ConnectionLost: the peer vanished.
        """
        await self._ends.finish()

    async def close(self) -> None:
        """Send what is still in the buffer and let go of the connection; may be called twice."""
        self._closed = self._over = True
        self._arrived.clear()
        await self._ends.close()

    def abort(self) -> None:
        """Let go of the connection now, without sending what is still in the buffer."""
        self._closed = self._over = True
        self._arrived.clear()
        self._ends.abort()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._arrived and isinstance(self._arrived[0], bytes):
            return cast("bytes", self._arrived.popleft())  # the short way through a batch
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Connection to {self.peer}>"

    async def _go_on(
        self, data: Any, received: list[bytes | FramingError], deadline: float | None
    ) -> list[bytes | FramingError]:
        """Read on after a read that completed no message, or was the last; gives at least one message."""
        while True:
            if not data:
                self._ended = self._over = True
            if received:
                return received
            if not data:
                raise self._hindrance()
            if self._message_timeout is not None:
                # The first bytes of a message start its own clock; later ones can only be later.
                end = self._now() + self._message_timeout
                deadline = end if deadline is None else min(deadline, end)
            data = self._steps.pull_now(deadline)
            while data is None:
                data = await self._steps.arrival
                if data is None:
                    data = self._steps.data
                    if data is None:
                        data = self._steps.pull_now(deadline)
            received = self._decoder.feed(data)

    def _hindrance(self) -> HailerError:
        """Why nothing can be received."""
        if self._closed:
            return ConnectionClosed("this side closed the connection: open another to go on")
        if self._broken is not None:
            return self._broken.with_traceback(None)
        if self._ended:
            return EndOfStream("the peer has finished sending: send what is left to answer, then close")
        return BusyError(
            f"two tasks receive from {self.peer} at once: let one task receive and hand the messages on"
        )

    def _note(self, error: FramingError) -> FramingError:
        """Remember a fatal error: each later receive meets it again."""
        if error.fatal:
            self._broken = error
            self._over = True
        return error

    def _deadline(self, timeout: float) -> float | None:
        return None if timeout == math.inf else self._now() + timeout


class RecordConnection(Connection):
    """A connection whose transport keeps the boundaries itself: each record is a message.

    A handler sees no difference: it gets a `Connection`. An empty record is an empty message.

    Args:
        transport: what carries the records; the connection owns it from now on.
        max_message: the most bytes of a message that the peer may send.
        timeout: seconds for a receive or a send that names none; None waits for ever.
        now: the monotonic clock, in seconds.
    """

    def __init__(
        self,
        transport: RecordTransport,
        *,
        max_message: int = DEFAULT_MAX_MESSAGE,
        timeout: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start(transport, timeout, now)
        self._records = transport
        self._steps = self._decoder = _RecordSteps(transport, check_max_message(max_message))
        self._message_timeout = None

    async def send(self, message: bytes, timeout: float | None = None) -> None:
        """See `Connection.send`."""
        if timeout is None:
            timeout = self._timeout
        await self._records.push_records((message,), None if timeout is None else self._deadline(timeout))

    async def send_many(self, messages: Iterable[bytes], timeout: float | None = None) -> None:
        """See `Connection.send_many`; a record that is too large stops those after it."""
        batch = list(messages)
        if batch:
            if timeout is None:
                timeout = self._timeout
            await self._records.push_records(batch, None if timeout is None else self._deadline(timeout))


def _are_bytes(received: list[bytes | FramingError]) -> bool:
    return [*map(type, received)].count(bytes) == len(received)


class _Steps:
    """A transport that has only whole pulls and pushes; see `hailer.transport.Transport`."""

    __slots__ = ("_deadline", "_limit", "_pull", "push")

    data: Final = None
    """Awaiting `arrival` gives the bytes itself."""

    def __init__(self, transport: Transport, limit: int) -> None:
        self._pull: Callable[[int, float | None], Awaitable[Any]] = transport.pull
        self.push = transport.push
        self._limit = limit
        self._deadline: float | None = None

    def pull_now(self, deadline: float | None) -> None:
        """Put it off until `arrival` is awaited."""
        self._deadline = deadline

    @property
    def arrival(self) -> Awaitable[Any]:
        """This itself."""
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        return self._pull(self._limit, self._deadline).__await__()

    def stop_pull(self) -> None:
        """Do nothing: the pull has met what ended it."""

    def push_now(self, _data: bytes, _deadline: float | None) -> bool:
        """Leave it to `push`."""
        return False


class _RecordSteps(_Steps):
    """The same of records: a read is a list of messages already, and an empty one is the end."""

    __slots__ = ()

    feed: Final = staticmethod(list[Any])

    def __init__(self, transport: RecordTransport, limit: int) -> None:
        self._pull = transport.pull_records
        self._limit = limit
        self._deadline = None


async def sleep(seconds: float) -> None:
    """Wait, under any concurrency model: inside a handler, or in a task of an asyncio program.

    Args:
        seconds: how long; 0 lets others run where there are others.

    Raises:
        UsageError: there is neither a handler nor an event loop around.
        ConnectionClosed: the server was stopped meanwhile.
    """
    chosen = sleeper.get()
    if chosen is not None:
        await chosen(seconds)
        return
    import asyncio  # noqa: PLC0415 (only asyncio programs come here: others have a model that set its own)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(
            "hailer.sleep was awaited outside a handler and an event loop: use time.sleep there"
        ) from None
    await asyncio.sleep(seconds)


Handler = Callable[[Connection], Coroutine[Any, Any, None]]
"""``async def handle(connection)``: what a server runs for each connection, under any model."""
