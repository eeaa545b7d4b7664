"""Pairs of transports in memory, for asyncio programs: what one pushes, bytes or records, the other pulls."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from hailer.connection import READ_SIZE
from hailer.endpoint import Endpoint
from hailer.errors import ConnectionClosed, ConnectionLost, FramingError, TimedOut
from hailer.framing import LengthFraming
from hailer.framing.base import too_long
from hailer.runtime.buffer import ByteQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.testing.clock import FakeClock

__all__ = ["MemoryRecordTransport", "MemoryTransport", "lockstep_pair", "memory_pair", "memory_record_pair"]

_LARGEST = 1 << 30


class _Pipe:
    """One direction: a bounded queue, and what became of its two ends."""

    def __init__(self, room: int, *, lockstep: bool) -> None:
        self.queue = ByteQueue()
        self.room = room
        self.lockstep = lockstep
        self.finished = False  # the sender says that no more will come
        self.lost = False  # one end vanished
        self.cut = False  # a push was given up in the middle
        self.changed = asyncio.Event()

    def notify(self) -> None:
        """Wake all that wait for a change of this pipe."""
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryTransport:
    """One end of a pair. Behaves as a socket does: half-close, loss, back-pressure and all.

    Made by `memory_pair` and `lockstep_pair`.
    """

    def __init__(
        self, incoming: _Pipe, outgoing: _Pipe, name: str, peer: str, clock: FakeClock | None
    ) -> None:
        self._in = incoming
        self._out = outgoing
        self._local = Endpoint("unix", path=f"@{name}")
        self._peer = Endpoint("unix", path=f"@{peer}")
        self._clock = clock
        self._closed = False

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""
        return self._local

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""
        return self._peer

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        pipe = self._in
        while True:
            if self._closed:
                raise ConnectionClosed("this side closed the connection: open another to go on")
            if pipe.queue.size:
                data = pipe.queue.take(limit)
                pipe.notify()
                return data
            if pipe.lost:
                raise ConnectionLost(f"{self._peer} broke the connection: connect again")
            if pipe.finished:
                return b""
            await self._wait(pipe, deadline, "sent nothing")

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        pipe = self._out
        while True:
            if self._closed or pipe.finished:
                raise ConnectionClosed("this side has finished sending: send before finish() and close()")
            if pipe.cut:
                raise ConnectionLost("an earlier push was cut off: open another connection")
            if pipe.lost:
                raise ConnectionLost(f"{self._peer} has closed the connection: connect again")
            if pipe.queue.size < pipe.room or not data:
                break
            await self._wait(pipe, deadline, "made no room to send")
        pipe.queue.put(data)
        pipe.notify()
        if pipe.lockstep:
            await self._wait_for_pull(pipe, len(data), deadline)

    async def finish(self) -> None:
        if self._closed:
            raise ConnectionClosed("this side closed the connection: open another to go on")
        if self._out.lost:
            raise ConnectionLost(f"{self._peer} has closed the connection: connect again")
        self._out.finished = True
        self._out.notify()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._out.finished = True
            self._let_go()

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            self._out.queue.clear()
            self._out.lost = True
            self._let_go()

    def _let_go(self) -> None:
        self._in.lost = True  # for the peer's next push
        self._in.notify()
        self._out.notify()

    async def _wait_for_pull(self, pipe: _Pipe, size: int, deadline: float | None) -> None:
        try:
            while pipe.queue.size:
                if self._closed:
                    raise ConnectionClosed("this side closed the connection before all was pulled")  # noqa: TRY301
                if pipe.lost:
                    raise ConnectionLost(f"{self._peer} closed the connection before it pulled all")  # noqa: TRY301
                await self._wait(pipe, deadline, "did not pull what was sent")
        except BaseException:
            # All or nothing: what nobody has begun to pull is taken back.
            if pipe.queue.size == size:
                pipe.queue.clear()
            else:
                pipe.cut = True
            raise

    async def _wait(self, pipe: _Pipe, deadline: float | None, what: str) -> None:
        """Wait for a change, at most until the deadline."""
        change = pipe.changed.wait()
        if deadline is None:
            await change
            return
        error = TimedOut(f"{self._peer} {what} in time: try again or close the connection")
        if self._clock is None:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await change
            except TimeoutError:
                raise error from None
            return
        waiting = asyncio.ensure_future(change)
        timer = asyncio.ensure_future(self._clock.sleep(deadline - self._clock.now()))
        try:
            await asyncio.wait((waiting, timer), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise error
        finally:
            await _cancel(waiting, timer)


class MemoryRecordTransport:
    """One end of a pair that keeps the boundaries of what is pushed.

    Made by `memory_record_pair`.
    """

    def __init__(self, inner: MemoryTransport) -> None:
        self._inner = inner
        self._framing = LengthFraming()
        self._decoder = self._framing.decoder(_LARGEST)

    @property
    def local(self) -> Endpoint:
        """The endpoint of this side."""
        return self._inner.local

    @property
    def peer(self) -> Endpoint:
        """The endpoint of the other side."""
        return self._inner.peer

    async def pull_records(self, limit: int, deadline: float | None = None) -> list[bytes | FramingError]:
        while True:
            data = await self._inner.pull(READ_SIZE, deadline)
            received = self._decoder.feed(data)
            if received or not data:
                return [
                    too_long(limit) if isinstance(item, bytes) and len(item) > limit else item
                    for item in received
                ]

    async def push_records(self, records: Sequence[bytes], deadline: float | None = None) -> None:
        await self._inner.push(b"".join(map(self._framing.encode, records)), deadline)

    async def finish(self) -> None:
        await self._inner.finish()

    async def close(self) -> None:
        await self._inner.close()

    def abort(self) -> None:
        self._inner.abort()


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def memory_pair(
    *, room: int = 65536, clock: FakeClock | None = None
) -> tuple[MemoryTransport, MemoryTransport]:
    """Make two connected transports.

    Args:
        room: bytes in one direction from which pushes wait for the other side to pull.
        clock: what their deadlines go by; None is the monotonic clock.
    """
    return _pair(lambda: _Pipe(room, lockstep=False), clock)


def lockstep_pair(*, clock: FakeClock | None = None) -> tuple[MemoryTransport, MemoryTransport]:
    """Make two connected transports without any buffer: a push waits until all of it has been pulled.

    It brings deadlocks out that buffers hide, as when both sides send before they receive.

    Args:
        clock: what their deadlines go by; None is the monotonic clock.
    """
    return _pair(lambda: _Pipe(1, lockstep=True), clock)


def memory_record_pair(
    *, room: int = 65536, clock: FakeClock | None = None
) -> tuple[MemoryRecordTransport, MemoryRecordTransport]:
    """Make two connected record transports.

    Args:
        room: bytes in one direction, each record counting for 4 more, from which pushes wait.
        clock: what their deadlines go by; None is the monotonic clock.
    """
    one, other = memory_pair(room=room, clock=clock)
    return MemoryRecordTransport(one), MemoryRecordTransport(other)


def _pair(make: Callable[[], _Pipe], clock: FakeClock | None) -> tuple[MemoryTransport, MemoryTransport]:
    there, back = make(), make()
    return MemoryTransport(back, there, "one", "other", clock), MemoryTransport(
        there, back, "other", "one", clock
    )
