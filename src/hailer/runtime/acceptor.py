"""Accepting connections, for all servers: once for event loops, once for a thread that blocks.

Both pause at the limit on connections and when the machine has no room, so that new peers wait in the
kernel's backlog; they survive what passes by itself and go on as soon as a connection has ended.
"""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING, Any, Protocol

from hailer.errors import HailerError
from hailer.net.oserrors import map_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.net.listener import Accepted, Listener
    from hailer.runtime.flag import Flag
    from hailer.runtime.model import AcceptTrouble

__all__ = ["BlockingAcceptor", "LoopAcceptor"]

_ACCEPTS = 64
"""Connections accepted before the others get their turn."""


class _Timer(Protocol):
    def cancel(self) -> None: ...


class _Loop(Protocol):
    """What `ReadyLoop` and the loops of asyncio have in common."""

    def add_reader(self, fd: int, callback: Callable[..., object], /, *args: Any) -> object: ...

    def remove_reader(self, fd: int, /) -> object: ...

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> _Timer: ...


def _nothing() -> None:
    pass


class _Acceptor:
    """What both have in common; for the arguments see there."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        trouble: AcceptTrouble,
        on_accept: Callable[[Accepted], float],
        *,
        most: int,
        active: Callable[[], int],
        once: bool = False,
        on_full: Callable[[], object] = _nothing,
    ) -> None:
        self._listeners = list(listeners)
        self._trouble = trouble
        self._on_accept = on_accept
        self._most = most
        self._active = active
        self._once = once
        self._on_full = on_full
        self.over = False
        for listener in self._listeners:
            listener.expect(most)

    def _accept(self, listener: Listener) -> tuple[bool, float]:
        """Accept one connection; tell whether there may be more, and the seconds not to accept after it.

        Raises:
            ListenError: accepting failed for a reason that does not pass.
        """
        try:
            accepted = listener.accept()
        except (BlockingIOError, InterruptedError):
            return False, 0.0
        except OSError as error:
            try:
                return True, self._trouble.pause(error)
            except OSError:
                raise map_os_error(error, "accept", listener.endpoint.address_text) from error
        if listener.exhausted:
            self._leave_out(listener)  # first: what was accepted may be the very same descriptor
        if self._once or all(each.exhausted for each in self._listeners):
            self.over = True
        return True, self._on_accept(accepted)

    def _leave_out(self, listener: Listener) -> None:
        """Look no more at a listener."""
        raise NotImplementedError

    def _set_paused(self, paused: bool) -> None:
        for listener in self._listeners:
            listener.paused = paused


class LoopAcceptor(_Acceptor):
    """Accepts in an event loop: a `ReadyLoop` or one of asyncio.

    Args:
        loop: calls back when a listener has something to accept.
        listeners: closed by `close`.
        trouble: what to do about errors of accept.
        on_accept: takes a connection over, without waiting and without errors of its own; gives the seconds
            not to accept after it, which is mostly 0.
        on_failure: told that accepting has failed for a reason that does not pass; nothing more comes.
        most: connections served at once.
        active: how many are served now.
        once: accept only one connection.
        on_full: told when the limit is reached.

    Attributes:
        over: nothing more will be accepted: because of `once`, or since all listeners have given what they
            had. Datagrams of conversations that were accepted are still carried to them, until `close`.
    """

    def __init__(
        self,
        loop: _Loop,
        listeners: Sequence[Listener],
        trouble: AcceptTrouble,
        on_accept: Callable[[Accepted], float],
        on_failure: Callable[[HailerError], object],
        *,
        most: int,
        active: Callable[[], int],
        once: bool = False,
        on_full: Callable[[], object] = _nothing,
    ) -> None:
        super().__init__(listeners, trouble, on_accept, most=most, active=active, once=once, on_full=on_full)
        self._loop = loop
        self._on_failure = on_failure
        self._watched: dict[Listener, int] = {}
        self._accepting = False
        self._timer: _Timer | None = None

    def resume(self) -> None:
        """Accept: at first, and after a connection has ended; nothing if it does already or is over."""
        if self._accepting or self.over:
            return
        self._accepting = True
        self._stop_timer()
        self._set_paused(False)
        for listener in self._listeners:
            if listener not in self._watched and not listener.exhausted:
                self._watched[listener] = listener.fileno()
                self._loop.add_reader(self._watched[listener], self._come, listener)

    def close(self) -> None:
        """Accept no more and close the listeners; may be called twice."""
        self.over = True
        self._accepting = False
        self._stop_timer()
        for listener in self._listeners:
            self._leave_out(listener)
            listener.close()

    def _come(self, listener: Listener) -> None:
        """Accept what has come, up to a number, so that the others get their turn."""
        for _ in range(_ACCEPTS):
            if self._accepting and self._active() >= self._most:
                self._pause()  # the next wait in the backlog until one ends
                self._on_full()
            if listener not in self._watched:
                return
            try:
                more, seconds = self._accept(listener)
            except HailerError as error:
                self.close()
                self._on_failure(error)
                return
            if self._accepting and (seconds or self.over):
                self._pause()
                if seconds and not self.over:
                    self._timer = self._loop.call_later(seconds, self.resume)
            if not more:
                return

    def _pause(self) -> None:
        """Accept no more until `resume`."""
        self._accepting = False
        self._set_paused(True)
        for listener in self._listeners:
            if not listener.forwards:
                self._leave_out(listener)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave_out(self, listener: Listener) -> None:
        if listener in self._watched:
            self._loop.remove_reader(self._watched.pop(listener))


class BlockingAcceptor(_Acceptor):
    """Accepts in a thread that waits for nothing else.

    Args:
        listeners: the caller closes them.
        changed: set by others when a connection has ended, and when `run` may be over.
        trouble: what to do about errors of accept.
        on_accept: serves a connection or has it served; gives the seconds not to accept after it, which
            is mostly 0.
        most: connections served at once.
        active: how many are served now.
        once: accept only one connection.
        on_full: told when the limit is reached.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        changed: Flag,
        trouble: AcceptTrouble,
        on_accept: Callable[[Accepted], float],
        *,
        most: int,
        active: Callable[[], int],
        once: bool = False,
        on_full: Callable[[], object] = _nothing,
    ) -> None:
        super().__init__(listeners, trouble, on_accept, most=most, active=active, once=once, on_full=on_full)
        self._changed = changed
        self._paused_until = 0.0
        self._full = False

    def run(self, until: Callable[[], bool]) -> None:
        """Accept until it is over, or until nothing more will be accepted.

        Where datagrams are to be carried to conversations that were accepted, this goes on until those
        have ended.

        Raises:
            ListenError: accepting failed for a reason that does not pass.
        """
        with selectors.DefaultSelector() as self._all, selectors.DefaultSelector() as self._forwarding:
            self._all.register(self._changed, selectors.EVENT_READ)
            self._forwarding.register(self._changed, selectors.EVENT_READ)
            for listener in self._listeners:
                self._all.register(listener, selectors.EVENT_READ, listener)
                if listener.forwards:
                    self._forwarding.register(listener, selectors.EVENT_READ, listener)
            while not until():
                if self.over and not (self._active() and any(each.forwards for each in self._listeners)):
                    return
                self._turn(until)

    def _turn(self, until: Callable[[], bool]) -> None:
        """Wait once, and accept what has come, unless there is a reason to wait with that."""
        pause = self._paused_until - time.monotonic()
        full = self._active() >= self._most
        if full and not self._full:
            self._on_full()
        self._full = full
        resting = full or self.over or pause > 0
        self._set_paused(resting)
        # Those that rest are not even looked at: they would be ready all the time.
        selector = self._forwarding if resting else self._all
        for key, _ in selector.select(pause if pause > 0 else None):
            if key.data is None:
                self._changed.clear()
            elif until():
                return  # it has taken a while, where connections are served here
            elif resting:
                self._accept(key.data)  # nothing new comes of this
            elif self._active() < self._most:
                _, seconds = self._accept(key.data)
                if seconds:
                    self._paused_until = time.monotonic() + seconds
                if seconds or self.over:
                    return

    def _leave_out(self, listener: Listener) -> None:
        self._all.unregister(listener)
