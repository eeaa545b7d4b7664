"""Connected sockets: names with several addresses, one deadline for everything, and retries.

Addresses are raced as `hailer.net.eyeballs` plans it. What is done to the sockets stands once, in
`_Race`; the blocking form waits for them with a selector, the asyncio form with the loop, and both
close every socket but the winner, however they end.
"""

from __future__ import annotations

import asyncio
import errno
import os
import selectors
import socket
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, cast

from hailer.errors import DialError, EndpointError, HailerError, ResolveError, TimedOut, UsageError
from hailer.net import backoff
from hailer.net.eyeballs import Schedule, interleave
from hailer.net.inherited import adopt_connected
from hailer.net.oserrors import dial_error, reason
from hailer.net.resolve import is_temporary, resolve, resolve_async
from hailer.net.stdio import dial_stdio
from hailer.net.unix import open_datagram_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hailer.endpoint import Endpoint
    from hailer.net.address import Address

__all__ = ["dial", "dial_async"]


def dial(
    endpoint: Endpoint,
    *,
    timeout: float | None,
    retries: int = 0,
    retry_delay: float = 0.5,
    on_retry: Callable[[HailerError, int, float], None] | None = None,
    local: Endpoint | None = None,
    prepare: Callable[[socket.socket], object] | None = None,
    advice: str = "",
    addresses: Sequence[Address] | None = None,
) -> socket.socket:
    """Connect to an endpoint and give the socket, which blocks.

    Args:
        endpoint: of any kind but `fd://systemd`; for tls, ws and wss this gives the TCP connection. A UDP
            socket is connected to its first usable address: it hears only that peer, and nothing has been
            sent. A Unix datagram socket has a name, so that it can be answered.
        timeout: seconds for everything: look-ups, attempts and waits between them; None waits for as
            long as the system does.
        retries: how often to try again when nobody listens, no address can be reached, or the name
            server is out of order; never for a name that does not exist.
        retry_delay: seconds before the first retry. Each next wait is twice as long, up to ten times
            the first, and made up to a quarter shorter by chance; the last is cut to fit the timeout.
        on_retry: called before each wait with the error, the number of the retry from 1, and the
            seconds until it.
        local: the address to connect from, with port 0 for any free one.
        prepare: called with each new socket before it is connected, to set options.
        advice: what a person is to do when nobody listens there, in place of the general advice.
        addresses: where to connect, when that is already known; nothing is looked up.

    Returns:
        The connected socket; the caller closes it. No child process inherits it.

    Raises:
        DialError: no address could be connected to; its attempts say why for each.
        ResolveError: the name or the service is not known.
        TimedOut: the timeout passed.
        UsageError: the endpoint cannot be dialled, or an argument makes no sense.
    """
    call = _Call(endpoint, timeout, retries, retry_delay, on_retry)
    if (there := _take_over(endpoint)) is not None:
        return there
    while True:
        try:
            sources = resolve(local, timeout=call.left(), passive=True) if local else None
            found = resolve(endpoint, timeout=call.left()) if addresses is None else addresses
            return _run(_Race(call, found, sources, prepare, advice))
        except (DialError, ResolveError) as error:
            pause = call.pause(error)
        time.sleep(pause)


async def dial_async(
    endpoint: Endpoint,
    *,
    timeout: float | None,
    retries: int = 0,
    retry_delay: float = 0.5,
    on_retry: Callable[[HailerError, int, float], None] | None = None,
    local: Endpoint | None = None,
    prepare: Callable[[socket.socket], object] | None = None,
    advice: str = "",
    addresses: Sequence[Address] | None = None,
) -> socket.socket:
    """Connect to an endpoint without blocking the event loop; otherwise like `dial`.

    Returns:
        The connected socket, which does not block; the caller closes it. When the task is cancelled,
        every socket has been closed.
    """
    call = _Call(endpoint, timeout, retries, retry_delay, on_retry)
    if (there := _take_over(endpoint)) is not None:
        there.setblocking(False)
        return there
    while True:
        try:
            sources = await resolve_async(local, timeout=call.left(), passive=True) if local else None
            found = await resolve_async(endpoint, timeout=call.left()) if addresses is None else addresses
            return await _run_async(_Race(call, found, sources, prepare, advice))
        except (DialError, ResolveError) as error:
            pause = call.pause(error)
        await asyncio.sleep(pause)


def _take_over(endpoint: Endpoint) -> socket.socket | None:
    """The connection that is there already, if the endpoint is one."""
    if endpoint.scheme == "stdio":
        return dial_stdio()
    return adopt_connected(int(endpoint.fd)) if endpoint.fd is not None else None


def _run(race: _Race) -> socket.socket:
    with selectors.DefaultSelector() as selector, closing(race):
        race.watch = lambda sock: selector.register(sock, selectors.EVENT_WRITE)
        race.unwatch = selector.unregister
        ready: list[socket.socket] = []
        while (winner := race.step(ready)) is None:
            ready = [cast("socket.socket", key.fileobj) for key, _ in selector.select(race.wait())]
    winner.setblocking(True)
    return winner


async def _run_async(race: _Race) -> socket.socket:
    loop = asyncio.get_running_loop()
    ready: list[socket.socket] = []
    wake = asyncio.Event()

    def on_ready(sock: socket.socket) -> None:
        loop.remove_writer(sock)
        ready.append(sock)
        wake.set()

    with closing(race):
        race.watch = lambda sock: loop.add_writer(sock, on_ready, sock)
        race.unwatch = loop.remove_writer
        while (winner := race.step(ready)) is None:
            ready.clear()
            wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(race.wait()):
                    await wake.wait()
    return winner


class _Call:
    """What holds for all tries of one call: its endpoint, its deadline and its retries."""

    def __init__(
        self,
        endpoint: Endpoint,
        timeout: float | None,
        retries: int,
        retry_delay: float,
        on_retry: Callable[[HailerError, int, float], None] | None,
    ) -> None:
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
        self._on_retry = on_retry

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
    """The sockets of one try. Whoever drives it sets `watch` and `unwatch`, and closes it at the end."""

    watch: Callable[[socket.socket], object]
    unwatch: Callable[[socket.socket], object]

    def __init__(
        self,
        call: _Call,
        addresses: Sequence[Address],
        sources: Sequence[Address] | None,
        prepare: Callable[[socket.socket], object] | None,
        advice: str,
    ) -> None:
        self._call = call
        self._sources = None if sources is None else {source.family: source for source in sources}
        if self._sources is not None:
            addresses = [address for address in addresses if address.family in self._sources]
        if not addresses:
            raise EndpointError(
                f"{call.endpoint} has no address to connect to from there: give another local one"
            )
        self._addresses = interleave(addresses)
        self._prepare = prepare
        self._advice = advice
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
            raise dial_error(failures, self._call.endpoint.address_text, advice=self._advice) from failures[
                -1
            ][1]
        return None

    def wait(self) -> float | None:
        """Say how many seconds to wait for a socket before the next step; None for without end."""
        times = [at for at in (self._schedule.due, self._call.deadline) if at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def close(self) -> None:
        """Close all sockets that are still being connected."""
        while self._pending:
            sock, _ = self._pending.popitem()
            self.unwatch(sock)
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
            if self._prepare is not None:
                self._prepare(sock)
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
        self.watch(sock)
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
        self.unwatch(sock)
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
