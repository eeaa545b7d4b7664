"""Clients on connections: those that wait for answers, and those that pour."""

from __future__ import annotations

import ssl
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from hailer.net.options import sent_again
from hailer.tools.bench.wire.answers import SEND
from hailer.tools.bench.wire.channel import WOULD_BLOCK
from hailer.tools.bench.wire.drive import Drive
from hailer.tools.bench.wire.load import WrongAnswer, clock
from hailer.tools.bench.wire.poller import READ, WRITE

if TYPE_CHECKING:
    import socket

    from hailer.tools.bench.wire.channel import Opening
    from hailer.tools.bench.wire.load import Outcome

__all__ = ["PingPong", "Pouring", "StreamClient", "say_farewell"]


def say_farewell(sock: socket.socket, farewell: bytes) -> None:
    """Close a connection so that the server sees an orderly end."""
    with suppress(OSError, ValueError):
        if farewell:
            sock.send(farewell)
        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap()
    sock.close()


class StreamClient:
    """A connection, with what is owed to it and what is due from it.

    Attributes:
        owed: bytes that are to be sent as soon as there is room.
        place: where in the run of messages the next of them stands.
    """

    __slots__ = (
        "_buffer",
        "_record",
        "_recv_into",
        "_send",
        "answers",
        "drive",
        "fd",
        "mask",
        "out",
        "owed",
        "period",
        "place",
        "size",
        "sock",
    )

    def __init__(self, drive: Drive, sock: socket.socket) -> None:
        script = drive.script
        self.drive = drive
        self.sock = sock
        self.fd = sock.fileno()
        self.mask = READ
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._buffer = script.buffer
        self._record = drive.target.record
        self.answers = script.answers()
        self.out = script.out
        self.size = script.size
        self.period = script.period
        self.owed = 0
        self.place = 0

    def ready(self, mask: int) -> None:
        """See `Client`."""
        if mask & WRITE:
            self.flush()
        if mask & ~WRITE:
            self.hear()

    def start(self) -> None:
        """See `Client`."""

    def stop(self) -> None:
        """See `Client`."""

    def waits(self) -> bool:
        """See `Client`."""
        return self.owed > 0

    def hear(self) -> None:
        """Read once."""
        try:
            size = self._recv_into(self._buffer)
        except WOULD_BLOCK:
            return
        except OSError as error:
            raise self.drive.lost_client(error) from error
        if not size:
            self.ended()
            return
        self.drive.down += size
        answers = self.answers
        done = answers.take(size)
        if answers.reply:
            self._reply()
        if done:
            self.answered(done, clock())

    def answered(self, done: int, now: int) -> None:
        """So many answers are complete."""
        raise NotImplementedError

    def ended(self) -> None:
        """The server closed the connection."""
        raise self.drive.lost_client(None)

    def flush(self) -> None:
        """Send what is owed, as far as there is room."""
        drive = self.drive
        while self.owed:
            place = self.place
            size = self.size if self._record else self.owed
            try:
                gone = self._send(self.out[place : place + min(size, SEND)])
            except WOULD_BLOCK:
                break
            except OSError as error:
                raise drive.lost_client(error) from error
            self.place = (place + gone) % self.period
            self.owed -= gone
            drive.up += gone
            if gone < size and not self._record:
                break
        mask = READ | WRITE if self.owed else READ
        if mask != self.mask:
            drive.want(self, mask)

    def _reply(self) -> None:
        """Send a pong, unless that would come into the middle of a message: the next ping asks again."""
        reply, self.answers.reply = self.answers.reply, b""
        if not self.size or self.place % self.size == 0:
            with suppress(OSError):
                self._send(reply)

    def close(self) -> None:
        """See `Client`."""
        say_farewell(self.sock, self.drive.script.farewell)

    def too_many(self) -> WrongAnswer:
        """The error for answers that nobody asked for."""
        return WrongAnswer(
            f"{self.drive.target.where} answered more than it was asked:"
            " say what ends an answer with --expect"
        )


class PingPongClient(StreamClient):
    """Sends the next message when an answer has come."""

    __slots__ = ("_left_at", "flying", "turns")

    def __init__(self, drive: Drive, sock: socket.socket) -> None:
        super().__init__(drive, sock)
        self.flying = 0
        self.turns = drive.load.turns or -1
        self._left_at: deque[tuple[int, int]] = deque()  # when, and how many

    def start(self) -> None:
        """See `Client`."""
        if self.waits():  # it has not got the answers of the last measurement
            return
        self._leave(self.drive.load.in_flight, clock())

    def _leave(self, count: int, now: int) -> None:
        self.flying += count
        self.owed += count * self.size
        self._left_at.append((now, count))
        self.drive.sent += count
        self.flush()

    def answered(self, done: int, now: int) -> None:
        """See `StreamClient`."""
        drive = self.drive
        self.flying -= done
        if self.flying < 0:
            raise self.too_many()
        drive.messages += done
        left_at = self._left_at
        first, count = left_at.popleft()
        rest = done
        self.turns -= done
        if not drive.over and (self.turns < 0 or self.turns > self.flying):
            self.flying += done
            self.owed += done * self.size
            left_at.append((now, done))
            drive.sent += done
            self.flush()
        elif not self.flying and drive.load.turns:
            drive.drop(self)
            if not drive.over:
                drive.open_one()
        record = drive.latency.record
        while count < rest:  # those that left together have the same time
            record(now - first, count)
            rest -= count
            first, count = left_at.popleft()
        record(now - first, rest)
        if count > rest:
            left_at.appendleft((first, count - rest))

    def stop(self) -> None:
        """See `Client`."""
        if not self.flying and self.drive.load.turns:
            self.drive.drop(self)

    def waits(self) -> bool:
        """See `Client`."""
        return self.flying > 0


class LoneClient(PingPongClient):
    """Has one message under way, which takes a quarter less of the program's own time than several would."""

    __slots__ = ("_since",)

    def _leave(self, count: int, now: int) -> None:
        self.flying = count
        self._since = now
        self.owed = self.size
        self.drive.sent += 1
        self.flush()

    def answered(self, done: int, now: int) -> None:
        """See `StreamClient`."""
        drive = self.drive
        if done > self.flying:
            raise self.too_many()
        drive.messages += 1
        since = self._since
        if drive.over:
            self.flying = 0
        else:
            self._since = now
            self.owed = self.size
            drive.sent += 1
            self.flush()
        drive.latency.record(now - since)


class PingPong(Drive):
    """A closed loop: each client has so many messages under way."""

    advice = ": if it serves one client at a time, have them take turns with --turns"

    def client(self, sock: socket.socket, opening: Opening) -> PingPongClient:  # noqa: ARG002
        """See `Drive`."""
        lone = self.load.in_flight == 1 and not self.load.turns
        return (LoneClient if lone else PingPongClient)(self, sock)

    def began(self) -> None:
        """See `Drive`; clients that take turns are opened anew, for not all are served at once."""
        super().began()
        if self.load.turns:
            for _ in range(self.load.clients - self.on_their_way() - len(self.clients)):
                self.open_one()

    def connect(self) -> None:
        """See `Drive`."""
        if not self.load.turns:
            super().connect()
        elif not self.clients:
            self._first = self.target.find()


class PourClient(StreamClient):
    """Sends as fast as it goes, and reads all that comes."""

    __slots__ = ("_counts_sent", "asked", "gone", "got")

    def __init__(self, drive: Drive, sock: socket.socket) -> None:
        super().__init__(drive, sock)
        self._counts_sent = drive.load.expect == "none"
        self.asked = False
        self.got = 0
        self.gone = 0

    def start(self) -> None:
        """See `Client`."""
        self.drive.want(self, READ | WRITE)

    def flush(self) -> None:
        """See `StreamClient`."""
        drive = self.drive
        if drive.load.reverse:
            self._ask()
            return
        if drive.over and not self.owed:
            drive.want(self, READ)
            return
        place = self.place
        most = self.owed or SEND
        if self._record:
            most = self.size
        try:
            gone = self._send(self.out[place : place + most])
        except WOULD_BLOCK:
            return
        except OSError as error:
            raise drive.lost_client(error) from error
        self.place = (place + gone) % self.period
        drive.up += gone
        before = self.gone // self.size
        self.gone += gone
        count = self.gone // self.size - before
        drive.sent += count
        if self._counts_sent:
            drive.messages += count
        if drive.over:
            self.owed -= gone

    def _ask(self) -> None:
        """Say once what makes the server talk, if that is anything."""
        if not self.asked:
            self.owed = self.size
            self.asked = True
        if self.owed:
            StreamClient.flush(self)
        else:
            self.drive.want(self, READ)

    def answered(self, done: int, now: int) -> None:  # noqa: ARG002
        """See `StreamClient`."""
        self.got += done
        self.drive.messages += done
        if self.got > self.gone // self.size + 1:
            raise self.too_many()

    def ended(self) -> None:
        """See `StreamClient`."""
        raise self.drive.lost_client(None)

    def stop(self) -> None:
        """See `Client`."""
        if self.drive.load.reverse:
            self.drive.want(self, 0)  # it goes on when the next measurement begins
            return
        self.owed = -self.place % self.size
        self.flush()

    def waits(self) -> bool:
        """See `Client`."""
        drive = self.drive
        if drive.load.reverse or drive.load.expect == "any":
            return False  # there is no telling
        return self.owed > 0 or (not self._counts_sent and self.got < self.gone // self.size)


class Pouring(Drive):
    """As many bytes as go."""

    _sent_again = 0

    def _begin(self) -> None:
        super()._begin()
        self._sent_again = self._retransmissions()

    def _count(self, outcome: Outcome) -> None:
        super()._count(outcome)
        outcome.sent_again = self._retransmissions() - self._sent_again

    def _retransmissions(self) -> int:
        return sum(
            sent_again(client.sock) for client in self.clients.values() if isinstance(client, PourClient)
        )

    def client(self, sock: socket.socket, opening: Opening) -> PourClient:  # noqa: ARG002
        """See `Drive`."""
        return PourClient(self, sock)
