"""The relay with one thread a client: the classic design, on the same core.

The table of names is the core, and one lock guards it. A client's thread waits in recv without the lock,
then handles what came and writes to the receivers' sockets with it; no write waits, so that the lock is
never held for a slow receiver. What a socket does not take is written by one more thread, the keeper,
when the socket is writable; the keeper also keeps the time.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

from hailer.relay.edge.layered import LayeredEdge
from hailer.relay.edge.link import Link
from hailer.runtime.acceptor import BlockingAcceptor
from hailer.runtime.flag import Flag
from hailer.runtime.model import ACCEPT_PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.errors import StoreError
    from hailer.net.listener import Accepted, Listener
    from hailer.relay.core.accounts import Accounts
    from hailer.relay.core.limits import Limits
    from hailer.relay.core.work import Work

_READ = 65536

_LAST_WORK = 1.0
"""Seconds that the store gets to end its last work once all is over."""


class ThreadEdge(LayeredEdge):
    """A thread for each connection; see the module."""

    def __init__(self, limits: Limits, version: str) -> None:
        super().__init__(limits, version)
        self._lock = threading.RLock()
        self._let_go = threading.Condition(self._lock)
        self._stops = 0
        self._changed: Flag | None = None
        self._alarm: Flag | None = None
        self._selector = selectors.DefaultSelector()
        self._threads: set[threading.Thread] = set()
        self._keeping = True
        self._keeper_until = float("inf")

    def serve(self, listeners: list[Listener], ready: Callable[[], None], drain: float) -> None:
        """See `Edge.serve`."""
        changed, alarm = self._changed, self._alarm = Flag(), Flag()
        with closing(changed), closing(alarm), changed.set_by_signals():
            self._serve(listeners, ready, drain)

    def _serve(self, listeners: list[Listener], ready: Callable[[], None], drain: float) -> None:
        assert self._changed is not None
        assert self._alarm is not None
        keeper = threading.Thread(target=self._keep, name="hailer-keeper", daemon=True)
        try:
            self._selector.register(self._alarm, selectors.EVENT_READ)
            self._open_store()
            keeper.start()
            ready()
            acceptor = BlockingAcceptor(
                listeners,
                self._changed,
                self.trouble,
                self._accept,
                most=self.most,
                active=lambda: len(self.links),
                on_full=self._note_full,
            )
            try:
                acceptor.run(lambda: self._stops > 0)
            finally:
                for listener in listeners:
                    listener.close()
            with self._lock:
                self._begin_end()
                self._give_work()
            deadline = time.monotonic() + drain
            while not self._is_over() and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
                self._changed.clear()
            self._tell_late()
        finally:
            with self._lock:
                for link in list(self.links.values()):
                    self._drop(link, "the relay ended")
                threads = list(self._threads)
            for thread in threads:
                thread.join()
            self._keeping = False
            self._alarm.set()
            keeper.join()
            self._selector.close()
            self._close_store(_LAST_WORK)

    def _is_over(self) -> bool:
        with self._lock:  # else a batch that is just being taken is neither waiting nor under way
            return self._stops > 1 or (not self.links and self.relay.mail.finished)

    def _work_done(self, work: Work, result: object, error: StoreError | None) -> None:
        """See `Edge._work_done`."""
        with self._lock:
            if not self._keeping:
                return
            self._stored(work, result, error)
            self._wake_keeper()
        if self._changed is not None:
            self._changed.set()

    def stop(self) -> None:
        """See `Edge.stop`."""
        self._stops += 1
        if self._changed is not None:
            self._changed.set()

    def set_accounts(self, accounts: Accounts) -> None:
        """See `Edge.set_accounts`."""
        with self._lock:
            self._set_accounts(accounts)

    # accepting

    def _accept(self, accepted: Accepted) -> float:
        """Have a thread read from a connection; gives the seconds not to accept after it."""
        sock = accepted.socket
        with self._lock:
            sock.setblocking(True)
            link = self._adopt(sock, accepted.scheme, accepted.address)
            self._settle()
            if link is None:
                return 0.0
            if self.links.get(link.fd) is not link:
                sock.close()
                return 0.0
            thread = threading.Thread(target=self._client, args=(link,), name="hailer-client", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads
                self.trouble.note(str(error))
                self._drop(link, "no thread for it")
                self._settle()
                sock.close()
                return ACCEPT_PAUSE
            self._threads.add(thread)
        return 0.0

    # one client

    def _client(self, link: Link) -> None:
        """Read what one client sends until its end."""
        sock = link.sock
        try:
            while True:
                with self._lock:
                    while link.holders and not link.closing:
                        self._let_go.wait()
                    if link.backlog and not link.closing:
                        self._receive(link, b"")
                        continue
                    if link.ended:  # it still wants its answers
                        while self.links.get(link.fd) is link:
                            self._let_go.wait()
                        return
                try:
                    data = sock.recv(_READ)
                except OSError as error:
                    with self._lock:
                        self._drop(link, error.strerror or "lost")
                        self._settle()
                    return
                with self._lock:
                    if self.links.get(link.fd) is not link:
                        return
                    if link.layers is not None:
                        self._feed(link, data, time.monotonic())
                        self._settled()
                    elif not data:
                        self._ended(link, time.monotonic())
                        self._settled()
                    else:
                        self._receive(link, data)
        except Exception as error:
            with self._lock:
                self._fault(link, error)
        finally:
            # Only its own thread closes a socket: no number is given to another while somebody waits on it.
            with self._lock:
                self._drop(link, "its thread ended")
                self._settle()
                self._threads.discard(threading.current_thread())
            sock.close()

    def _receive(self, link: Link, data: bytes) -> None:
        self.relay.receive(link, data, time.monotonic())
        self._settled()

    def _settled(self) -> None:
        self._settle()
        if self.relay.mail.stirred:
            self._give_work()
        self._wake_keeper()

    def _wake_keeper(self) -> None:
        if self.relay.deadline < self._keeper_until and self._alarm is not None:
            self._alarm.set()

    def _update(self, link: Link) -> None:
        """See `Edge._update`; reading is held by the client's own thread."""
        if link.blocked != bool(link.interest):
            link.interest = int(link.blocked)
            if link.blocked:
                self._selector.register(link.sock, selectors.EVENT_WRITE, link)
            else:
                self._selector.unregister(link.sock)
        if link.closing or link.ended:
            self._let_go.notify_all()

    def _release(self, link: Link) -> None:
        """See `Edge._release`."""
        del link
        self._let_go.notify_all()

    def _discard(self, link: Link) -> None:
        """See `Edge._discard`; its own thread wakes up and closes the socket."""
        if link.interest:
            link.interest = 0
            self._selector.unregister(link.sock)
        try:
            link.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer has gone before
        self._let_go.notify_all()
        if self._changed is not None:
            self._changed.set()

    # the keeper

    def _keep(self) -> None:
        """Write to sockets that have become writable, and do what the time asks for."""
        assert self._alarm is not None
        while self._keeping:
            with self._lock:
                self.relay.tick(time.monotonic())
                self._settle()
                self._look_round()
                self._give_work()
                self._keeper_until = self.relay.deadline
            ready = self._selector.select(max(0.0, self._keeper_until - time.monotonic()))
            with self._lock:
                for key, _ in ready:
                    link = key.data
                    if not isinstance(link, Link):
                        self._alarm.clear()
                    elif self.links.get(link.fd) is link and link.chunks:
                        self._write(link)
                self._settle()
                if self.relay.mail.stirred:
                    self._give_work()
