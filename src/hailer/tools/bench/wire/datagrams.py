"""Clients that send datagrams, any of which may be lost, doubled or overtaken on the way.

Each datagram begins with its number, where the load may choose what it says. Of the last `_WINDOW` numbers it
is known when they left, so an answer is told from one that came before, and its time is its own. Datagrams
whose text is the user's have no numbers: then answers are counted, and taken to come in order.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from hailer.errors import ConnectionLost
from hailer.tools.bench.wire.channel import WOULD_BLOCK
from hailer.tools.bench.wire.drive import NANO, Drive
from hailer.tools.bench.wire.load import NUMBER, WrongAnswer, clock
from hailer.tools.bench.wire.poller import READ, WRITE
from hailer.tools.bench.wire.schedule import OpenLoop

if TYPE_CHECKING:
    import socket

    from hailer.tools.bench.wire.channel import Opening
    from hailer.tools.bench.wire.load import Outcome

__all__ = ["DatagramOpenLoop", "DatagramPingPong", "DatagramPouring"]

_WINDOW: Final = 4096
"""Numbers of datagrams that are told apart: how many of one client may be under way."""

_BURST: Final = 16
"""Datagrams that are read, or poured, before other clients have their turn."""


class DatagramClient:
    """One socket, connected to the server, with what is known of the datagrams that left it."""

    __slots__ = (
        "_drive",
        "_echo",
        "_messages",
        "_numbered",
        "_out",
        "_places",
        "_recv_into",
        "_rest",
        "_send",
        "_size",
        "_text",
        "fd",
        "flying",
        "got",
        "highest",
        "jitter",
        "last",
        "mask",
        "number",
        "sock",
        "unsent",
    )

    def __init__(self, drive: Drive, sock: socket.socket) -> None:
        load = drive.load
        self._drive = drive
        self.sock = sock
        self.fd = sock.fileno()
        self.mask = READ
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._messages = load.messages
        self._size = load.size
        self._numbered = load.numbered and load.size >= NUMBER
        self._echo = load.expect in ("echo", "exact") and not self._numbered
        self._rest = load.messages[0][NUMBER:] if self._numbered else b""
        self._places = [0] * _WINDOW  # when the datagram of each number left, 0 once it was answered
        self._text = drive.script.buffer
        self._out: deque[int] = deque()  # when those without numbers left
        self.number = 0  # of the next datagram
        self.highest = -1  # of those that were answered
        self.got = 0
        self.flying = 0
        self.jitter = 0.0
        self.last = 0
        self.unsent: deque[int] = deque()  # when those were to leave for which there was no room

    def ready(self, mask: int) -> None:
        """See `Client`."""
        if mask & WRITE:
            self.room()
        if mask & ~WRITE:
            for _ in range(_BURST):
                if not self._hear():
                    break

    def room(self) -> None:
        """There is room to send again."""
        while self.unsent:
            if not self._push(self.unsent[0]):
                return
            self.unsent.popleft()
        self._drive.want(self, READ)

    def leave(self, due: int) -> bool:
        """Send the next datagram, whose time counts from then on; say whether there was room for it."""
        if self.unsent or not self._push(due):
            self.unsent.append(due)
            self._drive.want(self, READ | WRITE)
            return False
        return True

    def _push(self, due: int) -> bool:
        drive = self._drive
        number = self.number
        if self._numbered:
            data = b"%012d" % number + self._rest
        else:
            data = self._messages[number % len(self._messages)]
        try:
            self._send(data)
        except WOULD_BLOCK:
            return False
        except OSError as error:
            raise drive.lost_client(error) from error
        place = number % _WINDOW
        if self._numbered:
            if self._places[place]:
                drive.lost += 1
            self._places[place] = due
        elif drive.load.expect != "none":
            self._out.append(due)
            if len(self._out) > _WINDOW:
                self._out.popleft()
                drive.lost += 1
        self.number = number + 1
        self.flying += 1
        drive.sent += 1
        drive.up += self._size
        if drive.load.expect == "none":
            drive.messages += 1
            self.flying = 0
        return True

    def _hear(self) -> bool:
        """Read one datagram; say whether there was one."""
        drive = self._drive
        buffer = self._text
        try:
            size = self._recv_into(buffer)
        except WOULD_BLOCK:
            return False
        except OSError as error:
            raise drive.lost_client(error) from error
        now = clock()
        drive.down += size
        if self._numbered:
            if size != self._size or not buffer.startswith(self._rest, NUMBER):
                raise self._wrong(size)
            try:
                number = int(buffer[:NUMBER])
            except ValueError:
                raise self._wrong(size) from None
            place = number % _WINDOW
            left = self._places[place]
            if number >= self.number:
                raise self._wrong(size)
            if number < self.number - _WINDOW:
                # So late that it was taken for lost, and when it left is not known any more.
                drive.lost -= 1
                drive.messages += 1
                return True
            if not left:
                drive.doubled += 1
                return True
            self._places[place] = 0
            if number < self.highest:
                drive.reordered += 1
            else:
                self.highest = number
        else:
            if self._echo:
                messages = self._messages if drive.load.expect == "echo" else (drive.load.answer,)
                if not any(size == len(each) and buffer.startswith(each) for each in messages):
                    raise self._wrong(size)
            if not self._out:
                drive.doubled += 1
                return True
            left = self._out.popleft()
        took = now - left
        if self.last:
            # RFC 3550 section 6.4.1, of the whole way there and back: the clocks at both ends are one.
            self.jitter += (abs(took - self.last) - self.jitter) / 16
        self.last = took
        self.got += 1
        self.flying = max(0, self.flying - 1)
        drive.messages += 1
        drive.latency.record(took)
        self.answered(now)
        return True

    def answered(self, now: int) -> None:
        """A datagram was answered."""

    def _wrong(self, size: int) -> WrongAnswer:
        came = bytes(self._text[: min(size, 50)])
        return WrongAnswer(
            f"{self._drive.target.where} answered with another datagram, of {size} bytes, {repr(came)[1:]}:"
            " say what is right with --expect, or look at what the server does"
        )

    def forget(self) -> int:
        """Give up what was not answered; say how many datagrams that were."""
        lost = sum(map(bool, self._places)) if self._numbered else len(self._out)
        if lost and self._numbered:
            self._places[:] = [0] * _WINDOW
        self._out.clear()
        self.unsent.clear()
        self.flying = 0
        return lost

    def start(self) -> None:
        """See `Client`."""

    def stop(self) -> None:
        """See `Client`."""
        self.unsent.clear()
        self._drive.want(self, READ)

    def waits(self) -> bool:
        """See `Client`."""
        return self.flying > 0

    def close(self) -> None:
        """See `Client`."""
        self.sock.close()


class DatagramDrive(Drive):
    """What the loads of datagrams have in common: what does not come is lost, and is no stall."""

    def idle_is_well(self) -> bool:
        """See `Drive`."""
        return True

    def _drain(self, outcome: Outcome) -> None:
        # What is on its way has its patience; what was lost is known after that.
        give_up = clock() + int(self.load.patience * NANO)
        while clock() < give_up and any(client.waits() for client in self.clients.values()):
            self.poll(0.01)
        count_lost(self, outcome)

    def began(self) -> None:
        """See `Drive`."""
        forget_all(self)
        super().began()


def forget_all(drive: Drive) -> None:
    """Begin anew: nothing that left before counts."""
    for client in drive.clients.values():
        if isinstance(client, DatagramClient):
            client.forget()


def count_lost(drive: Drive, outcome: Outcome) -> None:
    """Put into the outcome what became of the datagrams.

    Raises:
        ConnectionLost: none was answered.
    """
    clients = [client for client in drive.clients.values() if isinstance(client, DatagramClient)]
    drive.lost += sum(client.forget() for client in clients)
    outcome.lost = 0 if drive.load.expect == "none" else max(0, drive.lost)
    outcome.doubled, outcome.reordered = drive.doubled, drive.reordered
    outcome.jitter = sum(client.jitter for client in clients) / max(1, len(clients)) / NANO
    if drive.load.expect != "none" and drive.sent and not drive.messages:
        raise ConnectionLost(
            f"{drive.target.where} answered none of {drive.sent} datagrams: look whether it runs, and what it"
            " answers, or expect nothing with --expect none"
        )


class PingPongDatagrams(DatagramClient):
    """Sends the next when one was answered."""

    __slots__ = ("lost_at",)

    def start(self) -> None:
        """See `Client`."""
        self.fill(clock())

    def fill(self, now: int) -> None:
        """Have as many under way as there are to be."""
        self.lost_at = now + int(self._drive.load.patience * NANO)
        while self.flying + len(self.unsent) < self._drive.load.in_flight:
            if not self.leave(now):
                break

    def answered(self, now: int) -> None:
        """See `DatagramClient`."""
        if not self._drive.over:
            self.fill(now)


class DatagramPingPong(DatagramDrive):
    """A closed loop: what is not answered within the patience is lost, and another takes its place."""

    _looked = 0

    def client(self, sock: socket.socket, opening: Opening) -> PingPongDatagrams:  # noqa: ARG002
        """See `Drive`."""
        return PingPongDatagrams(self, sock)

    def pace(self, now: int) -> float:
        """See `Drive`."""
        if now - self._looked > NANO // 20:
            self._looked = now
            for client in self.clients.values():
                if isinstance(client, PingPongDatagrams) and now > client.lost_at:
                    self.lost += client.forget()
                    client.fill(now)
        return 0.05


class PouringDatagrams(DatagramClient):
    """Sends as fast as it goes."""

    __slots__ = ()

    def start(self) -> None:
        """See `Client`."""
        self._drive.want(self, READ | WRITE)

    def room(self) -> None:
        """See `DatagramClient`."""
        if self._drive.over:
            self._drive.want(self, READ)
            return
        now = clock()
        for _ in range(_BURST):
            if not self._push(now):
                break


class DatagramPouring(DatagramDrive):
    """As many datagrams as go, whatever becomes of them."""

    def client(self, sock: socket.socket, opening: Opening) -> PouringDatagrams:  # noqa: ARG002
        """See `Drive`."""
        return PouringDatagrams(self, sock)


class DatagramOpenLoop(DatagramDrive, OpenLoop):
    """A fixed rate of datagrams."""

    def client(self, sock: socket.socket, opening: Opening) -> DatagramClient:  # noqa: ARG002
        """See `Drive`."""
        return DatagramClient(self, sock)
