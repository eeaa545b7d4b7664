"""A bad link: a TCP proxy under which connections end in every way."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from typing import Self

    from tests.relay.ledger.running import Address

FATES = ("clean", "slow", "cut", "reset", "stall", "late")
"""What becomes of a connection after some bytes:

    clean   nothing
    slow    each piece waits a while
    cut     both sides see its end, in the middle of whatever it is
    reset   both sides see a reset, and what is on its way is lost
    stall   nothing passes any more for a long while, and nobody is told; then a reset
    late    the client sees a reset; what it had sent reaches the relay a while later, over the connection
            that the relay still believes in
"""

_READ = 4096


class Proxy:
    """Stands between clients and a relay, in a thread of its own.

    Args:
        relay: where the relay listens; called for each connection.
        dice: decide what becomes of each connection, and when.
        fates: what may become of it.
        bytes_till: the most bytes that pass in one direction before something happens.
        delay: seconds that "slow" and "late" bytes wait at most; a stall is twenty times as long.

    Attributes:
        met: how many connections met which fate.
    """

    def __init__(
        self,
        relay: Callable[[], Address],
        dice: random.Random,
        *,
        fates: tuple[str, ...] = FATES,
        bytes_till: int = 30_000,
        delay: float = 0.05,
    ) -> None:
        self._relay = relay
        self._dice = dice
        self._fates = fates
        self._bytes_till = bytes_till
        self._delay = delay
        self.met: Counter[str] = Counter()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def dial(self) -> socket.socket:
        """Connect to the relay through this."""
        return socket.create_connection(self._listener.getsockname(), timeout=20)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._end is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._listener.close()

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._pass_on(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, sock=self._listener, limit=_READ)
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            from_relay, relay = await asyncio.open_connection(*self._relay(), limit=_READ)
        except OSError:
            _reset(client)
            return
        fate = self._dice.choice(self._fates)
        after, up = self._dice.randrange(1, self._bytes_till), self._dice.random() < 0.5
        upward = asyncio.ensure_future(self._pump(reader, relay, fate, after if up else None))
        downward = asyncio.ensure_future(self._pump(from_relay, client, fate, None if up else after))
        try:
            done, _ = await asyncio.wait({upward, downward}, return_when=asyncio.FIRST_COMPLETED)
            rest = b"".join(task.result() for task in done)
            await self._meet(fate if rest else "cut", client, relay, rest if upward in done else b"")
        except OSError:
            pass
        finally:
            for task in (upward, downward):
                task.cancel()
            await asyncio.gather(upward, downward, return_exceptions=True)
            for writer in (client, relay):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, fate: str, left: int | None
    ) -> bytes:
        """Pass bytes on; gives what is not passed on when the fate comes, b"" at the end of the stream."""
        while data := await source.read(_READ):
            if fate == "slow":
                await asyncio.sleep(self._delay * self._dice.random())
            elif left is not None and fate != "clean":
                if len(data) > left:
                    sink.write(data[:left])
                    await sink.drain()
                    return data[left:]
                left -= len(data)
            sink.write(data)
            await sink.drain()
        return b""

    async def _meet(
        self, fate: str, client: asyncio.StreamWriter, relay: asyncio.StreamWriter, rest: bytes
    ) -> None:
        self.met[fate] += 1
        if fate == "stall":
            await asyncio.sleep(self._delay * 20)
        if fate == "late":
            _reset(client)
            await asyncio.sleep(self._delay * self._dice.random())
            relay.write(rest)
            await relay.drain()
        if fate in {"stall", "reset"}:
            _reset(client)
            _reset(relay)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    writer.transport.abort()
