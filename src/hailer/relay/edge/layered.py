"""Links whose sockets carry something else than what the core says and hears: TLS, WebSocket or both."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from hailer.endpoint import from_sockaddr
from hailer.errors import HailerError
from hailer.logs import log_event
from hailer.relay.edge.base import Edge, log
from hailer.relay.edge.link import DONTWAIT, Link, encode_piece, remove, who

if TYPE_CHECKING:
    import socket

    from hailer.endpoint import Endpoint
    from hailer.relay.edge.layers import Layers


class LayeredEdge(Edge):
    """What both edges do for such links, told by `Link.layers`; plain ones never come here."""

    def _make_layers(self, sock: socket.socket, scheme: str, peer: Endpoint) -> Layers:
        # Loaded by those who use it: 30 ms, and some MiB.
        from hailer.relay.edge.layers import Layers  # noqa: PLC0415

        assert self.gate is not None
        return Layers(from_sockaddr(scheme, sock.getsockname()), peer, self.gate)

    def _feed(self, link: Link, raw: bytes, now: float) -> None:
        """Take what was read from a link with layers; ``b""`` is the end of its stream."""
        layers = link.layers
        assert layers is not None
        if link.closing:
            if not raw:
                self._ended(link, now)
            return
        agreeing = not layers.opened
        data = layers.feed(raw)
        if answer := layers.output():
            self._put_wire(link, answer)
            if self.links.get(link.fd) is not link:
                return
        if agreeing and layers.opened:
            link.certified = layers.certified
            self.relay.connect(link, now)
        if data:
            self.relay.receive(link, data, now)
        partial = layers.partial
        if partial and not (link.partial or link.input):
            link.input_since = now
        link.partial = partial
        if layers.failure is not None:
            self._layers_failed(link, layers, layers.failure, now, over=not raw)
        elif layers.ended:
            self._ended(link, now)
            if layers.ends_both and not (link.closing or link.backlog):
                self.relay.close(link, b"end of input")

    def _layers_failed(
        self, link: Link, layers: Layers, error: HailerError, now: float, *, over: bool
    ) -> None:
        """End a connection whose layers did not come to be, or broke."""
        if over and layers.opened:
            self._drop(link, str(error))
            return
        if link.closing and layers.speaks:
            return
        log_event(log, logging.INFO, "cut", **who(link), why=str(error))
        self.relay.counters.cut_other += 1
        if layers.speaks:
            self.relay.close(link, b"what came was no WebSocket message that a relay takes")
            return
        link.ended = over
        self.relay.give_up(link, now)
        # What the layers have said last still goes out; there is no way for anything else.
        del link.chunks[int(link.wired) :]
        link.waiting = sum(map(len, link.chunks))
        if link.chunks:
            self._write(link)
        else:
            self._finish(link)

    def _write_layers(self, link: Link, layers: Layers) -> None:
        """Write what waits for a peer behind layers, as much of it as its socket takes.

        Chunks become wire bytes a piece at a time, when the socket has taken the piece before: the rest waits
        as the core left it, shared with other receivers, and counts until it is written.
        """
        chunks, sent = link.chunks, 0
        try:
            while chunks:
                if not link.wired:
                    if not layers.opened:
                        self._drop(link, "nothing can be said to it")
                        return
                    _encode(link, layers)
                took = link.sock.send(chunks[0], DONTWAIT)
                sent += took
                link.wired = took < len(chunks[0])
                remove(chunks, took)
                if link.wired:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._drop(link, error.strerror or "lost")
            return
        except HailerError as error:
            self._drop(link, str(error))
            return
        if not (chunks or link.careful):
            link.waiting = 0
            return
        blocked = link.blocked
        self.relay.written(link, sent, time.monotonic())
        if link.blocked != blocked:
            self._update(link)
        if link.closing and not chunks:
            self._finish(link)

    def _put_wire(self, link: Link, raw: bytes) -> None:
        """Have wire bytes of the layers' own written, behind those that wait already."""
        if link.wired:
            link.chunks[0] = b"".join((link.chunks[0], raw))
        else:
            link.chunks.insert(0, raw)
            link.wired = True
        link.waiting += len(raw)
        if link.waiting > self.relay.outboxes.limit and not link.closing:
            self.relay.outboxes.hold(link, link)  # a peer that has us answer pings and does not read
        if not link.blocked:
            self._write(link)

    def _says_goodbye(self, link: Link, layers: Layers) -> bool:
        """See `Edge._says_goodbye`."""
        goodbye = layers.finish() if layers.opened else b""
        if goodbye:
            self._put_wire(link, goodbye)
        return bool(goodbye)


def _encode(link: Link, layers: Layers) -> None:
    raw, size = encode_piece(link.chunks, layers)
    link.chunks.insert(0, raw)
    link.waiting += len(raw) - size
    link.wired = True
