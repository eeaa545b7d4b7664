"""Where the answers of one conversation in datagrams go: through the socket that all of them share."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hailer.endpoint import Endpoint, from_sockaddr
from hailer.text import printable

if TYPE_CHECKING:
    import socket

    from hailer.net.address import RawAddress

__all__ = ["Drops", "Outlet", "SharedSocket"]

log = logging.getLogger("hailer.net")

Control = list[tuple[int, int, bytes]]
"""Ancillary data for sendmsg: from which of our addresses an answer leaves."""


class SharedSocket:
    """A bound socket that its listener and its conversations hold together; the last one closes it.

    A descriptor of its own for each conversation would cost a third of those that there are.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._lock = threading.Lock()
        self._holders = 1

    def hold(self) -> None:
        """Count one more holder."""
        with self._lock:
            self._holders += 1

    def release(self) -> None:
        """Count one less; the last closes the socket."""
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self.socket.close()


@dataclass(slots=True)
class Drops:
    """Datagrams that a listener, or a conversation of it in this process, has dropped, by their reason.

    Attributes:
        full: the conversation did not read what had come before.
        barred: from ports that are never answered, or from ourselves.
        excess: answers over the bytes that may go to an address that has not proved itself.
        refused: from new peers, while no more conversations are taken or no descriptor is left.
        evicted: conversations (not datagrams) that were ended to make room for new ones.
    """

    full: int = 0
    barred: int = 0
    excess: int = 0
    refused: int = 0
    evicted: int = 0
    _last_log: float = field(default=-1.0, repr=False)

    def note(self, endpoint: Endpoint, what: str, peer: RawAddress) -> None:
        """Log what was dropped, at most once a second for all that a listener drops."""
        now = time.monotonic()
        if self._last_log < 0 or now - self._last_log >= 1:
            self._last_log = now
            name = printable(from_sockaddr(endpoint.scheme, peer).address_text)
            log.warning("%s: %s, last that of %s; so far %s", endpoint, what, name, self)

    def __str__(self) -> str:
        return (
            f"{self.full} for conversations that do not read, {self.barred} from barred senders, "
            f"{self.excess} answers in excess, {self.refused} refused; {self.evicted} conversations evicted"
        )


class Outlet:
    """Sends the answers of one conversation to its peer.

    Args:
        shared: the bound socket; held until `close`.
        endpoint: what the listener listens on, for the log.
        address: the peer's.
        control: ancillary data that makes answers leave from the address that was asked.
        ratio: bytes that may be sent for each byte that came; None is no limit.
        drops: what to count in.

    Attributes:
        address: the peer's; empty when it has none and cannot be answered.
    """

    __slots__ = ("_allowance", "_closed", "_control", "_drops", "_endpoint", "_ratio", "_shared", "address")

    def __init__(
        self,
        shared: SharedSocket,
        endpoint: Endpoint,
        address: RawAddress,
        control: Control,
        ratio: float | None,
        drops: Drops,
    ) -> None:
        shared.hold()
        self._shared = shared
        self._endpoint = endpoint
        self.address = address
        self._control = control
        self._ratio = ratio
        self._allowance = 0.0
        self._drops = drops
        self._closed = False

    @property
    def family(self) -> int:
        """The address family of the bound socket."""
        return self._shared.socket.family

    def heard(self, size: int) -> None:
        """Count bytes that came from the peer: so many more may be answered (as in RFC 9000 section 8.1)."""
        if self._ratio is not None:
            self._allowance += size * self._ratio

    def send(self, record: bytes) -> None:
        """Send one datagram, without waiting; one that would be too much for this peer is dropped.

        Raises:
            BlockingIOError: there is no room for now.
            OSError: as sendto(2) has them.
        """
        if self._ratio is not None and len(record) > self._allowance:
            self._drops.excess += 1
            self._drops.note(self._endpoint, "an answer larger than its question was dropped", self.address)
            return
        if self._control:
            self._shared.socket.sendmsg((record,), self._control, 0, self.address)
        else:
            self._shared.socket.sendto(record, self.address)
        if self._ratio is not None:
            self._allowance -= len(record)

    def close(self) -> None:
        """Let go of the bound socket; may be called twice."""
        if not self._closed:
            self._closed = True
            self._shared.release()
