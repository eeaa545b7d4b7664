"""Records over a socket whose kernel keeps their boundaries, whatever waits for the socket.

The same transport serves connected UDP and Unix datagram sockets, Unix seqpacket sockets, and the
conversations that `hailer.net.datagrams` makes of the datagrams of each peer.

Datagrams have no end: `finish` only stops this side from sending, and what is closed is not told to the
peer. Over seqpacket sockets both are told, as over a stream.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import sys
import termios
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from hailer.connection import sleep
from hailer.errors import (
    ConnectionLost,
    FramingError,
    HailerError,
    MessageError,
    MessageTooLong,
    TimedOut,
    UsageError,
)
from hailer.framing.base import too_long
from hailer.net.datagrams import DATAGRAM, END
from hailer.net.oserrors import Doing, map_os_error
from hailer.runtime.sockets import Names, closed_error, discard, finished_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.net.address import RawAddress
    from hailer.net.listener import Accepted
    from hailer.net.outlet import Outlet
    from hailer.runtime.waiting import Waiter

__all__ = ["SocketRecords"]

BATCH = 64
"""Records that one pull takes at most: what comes faster than it is handled waits in the kernel."""

_TURN = 256 * 1024
_RECORD_COST = 256
"""Bytes, each record counting for some more, after which others get their turn."""

_UDP_MOST = 65535
_UDP_SENT: dict[int, int] = {socket.AF_INET: 65507, socket.AF_INET6: 65527}
_PAUSES = (0.0005, 0.02)

# Of an empty record on a seqpacket socket recv says what it says at the end; only of a record does the
# system also say who sent it (unix(7), SO_PASSCRED).
_PASSCRED: int | None = getattr(socket, "SO_PASSCRED", None)
_CREDENTIALS = socket.CMSG_SPACE(struct.calcsize("3i"))


class SocketRecords(Names):
    """A record transport over one socket.

    It belongs to the thread that makes it. `abort` may be called from any other and wakes it, if the
    waiter's `wake` may; it has to `close` even so.

    Args:
        sock: a connected datagram or seqpacket socket, or the socket of a conversation; owned from now on.
        scheme: the kind of its endpoints, such as ``udp``.
        waiter: how to wait for the socket.
        peer: the address of the peer where accept has told it.
        local: the address of this side where the socket's own name does not tell it.
        outlet: where answers go, for a conversation; owned from now on.
    """

    __slots__ = (
        "_aborted",
        "_closed",
        "_ended",
        "_error",
        "_finished",
        "_has_end",
        "_lock",
        "_lost",
        "_outlet",
        "_owner",
        "_pulled",
        "_pushed",
        "_socket",
        "_tells_empty",
        "_waiter",
    )

    def __init__(
        self,
        sock: socket.socket,
        scheme: str,
        waiter: Waiter,
        *,
        peer: RawAddress | None = None,
        local: RawAddress | None = None,
        outlet: Outlet | None = None,
    ) -> None:
        super().__init__(sock, scheme, peer)
        if local is not None:
            self._addresses = (local, self._addresses[1])
        sock.setblocking(False)
        self._socket = sock
        self._waiter = waiter
        self._outlet = outlet
        self._has_end = outlet is None and sock.type != socket.SOCK_DGRAM
        self._tells_empty = not self._has_end
        if self._has_end and _PASSCRED is not None:
            sock.setsockopt(socket.SOL_SOCKET, _PASSCRED, 1)
            self._tells_empty = True
        self._finished = False
        self._closed = False
        self._aborted = False
        self._ended = False
        self._error: HailerError | None = None  # told once, after what came before it
        self._lost: HailerError | None = None  # told for ever
        self._pulled = False  # a full batch was given: others get their turn first
        self._pushed = 0
        self._owner = threading.get_ident()
        self._lock = threading.Lock()  # between abort in one thread and close in another

    @classmethod
    def of(cls, accepted: Accepted, waiter: Waiter) -> SocketRecords:
        """The transport of what a listener has accepted."""
        return cls(
            accepted.socket,
            accepted.scheme,
            waiter,
            peer=accepted.address,
            local=accepted.local,
            outlet=accepted.outlet,
        )

    async def pull_records(self, limit: int, deadline: float | None = None) -> list[bytes | FramingError]:
        if self._pulled:
            self._pulled = False
            await self._waiter.readable(deadline)
        while True:
            self._check_open()
            batch = self._take(limit) if self._error is None else []
            if batch:
                return batch
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._lost is not None:
                raise self._lost.with_traceback(None)
            if self._ended:
                # An abort in another thread wakes this one by shutting the socket down: that is no end.
                self._check_open()
                return []
            if not await self._waiter.readable(deadline):
                raise TimedOut(
                    f"nothing came from {self.peer} in time: receive again or close the connection"
                )

    async def push_records(self, records: Sequence[bytes], deadline: float | None = None) -> None:
        for record in records:
            pause, most = _PAUSES
            while True:
                self._check_open()
                if self._finished:
                    raise finished_error()
                if self._lost is not None:
                    raise self._lost.with_traceback(None)
                try:
                    self._send(record)
                    break
                except BlockingIOError:
                    known = self._outlet is None
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise self._explain_send(error, record) from error
                    known = False  # a full queue of the network's device, of which no readiness tells
                if known:
                    ready = await self._waiter.writable(deadline)
                else:
                    # A socket that many share is ready when it has room, whether or not this peer has.
                    ready = await self._pause(pause, deadline)
                    pause = min(2 * pause, most)
                if not ready:
                    raise TimedOut(
                        f"{self.peer} made no room to send in time: it does not read; close the connection"
                    )
            self._pushed += len(record) + _RECORD_COST
            if self._pushed > _TURN:
                # A peer that reads quickly never makes a push wait: the others get their turn all the same.
                self._pushed = 0
                await self._waiter.writable(time.monotonic())

    async def finish(self) -> None:
        if self._closed or self._aborted:
            raise closed_error()
        if not self._finished:
            self._finished = True
            if self._has_end:
                try:
                    self._socket.shutdown(socket.SHUT_WR)
                except OSError as error:
                    raise self._explain(error, "send") from error

    async def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            if self._has_end and not self._aborted:
                try:
                    self._socket.shutdown(socket.SHUT_WR)
                    discard(self._socket)
                except OSError:
                    pass  # the peer has gone: there is nothing to take leave of
            self._release()

    def abort(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._aborted = True
            # Another thread may wait on the descriptor: see BlockingTransport.abort.
            self._waiter.wake()
            if threading.get_ident() == self._owner:
                self._release()

    def _release(self) -> None:
        self._closed = True
        self._waiter.release()
        if self._outlet is not None and self._socket.type == socket.SOCK_DGRAM:
            with suppress(OSError):
                self._socket.send(bytes((END,)))  # where closing it is not seen at the other end
        self._socket.close()
        if self._outlet is not None:
            self._outlet.close()

    def _check_open(self) -> None:
        if self._closed or self._aborted:
            raise closed_error()

    # Receiving.

    def _take(self, limit: int) -> list[bytes | FramingError]:
        """Take what is there, without waiting; at the end, or after an error, note that."""
        batch: list[bytes | FramingError] = []
        left = _TURN
        receive = self._receive if self._outlet is None else self._receive_forwarded
        while not self._ended:
            try:
                record = receive(limit)
            except BlockingIOError:
                break
            except OSError as error:
                # The system tells of an error before it gives what came earlier.
                lost = self._explain(error, "receive")
                if self._has_end:
                    self._ended = self._lost is not None
                    self._lost = lost
                elif self._error is None:
                    self._error = lost
                else:
                    break
                continue
            if record is None:
                self._ended = True
                break
            batch.append(record)
            left -= _RECORD_COST + (len(record) if isinstance(record, bytes) else 0)
            if left <= 0 or len(batch) == BATCH:
                self._pulled = True
                break
        return batch

    def _receive(self, limit: int) -> bytes | MessageTooLong | None:
        """Receive one record, or None at the end."""
        data, sent_by, flags, _ = self._socket.recvmsg(
            self._room(limit), _CREDENTIALS if self._has_end else 0
        )
        if flags & socket.MSG_TRUNC:
            return too_long(limit)
        if not data and self._has_end and not sent_by:
            return None
        return data

    def _receive_forwarded(self, limit: int) -> bytes | MessageTooLong | None:
        """Receive one datagram of a conversation: see `hailer.net.datagrams` for what stands before it."""
        assert self._outlet is not None
        data, _, flags, _ = self._socket.recvmsg(1 + self._room(limit))
        if not data or data[0] == END:
            return None
        if data[0] != DATAGRAM:
            return too_long(int.from_bytes(data[1:], "big"))
        self._outlet.heard(len(data) - 1)
        return too_long(limit) if flags & socket.MSG_TRUNC else data[1:]

    def _room(self, limit: int) -> int:
        """How many bytes to make room for: for less than the limit where that is certain to be enough."""
        if limit <= _UDP_MOST:
            return limit
        if self._socket.family != socket.AF_UNIX:
            return _UDP_MOST
        # To ask what is there takes less than to make room for a mebibyte each time.
        if not (there := self._waiting_bytes()):
            # The end, an empty record, nothing (which this raises), or one that has come since it was asked,
            # of whatever size.
            self._socket.recv(1, socket.MSG_PEEK)
            there = self._waiting_bytes()
        return min(limit, max(_UDP_MOST, there))

    def _waiting_bytes(self) -> int:
        there = fcntl.ioctl(self._socket, termios.FIONREAD, b"\0\0\0\0")
        return int.from_bytes(there, sys.byteorder)

    # Sending.

    def _send(self, record: bytes) -> None:
        if self._outlet is not None:
            if not self._outlet.address:
                raise ConnectionLost(
                    "the peer has no address to answer to: let it bind its socket to a path before it sends"
                )
            self._outlet.send(record)
        elif record or self._tells_empty:
            self._socket.send(record)
        else:
            raise MessageError(f"{self.peer} would take an empty message for the end: send at least one byte")

    async def _pause(self, seconds: float, deadline: float | None) -> bool:
        """Wait for a moment; tell whether the deadline is still to come."""
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            seconds = min(seconds, left)
        try:
            await sleep(seconds)
        except UsageError:  # neither a model nor an event loop: nobody else has to get on
            time.sleep(seconds)  # noqa: ASYNC251
        return True

    def _explain_send(self, error: OSError, record: bytes) -> HailerError:
        if error.errno == errno.EMSGSIZE:
            return MessageError(
                f"a message of {len(record)} bytes does not fit into one datagram to"
                f" {self.peer.address_text}{self._most(len(record))}: send less at a time"
            )
        explained = self._explain(error, "send")
        if self._has_end and isinstance(explained, ConnectionLost):
            self._lost = explained
        return explained

    def _most(self, size: int) -> str:
        family = self._socket.family if self._outlet is None else self._outlet.family
        most = _UDP_SENT.get(family)
        if most is None and self._outlet is None:
            most = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32  # unix(7)'s overhead
        return f" (at most {most})" if most is not None and size > most else ""

    def _explain(self, error: OSError, doing: Doing) -> HailerError:
        if self._closed or self._aborted:
            return closed_error()
        where = self.peer.address_text
        if error.errno == errno.ENOENT or (
            error.errno == errno.ECONNREFUSED and self._scheme == "unix+dgram"
        ):
            return ConnectionLost(f"{where} has gone (nobody has that socket any more): connect again")
        return map_os_error(error, doing, where)
