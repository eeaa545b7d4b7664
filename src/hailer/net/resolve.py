"""An endpoint to its addresses, with a deadline.

`getaddrinfo` has no deadline and cannot be interrupted, so names are looked up on a few daemon
threads of our own: a stuck look-up blocks neither the exit of the program nor asyncio's default pool.
Numeric addresses, services, `localhost`, `*` and Unix paths need no thread.

AI_ADDRCONFIG is not used. It leaves out families of which the machine has only loopback addresses,
and glibc then answers 127.0.0.1 for a name that the hosts file gives as ::1. Without it, addresses
that cannot be reached come last (RFC 6724 section 6, rule 1) and fail at once. `localhost` is
answered here (RFC 6761 section 6.3), with the families whose loopback address there really is, and
names under `invalid` do not exist (section 6.4), whether or not a name server is there to say so.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import deque
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, NamedTuple

from hailer.errors import EndpointError, HailerError, ResolveError, TimedOut
from hailer.net.address import Address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hailer.endpoint import Endpoint

__all__ = ["is_temporary", "resolve", "resolve_async", "resolve_by", "wait_in_loop"]

_TYPES = {
    **dict.fromkeys(("tcp", "tcp4", "tcp6", "tls", "ws", "wss", "unix"), socket.SOCK_STREAM),
    **dict.fromkeys(("udp", "udp4", "udp6", "unix+dgram"), socket.SOCK_DGRAM),
    "unix+seqpacket": socket.SOCK_SEQPACKET,
}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}
_LOOPBACK = {socket.AF_INET6: "::1", socket.AF_INET: "127.0.0.1"}
_ANY = {socket.AF_INET6: "::", socket.AF_INET: "0.0.0.0"}  # noqa: S104 (only for * of a listener)

# Names of errors that not every system has.
_UNKNOWN = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}

_THREADS = 8
_WAITING = 256


def resolve(endpoint: Endpoint, *, timeout: float | None, passive: bool = False) -> list[Address]:
    """Find the addresses of an endpoint, waiting for the name server if need be.

    Args:
        endpoint: of any kind but `fd://` and `stdio:`.
        timeout: seconds that the look-up may take; None waits for as long as the system does.
        passive: the addresses are to listen on, so that `*` stands for all of this machine's.

    Returns:
        At least one address, in the system's order of preference (RFC 6724).

    Raises:
        ResolveError: the name or the service is not known, or the name server does not answer.
        TimedOut: the look-up took too long; it is left to itself.
        EndpointError: the endpoint is of a kind that has no addresses.
    """
    known = _without_lookup(endpoint, passive=passive)
    if isinstance(known, list):
        return known
    future = _lookups.submit(known)
    try:
        wait([future], timeout)
        return _answer(future, known, timeout)
    finally:
        future.cancel()


async def resolve_async(endpoint: Endpoint, *, timeout: float | None, passive: bool = False) -> list[Address]:
    """Find the addresses of an endpoint without blocking the event loop; otherwise like `resolve`."""
    return await resolve_by(wait_in_loop, endpoint, timeout=timeout, passive=passive)


async def resolve_by(
    wait_for: Callable[[Future[Any], float | None], Awaitable[object]],
    endpoint: Endpoint,
    *,
    timeout: float | None,
    passive: bool = False,
) -> list[Address]:
    """Find the addresses of an endpoint, waiting in a way of one's own; otherwise like `resolve`.

    Args:
        wait_for: called with a future that another thread sets, and the seconds to wait for it at most.
        endpoint: see `resolve`, as for the others.
        timeout: see there.
        passive: see there.
    """
    known = _without_lookup(endpoint, passive=passive)
    if isinstance(known, list):
        return known
    future = _lookups.submit(known)
    try:
        await wait_for(future, timeout)
        return _answer(future, known, timeout)
    finally:
        future.cancel()


async def wait_in_loop(future: Future[Any], timeout: float | None) -> None:
    """Wait for another thread's future in the running event loop of asyncio, at most so many seconds."""
    wrapped = asyncio.wrap_future(future)
    try:
        await asyncio.wait([wrapped], timeout=timeout)
    finally:
        wrapped.cancel()


def is_temporary(error: ResolveError) -> bool:
    """Say whether looking the name up again may help."""
    return isinstance(error.__cause__, socket.gaierror) and error.__cause__.errno == socket.EAI_AGAIN


class _Question(NamedTuple):
    host: str
    port: int
    family: int
    type: int

    def ask(self, flags: int = 0) -> list[Address]:
        # An ASCII name goes as bytes, since the idna codec refuses some that name servers know.
        host = self.host.encode("ascii") if self.host.isascii() else self.host
        found = socket.getaddrinfo(host, self.port, self.family, self.type, 0, flags | socket.AI_NUMERICSERV)
        return [Address(family, type_, proto, raw) for family, type_, proto, _, raw in found]


def _without_lookup(endpoint: Endpoint, *, passive: bool) -> list[Address] | _Question:
    type_ = _TYPES.get(endpoint.scheme)
    if type_ is None:
        raise EndpointError(f"{endpoint} has no address to look up: give tcp://, udp://, unix: or the like")
    if endpoint.is_local:
        path = endpoint.path
        return [Address(socket.AF_UNIX, type_, 0, "\0" + path[1:] if path.startswith("@") else path)]
    family = _FAMILIES[endpoint.family_hint]
    host = endpoint.host
    name = host.rstrip(".")
    if host == "*":
        if not passive:
            raise EndpointError(f"{endpoint} is for listening: name a host to connect to, such as localhost")
        hosts = list(_ANY.items())
    elif name == "localhost" or name.endswith(".localhost"):
        hosts = [(each, text) for each, text in _LOOPBACK.items() if _has_address(each, text)]
        hosts = hosts or list(_LOOPBACK.items())
    elif name.endswith(".invalid"):
        raise _no_such_name(host)
    else:
        hosts = []
    port = _port(endpoint, type_)
    if hosts:
        chosen = [(each, text) for each, text in hosts if family in (each, socket.AF_UNSPEC)]
        chosen = chosen or [(family, _LOOPBACK[family])]
        questions = [_Question(text, port, each, type_) for each, text in chosen]
        return [found for question in questions for found in question.ask(socket.AI_NUMERICHOST)]
    question = _Question(host, port, family, type_)
    try:
        return question.ask(socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError) as error:
        if ":" not in host:
            return question
        raise ResolveError(
            f"{host!r} names no network interface after its %: look them up with ip link"
        ) from error


def _port(endpoint: Endpoint, type_: int) -> int:
    if isinstance(endpoint.port, int):
        return endpoint.port
    try:
        # Not getservbyname: it keeps its answer in memory that all threads share.
        found = socket.getaddrinfo(
            "127.0.0.1", endpoint.port, socket.AF_INET, type_, 0, socket.AI_NUMERICHOST
        )
    except socket.gaierror as error:
        kind = "UDP" if endpoint.is_datagram else "TCP"
        raise ResolveError(
            f"{endpoint.port!r} is no {kind} service that this machine knows: give the port's number"
        ) from error
    port = found[0][4][1]
    assert isinstance(port, int)
    return port


def _has_address(family: int, text: str) -> bool:
    """Say whether this machine has an address; asking takes microseconds and sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((text, 0))
    except OSError:
        return False
    return True


def _answer(future: Future[_Result], asked: _Question, timeout: float | None) -> list[Address]:
    if not future.done():
        raise TimedOut(
            f"looking up {asked.host!r} took more than {timeout:g} seconds:"
            " look at the name server in /etc/resolv.conf or give a numeric address"
        )
    result = future.result()
    if isinstance(result, list):
        return result
    raise _explained(result, asked.host) from result


def _explained(error: OSError | UnicodeError, host: str) -> HailerError:
    if isinstance(error, UnicodeError) or error.errno in _UNKNOWN:
        return _no_such_name(host)
    if error.errno == socket.EAI_AGAIN:
        return ResolveError(
            f"{host!r} could not be looked up for now (the name server gave no answer):"
            " try again, or look at /etc/resolv.conf"
        )
    return ResolveError(f"{host!r} could not be looked up ({error.strerror}): give a numeric address")


def _no_such_name(host: str) -> ResolveError:
    return ResolveError(f"no host is called {host!r}: correct the name or give a numeric address")


_Result = list[Address] | OSError | UnicodeError


class _Lookups:
    """Daemon threads that are there only while there is something to look up."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: in a forked child there are no threads, and the lock may be held for ever."""
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._threads = 0

    def submit(self, question: _Question) -> Future[_Result]:
        """Look a name up; errors come as the result, so that nobody has to fetch an abandoned one."""
        future: Future[_Result] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result: _Result = question.ask()
            except (OSError, UnicodeError) as error:
                result = error
            future.set_result(result)

        with self._lock:
            if len(self._waiting) >= _WAITING:
                raise ResolveError(
                    f"{question.host!r} was not looked up ({_WAITING} names wait already):"
                    " look at the name server in /etc/resolv.conf or give numeric addresses"
                )
            self._waiting.append(work)
            if self._threads < _THREADS:
                self._threads += 1
                threading.Thread(target=self._run, name="hailer-resolve", daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                work = self._waiting.popleft()
            work()


_lookups = _Lookups()
os.register_at_fork(after_in_child=_lookups.reset)
