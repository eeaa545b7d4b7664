"""Who is logged in at the relay for one measurement, and what passes over each connection."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hailer.tools.bench.relay.dialects import Dialect, Step

__all__ = [
    "RECEIVE_SIZE",
    "SEND_SIZE",
    "Lane",
    "LoadError",
    "Party",
    "converse",
    "hear",
    "make_window",
    "polling",
]

SEND_SIZE = 64 * 1024
RECEIVE_SIZE = 128 * 1024
LOGIN_TIMEOUT = 20.0  # seconds for one answer during a login
SETTLE_TIMEOUT = 30.0  # seconds for all the talk that follows the logins


class LoadError(Exception):
    """The relay did not do its work; the message says what was seen."""


class Lane:
    """One connection and the run of messages that passes over it again and again.

    Attributes:
        name: who is logged in on it.
        period: bytes of one run.
        window: the run repeated until any `SEND_SIZE` or `RECEIVE_SIZE` bytes of the stream are one slice.
        place: where in the run the stream stands.
        left: bytes that are still to pass.
    """

    __slots__ = ("left", "name", "period", "place", "sock", "window")

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self.sock = sock
        self.period = 0
        self.window = memoryview(b"")
        self.place = 0
        self.left = 0

    def read_into(self, space: memoryview) -> int:
        """Read once; returns how many bytes came.

        Raises:
            LoadError: the relay has closed the connection.
        """
        try:
            size = self.sock.recv_into(space)
        except ConnectionError:
            size = 0
        if not size:
            raise LoadError(f"the relay closed the connection of {self.name} with {self.left} to come")
        return size

    def carry(self, run: bytes, window: memoryview | None = None) -> None:
        """Let `run` be what passes here; lanes with the same run may share its window."""
        self.period = len(run)
        self.window = window if window is not None else make_window(run)

    def check(self, chunk: memoryview) -> None:
        """Compare what was received with what had to come, and move on.

        Raises:
            LoadError: the first difference, with the bytes around it.
        """
        whole = self.window.obj
        assert isinstance(whole, bytes)
        if not whole.startswith(chunk, self.place):
            due, got = whole[self.place : self.place + len(chunk)], bytes(chunk)
            at = next(i for i in range(len(got)) if got[i] != due[i])
            near = slice(max(0, at - 20), at + 60)
            raise LoadError(
                f"the relay garbled, lost or reordered a message to {self.name}: "
                f"it sent {got[near]!r} where {due[near]!r} was due"
            )
        self.place = (self.place + len(chunk)) % self.period
        self.left -= len(chunk)
        if self.left < 0:
            raise LoadError(f"the relay sent {self.name} more than was sent to it, {-self.left} bytes so far")


def make_window(run: bytes) -> memoryview:
    return memoryview(run * (max(SEND_SIZE, RECEIVE_SIZE) // len(run) + 2))


class Party:
    """Everybody who is logged in at the relay for one measurement."""

    def __init__(self, dialect: Dialect, port: int, stall: float) -> None:
        self.dialect = dialect
        self.port = port
        self.stall = stall
        self.senders: list[Lane] = []
        self.receivers: list[Lane] = []

    def log_in(self, name: str, hears: str | None) -> Lane:
        """Connect `name` and take it through its dialect's login.

        Raises:
            LoadError: the relay refused it or said nothing in time.
        """
        return Lane(name, self.connect(name, self.dialect.login(name, hears)))

    def connect(self, name: str, steps: list[Step]) -> socket.socket:
        """Connect, say every step and wait for its answer.

        Raises:
            LoadError: the relay refused one or said nothing in time.
        """
        return self.ask(name, steps)[0]

    def ask(self, name: str, steps: list[Step]) -> tuple[socket.socket, bytes]:
        """The same, with the group of the last answer, if that has one."""
        return converse(self.port, name, steps)

    def settle(self) -> None:
        """Wait until the relay has nothing more to say about the logins (joins, pings, presence).

        Raises:
            LoadError: it closed a connection, or never became silent.
        """
        lanes = {lane.sock.fileno(): lane for lane in self.everybody()}
        with polling(lanes, select.EPOLLIN) as poller:
            give_up = time.monotonic() + SETTLE_TIMEOUT
            while events := poller.poll(self.dialect.quiet):
                for fd, _ in events:
                    answer = self.dialect.reply(hear(lanes[fd]))
                    if answer:
                        lanes[fd].sock.send(answer)
                if time.monotonic() > give_up:
                    raise LoadError(
                        f"the relay did not become silent within {SETTLE_TIMEOUT:g} s of the logins"
                    )

    def everybody(self) -> list[Lane]:
        return self.senders + self.receivers

    def expect_silence(self) -> None:
        """After the last message: nobody may be told anything more.

        Raises:
            LoadError: somebody was.
        """
        lanes = {lane.sock.fileno(): lane for lane in self.receivers}
        with polling(lanes, select.EPOLLIN) as poller:
            for fd, _ in poller.poll(0.1):
                raise LoadError(f"after its last message {lanes[fd].name} was sent {hear(lanes[fd])[:100]!r}")

    def stalled(self) -> LoadError:
        """The error for a relay that has stopped, with what the senders were told meanwhile."""
        waiting = [lane for lane in self.receivers if lane.left]
        text = (
            f"the relay lost something or stopped: nothing came for {self.stall:g} s, and {len(waiting)} of "
        )
        text += f"{len(self.receivers)} receivers wait for more"
        for lane in self.senders:
            try:
                told = hear(lane)
            except BlockingIOError:
                continue
            except LoadError as error:
                return LoadError(f"{text}; {error}")
            if told and not self.dialect.is_confirmation(told):
                return LoadError(f"{text}; {lane.name} was told {told[:200]!r}")
        return LoadError(text)

    def close(self) -> None:
        for lane in self.everybody():
            lane.sock.close()


def converse(port: int, name: str, steps: list[Step]) -> tuple[socket.socket, bytes]:
    """Connect to a port of loopback, say every step and wait for its answer.

    Args:
        port: where a relay listens.
        name: who connects, for the error.
        steps: what is said, and what must come.

    Returns:
        The connection, which does not block any more, and the group of the last answer, if that has one.

    Raises:
        LoadError: the relay refused one or said nothing in time.
    """
    sock, heard, group = None, b"", b""
    try:
        sock = socket.create_connection(("127.0.0.1", port), timeout=LOGIN_TIMEOUT)
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
        sock.setblocking(False)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise LoadError(f"{name} could not log in: {error}; the last it heard was {heard[-200:]!r}") from None
    return sock, group


@contextlib.contextmanager
def polling(fds: Iterable[int], events: int) -> Iterator[select.epoll]:
    with select.epoll() as poller:
        for fd in fds:
            poller.register(fd, events)
        yield poller


def hear(lane: Lane) -> bytes:
    """What has arrived on a lane.

    Raises:
        LoadError: the relay has closed it.
        BlockingIOError: nothing has.
    """
    try:
        data = lane.sock.recv(65536)
    except ConnectionError:
        data = b""
    if not data:
        raise LoadError(f"the relay closed the connection of {lane.name} with {lane.left} to come")
    return data
