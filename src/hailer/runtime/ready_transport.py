"""The transport over a stream socket under our own event loop, `hailer.runtime.ready`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from hailer.errors import ConnectionLost, HailerError, TimedOut
from hailer.net.oserrors import Doing, map_os_error
from hailer.runtime.ready import PAUSE
from hailer.runtime.ready_waiter import ReadyWaiter
from hailer.runtime.sockets import RECEIVE_SIZE, RESET_ON_CLOSE, Names, closed_error, discard, finished_error

if TYPE_CHECKING:
    from hailer.net.address import RawAddress
    from hailer.runtime.ready import ReadyLoop

__all__ = ["ReadyTransport"]

_TURN = 256 * 1024
_CALL_COST = 256
"""Bytes, each call counting for some more, after which others get their turn."""


class ReadyTransport(Names):
    """A transport for one task of a `ReadyLoop`: what it pulls and pushes goes straight to the socket.

    Args:
        loop: whose task uses it.
        sock: a connected stream socket, owned from now on.
        scheme: the kind of its endpoints, such as ``tcp``.
        peer: the address of the peer where accept has told it.

    Raises:
        UsageError: select(2) cannot watch a descriptor of this number.
    """

    __slots__ = (
        "_begun",
        "_closed",
        "_cut",
        "_finished",
        "_loop",
        "_more",
        "_recv",
        "_send",
        "_shut",
        "_socket",
        "_turn",
        "_waiter",
    )

    def __init__(
        self, loop: ReadyLoop, sock: socket.socket, scheme: str, peer: RawAddress | None = None
    ) -> None:
        super().__init__(sock, scheme, peer)
        sock.setblocking(False)
        self._loop = loop
        self._socket = sock
        self._recv = sock.recv
        self._send = sock.send
        self._waiter = ReadyWaiter(loop, sock)
        self._more = False  # the last read was full: it is likely that more has come
        self._turn = 0  # what went through since others had their turn
        self._closed = False
        self._finished = False
        self._cut = False  # a push has sent only a part: what is pushed next would follow a gap
        self._begun: tuple[bytes, int] | None = None  # a push that `push_now` left with so much of it sent
        self._shut = False  # for one of these reasons `push_now` does nothing

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        if self._closed:
            raise closed_error()
        if limit > RECEIVE_SIZE:  # noqa: PLR1730 (min would be a call for each message)
            limit = RECEIVE_SIZE
        expired = False
        while True:
            # Wait first: mostly the last read took all that there was, and to try in vain is a system
            # call for each message.
            if self._more and self._turn < _TURN:
                self._more = False
            else:
                self._turn = 0
                waiter = self._waiter
                waiter.begin_read(deadline)
                try:
                    await PAUSE
                finally:
                    waiter.end_read()
                expired = waiter.expired
                if self._closed:
                    raise closed_error()
            try:
                data = self._recv(limit)
            except BlockingIOError:
                if expired:  # not before this: what is there already is taken
                    raise TimedOut(
                        f"nothing came from {self.peer} in time: receive again or close the connection"
                    ) from None
                continue
            except OSError as error:
                raise self._explain(error, "receive") from error
            if len(data) == limit:
                self._more = True
                self._turn += limit + _CALL_COST
            return data

    def push_now(self, data: bytes) -> bool:
        """Push where that would neither wait nor fail; see `hailer.transport.Transport`.

        Where there is room for a part only, that part goes out, and the rest is for the push of the same
        data that has to follow.
        """
        turn = self._turn + len(data) + _CALL_COST
        if self._shut or turn > _TURN:
            return False
        try:
            sent = self._send(data)
        except OSError:
            return False  # the push that follows meets it, too
        self._turn = turn
        if sent == len(data):
            return True
        if sent:
            self._begun = (data, sent)
            self._shut = True
        return False

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        sent = self._begin_push(data)
        self._turn += len(data) + _CALL_COST
        if self._turn > _TURN:
            # A peer that reads quickly never makes a push wait: the others get their turn all the same.
            self._turn = 0
            await self._loop.sleep(0)
        while True:
            if self._closed:
                raise closed_error()
            # Write first, and wait only after a short write.
            try:
                sent += self._send(memoryview(data)[sent:] if sent else data)
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._explain(error, "send") from error
            if sent == len(data):
                self._cut = self._shut = False
                return
            # Until all of it has gone: whatever ends this, what is pushed next would follow a gap.
            self._cut = self._shut = sent > 0
            if not await self._waiter.writable(deadline):
                raise TimedOut(
                    f"{self.peer} made no room to send in time: it does not read; close the connection"
                )

    async def finish(self) -> None:
        if self._closed:
            raise closed_error()
        if not self._finished:
            self._finished = self._shut = True
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                raise self._explain(error, "send") from error

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = self._shut = True
        try:
            self._socket.shutdown(socket.SHUT_WR)
            discard(self._socket)
        except OSError:
            pass  # the peer has gone: there is nothing to take leave of
        self._release()

    def abort(self) -> None:
        if self._closed:
            return
        self._closed = self._shut = True
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        except OSError:
            pass  # the peer has gone already
        self._waiter.wake()
        self._release()

    def _release(self) -> None:
        self._waiter.release()
        self._socket.close()

    def _begin_push(self, data: bytes) -> int:
        """Check that data can be pushed; give how much of it `push_now` has sent."""
        if self._closed:
            raise closed_error()
        if self._finished:
            raise finished_error()
        begun, self._begun = self._begun, None
        if begun is not None:
            self._cut = True
            if begun[0] is data:
                return begun[1]
        if self._cut:
            raise ConnectionLost("an earlier message was cut off by its time-out: open another connection")
        return 0

    def _explain(self, error: OSError, doing: Doing) -> HailerError:
        return closed_error() if self._closed else map_os_error(error, doing, self.peer.address_text)
