"""What the transports that call their stream socket themselves have in common: blocking and ready ones."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from hailer.errors import ConnectionLost, HailerError, TimedOut
from hailer.net.oserrors import Doing, map_os_error
from hailer.runtime.sockets import RESET_ON_CLOSE, Names, acknowledge, closed_error, discard, finished_error

if TYPE_CHECKING:
    from hailer.net.address import RawAddress

__all__ = ["DONT_WAIT", "SocketStream"]

DONT_WAIT: Final = int(socket.MSG_DONTWAIT)
"""As a plain number: an enumeration's member is made into one at each call."""


class SocketStream(Names):
    """A stream socket, what it can still be used for, and how it is left.

    Args:
        sock: a connected stream socket, owned from now on.
        scheme: the kind of its endpoints, such as ``tcp``.
        peer: the address of the peer where accept has told it.
    """

    __slots__ = ("_closed", "_cut", "_finished", "_shut", "_socket")

    def __init__(self, sock: socket.socket, scheme: str, peer: RawAddress | None = None) -> None:
        super().__init__(sock, scheme, peer)
        self._socket = sock
        self._closed = False
        self._finished = False
        self._cut = False  # a push has sent only a part: what is pushed next would follow a gap
        self._shut = False  # for one of these reasons nothing can be pushed

    async def finish(self) -> None:
        if self._closed:
            raise closed_error()
        if not self._finished:
            self._finished = self._shut = True
            try:
                self._socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                raise self._explain(error, "send") from error

    def acknowledge(self) -> None:
        """See `hailer.runtime.sockets.acknowledge`."""
        acknowledge(self._socket)

    def _take_leave(self) -> None:
        """Say goodbye and throw away what has come: see `hailer.runtime.sockets.discard`."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            discard(self._socket)
        except OSError:
            pass  # the peer has gone: there is nothing to take leave of

    def _reset_on_close(self) -> None:
        with suppress(OSError):  # the peer has gone already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)

    def _refusal(self) -> HailerError:
        """Why nothing can be pushed."""
        if self._closed:
            return closed_error()
        if self._finished:
            return finished_error()
        return ConnectionLost("an earlier message was cut off by its time-out: open another connection")

    def _no_room(self) -> TimedOut:
        return TimedOut(f"{self.peer} made no room to send in time: it does not read; close the connection")

    def _explain(self, error: OSError, doing: Doing) -> HailerError:
        return closed_error() if self._closed else map_os_error(error, doing, self.peer.address_text)
