"""Connected sockets: names with several addresses, one deadline for everything, and retries.

Addresses are raced as `hailer.net.eyeballs` plans it. What is done stands once, in `dial_by`, which may
wait in a thread, in asyncio's event loops or in another; every socket but the winner is closed, however
it ends.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import selectors
import socket
import time
from concurrent.futures import wait
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Protocol, Required, TypedDict, Unpack, cast

from hailer.errors import DialError, EndpointError, HailerError, ResolveError, TimedOut, UsageError
from hailer.net import backoff
from hailer.net.eyeballs import Schedule, interleave
from hailer.net.inherited import adopt_connected
from hailer.net.oserrors import dial_error, reason
from hailer.net.resolve import is_temporary, resolve_by, wait_in_loop
from hailer.net.stdio import dial_stdio
from hailer.net.unix import open_datagram_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from hailer.endpoint import Endpoint
    from hailer.net.address import Address

__all__ = ["Dialling", "Waits", "dial", "dial_async", "dial_by"]

_LONGEST = 86400.0
"""Seconds of one wait at most: the system's calls take no more than some weeks."""


class Dialling(TypedDict, total=False):
    """How to dial: the options of all that do.

    Attributes:
        timeout: seconds for everything: look-ups, attempts and waits between them; None waits for as
            long as the system does.
        retries: how often to try again when nobody listens, no address can be reached, or the name
            server is out of order; never for a name that does not exist. 0 by default.
        retry_delay: seconds before the first retry, 0.5 by default. Each next wait is twice as long, up to
            ten times the first, and made up to a quarter shorter by chance; the last is cut to fit the
            timeout.
        on_retry: called before each wait with the error, the number of the retry from 1, and the
            seconds until it.
        local: the address to connect from, with port 0 for any free one.
        prepare: called with each new socket before it is connected, to set options.
        advice: what a person is to do when nobody listens there, in place of the general advice.
        addresses: where to connect, when that is already known; nothing is looked up.
    """

    timeout: Required[float | None]
    retries: int
    retry_delay: float
    on_retry: Callable[[HailerError, int, float], None] | None
    local: Endpoint | None
    prepare: Callable[[socket.socket], object] | None
    advice: str
    addresses: Sequence[Address] | None


class Waits(Protocol):
    """How `dial_by` waits: in a thread, in an event loop of one kind or another."""

    def watch(self, sock: socket.socket) -> None:
        """Note from now on when a socket can be written, or has failed."""

    def unwatch(self, sock: socket.socket) -> None:
        """Do so no more, whether or not it has been noted; before the socket is closed or given away."""

    async def sockets(self, seconds: float | None) -> Sequence[socket.socket]:
        """Wait for sockets that are watched: those that are ready, or none when the time is over."""

    async def future(self, future: Future[Any], seconds: float | None) -> None:
        """Wait until another thread has set a future, or the time is over."""

    async def sleep(self, seconds: float) -> None:
        """Wait for so long."""


def dial(endpoint: Endpoint, **options: Unpack[Dialling]) -> socket.socket:
    """Connect to an endpoint and give the socket, which blocks.

    Args:
        endpoint: of any kind but `fd://systemd`; for tls, ws and wss this gives the TCP connection. A UDP
            socket is connected to its first usable address: it hears only that peer, and nothing has been
            sent. A Unix datagram socket has a name, so that it can be answered.
        options: see `Dialling`.

    Returns:
        The connected socket; the caller closes it. No child process inherits it.

    Raises:
        DialError: no address could be connected to; its attempts say why for each.
        ResolveError: the name or the service is not known.
        TimedOut: the timeout passed.
        UsageError: the endpoint cannot be dialled, or an argument makes no sense.
    """
    with selectors.DefaultSelector() as selector:
        dialling = dial_by(_ThreadWaits(selector), endpoint, **options)
        try:
            dialling.send(None)  # which never suspends
        except StopIteration as done:
            sock: socket.socket = done.value
        finally:
            dialling.close()
    sock.setblocking(True)
    return sock


async def dial_async(endpoint: Endpoint, **options: Unpack[Dialling]) -> socket.socket:
    """Connect to an endpoint without blocking the running event loop of asyncio; otherwise like `dial`.

    Returns:
        The connected socket, which does not block; the caller closes it. When the task is cancelled,
        every socket has been closed.
    """
    return await dial_by(_AioWaits(), endpoint, **options)


async def dial_by(waits: Waits, endpoint: Endpoint, **options: Unpack[Dialling]) -> socket.socket:
    """Connect to an endpoint, waiting in a way of one's own; otherwise like `dial_async`."""
    call = _Call(endpoint, options)
    if (there := _take_over(endpoint)) is not None:
        there.setblocking(False)
        return there
    local, addresses = options.get("local"), options.get("addresses")
    while True:
        try:
            sources = None
            if local is not None:
                sources = await resolve_by(waits.future, local, timeout=call.left(), passive=True)
            found = addresses
            if found is None:
                found = await resolve_by(waits.future, endpoint, timeout=call.left())
            with closing(_Race(call, waits, found, sources)) as race:
                ready: Sequence[socket.socket] = ()
                while (winner := race.step(ready)) is None:
                    ready = await waits.sockets(race.wait())
        except (DialError, ResolveError) as error:
            pause = call.pause(error)
        else:
            return winner
        await waits.sleep(pause)


def _take_over(endpoint: Endpoint) -> socket.socket | None:
    """The connection that is there already, if the endpoint is one."""
    if endpoint.scheme == "stdio":
        return dial_stdio()
    return adopt_connected(int(endpoint.fd)) if endpoint.fd is not None else None


class _ThreadWaits:
    """Blocks the thread, so that a coroutine that waits by this never suspends."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector

    def watch(self, sock: socket.socket) -> None:
        self._selector.register(sock, selectors.EVENT_WRITE)

    def unwatch(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)

    async def sockets(self, seconds: float | None) -> Sequence[socket.socket]:
        return [cast("socket.socket", key.fileobj) for key, _ in self._selector.select(seconds)]

    async def future(self, future: Future[Any], seconds: float | None) -> None:
        wait([future], seconds)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (there is no loop)


class _AioWaits:
    """Waits in the running event loop of asyncio."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: list[socket.socket] = []
        self._wake = asyncio.Event()
        self.future = wait_in_loop
        self.sleep = asyncio.sleep

    def watch(self, sock: socket.socket) -> None:
        self._loop.add_writer(sock, self._on_ready, sock)

    def unwatch(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)

    async def sockets(self, seconds: float | None) -> Sequence[socket.socket]:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()
        ready, self._ready = self._ready, []
        return ready

    def _on_ready(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)
        self._ready.append(sock)
        self._wake.set()


class _Call:
    """What holds for all tries of one call: its endpoint, its deadline and its retries."""

    def __init__(self, endpoint: Endpoint, options: Dialling) -> None:
        timeout = None if options["timeout"] == math.inf else options["timeout"]
        retries, retry_delay = options.get("retries", 0), options.get("retry_delay", 0.5)
        if timeout is not None and not timeout > 0:
            raise UsageError(f"a timeout of {timeout} seconds leaves no time: give more than 0, or None")
        if retries < 0 or retry_delay < 0:
            raise UsageError("retries and the delay before them cannot be negative: give 0 or more")
        if endpoint.fd == "systemd":
            raise EndpointError(f"{endpoint} is for listening: give fd:// and a descriptor's number")
        if endpoint.port == 0:
            raise EndpointError(f"{endpoint} is for listening: give the port that the server listens on")
        self.endpoint = endpoint
        self.timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        # The last wait ends early enough for one more try.
        self._kept = 0 if timeout is None else min(1.0, timeout / 10)
        self._retries = retries
        self._tried = 0
        self._waits = backoff.delays(retry_delay, most=10 * retry_delay, jitter=0.25)
        self._on_retry = options.get("on_retry")
        self.prepare = options.get("prepare")
        self.advice = options.get("advice", "")

    def left(self) -> float | None:
        """Say how many seconds are left."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def pause(self, error: HailerError) -> float:
        """Say how many seconds to wait before the next try, or raise the error when there is none."""
        self._tried += 1
        if self._tried > self._retries or (isinstance(error, ResolveError) and not is_temporary(error)):
            raise error
        wait = next(self._waits)
        left = self.left()
        if left is not None:
            if left <= self._kept:
                raise error
            wait = min(wait, left - self._kept)
        if self._on_retry is not None:
            self._on_retry(error, self._tried, wait)
        return wait


class _Race:
    """The sockets of one try. Whoever drives it closes it at the end."""

    def __init__(
        self, call: _Call, waits: Waits, addresses: Sequence[Address], sources: Sequence[Address] | None
    ) -> None:
        self._call = call
        self._waits = waits
        self._sources = None if sources is None else {source.family: source for source in sources}
        if self._sources is not None:
            addresses = [address for address in addresses if address.family in self._sources]
        if not addresses:
            raise EndpointError(
                f"{call.endpoint} has no address to connect to from there: give another local one"
            )
        self._addresses = interleave(addresses)
        self._schedule = Schedule(len(self._addresses), time.monotonic())
        self._pending: dict[socket.socket, int] = {}
        self._failures: dict[int, OSError] = {}

    def step(self, ready: Iterable[socket.socket]) -> socket.socket | None:
        """Look at sockets that are done, and start what is due.

        Returns:
            The connected socket, or None when it is to be waited for.

        Raises:
            DialError: every attempt has failed.
            TimedOut: the deadline has passed.
        """
        now = time.monotonic()
        for sock in ready:
            if self._settle(sock, now):
                return sock
        if self._call.deadline is not None and now >= self._call.deadline:
            raise self._timed_out()
        while (attempt := self._schedule.start(now)) is not None:
            winner = self._start(attempt, now)
            if winner is not None:
                return winner
        if self._schedule.lost:
            failures = [(str(self._addresses[at]), error) for at, error in self._failures.items()]
            raise dial_error(
                failures, self._call.endpoint.address_text, advice=self._call.advice
            ) from failures[-1][1]
        return None

    def wait(self) -> float | None:
        """Say how many seconds to wait for a socket before the next step; None for without end."""
        times = [at for at in (self._schedule.due, self._call.deadline) if at is not None]
        return min(max(0.0, min(times) - time.monotonic()), _LONGEST) if times else None

    def close(self) -> None:
        """Close all sockets that are still being connected."""
        while self._pending:
            sock, _ = self._pending.popitem()
            self._waits.unwatch(sock)
            sock.close()

    def _start(self, attempt: int, now: float) -> socket.socket | None:
        address = self._addresses[attempt]
        try:
            sock = self._open(address)
        except OSError as error:
            self._fail(attempt, error, now)
            return None
        try:
            sock.setblocking(False)
            if self._call.prepare is not None:
                self._call.prepare(sock)
            if self._sources is not None:
                sock.bind(self._sources[address.family].sockaddr)
            number = sock.connect_ex(address.sockaddr)
        except OSError as error:
            sock.close()
            self._fail(attempt, error, now)
            return None
        except BaseException:
            sock.close()
            raise
        if number == errno.EAGAIN and address.family == socket.AF_UNIX:
            # The listener's queue is full, and no readiness tells when it is not: ask again shortly.
            sock.close()
            self._schedule.postpone(attempt, now)
            return None
        self._pending[sock] = attempt
        self._waits.watch(sock)
        if number in (errno.EINPROGRESS, errno.EINTR):
            return None
        return sock if self._settle(sock, now, number) else None

    def _open(self, address: Address) -> socket.socket:
        if self._sources is None and (address.family, address.type) == (socket.AF_UNIX, socket.SOCK_DGRAM):
            return open_datagram_client()
        return address.open()

    def _settle(self, sock: socket.socket, now: float, number: int | None = None) -> bool:
        """Take a socket out of the pending ones; say whether it is connected, else close it."""
        attempt = self._pending.pop(sock)
        self._waits.unwatch(sock)
        if number is None:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number == 0 and _is_own_peer(sock):
            # Dialling a free port of the ephemeral range can connect a socket with itself (RFC 9293
            # section 3.5, simultaneous open); that is nobody listening.
            number = errno.ECONNREFUSED
        if number == 0:
            return True
        sock.close()
        self._fail(attempt, OSError(number, os.strerror(number)), now)
        return False

    def _fail(self, attempt: int, error: OSError, now: float) -> None:
        self._failures[attempt] = error
        self._schedule.failed(attempt, now)

    def _timed_out(self) -> TimedOut:
        silent = [str(each) for at, each in enumerate(self._addresses) if at not in self._failures]
        failed = [f"{self._addresses[at]}: {reason(error)}" for at, error in self._failures.items()]
        others = f" ({', '.join(failed)})" if failed else ""
        return TimedOut(
            f"{' or '.join(silent)} did not answer within {self._call.timeout:g} seconds{others}:"
            " look whether the server there is busy or a firewall is between, or allow more time"
        )


def _is_own_peer(sock: socket.socket) -> bool:
    if sock.type != socket.SOCK_STREAM or sock.family == socket.AF_UNIX:
        return False
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False
