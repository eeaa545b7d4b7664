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

_TURN: Final = 100
"""Calls after which others get their turn, be it a peer that reads as fast as we send."""

_FULL_READ: Final = 25
"""Calls for which a read counts that brought all it could."""


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

    __slots__ = (
        *("_begun", "_error", "_limit", "_loop", "_quiet", "_turn", "_turns", "_waiter"),
        "data",
    )

    arrival: Final = PAUSE

    def __init__(
        self, loop: ReadyLoop, sock: socket.socket, scheme: str, peer: RawAddress | None = None
    ) -> None:
        super().__init__(sock, scheme, peer)
        sock.setblocking(False)
        self._loop = loop
        self._waiter = ReadyWaiter(loop, sock)
        self.data: bytes | None = None
        self._quiet = False  # what there was has been read, and more will call `_on_readable`
        self._limit = RECEIVE_SIZE  # bytes of one read
        self._error: OSError | None = None  # that the loop met, for the task
        self._turn = _TURN  # calls that are left until others get their turn
        self._begun: tuple[bytes, int] | None = None  # a push that `push_now` left with so much of it sent
        self._turns: deque[Turn] | None = None  # that wait for the push that goes on; None: none does

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        self._limit = min(limit, RECEIVE_SIZE)
        try:
            data = self.pull_now(deadline)
            while data is None:
                await PAUSE
                data = self.data
                if data is None:
                    data = self.pull_now(deadline)
        except BusyError:
            raise
        except BaseException:
            self.stop_pull()
            raise
        finally:
            self._limit = RECEIVE_SIZE
        return data

    def pull_now(self, deadline: float | None) -> bytes | None:
        """Do a step of a pull; see `hailer.transport.Transport`."""
        self.data = None
        waiter = self._waiter
        if self._quiet and waiter.resume is None:
            # Wait first: mostly the last read took all that there was, and to try in vain is a system
            # call for each message.
            self._turn = _TURN
            if deadline is not None or waiter.deadline is not None:
                waiter.until(deadline)
            waiter.resume = self._loop.current.resume  # type: ignore[union-attr]  # a task runs
            return None
        return self._read_or_wait(deadline)

    def _read_or_wait(self, deadline: float | None) -> bytes | None:
        waiter = self._waiter
        if waiter.resume not in (None, self._loop.current.resume):  # type: ignore[union-attr]  # a task runs
            raise BusyError("two tasks pull at once: let one task pull and hand the bytes on")
        waiter.resume = None
        expired, waiter.expired = waiter.expired, False
        if self._closed:
            raise closed_error()
        if self._error is not None:
            raise self._explain(self._error, "receive") from self._error
        if self._turn > 0:
            self._turn -= 1
            try:
                data: bytes = self._socket.recv(self._limit)
            except BlockingIOError:
                if expired:  # not before this: what is there already is taken
                    raise TimedOut(
                        f"nothing came from {self.peer} in time: receive again or close the connection"
                    ) from None
            except OSError as error:
                raise self._explain(error, "receive") from error
            else:
                if len(data) == self._limit:
                    self._turn -= _FULL_READ
                return data
        self._quiet = True
        waiter.watch.reader = self._on_readable
        waiter.expect_read()
        return self.pull_now(deadline)

    def _on_readable(self) -> None:
        """Read for the task that waits, and step it; called by the loop."""
        waiter = self._waiter
        resume = waiter.resume
        if resume is None:
            # Whoever pulls next finds it by itself; the loop looks at it no more.
            self._quiet = False
            waiter.watch.reader = None
            return
        try:
            data: bytes = self._socket.recv(self._limit)
        except BlockingIOError:
            return
        except OSError as error:
            self._error = error  # which recv would not tell again
            self._quiet = False
            resume()
            return
        waiter.resume = None
        self.data = data
        if len(data) == self._limit:
            self._quiet = False  # it is likely that more has come
            self._turn -= _FULL_READ
        resume()

    def stop_pull(self) -> None:
        """Give up a pull that waits; see `hailer.transport.Transport`."""
        self._waiter.resume = None
        self._waiter.expired = False

    def push_now(self, data: bytes, _deadline: float | None) -> bool:
        """Push where there is room; see `hailer.transport.Transport`.

        Where there is room for a part only, that part goes out, and the rest is for the push of the same
        data that has to follow.
        """
        turn = self._turn - 1
        if self._shut or turn < 0:
            return False
        try:
            sent = self._socket.send(data)
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
        self._turn -= 1
        if self._turn < 0:
            # A peer that reads quickly never makes a push wait: the others get their turn all the same.
            self._turn = _TURN
            await self._loop.sleep(0)
        while True:
            if self._closed or self._finished:
                raise self._refusal()
            # Write first, and wait only after a short write.
            try:
                sent += self._socket.send(memoryview(data)[sent:] if sent else data)
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
        self._quiet = False
        self._waiter.release()
        self._socket.close()
