"""Accepting: limits, trouble, listeners that give one connection and such that also carry datagrams."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import HailerError, ListenError
from hailer.net.listen import listen
from hailer.net.listener import Accepted, Listener
from hailer.runtime.acceptor import BlockingAcceptor, LoopAcceptor
from hailer.runtime.aio import loop_factory
from hailer.runtime.flag import Flag
from hailer.runtime.model import AcceptTrouble, Counters
from hailer.runtime.ready import ReadyLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 10.0


class Harness:
    """Accepts from listeners until a condition holds, in whatever way; notes what was accepted."""

    active = 0

    def __init__(self, kind: str, most: int, once: bool) -> None:
        self.kind = kind
        self.options: dict[str, Any] = {
            "most": most,
            "active": lambda: self.active,
            "once": once,
            "on_full": lambda: self.full.append(len(self.accepted)),
        }
        self.accepted: list[Accepted] = []
        self.full: list[int] = []
        self.pauses: deque[float] = deque()
        self.failures: list[HailerError] = []
        self.counters = Counters()
        self._acceptor: LoopAcceptor | BlockingAcceptor | None = None
        self._release: Callable[[], object] = bool

    @property
    def over(self) -> bool:
        return self._acceptor is not None and self._acceptor.over

    def take(self, accepted: Accepted) -> float:
        self.accepted.append(accepted)
        self.active += 1
        return self.pauses.popleft() if self.pauses else 0.0

    def release(self) -> None:
        """End a connection; in the thread that accepts or not."""
        self.active -= 1
        self._release()

    def run(self, listeners: list[Listener], until: Callable[[], bool]) -> None:
        trouble = AcceptTrouble(self.counters)
        if self.kind == "blocking":
            self._block(listeners, trouble, until)
        elif self.kind in ("epoll", "select"):
            self._run_ready(listeners, trouble, until)
        else:
            with asyncio.Runner(loop_factory=loop_factory(self.kind)) as runner:  # type: ignore[arg-type]
                runner.run(self._run_asyncio(listeners, trouble, until))
        for accepted in self.accepted:
            accepted.close()
        assert all(listener.fileno() == -1 for listener in listeners)

    def _block(self, listeners: list[Listener], trouble: AcceptTrouble, until: Callable[[], bool]) -> None:
        changed = Flag()
        self._release = changed.set
        acceptor = self._acceptor = BlockingAcceptor(listeners, changed, trouble, self.take, **self.options)
        ticker = Ticker(changed.set)
        try:
            acceptor.run(lambda: until() or ticker.late)
        except HailerError as error:
            self.failures.append(error)
        finally:
            ticker.stop()
            for listener in listeners:
                listener.close()
            changed.close()
        assert not ticker.late

    def _run_ready(
        self, listeners: list[Listener], trouble: AcceptTrouble, until: Callable[[], bool]
    ) -> None:
        loop = ReadyLoop(self.kind)  # type: ignore[arg-type]
        acceptor = self._acceptor = LoopAcceptor(
            loop, listeners, trouble, self.take, self.failures.append, **self.options
        )
        self._release = lambda: loop.call_soon_threadsafe(acceptor.resume)
        ticker = Ticker(lambda: loop.call_soon_threadsafe(bool))
        acceptor.resume()
        loop.run(lambda: until() or ticker.late or (acceptor.over and not self.active) or bool(self.failures))
        ticker.stop()
        acceptor.close()
        acceptor.close()
        assert loop._watches.keys() == {loop._flag.fileno()}
        loop.close()
        assert not ticker.late

    async def _run_asyncio(
        self, listeners: list[Listener], trouble: AcceptTrouble, until: Callable[[], bool]
    ) -> None:
        loop = asyncio.get_running_loop()
        acceptor = self._acceptor = LoopAcceptor(
            loop, listeners, trouble, self.take, self.failures.append, **self.options
        )
        self._release = lambda: loop.call_soon_threadsafe(acceptor.resume)
        acceptor.resume()
        end = time.monotonic() + PATIENCE
        while not (until() or (acceptor.over and not self.active) or self.failures):
            assert time.monotonic() < end, "it did not come to be"
            await asyncio.sleep(0.001)
        acceptor.close()


class Ticker:
    """Has a condition looked at now and then, for it may change without an event."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick, args=(wake,))
        self.late = False
        self._thread.start()

    def _tick(self, wake: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not self._stopped.wait(0.002):
            self.late = time.monotonic() > end
            wake()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.fixture(params=["blocking", "epoll", "select", "uvloop", "stock"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clients() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for client in made:
        client.close()


def connect(listener: Listener, clients: list[socket.socket], count: int = 1) -> None:
    for _ in range(count):
        where = ("127.0.0.1", int(listener.endpoint.port or 0))
        clients.append(socket.create_connection(where, PATIENCE))


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


class Troubled(Listener):
    """A listener whose accept fails in prepared ways first."""

    errors: deque[int]

    def accept(self) -> Accepted:
        if self.errors:
            number = self.errors.popleft()
            raise OSError(number, os.strerror(number))
        return super().accept()


class Single(Listener):
    """Gives itself, once: as a connection that was inherited."""

    asked = 0

    @property
    def exhausted(self) -> bool:
        return self.asked > 0

    def accept(self) -> Accepted:
        self.asked += 1
        if self.asked > 1:
            raise BlockingIOError
        return Accepted(self.socket, "stream", "tcp", ("127.0.0.1", 1))


class Forwarding(Listener):
    """Carries bytes that come to it, and accepts something new for each unless it is paused."""

    carried = 0

    @property
    def forwards(self) -> bool:
        return True

    def accept(self) -> Accepted:
        self.socket.setblocking(False)
        self.socket.recv(1)
        self.carried += 1
        if self.paused:
            raise BlockingIOError
        return Accepted(socket.socket(), "record", "udp", ("127.0.0.1", 1))


def local() -> Listener:
    return listen(Endpoint.parse("tcp://127.0.0.1:0"))[0]


def test_all_listeners_are_accepted_from(kind: str, clients: list[socket.socket]) -> None:
    harness = Harness(kind, most=1000, once=False)
    listeners = [local(), local()]
    for listener in listeners:
        connect(listener, clients, 100)
    harness.run(listeners, lambda: len(harness.accepted) == 200)
    assert {accepted.address for accepted in harness.accepted} == {
        client.getsockname() for client in clients if client.fileno() >= 0
    }
    assert harness.full == []


def test_accepting_pauses_at_the_limit_and_goes_on_below(kind: str, clients: list[socket.socket]) -> None:
    harness = Harness(kind, most=2, once=False)
    listener, other = local(), local()
    connect(listener, clients, 3)
    connect(other, clients, 3)
    harness.run([listener, other], after(0.1))
    assert len(harness.accepted) == 2
    assert harness.full == [2]

    harness = Harness(kind, most=2, once=False)
    listener = local()
    connect(listener, clients, 5)
    steps: list[int] = []

    def until() -> bool:
        if harness.active == 2 and len(steps) < 3:
            steps.append(len(harness.accepted))
            harness.release()
        return len(harness.accepted) == 5

    harness.run([listener], until)
    assert steps == [2, 3, 4]
    assert harness.active == 2


def test_trouble_pauses_and_passes(
    kind: str, clients: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = Harness(kind, most=10, once=False)
    listener = local()
    listener.__class__ = Troubled
    assert isinstance(listener, Troubled)
    listener.errors = deque([errno.ECONNABORTED, errno.EMFILE, errno.ENFILE])
    connect(listener, clients, 2)
    start = time.monotonic()
    harness.run([listener], lambda: len(harness.accepted) == 2)
    assert time.monotonic() - start >= 0.19
    assert harness.counters.accept_failures == 2
    assert harness.failures == []


def test_what_serves_may_ask_for_a_pause(kind: str, clients: list[socket.socket]) -> None:
    harness = Harness(kind, most=10, once=False)
    harness.pauses.append(0.1)
    listener = local()
    connect(listener, clients, 2)
    start = time.monotonic()
    harness.run([listener], lambda: len(harness.accepted) == 2)
    assert time.monotonic() - start >= 0.09


def test_another_error_is_the_end(kind: str, clients: list[socket.socket]) -> None:
    harness = Harness(kind, most=10, once=False)
    listener = local()
    listener.__class__ = Troubled
    assert isinstance(listener, Troubled)
    listener.errors = deque([errno.EINVAL])
    connect(listener, clients)
    harness.run([listener, local()], bool)
    [failure] = harness.failures
    assert isinstance(failure, ListenError)
    assert harness.accepted == []


def test_only_one_connection(kind: str, clients: list[socket.socket]) -> None:
    harness = Harness(kind, most=10, once=True)
    listeners = [local(), local()]
    for listener in listeners:
        connect(listener, clients, 2)
    harness.run(listeners, after(0.1))
    assert len(harness.accepted) == 1
    assert harness.over


def test_a_listener_that_is_exhausted_is_left_alone(kind: str, clients: list[socket.socket]) -> None:
    one, other = socket.socketpair()
    clients.append(other)
    other.send(b"it is readable all the time")
    single = Single(one, Endpoint.parse("tcp://127.0.0.1:1"))
    listener = local()
    connect(listener, clients)
    harness = Harness(kind, most=10, once=False)
    seen: list[bool] = []

    late = after(0.05)

    def until() -> bool:
        seen.append(harness.over)
        return len(harness.accepted) == 2 and late()

    harness.run([single, listener], until)
    assert not any(seen)
    assert single.asked == 1


def test_when_all_are_exhausted_it_is_over(kind: str, clients: list[socket.socket]) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    singles: list[Listener] = []
    for one, other in pairs:
        clients.append(other)
        other.send(b"x")
        singles.append(Single(one, Endpoint.parse("tcp://127.0.0.1:1")))
    harness = Harness(kind, most=10, once=False)
    harness.run(singles, lambda: harness.over)
    assert len(harness.accepted) == 2
    assert harness.over


@pytest.mark.parametrize("why", ["limit", "once", "pause"])
def test_datagrams_are_carried_while_nothing_is_accepted(
    kind: str, clients: list[socket.socket], why: str
) -> None:
    one, other = socket.socketpair()
    clients.append(other)
    listener = Forwarding(one, Endpoint.parse("udp://127.0.0.1:1"))
    harness = Harness(kind, most=1 if why == "limit" else 10, once=why == "once")
    if why == "pause":
        harness.pauses.append(1000.0)
    other.send(b"x" * 50)
    harness.run([listener], lambda: listener.carried == 50)
    assert len(harness.accepted) == 1


def test_after_the_only_conversation_nothing_is_carried(kind: str, clients: list[socket.socket]) -> None:
    one, other = socket.socketpair()
    clients.append(other)
    listener = Forwarding(one, Endpoint.parse("udp://127.0.0.1:1"))
    harness = Harness(kind, most=10, once=True)
    other.send(b"x" * 3)

    def until() -> bool:
        if listener.carried == 3 and harness.active:
            harness.release()
        return False

    harness.run([listener], until)
    assert harness.over
    assert len(harness.accepted) == 1


def test_resting_costs_nothing(kind: str, clients: list[socket.socket]) -> None:
    """At the limit, peers in the backlog do not keep the processor busy."""
    harness = Harness(kind, most=1, once=False)
    listener = local()
    connect(listener, clients, 2)
    looks = 0
    end = time.monotonic() + 0.2

    def until() -> bool:
        nonlocal looks
        looks += 1
        return time.monotonic() > end

    harness.run([listener], until)
    assert len(harness.accepted) == 1
    assert looks < 2000  # ticks of the harness, about 100 or 200
