"""Connections themselves as the load: opened, used once and closed; or opened and held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hailer.errors import HailerError
from hailer.tools.bench.wire.drive import NANO, Drive
from hailer.tools.bench.wire.load import WrongAnswer, clock
from hailer.tools.bench.wire.poller import WRITE
from hailer.tools.bench.wire.streams import StreamClient

if TYPE_CHECKING:
    import socket

    from hailer.tools.bench.wire.channel import Opening
    from hailer.tools.bench.wire.load import Outcome

__all__ = ["Connecting", "Idling"]

_KINDS_OF_ERRORS: Final = 8
"""Different sentences that are kept."""

_IN_A_ROW: Final = 100
"""Failures in a row that end it."""

_AFTER_FAILURE: Final = NANO // 50
"""Nanoseconds that a place stays empty after a failure."""


class OnceClient(StreamClient):
    """Has one message answered and makes way for the next."""

    __slots__ = ("_began", "_due", "_to_the_end")

    def __init__(self, drive: Connecting, sock: socket.socket, began: int) -> None:
        super().__init__(drive, sock)
        self._began = began
        expect = drive.load.expect
        self._to_the_end = expect == "eof"
        self._due = expect != "none" and (self.size > 0 or expect not in ("echo", "exact"))
        # Every connection begins with the first message.
        self.owed = self.size

    def start(self) -> None:
        """See `Client`."""
        if self.owed:
            self.drive.sent += 1
            self.flush()
        if not self.owed and not self._due:
            self._done(clock())

    def flush(self) -> None:
        """See `StreamClient`."""
        super().flush()
        if not self.owed and not self._due:
            self._done(clock())

    def answered(self, done: int, now: int) -> None:  # noqa: ARG002
        """See `StreamClient`."""
        if not self._to_the_end:
            self._done(now)

    def ended(self) -> None:
        """See `StreamClient`."""
        if not self._to_the_end:
            raise self.drive.lost_client(None)
        self._done(clock())

    def ready(self, mask: int) -> None:
        """See `Client`; what goes wrong is this connection's alone."""
        try:
            if mask & WRITE:
                self.flush()
            if mask & ~WRITE and self.drive.clients.get(self.fd) is self:
                self.hear()
        except WrongAnswer:
            raise
        except HailerError as error:
            assert isinstance(self.drive, Connecting)
            self.drive.drop(self)
            self.drive.note(error)

    def _done(self, now: int) -> None:
        drive = self.drive
        if drive.clients.get(self.fd) is not self:
            return  # done already
        drive.messages += 1
        drive.latency.record(now - self._began)
        assert isinstance(drive, Connecting)
        drive.in_a_row = 0
        drive.drop(self)
        drive.free += 1

    def waits(self) -> bool:
        """See `Client`."""
        return True


class Connecting(Drive):
    """As many clients as there are places connect, say one thing, hear the answer, and close."""

    free = 0  # places that are to be filled
    in_a_row = 0  # failures
    finishes = True
    _fill_at = 0
    _last: HailerError | None = None

    def client(self, sock: socket.socket, opening: Opening) -> OnceClient:
        """See `Drive`."""
        return OnceClient(self, sock, opening.began)

    def connect(self) -> None:
        """See `Drive`: only the address is looked for."""
        self.target.find().close()

    def began(self) -> None:
        """See `Drive`."""
        self.free = self.load.clients
        self._last = None

    def saw_nothing(self) -> bool:
        """See `Drive`.

        Raises:
            HailerError: what went wrong with all connections.
        """
        if not self.messages and self._last is not None:
            raise self._last
        return super().saw_nothing()

    def _drain(self, outcome: Outcome) -> None:
        super()._drain(outcome)
        self.close_openings()
        for client in list(self.clients.values()):
            self.drop(client)

    def _begin(self) -> None:
        super()._begin()
        self.opened = 0
        self.connecting.clear()

    def failed(self, opening: Opening, error: HailerError) -> None:  # noqa: ARG002
        """See `Drive`: it counts, and the place is filled again."""
        self.note(error)

    def note(self, error: HailerError) -> None:
        """Count a connection that failed.

        Raises:
            HailerError: none succeeded for a while.
        """
        self._last = error
        text = str(error)
        if text not in self.errors and len(self.errors) >= _KINDS_OF_ERRORS:
            text = "other errors"
        self.errors[text] = self.errors.get(text, 0) + 1
        self.in_a_row += 1
        if self.in_a_row >= max(_IN_A_ROW, 2 * self.load.clients) or (
            not self.messages and self.in_a_row > 20
        ):
            raise error
        self.free += 1
        self._fill_at = clock() + _AFTER_FAILURE

    def pace(self, now: int) -> float:
        """See `Drive`."""
        if not self.free:
            return super().pace(now)
        if now < self._fill_at:
            return (self._fill_at - now) / NANO
        count, self.free = self.free, 0
        for _ in range(count):
            self.open_one()
        # Where the system connects at once and nothing is to be answered, places are free again by now.
        return 0.0 if self.free else super().pace(now)


class IdleClient(StreamClient):
    """Says nothing."""

    __slots__ = ()

    def answered(self, done: int, now: int) -> None:
        """See `StreamClient`: what a server says unasked is let by."""

    def waits(self) -> bool:
        """See `Client`."""
        return False


class Idling(Drive):
    """Connections that are there, and that is all."""

    def client(self, sock: socket.socket, opening: Opening) -> IdleClient:  # noqa: ARG002
        """See `Drive`."""
        return IdleClient(self, sock)

    def idle_is_well(self) -> bool:
        """See `Drive`."""
        return True

    def saw_nothing(self) -> bool:
        """See `Drive`."""
        return False
