"""Transports of asyncio's event loops, uvloop or stock."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Literal, cast

from hailer.connection import READ_SIZE
from hailer.errors import BusyError, ConnectionLost, HailerError, TimedOut, UsageError
from hailer.net.oserrors import map_os_error
from hailer.runtime.buffer import ByteQueue
from hailer.runtime.sockets import (
    RESET_ON_CLOSE,
    Names,
    acknowledge,
    closed_error,
    discard,
    finished_error,
    prepare,
)
from hailer.runtime.wake import Gate, Wake

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from hailer.net.address import RawAddress

__all__ = ["AioTransport", "Loop", "loop_factory"]

Loop = Literal["auto", "uvloop", "stock"]
"""Which event loop: uvloop where it can be imported and stock elsewhere, or one of the two."""

READ_HIGH = 128 * 1024
"""Bytes that wait to be pulled before reading pauses; one read more (256 KiB) may come on top."""

READ_PIECES = 256
"""Reads that wait to be pulled before reading pauses: single bytes cost 40 times their size."""

WRITE_HIGH = 64 * 1024
"""Bytes in the loop's buffer from which pushes wait. Set for every transport: stock and uvloop differ."""

WRITE_LOW = 16 * 1024
"""Bytes in that buffer from which they go on."""

_TURN = 100
"""Pushes after which others get their turn, be it a peer that reads as fast as we send."""

CLOSE_TIMEOUT = 5.0
"""Seconds that close waits for a peer to take what is still in the buffer."""


def loop_factory(loop: Loop = "auto") -> Callable[[], asyncio.AbstractEventLoop]:
    """Choose an event loop for `asyncio.Runner`.

    Raises:
        UsageError: uvloop was asked for by name and is not installed.
    """
    if loop != "stock":
        try:
            import uvloop  # noqa: PLC0415 (there may be none)
        except ImportError:
            if loop == "uvloop":
                raise UsageError("uvloop is not installed: install it or choose loop='stock'") from None
        else:
            return cast("Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)
    return asyncio.SelectorEventLoop


class AioTransport(asyncio.Protocol):
    """A transport over a stream socket of the running event loop.

    Made by `adopt`. What arrives waits in a bounded buffer: reading pauses when nobody pulls. A push
    waits until there is room and then hands over all of its bytes at once, so that one which is
    cancelled or timed out has sent nothing.
    """

    def __init__(self, sock: socket.socket, names: Names) -> None:
        self._socket = sock
        self._names = names
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)  # until connection_made
        self._queue = ByteQueue()
        self._quiet = False  # nothing has come, ended or been lost that a pull would find
        self.data: bytes | None = None  # what has come while a task waited for it, and never was in the queue
        self.arrival = Wake(self._loop)
        self._writable = Gate(self._loop)
        self._reading = True
        self._room = True
        self._open = True  # room, and neither finished, closed nor gone
        self._turn = _TURN  # pushes that are left until others get their turn
        self._ended = False  # the peer has finished
        self._finished = False  # this side has finished
        self._closed = False
        self._gone = False  # the loop has let go of the socket
        self._lost: HailerError | None = None
        self._closing: asyncio.TimerHandle | None = None

    @classmethod
    async def adopt(cls, sock: socket.socket, scheme: str, peer: RawAddress | None = None) -> AioTransport:
        """Take a connected stream socket over; it is closed if this fails.

        Args:
            sock: the socket, from accept or from dial.
            scheme: the kind of its endpoints, such as ``tcp``.
            peer: the address of the peer where accept has told it.

        Raises:
            ConnectionLost: it has gone already.
        """
        loop = asyncio.get_running_loop()
        try:
            names = Names(sock, scheme, peer)
            try:
                prepare(sock)
                sock.setblocking(False)
                # For both sides: without TLS an accepted socket is like any connected one, and this takes
                # Unix sockets under both loops.
                _, protocol = await loop.connect_accepted_socket(lambda: cls(sock, names), sock)
            except OSError as error:
                raise map_os_error(error, "receive", names.peer.address_text) from error
        except BaseException:
            sock.close()
            raise
        return protocol

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""
        return self._names.local

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""
        return self._names.peer

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        queue = self._queue
        try:
            data = self._take_or_wait(limit, deadline)
            while data is None:
                await self.arrival
                data = self.data
                if data is None:
                    data = self._take_or_wait(limit, deadline)
                elif len(data) > limit:
                    queue.put(data)
                    data = queue.take(limit)
                    self._quiet = False
        except BusyError:
            raise
        except BaseException:
            self.stop_pull()
            raise
        return data

    def pull_now(self, deadline: float | None) -> bytes | None:
        """Do a step of a pull; see `hailer.transport.Transport`."""
        arrival = self.arrival
        if self._quiet and not arrival.waiting and not arrival.expired:
            self.data = None
            self._turn = _TURN  # to wait is to give the others their turn
            arrival.begin(deadline)
            return None
        return self._take_or_wait(READ_SIZE, deadline)

    def _take_or_wait(self, limit: int, deadline: float | None) -> bytes | None:
        self.data = None
        arrival = self.arrival
        if arrival.waiting:
            raise BusyError("two tasks pull at once: let one task pull and hand the bytes on")
        expired = arrival.expired
        arrival.end()
        queue = self._queue
        if queue.size:
            data = queue.take(limit)
            if not self._reading and queue.size <= READ_HIGH // 2 and queue.pieces <= READ_PIECES // 2:
                self._reading = True
                if not self._transport.is_closing():
                    self._transport.resume_reading()
            return data
        if self._closed:
            raise closed_error()
        if self._ended:
            return b""
        if self._lost is not None:
            raise self._lost.with_traceback(None)
        if expired:
            raise TimedOut(f"nothing came from {self.peer} in time: receive again or close the connection")
        self._quiet = True
        return self.pull_now(deadline)

    def stop_pull(self) -> None:
        """Give up a pull that waits; see `hailer.transport.Transport`."""
        self.arrival.end()

    def push_now(self, data: bytes, _deadline: float | None) -> bool:
        """Push where there is room; see `hailer.transport.Transport`."""
        turn = self._turn
        # One that closes by itself has met an error, which connection_lost is about to tell: before the next
        # turn, so that the first push of a turn meets none.
        if not self._open or turn <= 0 or (turn < _TURN and self._transport.is_closing()):
            return False
        self._turn = turn - 1
        self._transport.write(data)
        return True

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        self._turn -= 1
        if self._turn < 0:
            # A peer that reads quickly never makes a push wait: the others get their turn all the same.
            self._turn = _TURN
            await asyncio.sleep(0)
        transport = self._transport
        while not self._closed and not self._gone and (not self._room or transport.is_closing()):
            # One that closes by itself has met an error, which connection_lost is about to tell.
            if not await self._writable.wait(deadline):
                raise TimedOut(
                    f"{self.peer} made no room to send in time: it does not read; close the connection"
                )
        if self._closed:
            raise closed_error()
        if self._lost is not None:
            raise self._lost.with_traceback(None)
        if self._finished:
            raise finished_error()
        transport.write(data)

    def _note_room(self, room: bool) -> None:
        """Keep what each push asks in one place: whether it can go out at once."""
        self._room = room
        self._open = room and not (self._closed or self._gone or self._finished)

    async def finish(self) -> None:
        if self._closed:
            raise closed_error()
        if self._lost is not None:
            raise self._lost.with_traceback(None)
        if not self._finished:
            self._finished = True
            self._note_room(self._room)
            if not self._transport.is_closing():
                try:
                    self._transport.write_eof()
                except OSError as error:
                    # A reset that the loop has not told yet: shutdown(2) says ENOTCONN.
                    raise map_os_error(error, "send", self.peer.address_text) from error

    async def close(self) -> None:
        if not self._closed:
            self._leave()
            if not self._gone:
                transport = self._transport
                self._closing = self._loop.call_later(CLOSE_TIMEOUT, transport.abort)
                if not self._reading:
                    transport.resume_reading()  # what comes is dropped
                # From now on room means that everything has gone out.
                transport.set_write_buffer_limits(high=0)
                while not self._room and not self._gone:
                    await self._writable.wait(None)
                if not self._ended and not self._gone:
                    self._discard()
                transport.close()
        while not self._gone:
            await self._writable.wait(None)

    def abort(self) -> None:
        if not self._gone:
            self._leave()
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            except OSError:
                pass  # the loop has closed it already
            self._transport.abort()

    def acknowledge(self) -> None:
        """See `hailer.runtime.sockets.acknowledge`."""
        acknowledge(self._socket)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH, low=WRITE_LOW)

    def data_received(self, data: bytes) -> None:
        arrival = self.arrival
        if arrival.waiting:
            # The task goes on in here: nothing can come between, so that the bytes need no queue.
            self.data = data
            if arrival.now():
                return
            self.data = None
        if self._closed:
            return
        self._quiet = False
        queue = self._queue
        queue.put(data)
        if queue.size >= READ_HIGH or queue.pieces >= READ_PIECES:
            self._reading = False
            self._transport.pause_reading()
        arrival.soon()

    def eof_received(self) -> bool:
        self._ended = True
        self._quiet = False
        self.arrival.soon()  # not now: a loop goes on with a transport that the handler may have closed
        return True  # the loop keeps the other direction open

    def pause_writing(self) -> None:
        self._note_room(False)

    def resume_writing(self) -> None:
        self._note_room(True)
        self._writable.open()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._quiet = False
        self._note_room(True)
        if isinstance(exc, OSError):
            self._lost = map_os_error(exc, "receive", self.peer.address_text)
        elif not self._closed:
            self._lost = ConnectionLost(
                f"the connection with {self.peer.address_text} is gone: connect again"
            )
        if self._closing is not None:
            self._closing.cancel()
        self.arrival.soon()
        self.arrival.release()
        self._writable.open()
        self._writable.release()

    def _leave(self) -> None:
        self._closed = True
        self._quiet = False
        self._note_room(self._room)
        self._queue.clear()
        self.arrival.soon()
        self._writable.open()

    def _discard(self) -> None:
        """Say goodbye and throw away what has come: see `hailer.runtime.sockets.discard`."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            discard(self._socket)
        except OSError:
            pass  # the peer has gone: there is nothing to take leave of
