"""One connection, as an edge sees it, and what is done with its bytes alone."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hailer.relay.core.session import Session

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from hailer.relay.core.session import Chunk
    from hailer.relay.edge.layers import Layers

__all__ = ["DONTWAIT", "LAYERED", "Gate", "Link", "encode_piece", "remove", "who"]

_PIECE = 65536
"""Plaintext that becomes wire bytes at once."""

DONTWAIT = int(socket.MSG_DONTWAIT)  # the enum member would be converted with each call

LAYERED = ("tls", "ws", "wss")
"""Kinds of endpoints whose connections have layers."""


class Link(Session):
    """A session and its socket.

    Attributes:
        sock: the connection.
        fd: its descriptor.
        source: the address that the limit for each source counts by; empty where it does not count.
        mute_since: when it was first seen not to acknowledge what it was sent; 0 for not.
        layers: TLS and WebSocket, where the endpoint has them: then what the socket carries is not what the
            core says and hears. `_feed` and `_write_layers` are the ways for these.
        wired: the first chunk is of wire bytes already, made by the layers.
        finished: all was written and the sending side is shut down; what comes is thrown away.
        interest: what the edge waits for on it.
        bulk: its last read filled the whole buffer: a larger one pays.
    """

    __slots__ = ("bulk", "fd", "finished", "interest", "layers", "mute_since", "sock", "source", "wired")

    def __init__(self, sock: socket.socket, peer: str, source: str, now: float) -> None:
        super().__init__(peer, now)
        self.sock = sock
        self.fd = sock.fileno()
        self.source = source
        self.finished = False
        self.interest = 0
        self.mute_since = 0.0
        self.bulk = False
        self.layers: Layers | None = None
        self.wired = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What the layers of new connections go by.

    Attributes:
        tls: the certificate and whom to ask for theirs; None where no endpoint has TLS.
        paths: of each port that serves one WebSocket path only, that path.
        origins: the origins of pages that may connect by WebSocket; None for the page's own host only.
        max_message: the most bytes of one WebSocket message.
        pem: what was in the files that `tls` was made of, for other processes to make it too: by the names of
            `server_context`'s arguments; None where nobody else does.
        optional: the argument of that name.
    """

    tls: ssl.SSLContext | None = None
    paths: Mapping[int | str | None, str] = field(default_factory=dict)
    origins: Sequence[str] | None = None
    max_message: int = 1 << 20
    pem: Mapping[str, bytes] | None = None
    optional: bool = False


def remove(chunks: list[Chunk], size: int) -> None:
    """Take so many bytes away from the front."""
    whole = 0
    while whole < len(chunks) and size >= len(chunks[whole]):
        size -= len(chunks[whole])
        whole += 1
    del chunks[:whole]
    if size:
        # a view, so that a large rest is not copied with each write
        chunks[0] = memoryview(chunks[0])[size:]


def who(session: Session) -> dict[str, str]:
    """What a line of the log says of a connection."""
    return {"peer": session.peer, "name": session.name.decode() or "-"}


def encode_piece(chunks: list[Chunk], layers: Layers) -> tuple[bytes, int]:
    """Make wire bytes of the first chunks, a piece of them at most, and take them away.

    Returns:
        The wire bytes, and of how many bytes they were made.
    """
    count, size = 1, len(chunks[0])
    while count < len(chunks) and size + len(chunks[count]) <= _PIECE:
        size += len(chunks[count])
        count += 1
    if size > _PIECE:
        whole = memoryview(chunks[0])
        size = layers.cut(whole, _PIECE)
        data = bytes(whole[:size])
        chunks[0] = whole[size:]
        return layers.encode(data), size
    data = b"".join(chunks[:count])
    del chunks[:count]
    return layers.encode(data), size
