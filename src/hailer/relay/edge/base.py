"""What both edges share: links, writing, and carrying out what the core left to be done."""

from __future__ import annotations

import logging
import resource
import secrets
import socket
import time
import traceback
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import TYPE_CHECKING

from hailer.endpoint import from_sockaddr
from hailer.errors import UsageError
from hailer.logs import Seldom, log_event
from hailer.net.options import unanswered
from hailer.relay.core.relay import Relay
from hailer.relay.edge.link import DONTWAIT, LAYERED, Link, remove, who
from hailer.relay.store.memory import MemoryStore
from hailer.relay.store.thread import StoreThread
from hailer.runtime.model import AcceptTrouble, Counters
from hailer.runtime.sockets import prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from hailer.errors import StoreError
    from hailer.net.address import RawAddress
    from hailer.net.listener import Listener
    from hailer.relay.core.accounts import Accounts
    from hailer.relay.core.limits import Limits
    from hailer.relay.core.session import Session
    from hailer.relay.core.work import Work
    from hailer.relay.edge.layers import Layers
    from hailer.relay.edge.link import Gate
    from hailer.relay.store.base import Store

log = logging.getLogger("hailer.relay")

_GATHER = 65536
_MOST_PARTS = 64
"""Up to so many bytes chunks are joined, which is cheaper than a list for the kernel; beyond, the kernel
gathers so many chunks, for a large join would be copied in vain when the socket takes little of it."""

_ORDINARY = frozenset({"waiting", "idle_seconds", "ended_seconds", "rate"})
"""Limits that are met in the best of relays: no reason for a warning."""

_UNANSWERED = 60.0
_ASKED_AFTER = 10.0
"""Seconds for which a peer's system may leave bytes unacknowledged before the peer counts as gone, and
between two looks at who has been silent for as long."""

_SPARE_DESCRIPTORS = 32
"""Descriptors left to listeners, the event loop and whatever the process opens besides connections."""


class Edge(ABC):
    """Connections of one relay; subclasses say who waits for the sockets.

    Args:
        limits: of the relay.
        version: of the software.

    Attributes:
        gate: what the layers of new connections go by; may be replaced at any time, by any thread.
    """

    def __init__(self, limits: Limits, version: str) -> None:
        self.relay = Relay(
            limits,
            new_id=lambda: secrets.token_urlsafe(16).encode(),
            version=version,
            wall=time.time() - time.monotonic(),
        )
        relay = self.relay
        self._orders = (relay.dirty, relay.held, relay.released, relay.closing, relay.aborted)
        self._notices = relay.notices
        self._seldom = Seldom()
        self._next_look = 0.0
        self._told_limits = dict(relay.counters.met)
        self.gate: Gate | None = None
        self.links: dict[int, Link] = {}
        self.counters = Counters()
        self.trouble = AcceptTrouble(self.counters)
        self.most = min(limits.connections, _raise_descriptor_limit() - _SPARE_DESCRIPTORS)
        if self.most < 1:
            raise UsageError(
                "this process may open so few files that none is left for connections: raise the limit with"
                f" ulimit -n to {_SPARE_DESCRIPTORS * 2} or more"
            )
        if self.most < limits.connections:
            log_event(
                log,
                logging.WARNING,
                "few-descriptors",
                connections=self.most,
                wanted=limits.connections,
                advice="this process may open no more files: raise it with ulimit -n",
            )
        self._per_source: dict[str, int] = {}
        self._store: Store | None = None
        self._store_thread: StoreThread | None = None

    # the store

    def attach(self, store: Store) -> None:
        """Keep mail in a store, which is the edge's from now on; to be called before `serve`.

        Raises:
            StoreError: it cannot be read.
        """
        self._store = store  # first: it is to be closed also if it cannot be read
        self.relay.clock.now = time.monotonic()
        self.relay.mail.load(store.load())

    def detach(self) -> None:
        """Close the store of an edge that does not serve."""
        if self._store is not None and self._store_thread is None:
            self._store.close()

    def _open_store(self) -> None:
        self._store_thread = StoreThread(self._store or MemoryStore(), self._work_done)
        self._give_work()

    def _give_work(self) -> None:
        """Give the store what there is for it to do, if it is free; to be called when `Mail.stirred`."""
        work = self.relay.mail.next_work()
        if work is not None:
            assert self._store_thread is not None
            self._store_thread.start(work)

    def _stored(self, work: Work, result: object, error: StoreError | None) -> None:
        """Go on with what the store has done."""
        mail = self.relay.mail
        trouble, unreadable = mail.trouble, mail.delivery.unreadable
        self.relay.stored(work, result, error, time.monotonic())
        self._settle()
        if mail.trouble and not trouble:
            log_event(log, logging.ERROR, "mail-refused", why=mail.trouble)
        elif trouble and not mail.trouble:
            log_event(log, logging.WARNING, "mail-taken-again")
        if mail.delivery.unreadable and not unreadable:
            log_event(log, logging.ERROR, "mail-unreadable", why=mail.delivery.unreadable)
        self._give_work()

    def _close_store(self, seconds: float) -> None:
        unstored = self.relay.mail.journal.size
        if unstored:
            log_event(log, logging.WARNING, "mail-not-stored", bytes=unstored, advice="nor acknowledged")
        if self._store_thread is not None and not self._store_thread.close(seconds):
            log_event(log, logging.WARNING, "store-stuck", advice="it does not end and is left as it is")

    def _note_full(self) -> None:
        self.relay.counters.meet("connections")
        self.trouble.note(f"{self.most} connections is the limit")

    @abstractmethod
    def serve(self, listeners: list[Listener], ready: Callable[[], None], drain: float) -> None:
        """Serve until stopped, and everything is closed.

        Args:
            listeners: accepted on, and closed at the end.
            ready: called once when connections are accepted.
            drain: seconds that peers get to take their BYE after `stop`.
        """

    @abstractmethod
    def stop(self) -> None:
        """End politely; the second time, at once. To be called from any thread or a signal handler."""

    @abstractmethod
    def set_accounts(self, accounts: Accounts) -> None:
        """See `Relay.set_accounts`; done when it returns. From any thread, not from a signal handler."""

    @abstractmethod
    def _work_done(self, work: Work, result: object, error: StoreError | None) -> None:
        """Have `_stored` called where the core may be used; called in the store's thread."""

    @abstractmethod
    def _update(self, link: Link) -> None:
        """Wait for what this link needs now: see `_reads` and `Session.blocked`."""

    @abstractmethod
    def _release(self, link: Link) -> None:
        """Go on with a link whose reading was held."""

    @abstractmethod
    def _discard(self, link: Link) -> None:
        """Close the socket of a link of which everything else is forgotten."""

    @abstractmethod
    def _make_layers(self, sock: socket.socket, scheme: str, peer: Endpoint) -> Layers:
        """Make what stands between a new connection's socket and the core."""

    @abstractmethod
    def _write_layers(self, link: Link, layers: Layers) -> None:
        """Write what waits for a peer behind layers, as much of it as its socket takes."""

    @abstractmethod
    def _says_goodbye(self, link: Link, layers: Layers) -> bool:
        """Have the goodbye of the layers written, if they have one that was not said."""

    # new connections

    def _adopt(self, sock: socket.socket, scheme: str, address: RawAddress) -> Link | None:
        """Make a link of an accepted connection; None if it has gone already."""
        try:
            prepare(sock)
        except OSError:
            sock.close()
            return None
        peer = from_sockaddr(scheme, address)
        source = "" if peer.is_loopback else peer.host
        now = time.monotonic()
        link = Link(sock, str(peer), source, now)
        link.host = peer.host
        if scheme in LAYERED:
            link.layers = self._make_layers(sock, scheme, peer)
        self.links[link.fd] = link
        self.counters.accepted += 1
        self.counters.active += 1
        count = 0
        if source:
            count = self._per_source[source] = self._per_source.get(source, 0) + 1
        if count > self.relay.limits.per_source:
            self.relay.counters.meet("per_source", link)
            self.relay.refuse(link, b"too many connections from your address", now)
        elif link.layers is not None:
            self.relay.expect(link, now)
        else:
            self.relay.connect(link, now)
        return link

    def _drop(self, link: Link, why: str) -> None:
        """Forget a connection that is over, and close its socket."""
        if self.links.get(link.fd) is not link:
            return
        if link.layers is not None:
            link.layers.close()
        log_event(log, logging.INFO if link.online else logging.DEBUG, "gone", **who(link), why=why)
        self.relay.lost(link, time.monotonic())
        del self.links[link.fd]
        self.counters.active -= 1
        if link.source:
            left = self._per_source[link.source] - 1
            if left:
                self._per_source[link.source] = left
            else:
                del self._per_source[link.source]
        self._discard(link)

    def _look_round(self) -> None:
        """Do what is done now and then, after each tick of the core."""
        self._drop_the_mute()
        self._tell_limits()

    def _drop_the_mute(self) -> None:
        """Drop peers whose systems have not acknowledged for long what they were sent.

        The keep-alive of TCP does not ask while bytes are on their way, which are sent again for a quarter
        of an hour. TCP_USER_TIMEOUT would be shorter, but takes who only does not read for gone, too.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _ASKED_AFTER
        for link in list(self.links.values()):
            if now - link.heard < _ASKED_AFTER:
                continue
            try:
                state = unanswered(link.sock)
            except OSError:
                continue  # it has gone, and reading says so
            if state is None or state.silence < now - link.mute_since:
                link.mute_since = 0.0 if state is None else now
            elif now - link.mute_since >= _UNANSWERED:
                self.relay.counters.cut_other += 1
                self._drop(link, f"it did not acknowledge what it was sent for {_UNANSWERED:g} seconds")
        self._settle()

    def _fault(self, link: Link, error: Exception) -> None:
        """A fault of our own: it costs the client that met it its connection, and nobody else anything.

        `_settle` is to follow.
        """
        trace = (
            "".join(traceback.format_exception(error)) if log.isEnabledFor(logging.DEBUG) else "see with -vv"
        )
        log_event(log, logging.ERROR, "fault", **who(link), error=repr(error), trace=trace)
        self._drop(link, "a fault in hailer")

    # reading

    @staticmethod
    def _reads(link: Link) -> bool:
        """Whether what this peer sends is to be read now (thrown away, once it has had its BYE)."""
        return not link.ended and (link.closing or not link.holders)

    def _ended(self, link: Link, now: float) -> None:
        """The peer sends no more."""
        if self.links.get(link.fd) is not link:
            return  # its end here is that it was dropped
        if link.closing:
            link.ended = True
            if link.finished:
                self._drop(link, "closed by both sides")
                return
        else:
            self.relay.end(link, now)
        self._update(link)

    # accounts

    def _set_accounts(self, accounts: Accounts) -> None:
        self.relay.set_accounts(accounts, time.monotonic())
        self._settle()

    # writing

    def _write(self, link: Link) -> None:
        """Write what waits for one peer, as much of it as its socket takes."""
        if link.layers is not None:
            self._write_layers(link, link.layers)
            return
        chunks, waiting = link.chunks, link.waiting
        try:
            if len(chunks) == 1:
                sent = link.sock.send(chunks[0], DONTWAIT)
            elif waiting <= _GATHER:
                sent = link.sock.send(b"".join(chunks), DONTWAIT)
            else:
                sent = link.sock.sendmsg(chunks[:_MOST_PARTS], (), DONTWAIT)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._drop(link, error.strerror or "lost")
            return
        if sent == waiting:
            chunks.clear()
            if not link.careful:
                link.waiting = 0
                return
        else:
            remove(chunks, sent)
        blocked = link.blocked
        self.relay.written(link, sent, time.monotonic())
        if link.blocked != blocked:
            self._update(link)
        if link.closing and not chunks:
            self._finish(link)

    def _finish(self, link: Link) -> None:
        """The last word is out: tell the peer, and wait for its end, so that no reset overtakes it."""
        if link.finished:
            return
        if link.layers is not None and self._says_goodbye(link, link.layers):
            return  # it comes here again when that is written
        link.finished = True
        if link.ended:
            self._drop(link, "closed by both sides")
            return
        try:
            link.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._drop(link, error.strerror or "lost")
            return
        self._update(link)

    def _settle(self) -> None:
        """Carry out what the core left to be done, until nothing is left."""
        dirty, held, released, closing, aborted = self._orders
        while True:
            for link in dirty:
                if link.chunks:
                    try:
                        self._write(link)  # type: ignore[arg-type]  # the core's sessions are our links
                    except Exception as error:
                        # caught here: who called did so for somebody else, and the next are to be written
                        self._fault(link, error)  # type: ignore[arg-type]
            dirty.clear()
            if not (held or released or closing or aborted or self._notices):
                return
            self._carry_out()

    def _carry_out(self) -> None:
        relay = self.relay
        if self._notices:
            self._tell_notices()
        for session in _take(relay.held):
            if self.links.get(session.fd) is session:
                self._update(session)
        for session in _take(relay.released):
            if self.links.get(session.fd) is session and not session.holders:
                try:
                    self._release(session)
                except Exception as error:
                    self._fault(session, error)
        for session in _take(relay.closing):
            why = session.reason.decode("utf-8", "replace")
            log_event(log, logging.INFO, "cut" if session.cut else "bye", **who(session), why=why)
            if self.links.get(session.fd) is session:
                self._update(session)
        for session in _take(relay.aborted):
            self._drop(session, "it did not close in time")

    def _tell_notices(self) -> None:
        """Log what the core found worth it."""
        notices, self._notices[:] = self._notices[:], []
        for event, peer, name in notices:
            level, more = logging.INFO, {}
            if event == "denied":
                level, count = logging.WARNING, self._seldom.passes(event)
                if not count:
                    continue
                more = {"count": count}
            log_event(log, level, event, peer=peer, name=name.decode("utf-8", "replace"), **more)

    def _tell_limits(self) -> None:
        """Log which limits were met, one line a second at most for each."""
        counters = self.relay.counters
        for limit, (peer, name) in list(counters.met_by.items()):
            if self._seldom.passes(limit):
                del counters.met_by[limit]
                count = counters.met[limit] - self._told_limits[limit]
                self._told_limits[limit] = counters.met[limit]
                level = logging.INFO if limit in _ORDINARY else logging.WARNING
                who = {"peer": peer, "name": name.decode() or "-"} if peer else {}
                log_event(log, level, "limit", limit=limit, count=count, **who)

    def _begin_end(self) -> None:
        """Say BYE to everybody."""
        log_event(log, logging.INFO, "stopping", peers=len(self.links))
        self.relay.shut_down(time.monotonic())
        self._settle()
        self._tell_limits()

    def _tell_late(self) -> None:
        """Log who has not ended within the drain time."""
        if not self.links:
            return  # it is the store that was late, which `_close_store` tells
        advice = "they did not take their BYE in time and are cut"
        log_event(log, logging.WARNING, "late", peers=len(self.links), advice=advice)

    def tell_counters(self, event: str) -> None:
        """Log all counters in one line."""
        counters = self.relay.counters
        own = {item.name: getattr(counters, item.name) for item in fields(counters)}
        whole = {name: value for name, value in own.items() if isinstance(value, int)}
        limits = {f"met_{limit}": count for limit, count in counters.met.items() if count}
        accepting = {"active": self.counters.active, "accept_failures": self.counters.accept_failures}
        log_event(
            log,
            logging.WARNING if event == "counters" else logging.INFO,
            event,
            **accepting,
            **whole,
            **limits,
        )


def _take(sessions: list[Session]) -> list[Link]:
    taken = [session for session in sessions if isinstance(session, Link)]
    sessions.clear()
    return taken


def _raise_descriptor_limit() -> int:
    """Let this process have as many descriptors as it may; gives their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = hard if hard != resource.RLIM_INFINITY else max(soft, 1 << 20)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (ValueError, OSError):
            return soft  # macOS refuses more than its kernel's limit
    return most
