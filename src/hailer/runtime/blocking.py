"""Transports that block instead of suspending, and the blocking twin of a connection.

A coroutine that awaits only such a transport never suspends, so one ``send(None)`` runs it to its end:
the iterative and thread models, and programs without an event loop, use the same `Connection` as asyncio.
"""

from __future__ import annotations

import math
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from hailer.errors import EndOfStream, ForeignAwaitError, TimedOut
from hailer.runtime.socket_stream import DONT_WAIT, SocketStream
from hailer.runtime.sockets import LONGEST_WAIT, RECEIVE_SIZE, closed_error, poll_until

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator
    from types import TracebackType

    from hailer.connection import Connection, Handler
    from hailer.endpoint import Endpoint
    from hailer.net.address import RawAddress

__all__ = [
    "BlockingConnection",
    "BlockingTransport",
    "explained",
    "foreign_await",
    "foreign_error",
    "run_to_end",
]

T = TypeVar("T")

# What the event loops say when they are called from outside.
_NO_LOOP = (
    "no running event loop",
    "no current event loop",
    "must be called from async context",
    "not in async context",
)


def run_to_end(coroutine: Coroutine[Any, Any, T], model: str = "blocking") -> T:
    """Run a coroutine that awaits nothing but blocking transports and `hailer.sleep`.

    Args:
        coroutine: it is finished or closed afterwards.
        model: the name of the model, for the error.

    Raises:
        ForeignAwaitError: it awaited something that needs an event loop. It is raised at that await.
    """
    step = coroutine.send
    argument: Any = None
    try:
        for _ in range(
            3
        ):  # a handler may catch the error and await once more; it does not get to do so for ever
            foreign = step(argument)
            step = coroutine.throw
            argument = foreign_error(foreign, model)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except RuntimeError as error:
        clear = foreign_await(error, model)
        if clear is None:
            raise
        raise clear from error
    finally:
        coroutine.close()
    raise argument


def foreign_error(awaited: object, model: str) -> ForeignAwaitError:
    """The error to raise at an await that a model cannot run.

    Args:
        awaited: what the coroutine gave to whoever runs it.
        model: the name of the model.
    """
    what = "something" if awaited is None else f"a {type(awaited).__module__}.{type(awaited).__qualname__}"
    return ForeignAwaitError(_foreign(what, model))


def foreign_await(error: RuntimeError, model: str) -> ForeignAwaitError | None:
    """Tell what an event loop says when it is called where there is none from any other error.

    Args:
        error: what came out of a coroutine.
        model: the name of the model it ran under.

    Returns:
        The error to raise from it; None when it is another one.
    """
    if not any(text in str(error) for text in _NO_LOOP):
        return None
    return ForeignAwaitError(_foreign("something that needs an event loop", model))


def explained(handler: Handler, model: str) -> Handler:
    """The same handler, with what an event loop says where there is none made clear.

    Args:
        handler: for each connection.
        model: the name of the model that it runs under.
    """

    async def explained_handler(connection: Connection) -> None:
        try:
            await handler(connection)
        except RuntimeError as error:
            clear = foreign_await(error, model)
            if clear is None:
                raise
            raise clear from error

    return explained_handler


def _foreign(what: str, model: str) -> str:
    return (
        f"the handler awaits {what}, which the {model} model cannot run: await only the connection's "
        "own methods and hailer.sleep(), or choose model='asyncio'"
    )


class BlockingTransport(SocketStream):
    """A transport over a blocking stream socket; its coroutines never suspend.

    It belongs to the thread that makes it. Others may push, each of them whole: so a handler under the
    thread model can send to the peers of others. `abort` may be called from any and wakes the owner, who
    has to `close` even so.

    Args:
        sock: a connected stream socket, owned from now on.
        scheme: the kind of its endpoints, such as ``tcp``.
        peer: the address of the peer where accept has told it.
    """

    __slots__ = ("_limit", "_lock", "_owner", "_poll", "_pushing", "_released")

    arrival: Final = None
    data: Final = None
    """`pull_now` and `push_now` wait by themselves."""

    def __init__(self, sock: socket.socket, scheme: str, peer: RawAddress | None = None) -> None:
        super().__init__(sock, scheme, peer)
        sock.setblocking(True)
        self._poll: select.poll | None = None
        self._released = False  # the socket; closed without that: aborted by another thread
        self._limit = 0.0  # SO_RCVTIMEO as set, in seconds; 0 is none
        self._owner = threading.get_ident()
        self._pushing = threading.Lock()  # between threads that push
        self._lock = threading.Lock()  # between abort in one thread and close in another

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        return self.pull_now(deadline, min(limit, RECEIVE_SIZE))

    def pull_now(self, deadline: float | None, limit: int = RECEIVE_SIZE) -> bytes:
        """Do all of a pull; see `hailer.transport.Transport`."""
        if self._closed:
            raise closed_error()
        try:
            if deadline is None and not self._limit:
                data: bytes = self._socket.recv(limit)  # what _pull_until comes to, without its calls
            else:
                data = self._pull_until(limit, math.inf if deadline is None else deadline)
        except TimedOut:
            raise
        except OSError as error:
            raise self._explain(error, "receive") from error
        if self._closed:
            raise closed_error()
        return data

    def stop_pull(self) -> None:
        """Do nothing: a pull that waits cannot be left."""

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        self.push_now(data, deadline)

    def push_now(self, data: bytes, deadline: float | None) -> bool:
        """Do all of a push; see `hailer.transport.Transport`."""
        if not self._pushing.acquire(False):
            self._wait_for_turn(deadline)
        try:
            if self._shut:
                raise self._refusal()
            # Write first, and wait only after a short write.
            try:
                sent = self._socket.send(data, DONT_WAIT)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self._push_rest(memoryview(data)[sent:], deadline, started=sent > 0)
        except TimedOut:
            raise
        except OSError as error:
            raise self._explain(error, "send") from error
        finally:
            self._pushing.release()
        return True

    async def close(self) -> None:
        with self._lock:
            if self._released:
                return
            aborted = self._closed
            self._closed = self._shut = self._released = True
            if not aborted:
                self._take_leave()
            self._socket.close()

    def abort(self) -> None:
        with self._lock:
            if self._released:
                return
            self._closed = self._shut = True
            self._reset_on_close()
            with suppress(OSError):  # the peer has gone already
                # Another thread may wait on the descriptor: to close it here could hand its number to
                # another connection under that thread's hands. Shutting it down wakes the thread.
                self._socket.shutdown(socket.SHUT_RDWR)
            if threading.get_ident() == self._owner:
                self._released = True
                self._socket.close()

    def _wait_for_turn(self, deadline: float | None) -> None:
        seconds = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
        if not self._pushing.acquire(timeout=min(seconds, threading.TIMEOUT_MAX)):
            raise self._no_room()

    def _push_rest(self, rest: memoryview, deadline: float | None, *, started: bool) -> None:
        while rest:
            if not self._wait_for_room(deadline):
                self._cut = self._shut = started
                raise self._no_room()
            with suppress(BlockingIOError):
                rest = rest[self._socket.send(rest, DONT_WAIT) :]
                started = True

    def _pull_until(self, limit: int, deadline: float) -> bytes:
        while True:
            left = deadline - time.monotonic()
            try:
                if left > 0:
                    self._limit_receive(left)
                    return self._socket.recv(limit)
                # An expired deadline still takes what is there already.
                return self._socket.recv(limit, socket.MSG_DONTWAIT)
            except BlockingIOError:
                if left <= 0:
                    raise TimedOut(
                        f"nothing came from {self.peer} in time: receive again or close the connection"
                    ) from None

    def _limit_receive(self, seconds: float) -> None:
        """Have the kernel end a recv after about so long, so that it takes one system call and no poll.

        A limit set earlier stays when it is at most a millisecond too long, as with the same time-out for
        every message; one that ends too early only makes for another round.
        """
        if seconds == math.inf:
            if self._limit:
                self._set_limit(0.0)
            return
        seconds = min(max(seconds, 0.001), LONGEST_WAIT)
        if not seconds / 2 <= self._limit <= seconds + 0.001:
            self._set_limit(seconds)

    def _set_limit(self, seconds: float) -> None:
        whole = int(seconds)
        timeval = struct.pack("ll", whole, int((seconds - whole) * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self._limit = seconds

    def _wait_for_room(self, deadline: float | None) -> bool:
        """Wait until the socket takes bytes; tell whether it does, rather than that the deadline passed."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLOUT)
        return poll_until(self._poll, deadline)


class BlockingConnection:
    """The same connection for programs without an event loop: the same methods as plain functions.

    Each runs the coroutine of `hailer.connection.Connection` of the same name to its end; see there.
    One thread receives and closes; several may send, each message whole; any may abort.

    Args:
        connection: one over a `BlockingTransport`, owned from now on.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""
        return self._connection.local

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""
        return self._connection.peer

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The certificate by which the other side proved who it is; None without one."""
        return self._connection.peer_certificate

    def receive(self, timeout: float | None = None) -> bytes:
        """Wait for the next message, `timeout` seconds for the whole of it."""
        return run_to_end(self._connection.receive(timeout))

    def receive_many(self, timeout: float | None = None) -> list[bytes]:
        """Wait for messages and take all that have come."""
        return run_to_end(self._connection.receive_many(timeout))

    def send(self, message: bytes, timeout: float | None = None) -> None:
        """Send one message, waiting at most `timeout` seconds for room."""
        run_to_end(self._connection.send(message, timeout))

    def send_many(self, messages: Iterable[bytes], timeout: float | None = None) -> None:
        """Send a batch of messages at once."""
        run_to_end(self._connection.send_many(messages, timeout))

    def finish(self) -> None:
        """Tell the peer that no more will be sent; its answers can still be received."""
        run_to_end(self._connection.finish())

    def close(self) -> None:
        """Let go of the connection; may be called twice."""
        run_to_end(self._connection.close())

    def abort(self) -> None:
        """Break the connection now; may be called from any thread."""
        self._connection.abort()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                message = self.receive()
            except EndOfStream:
                return
            yield message

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BlockingConnection to {self.peer}>"
