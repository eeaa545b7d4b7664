"""Who talks to a store: senders that count what is stored, receivers that take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hailer.tools.bench.relay.party import LoadError, converse
from hailer.tools.bench.relay.posting import Refused

if TYPE_CHECKING:
    from hailer.tools.bench.durable.dialects import DurableDialect
    from hailer.tools.bench.relay.dialects import Step

__all__ = ["Receiver", "Sender"]

READ_SIZE: Final = 256 * 1024
"""Bytes of one read."""


class Talker:
    """One connection."""

    def __init__(self, name: str, port: int, steps: list[Step]) -> None:
        self.name = name
        self.sock = converse(port, name, steps)[0]
        self.rest = memoryview(b"")

    def say(self, data: bytes | memoryview) -> bool:
        """Send now or later; returns whether all has left."""
        if self.rest:
            self.rest = memoryview(bytes(self.rest) + data)
        else:
            self.rest = memoryview(data)
        return self.flush()

    def flush(self) -> bool:
        try:
            if self.rest:
                self.rest = self.rest[self.sock.send(self.rest) :]
        except BlockingIOError:
            pass
        return not self.rest

    def read(self) -> bytes:
        """What has come.

        Raises:
            LoadError: the connection was closed.
        """
        try:
            data = self.sock.recv(READ_SIZE)
        except ConnectionError:
            data = b""
        if not data:
            raise LoadError(f"the store closed the connection of {self.name}")
        return data


class Sender(Talker):
    """Sends to one mailbox and hears what is stored."""

    def __init__(
        self, dialect: DurableDialect, port: int, name: str, box: str, body: bytes, window: int
    ) -> None:
        super().__init__(name, port, dialect.login(name))
        self.box = box
        self.posts, self.acks = dialect.posts(name, box, body, window), dialect.acks(window)
        self.posted = self.stored = 0

    def post(self, count: int) -> bytes | memoryview:
        """So many messages more."""
        self.posted += count
        return self.posts.take(count)

    def hear(self) -> int:
        """Read once; returns how many messages more are stored.

        Raises:
            LoadError: something was refused, or the connection closed.
        """
        data = self.read()
        try:
            count = self.acks.count(data)
        except Refused as error:
            raise LoadError(f"{self.name} posted {self.posted}, {self.stored} were stored: {error}") from None
        self.stored += count
        if self.stored > self.posted:
            raise LoadError(f"{self.name} posted {self.posted}, and heard that {self.stored} were stored")
        return count


class Receiver(Talker):
    """Takes what is in one mailbox."""

    def __init__(self, dialect: DurableDialect, port: int, box: str, body: bytes) -> None:
        super().__init__(box, port, dialect.taking(box))
        self.taker = dialect.taker(box, body)
        self.taken = 0

    def hear(self) -> tuple[int, bytes]:
        """Read once; returns how many messages more have come, and what is to be said to them.

        Raises:
            LoadError: something is missing or damaged, or the connection closed.
        """
        data = self.read()
        try:
            count, answer = self.taker.take(data)
        except Refused as error:
            raise LoadError(f"{self.name} took {self.taken}: {error}") from None
        self.taken += count
        return count, answer
