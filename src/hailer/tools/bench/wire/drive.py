"""The loop of a load: who is connected, what is counted, and when it is over.

A `Drive` opens its clients, a few at a time, and then measures, once or several times: first a while that is
not counted, then the time itself, then what is still under way is waited for. What a client does when its
socket is ready is the client's matter: one class for each kind of load, in the modules beside this one.
"""

from __future__ import annotations

import errno
import gc
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from hailer.errors import ConnectionLost, HailerError, TimedOut
from hailer.net.oserrors import reason
from hailer.tools.bench.wire.answers import make_script
from hailer.tools.bench.wire.channel import Opening, Target
from hailer.tools.bench.wire.histogram import Histogram
from hailer.tools.bench.wire.load import Interval, Outcome, clock
from hailer.tools.bench.wire.poller import open_poller

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from hailer.endpoint import Endpoint
    from hailer.tools.bench.wire.load import Load

__all__ = ["NANO", "Client", "Drive"]

NANO: Final = 1_000_000_000

_AT_ONCE: Final = 64
"""Connections that are being opened at the same time: less than what servers usually let wait (backlog)."""

_LOOK: Final = 0.25
"""Seconds of one wait at most, after which it is looked whether the server still does something."""

_DRAIN: Final = 10.0
"""Seconds in which what is under way at the end has to come, however slowly."""

_BROKEN: Final = (errno.ECONNRESET, errno.EPIPE)

_PAUSE: Final = 0.005
"""Seconds after which what had no port or no room is tried again."""


class Client(Protocol):
    """One connection of a load."""

    fd: int
    mask: int

    def ready(self, mask: int) -> None:
        """The socket can be read or written."""

    def start(self) -> None:
        """Begin a measurement."""

    def stop(self) -> None:
        """The measured time is over: send no more."""

    def waits(self) -> bool:
        """Say whether something is still due to come, or to go."""

    def close(self) -> None:
        """End the connection."""


class Drive:
    """What all kinds of load have in common; a subclass says what its clients are.

    Args:
        endpoint: where to.
        load: what to do.
        report: called once a second with what passed in it, while it is measured.
    """

    def __init__(
        self, endpoint: Endpoint, load: Load, report: Callable[[Interval], None] | None = None
    ) -> None:
        self.load = load
        self.target = Target(endpoint, load)
        self.script = make_script(load, self.target.where, websocket=self.target.websocket)
        self.poller = open_poller()
        self.clients: dict[int, Client] = {}
        self.report = report
        self.over = True
        self.messages = self.sent = self.up = self.down = 0
        self.lost = self.doubled = self.reordered = 0
        self.late = self.due = 0
        self.latency = Histogram()
        self.connecting = Histogram()
        self.opened = 0
        self.errors: dict[str, int] = {}
        self._openings: dict[int, Opening] = {}
        self._paused: list[Opening] = []
        self._resume_at = 0
        self._first: socket.socket | None = None

    # What a kind of load says.

    advice = ""
    """What to do if it leaves clients waiting."""

    finishes = False
    """Whether clients that are on their way when it is over are waited for."""

    def client(self, sock: socket.socket, opening: Opening) -> Client:
        """Make a client of a socket that is connected."""
        raise NotImplementedError

    def pace(self, now: int) -> float:  # noqa: ARG002 (for those that go by the clock)
        """Do what is due now; say within how many seconds to be called again."""
        return _LOOK

    def failed(self, opening: Opening, error: HailerError) -> None:  # noqa: ARG002
        """A client could not be connected: the end, for most loads."""
        raise error

    # Opening.

    def connect(self) -> None:
        """Open all clients.

        Raises:
            HailerError: one could not be opened, or none was within the time for it.
        """
        self._first = self.target.find()
        began = last = clock()
        opened = self.opened
        wanted = self.load.clients
        while len(self.clients) < wanted:
            for _ in range(min(_AT_ONCE, wanted - len(self.clients)) - self.on_their_way()):
                self.open_one()
            self.poll(_PAUSE if self._paused else _LOOK)
            now = clock()
            if self.opened != opened:
                opened, last = self.opened, now
            if now - last > self.load.timeout * NANO:
                raise TimedOut(
                    f"{self.target.where} let {len(self.clients)} of {wanted} clients in, and no other within"
                    f" {self.load.timeout:g} seconds: load it with fewer, or look at its limits"
                )
        self.connect_seconds = (clock() - began) / NANO

    def open_one(self) -> None:
        """Begin to open a client."""
        sock, self._first = self._first, None
        self._step(Opening(self.target, clock(), sock))

    def on_their_way(self) -> int:
        """How many are being opened."""
        return len(self._openings) + len(self._paused)

    def close_openings(self) -> None:
        """Give up all clients that are on their way."""
        for fd, opening in list(self._openings.items()):
            self._take_away(opening, fd)
            opening.close()
        for opening in self._paused:
            opening.close()
        self._paused.clear()

    def _step(self, opening: Opening) -> None:
        """Go on with an opening as far as that goes."""
        fd = opening.sock.fileno() if opening.sock is not None else -1
        try:
            want = opening.steps.send(None)
        except StopIteration:
            self._take_away(opening, fd)
            self.opened += 1
            self.connecting.record(clock() - opening.began)
            assert opening.sock is not None
            client = self.client(opening.sock, opening)
            self.clients[client.fd] = client
            self.poller.set(client.fd, 0, client.mask)
            if not self.over or self.finishes:
                client.start()
        except HailerError as error:
            self._take_away(opening, fd)
            opening.close()
            self.failed(opening, error)
        else:
            assert opening.sock is not None
            fd = opening.sock.fileno()
            if not want:
                self._take_away(opening, fd)
                self._paused.append(opening)
                return
            self._openings[fd] = opening
            if want != opening.mask:
                self.poller.set(fd, opening.mask, want)
                opening.mask = want

    def _take_away(self, opening: Opening, fd: int) -> None:
        if self._openings.pop(fd, None) is not None:
            self.poller.set(fd, opening.mask, 0)
        opening.mask = 0

    def poll(self, wait: float) -> None:
        """Wait for sockets, and let each do what it can."""
        if self._paused and (now := clock()) >= self._resume_at:
            self._resume_at = now + int(_PAUSE * NANO)
            paused, self._paused = self._paused, []
            for opening in paused:
                self._step(opening)
        clients = self.clients
        for fd, mask in self.poller.poll(wait):
            if fd in clients:
                clients[fd].ready(mask)
            elif fd in self._openings:
                self._step(self._openings[fd])

    def want(self, client: Client, mask: int) -> None:
        """Change what is waited for on a client's socket."""
        if mask != client.mask:
            self.poller.set(client.fd, client.mask, mask)
            client.mask = mask

    def drop(self, client: Client) -> None:
        """End a client's connection."""
        del self.clients[client.fd]
        self.poller.set(client.fd, client.mask, 0)
        client.close()

    # Measuring.

    def measure(self, seconds: float, warmup: float = 0.0) -> Outcome:
        """Load the server for so long.

        What goes wrong ends it, and stands in the outcome beside what was seen until then.

        Args:
            seconds: how long to measure.
            warmup: seconds before that, which do not count.
        """
        outcome = Outcome()
        collects = gc.isenabled()
        gc.disable()  # nothing here makes cycles, and a collection would be taken for a slow answer
        try:
            self._measure(outcome, seconds, warmup)
        except HailerError as error:
            outcome.failure, outcome.failure_kind = str(error), type(error).__name__
        except KeyboardInterrupt:
            outcome.interrupted = True
        finally:
            self.over = True
            if collects:
                gc.enable()
            if self._begun:
                self._count(outcome)
        outcome.latency, outcome.connecting = self.latency, self.connecting
        outcome.connections, outcome.clients = self.opened, len(self.clients)
        outcome.errors = dict(self.errors)
        self.latency, self.connecting = Histogram(), Histogram()
        self.errors = {}
        return outcome

    _begun = 0
    _cpu = 0.0

    def _begin(self) -> None:
        """From now on it counts."""
        self.messages = self.sent = self.up = self.down = 0
        self.lost = self.doubled = self.reordered = self.late = self.due = 0
        self.latency.clear()
        self.errors.clear()
        self._cpu = time.process_time()
        self._begun = clock()

    def _count(self, outcome: Outcome) -> None:
        """What was seen from the beginning until now."""
        outcome.seconds = (clock() - self._begun) / NANO
        outcome.cpu = time.process_time() - self._cpu
        outcome.busy = outcome.cpu / outcome.seconds if outcome.seconds else 0.0
        outcome.messages, outcome.sent = self.messages, self.sent
        outcome.bytes_up, outcome.bytes_down = self.up, self.down
        outcome.late, outcome.due = self.late / NANO, self.due
        self._begun = 0

    def _measure(self, outcome: Outcome, seconds: float, warmup: float) -> None:
        self._begun = 0
        self.over = False
        start = clock()
        if warmup:
            self.began()
            self._run(start + int(warmup * NANO))
            self._begin()
        else:
            self._begin()
            self.began()
        end = self._begun + int(seconds * NANO)
        if self.report is None:
            self._run(end)
        else:
            self._run_reporting(end, self.report)
        self._count(outcome)
        self.over = True
        self.ended()
        self._drain(outcome)
        if self.saw_nothing():
            raise self.stalled((clock() - start) / NANO)

    def began(self) -> None:
        """Start all clients."""
        for client in list(self.clients.values()):
            client.start()

    def ended(self) -> None:
        """Tell all clients that it is over."""
        for client in list(self.clients.values()):
            client.stop()

    def saw_nothing(self) -> bool:
        """Say whether the server did nothing at all, not even after the end."""
        return not (self.messages or self.down)

    def idle_is_well(self) -> bool:
        """Say whether nothing is due from the server just now, so that its silence says nothing."""
        return False

    def _run(self, end: int) -> None:
        """Go on until that instant.

        Raises:
            TimedOut: the server was silent for too long.
        """
        poll, pace = self.poll, self.pace
        now = looked = moved = clock()
        seen = self.movement()
        while now < end:
            wait = pace(now)
            poll(min(wait, (end - now) / NANO) if not self._paused else _PAUSE)
            now = clock()
            if now - looked < _LOOK * NANO:
                continue
            looked = now
            if (movement := self.movement()) != seen or self.idle_is_well():
                seen, moved = movement, now
            elif now - moved > self.load.timeout * NANO:
                raise self.stalled(self.load.timeout)

    def movement(self) -> tuple[int, ...]:
        """What changes while the server does something."""
        return (self.up, self.down, self.opened, self.lost)

    def _run_reporting(self, end: int, report: Callable[[Interval], None]) -> None:
        begin = last = self._begun
        before = (0, 0, 0, 0)
        while last < end:
            self._run(min(end, last + NANO))
            now = clock()
            counts = (self.messages, self.up, self.down, self.lost)
            passed = [new - old for new, old in zip(counts, before, strict=True)]
            report(Interval((last - begin) / NANO, (now - begin) / NANO, *passed))
            last, before = now, counts
            if end - last < NANO // 10:
                break

    def _drain(self, outcome: Outcome) -> None:
        """Wait for what is under way."""
        give_up = clock() + int(min(_DRAIN, self.load.timeout) * NANO)
        while waiting := self._waiting():
            self.poll(_LOOK if not self._paused else _PAUSE)
            if clock() > give_up:
                outcome.notes.append(
                    f"{waiting} of {self.load.clients} clients still waited for the server"
                    f" {min(_DRAIN, self.load.timeout):g} seconds after the end{self.advice}"
                )
                return

    def _waiting(self) -> int:
        """How many clients are still due something."""
        coming = self.on_their_way() if self.finishes else 0
        return coming + sum(client.waits() for client in self.clients.values())

    def stalled(self, seconds: float) -> HailerError:
        """The error for a server that does not go on."""
        return TimedOut(
            f"{self.target.where} does not go on: it answered nothing for {seconds:.2g} seconds, after"
            f" {self.up} bytes to it and {self.down} from it ({self._waiting()} of {self.load.clients}"
            " clients wait): look at what it does, or at what it expects"
        )

    def lost_client(self, error: OSError | None) -> HailerError:
        """The error for a connection that the server ended."""
        if error is None or error.errno in _BROKEN:
            how = "closed a connection" if error is None else f"broke a connection ({reason(error)})"
            return ConnectionLost(
                f"{self.target.where} {how} after {self.messages} answers to all clients: look at its limits,"
                " or load it with the kind connect if it serves one request on each"
            )
        return self.target.error(error, "receive")

    def close(self) -> None:
        """End all connections."""
        for client in list(self.clients.values()):
            with suppress(OSError):
                self.drop(client)
        self.close_openings()
        if self._first is not None:
            self._first.close()
        self.poller.close()
