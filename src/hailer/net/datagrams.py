"""Conversations out of datagrams: one for each peer of a bound socket.

A listener on datagrams looks like one on connections. It reads each datagram from the bound socket and
forwards it into a pair of connected Unix sockets, one pair for each peer; the other end of the pair is what
is accepted. Whoever has that end pulls datagrams from it and answers through the bound socket (`Outlet`),
so that the same transport works under every concurrency model, and in a forked child too. The buffer of a
pair bounds what waits for a handler; what comes on top is dropped, as the network would, and counted.

What is forwarded has one byte before it, since an empty datagram is not the end:

    DATAGRAM  the datagram follows
    TOO_LONG  a datagram came that is longer than the limit that follows (8 bytes, the most significant first)
    END       there is no more; the end of the pair says the same where a pair has one

The source of a datagram can be forged. So answers never go to ports whose services answer everything, nor to
ourselves, for two servers could then answer each other for ever, and nobody gets more bytes than came from
there, for an attacker could have a victim flooded. Peers on this machine are exempt from the last rule.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import sys
from collections import OrderedDict, deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from hailer.endpoint import from_sockaddr
from hailer.net.listener import Accepted, Listener, SocketFile
from hailer.net.outlet import Control, Drops, Outlet, SharedSocket

if TYPE_CHECKING:
    from hailer.endpoint import Endpoint
    from hailer.net.address import RawAddress

__all__ = ["AMPLIFICATION", "DATAGRAM", "END", "MOST_PEERS", "DatagramListener"]

DATAGRAM, TOO_LONG, END = 0, 1, 2

MOST_PEERS = 1000
"""Conversations that a listener keeps; then the one idle for longest makes way."""

AMPLIFICATION = 1.0
"""Bytes that may go to a peer that is not on this machine for each byte that came from there."""

BARRED_PORTS = frozenset({0, 7, 13, 17, 19, 37, 53, 123})
"""Ports that are never answered: services there answer whatever comes, or are favourites of reflection."""

_BATCH = 256  # datagrams forwarded before others get their turn
_AHEAD = 64  # conversations begun before they are accepted
_SLOW = 0.1  # seconds that some wait without a break, after which no more are begun than are accepted
_UDP_ROOM = 65536  # the longest datagram has 65,527 bytes
_UNIX_ROOM = 256 * 1024  # senders have at most 208 KiB unless they ask for more (Linux)
_UDP_PAIR = 128 * 1024
_KEEP = 1.0  # seconds of silence after which a conversation makes way while no more are taken

_PAIR = (
    getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM) if sys.platform != "darwin" else socket.SOCK_DGRAM
)
# Python has a name for it only from 3.14; the number is that of ip(7).
_IP_PKTINFO: int | None = getattr(socket, "IP_PKTINFO", 8 if sys.platform == "linux" else None)
_RECVPKTINFO: int | None = getattr(socket, "IPV6_RECVPKTINFO", None)
_IPV6_PKTINFO: int | None = getattr(socket, "IPV6_PKTINFO", None)

_Key = tuple[Any, bytes]  # the address of the peer, and which of ours it asked


class _Conversation:
    """This side of one pair."""

    __slots__ = ("end", "heard", "key")

    def __init__(self, key: _Key, end: socket.socket) -> None:
        self.key = key
        self.end = end
        self.heard = monotonic()


class DatagramListener(Listener):
    """A bound datagram socket, from which conversations are accepted.

    Args:
        sock: the bound socket; owned from now on.
        endpoint: what it listens on.
        file: the file to remove with it.
        name: the name that whoever passed it gave it.
        most: how many conversations to keep.
        amplification: bytes that may go to a UDP peer that is not on this machine for each that came.

    Attributes:
        drops: what was dropped so far.
    """

    def __init__(
        self,
        sock: socket.socket,
        endpoint: Endpoint,
        *,
        file: SocketFile | None = None,
        name: str = "",
        most: int = MOST_PEERS,
        amplification: float = AMPLIFICATION,
    ) -> None:
        super().__init__(sock, endpoint, file=file, name=name)
        sock.setblocking(False)
        self.drops = Drops()
        self._most = most
        self._amplification = amplification
        self._shared = SharedSocket(sock)
        self._own: RawAddress = sock.getsockname()
        self._is_udp = sock.family != socket.AF_UNIX
        self._ancillary = _ask_for_local_address(sock)
        self._buffer = bytearray(1 + (_UDP_ROOM if self._is_udp else _UNIX_ROOM))
        self._view = memoryview(self._buffer)
        self._room = (self._view[1:],)
        self._table: OrderedDict[_Key, _Conversation] = OrderedDict()
        self._ahead: deque[Accepted] = deque()  # begun, not accepted yet
        self._ahead_since = 0.0  # when it was empty last
        self._closed = False
        # It tells of the bound socket and of pairs whose other end was closed, by one descriptor.
        self._selector = selectors.DefaultSelector()
        self._events = selectors.EVENT_READ
        self._selector.register(sock, self._events)

    @property
    def forwards(self) -> bool:
        return not self.single

    def fileno(self) -> int:
        if self._closed:
            return -1
        if self.single:
            return self.socket.fileno()
        return self._selector.fileno()  # epoll and kqueue have one

    def expect(self, connections: int) -> None:
        # Fewer, so that a new peer takes the place of one that is silent before no more can be accepted.
        self._most = min(self._most, max(1, connections * 9 // 10))

    def accept(self) -> Accepted:
        """Forward what has come, and accept the first of the new peers.

        Whoever accepts may be slow, as one that makes a process for each peer. So what came is read ahead
        of that: a flood of new peers delays nobody who has a conversation already.

        Raises:
            BlockingIOError: there is none for now, or others are to get their turn.
            OSError: no descriptor is left for a pair; the datagram is lost.
        """
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._table:
            self._release_ended()
        try:
            self._read()
            if self.paused:
                self._forget_ahead()
            if not self._ahead:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return self._ahead.popleft()
        finally:
            self._watch_ahead()

    def _read(self) -> None:
        """Forward what has come, and begin conversations with new peers as far as they are accepted."""
        for _ in range(_BATCH):
            full = len(self._ahead) >= (1 if self.single else _AHEAD)
            if full and (self.single or monotonic() - self._ahead_since < _SLOW):
                return  # the rest can wait where it is
            try:
                size, ancillary, flags, address = self.socket.recvmsg_into(self._room, self._ancillary)
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # some systems tell here that an answer found nobody
            key = (address, _asked(ancillary) if ancillary else b"")
            record = self._record(size, flags)
            conversation = self._table.get(key)
            if conversation is not None:
                self._table.move_to_end(key)
                if self._forward(conversation, record):
                    continue
                self._release(conversation)  # its handler ended meanwhile: this one begins another
            if self._is_barred(address):
                self.drops.barred += 1
                self.drops.note(self.endpoint, "a datagram from a barred sender was dropped", address)
            elif self.paused or full:
                self._refuse(address)
            else:
                if not self._ahead:
                    self._ahead_since = monotonic()
                self._ahead.append(self._begin(key, record))

    def close(self) -> None:
        """Stop listening; may be called twice. Conversations go on, and nothing more comes to them.

        A forked child closes its descriptors, and leaves everything else to its parent.
        """
        if self._closed:
            return
        self._closed = True
        if os.getpid() == self._owner:
            if self._file is not None:
                self._file.remove()
            for conversation in self._table.values():
                _end(conversation.end)
        for accepted in self._ahead:
            accepted.close()
        self._ahead.clear()
        # Not unregistered: in a forked child that would reach into the parent's selector.
        self._selector.close()
        for conversation in self._table.values():
            conversation.end.close()
        self._table.clear()
        self._shared.release()

    def _record(self, size: int, flags: int) -> memoryview:
        """What to forward for what stands in the buffer now."""
        if flags & socket.MSG_TRUNC:
            return memoryview(_too_long(len(self._buffer) - 1))
        return self._view[: 1 + size]

    def _forward(self, conversation: _Conversation, record: memoryview) -> bool:
        """Pass a datagram on; tell whether the conversation still is, not whether there was room."""
        conversation.heard = monotonic()
        try:
            _put(conversation.end, record)
        except OSError as error:
            if not isinstance(error, BlockingIOError) and error.errno != errno.ENOBUFS:
                return False
            self.drops.full += 1
            self.drops.note(self.endpoint, "a datagram was dropped", conversation.key[0])
        return True

    def _begin(self, key: _Key, record: memoryview) -> Accepted:
        address, asked = key
        try:
            inner, end = socket.socketpair(socket.AF_UNIX, _PAIR)
        except OSError:
            self._refuse(address)
            raise
        try:
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UDP_PAIR if self._is_udp else _UNIX_ROOM)
            _put(end, record)
            if self.single:
                _end(end)
                end.close()
            else:
                if len(self._table) >= self._most:
                    self._evict()
                self._selector.register(end, selectors.EVENT_READ, key)
                self._table[key] = _Conversation(key, end)
        except BaseException:
            inner.close()
            end.close()
            raise
        return Accepted(
            inner,
            "record",
            self.endpoint.scheme,
            address or "",
            self._local(asked),
            Outlet(
                self._shared,
                self.endpoint,
                address or "",
                _leaving_from(asked),
                self._amplification if self._is_udp and not self._is_loopback(address) else None,
                self.drops,
            ),
        )

    def _refuse(self, address: RawAddress) -> None:
        """Drop a datagram of a new peer, and make room for its next one, if some other is silent."""
        self.drops.refused += 1
        self.drops.note(self.endpoint, "a datagram of a new peer was dropped", address)
        oldest = next(iter(self._table.values()), None)
        if oldest is not None and monotonic() - oldest.heard > _KEEP:
            self._evict()

    def _watch_ahead(self) -> None:
        """Be readable as long as there is something to accept: what was begun, too."""
        if self.single or self._closed:
            return
        # Of the bound socket, which has room to write nearly always and soon again, that makes it so.
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._ahead else 0)
        if events != self._events:
            self._events = events
            self._selector.modify(self.socket, events)

    def _forget_ahead(self) -> None:
        """Let go of new peers that cannot be served now."""
        while self._ahead:
            accepted = self._ahead.popleft()
            accepted.close()  # its pair is released when that is seen at the other end
            self.drops.refused += 1
            self.drops.note(self.endpoint, "a datagram of a new peer was dropped", accepted.address)

    def _evict(self) -> None:
        conversation = next(iter(self._table.values()))
        self.drops.evicted += 1
        self.drops.note(self.endpoint, "a conversation was ended to make room", conversation.key[0])
        _end(conversation.end)
        self._release(conversation)

    def _release_ended(self) -> None:
        """Let go of the pairs whose other end was closed."""
        for ready, _ in self._selector.select(0):
            if ready.data is not None:
                self._release(self._table[ready.data])

    def _release(self, conversation: _Conversation) -> None:
        del self._table[conversation.key]
        self._selector.unregister(conversation.end)
        conversation.end.close()

    def _local(self, asked: bytes) -> RawAddress:
        if not asked:
            return self._own
        family = socket.AF_INET if len(asked) == 4 else socket.AF_INET6
        return (socket.inet_ntop(family, asked[:16]), *self._own[1:])

    def _is_barred(self, address: RawAddress) -> bool:
        if not self._is_udp:
            return address == self._own and bool(address)
        host, port, *_ = cast("tuple[str, int]", address)
        # Only who has our own port can be ourselves, and only then is the question whether worth a socket.
        return port in BARRED_PORTS or (port == self._own[1] and _is_ours(self.socket.family, host))

    def _is_loopback(self, address: RawAddress) -> bool:
        return from_sockaddr(self.endpoint.scheme, address).is_loopback


def _put(end: socket.socket, record: memoryview) -> None:
    """Put a record into a pair, without waiting; one that is too large for it is said to be too long."""
    try:
        end.send(record)
    except OSError as error:
        if error.errno != errno.EMSGSIZE:
            raise
        end.send(_too_long(len(record) - 2))


def _end(end: socket.socket) -> None:
    """Say that there is no more, also to those who hold copies of this end after a fork."""
    with suppress(OSError):
        if end.type == socket.SOCK_DGRAM:
            end.send(bytes((END,)))
        else:
            end.shutdown(socket.SHUT_WR)


def _too_long(limit: int) -> bytes:
    return bytes((TOO_LONG,)) + limit.to_bytes(8, "big")


def _is_ours(family: int, host: str) -> bool:
    """Say whether a host is an address of this machine; asking sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


# Of a socket that is bound to all addresses, an answer would leave from any: the peer would not know it. So
# each datagram tells to which address it came (RFC 3542 section 6.2, ip(7)), where the system can.


def _ask_for_local_address(sock: socket.socket) -> int:
    """Have a socket tell to which address datagrams come, if it is bound to all; give the room this takes."""
    if sock.family == socket.AF_UNIX or sock.getsockname()[0] not in ("0.0.0.0", "::"):  # noqa: S104
        return 0
    with suppress(OSError):
        if sock.family == socket.AF_INET and _IP_PKTINFO is not None:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            return socket.CMSG_SPACE(12)
        if sock.family == socket.AF_INET6 and _RECVPKTINFO is not None:
            sock.setsockopt(socket.IPPROTO_IPV6, _RECVPKTINFO, 1)
            return socket.CMSG_SPACE(20)
    return 0


def _asked(ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """To which address a datagram came: 4 bytes, or 16 and the index of its interface; empty if unknown."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            return data[4:8]
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO and data[0] != 0xFF:  # no multicast
            return data[:20]
    return b""


def _leaving_from(asked: bytes) -> Control:
    """Ancillary data that makes a datagram leave from that address."""
    if not asked:
        return []
    if len(asked) == 4:
        assert _IP_PKTINFO is not None
        return [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("i4s4s", 0, asked, bytes(4)))]
    assert _IPV6_PKTINFO is not None
    link_local = asked[0] == 0xFE and asked[1] & 0xC0 == 0x80
    return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, asked if link_local else asked[:16] + bytes(4))]
