"""What goes between the relay's process and a worker: many small things for many links, in large batches.

A batch is two numbers, how many entries it has and how many bytes they carry; then the links' numbers; then
of each entry its size, or what it is if it is no bytes; then all bytes. Making and taking one costs a few
calls of C functions, however many entries there are.
"""

from __future__ import annotations

import select
import struct
from array import array
from typing import TYPE_CHECKING

from hailer.relay.edge.link import DONTWAIT

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

_HEAD = struct.Struct("=II")

SAME = 0xFFFFFFFF
"""The size of an entry whose bytes are those of the one before: one message to many links."""

# To a worker.
ADOPT = 0xFFFFFFFE  # a socket has come on the other socket pair
READ = 0xFFFFFFFD  # read it
HOLD = 0xFFFFFFFC  # read it no more
FINISH = 0xFFFFFFFB  # say goodbye and shut down its sending side once all is written
CLOSE = 0xFFFFFFFA  # close it now
END = 0xFFFFFFEB  # say goodbye and close it once all is written
LOAD = 0xFFFFFFF9  # in the place of the link: microseconds that the relay's process has worked
ROUTES = 0xFFFFFFF8  # + their generation, and routes to group its lines by
ASK = 0xFFFFFFEA  # in the place of the link: nothing; UP is the answer
GATE = 0xFFFFFFF7  # + what the layers of new connections go by

# From a worker.
ENDED = 0xFFFFFFF6  # + whether it hears no more either: its peer sends no more
LOST = 0xFFFFFFF5  # + how (see below), and why: the connection is gone, and forgotten there
BLOCKED = 0xFFFFFFF4  # + the place up to which its socket took what there was: it took no more
TOOK = 0xFFFFFFF3  # + the place up to which it did now
DRAINED = 0xFFFFFFF2  # + that place; all that had come for it is written
GROUPED = 0xFFFFFFF1  # + the routes' generation, and lines in groups
OPENED = 0xFFFFFFF0  # + the name that its certificate proves: its layers are agreed on
PARTIAL = 0xFFFFFFEF  # + whether a part of a message of its layers waits for the rest
FAILED = 0xFFFFFFEE  # + how (the bits below), and why its layers broke
TROUBLE = 0xFFFFFFED  # + what to log
UP = 0xFFFFFFEC  # + nothing: it is there

GONE, MUTE, FAULT = 0, 1, 2
"""How a connection was lost: by itself; its peer does not acknowledge; by a fault of ours."""

OVER, SPEAKS, WAS_OPEN = 1, 2, 4
"""Of a failure of layers: the stream has ended; words can still be sent; they had been agreed on."""

ORDERS = 0xFFFFFF00
"""From here on a size is none, but says what the entry is. Where there is a + above, one more entry follows
with a number in the place of the link, and bytes."""

PLACE = 0xFFFFFFFF
"""Places in a link's output are counted modulo 2 ** 32."""

_PARTS = 512  # buffers of one sendmsg; the kernel takes 1,024


class Channel:
    """One side of it.

    Attributes:
        sock: the stream.
        links: the numbers of the links of the batch that is being filled.
        sizes: the sizes of its entries.
        parts: their bytes.
        size: how many bytes these are.
        backlog: bytes of whole batches that the other side's socket has not taken yet.
    """

    def __init__(self, sock: socket.socket, space: int) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.links: list[int] = []
        self.sizes: list[int] = []
        self.parts: list[bytes | memoryview] = []
        self.size = 0
        self.backlog = 0
        self._rest: list[bytes | memoryview] = []
        self._space = memoryview(bytearray(space))
        self._have = 0

    def put(self, link: int, what: int) -> None:
        """Add an entry without bytes."""
        self.links.append(link)
        self.sizes.append(what)

    def put_bytes(self, link: int, *parts: bytes | memoryview) -> None:
        """Add an entry of bytes."""
        size = sum(map(len, parts))
        self.links.append(link)
        self.sizes.append(size)
        self.parts += parts
        self.size += size

    def put_with(self, link: int, what: int, number: int = 0, *parts: bytes | memoryview) -> None:
        """Add an entry and the one that follows it."""
        self.put(link, what)
        self.put_bytes(number, *parts)

    def flush(self) -> bool:
        """Send what there is, as far as the other side takes it; tells whether that was all.

        Raises:
            OSError: the other side is gone.
        """
        if self.links:
            head = b"".join(
                (
                    _HEAD.pack(len(self.links), self.size),
                    array("I", self.links).tobytes(),
                    array("I", self.sizes).tobytes(),
                )
            )
            self._rest.append(head)
            self._rest += self.parts
            self.backlog += len(head) + self.size
            self.links.clear()
            self.sizes.clear()
            self.parts.clear()
            self.size = 0
        rest = self._rest
        while rest:
            if len(rest) > _PARTS:
                rest[:] = [b"".join(rest[i : i + _PARTS]) for i in range(0, len(rest), _PARTS)]
            try:
                sent = self.sock.sendmsg(rest, (), DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return False
            self.backlog -= sent
            whole = 0
            while whole < len(rest) and sent >= len(rest[whole]):
                sent -= len(rest[whole])
                whole += 1
            del rest[:whole]
            if sent:
                rest[0] = memoryview(rest[0])[sent:]
        return True

    def drop(self) -> None:
        """Forget what is to be sent."""
        self.links.clear()
        self.sizes.clear()
        self.parts.clear()
        self._rest.clear()
        self.size = self.backlog = 0

    def wait(self, seconds: float | None = None, *, both: bool = False) -> bool:
        """Wait until the other side takes more, or if `both` says something; tells which of the two.

        Returns:
            With `both` whether something has come, else whether more is taken.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT | (select.POLLIN if both else 0))
        ready = poll.poll(None if seconds is None else seconds * 1000)
        if both:
            return any(event & ~select.POLLOUT for _, event in ready)
        return bool(ready)

    def receive(self) -> Iterator[tuple[memoryview, memoryview, memoryview]]:
        """Take the whole batches that one read brought: links, sizes, bytes; good until the next.

        Raises:
            EOFError: the other side has ended.
            BlockingIOError: nothing has come.
        """
        size = self.sock.recv_into(self._space[self._have :])
        if not size:
            raise EOFError
        have, space = self._have + size, self._space
        start, need = 0, _HEAD.size
        while have - start >= _HEAD.size:
            count, total = _HEAD.unpack_from(space, start)
            need = _HEAD.size + 8 * count + total
            if have - start < need:
                break
            links = start + _HEAD.size
            sizes, data = links + 4 * count, links + 8 * count
            yield space[links:sizes].cast("I"), space[sizes:data].cast("I"), space[data : data + total]
            start += need
        rest = have - start
        if need > len(space):
            grown = memoryview(bytearray(need * 2))
            grown[:rest] = space[start:have]
            self._space = grown
        elif start:
            space[:rest] = space[start:have]
        self._have = rest
