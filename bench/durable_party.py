"""Who talks to a store: senders that count what is stored, receivers that take it."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from bench.durable_takers import Refused
from bench.party import LoadError

if TYPE_CHECKING:
    from bench.dialects import Step
    from bench.durable_dialects import DurableDialect

__all__ = ["Receiver", "Sender", "converse"]

LOGIN_TIMEOUT = 20.0  # seconds for one answer
READ_SIZE = 256 * 1024


class Talker:
    """One connection."""

    def __init__(self, name: str, port: int, steps: list[Step]) -> None:
        self.name = name
        self.sock = converse(port, steps)[0]
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


def converse(port: int, steps: list[Step]) -> tuple[socket.socket, bytes]:
    """Connect, say every step and wait for its answer; returns the connection and the last answer's group.

    Raises:
        LoadError: it refused or did not answer.
    """
    heard, group = b"", b""
    sock = socket.create_connection(("127.0.0.1", port), timeout=LOGIN_TIMEOUT)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for step in steps:
            heard = b""
            sock.sendall(step.say)
            while not (answer := step.answer.search(heard)):
                data = sock.recv(65536)
                if not data:
                    raise ConnectionError("it closed the connection")
                heard += data
            group = answer.group(1) if answer.re.groups else b""
    except OSError as error:
        sock.close()
        raise LoadError(f"no login: {error}; the last that was heard is {heard[-300:]!r}") from None
    sock.setblocking(False)
    return sock, group
