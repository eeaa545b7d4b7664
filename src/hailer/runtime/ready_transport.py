"""The transport over a stream socket under our own event loop, `hailer.runtime.ready`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from hailer.errors import BusyError, TimedOut
from hailer.runtime.ready_task import PAUSE, Turn
from hailer.runtime.ready_waiter import ReadyWaiter
from hailer.runtime.socket_stream import SocketStream
from hailer.runtime.sockets import RECEIVE_SIZE, closed_error

if TYPE_CHECKING:
    import socket

    from hailer.net.address import RawAddress
    from hailer.runtime.ready import ReadyLoop

__all__ = ["ReadyTransport"]

_TURN = 256 * 1024
_CALL_COST = 256
"""Bytes, each call counting for some more, after which others get their turn."""


class ReadyTransport(SocketStream):
    """A transport for tasks of a `ReadyLoop`: what they pull and push goes straight to the socket.

    One task pulls at a time. Any may push, each of them whole and in the order in which they came: so a
    handler can send to the peers of others.

    Args:
        loop: whose tasks use it.
        sock: a connected stream socket, owned from now on.
        scheme: the kind of its endpoints, such as ``tcp``.
        peer: the address of the peer where accept has told it.

    Raises:
        UsageError: select(2) cannot watch a descriptor of this number.
    """

    __slots__ = ("_begun", "_loop", "_more", "_turn", "_turns", "_waiter")

    arrival: Final = PAUSE

    def __init__(
        self, loop: ReadyLoop, sock: socket.socket, scheme: str, peer: RawAddress | None = None
    ) -> None:
        super().__init__(sock, scheme, peer)
        sock.setblocking(False)
        self._loop = loop
        self._waiter = ReadyWaiter(loop, sock)
        self._turn = 0  # what went through since others had their turn
        self._begun: tuple[bytes, int] | None = None  # a push that `push_now` left with so much of it sent
        self._turns: deque[Turn] | None = None  # that wait for the push that goes on; None: none does
        self._more = False  # the last read was full: it is likely that more has come

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        try:
            while (data := self.pull_now(limit, deadline)) is None:
                await PAUSE
        except BusyError:
            raise
        except BaseException:
            self.stop_pull()
            raise
        return data

    def pull_now(self, limit: int, deadline: float | None) -> bytes | None:
        """Do a step of a pull; see `hailer.transport.Transport`."""
        if self._closed:
            raise closed_error()
        waiter = self._waiter
        waited = waiter.resume is not None
        if waited:
            if waiter.resume is not self._loop.current.resume:  # type: ignore[union-attr]  # a task runs
                raise BusyError("two tasks pull at once: let one task pull and hand the bytes on")
            waiter.resume = waiter.watch.reader = None  # as end_read does, without the call
        elif self._more and self._turn < _TURN:
            self._more = False
        else:
            # Wait first: mostly the last read took all that there was, and to try in vain is a system
            # call for each message.
            self._turn = 0
            waiter.begin_read(deadline)
            return None
        if limit > RECEIVE_SIZE:  # noqa: PLR1730 (min would be a call for each message)
            limit = RECEIVE_SIZE
        try:
            data = self._recv(limit)
        except BlockingIOError:
            if waited and waiter.expired:  # not before this: what is there already is taken
                raise TimedOut(
                    f"nothing came from {self.peer} in time: receive again or close the connection"
                ) from None
            self._turn = 0
            waiter.begin_read(deadline)
            return None
        except OSError as error:
            raise self._explain(error, "receive") from error
        if len(data) == limit:
            self._more = True
            self._turn += limit + _CALL_COST
        return data

    def stop_pull(self) -> None:
        """Give up a pull that waits; see `hailer.transport.Transport`."""
        self._waiter.end_read()

    def push_now(self, data: bytes, _deadline: float | None) -> bool:
        """Push where there is room; see `hailer.transport.Transport`.

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
            self._turns = deque()
            self._cut = self._shut = True
        return False

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        sent = 0
        if self._begun is not None and self._begun[0] is data:
            sent = self._begun[1]
            self._begun = None
        else:
            await self._take_turn(deadline)
        try:
            await self._push_rest(data, sent, deadline)
        finally:
            self._give_turn_on()

    async def _push_rest(self, data: bytes, sent: int, deadline: float | None) -> None:
        self._turn += len(data) + _CALL_COST
        if self._turn > _TURN:
            # A peer that reads quickly never makes a push wait: the others get their turn all the same.
            self._turn = 0
            await self._loop.sleep(0)
        while True:
            if self._closed or self._finished:
                raise self._refusal()
            # Write first, and wait only after a short write.
            try:
                sent += self._send(memoryview(data)[sent:] if sent else data)
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._explain(error, "send") from error
            # Until all of it has gone: whatever ends this, what is pushed next would follow a gap.
            self._cut = 0 < sent < len(data)
            if sent == len(data):
                return
            if not await self._waiter.writable(deadline):
                raise self._no_room()

    async def _take_turn(self, deadline: float | None) -> None:
        if self._turns is None:
            self._turns = deque()
        else:
            turn = Turn(self._loop)
            self._turns.append(turn)
            try:
                came = await turn.wait(deadline)
            except BaseException:
                if turn.came:
                    self._give_turn_on()  # it came at the same moment: the next is not to wait for ever
                raise
            if not came:
                raise self._no_room()
        if self._closed or self._finished or self._cut:
            self._give_turn_on()
            raise self._refusal()
        self._shut = True

    def _give_turn_on(self) -> None:
        while self._turns:
            if self._turns.popleft().come():
                return
        self._turns = None
        self._shut = self._closed or self._finished or self._cut

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = self._shut = True
        self._take_leave()
        self._release()

    def abort(self) -> None:
        if self._closed:
            return
        self._closed = self._shut = True
        self._reset_on_close()
        self._waiter.wake()
        self._release()

    def _release(self) -> None:
        self._waiter.release()
        self._socket.close()
