"""What all concurrency models share: the contract of a driver, its limits, and the life of one connection."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol

from hailer.errors import ConnectionEnded, FramingError, TimedOut, TlsError
from hailer.framing import DEFAULT_MAX_MESSAGE
from hailer.runtime.establish import accept_layers, make_connection
from hailer.text import printable

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from hailer.connection import Handler
    from hailer.framing import Framing
    from hailer.net.listener import Listener
    from hailer.transport import RecordTransport, Transport

__all__ = ["AcceptTrouble", "Counters", "Model", "Policy", "note_failure", "serve_connection"]

log = logging.getLogger("hailer.server")

# No descriptor, no memory: the peer is still in the backlog, and there will be room again (trio's list).
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# Linux hands the pending errors of the new connection to accept(2), which says to treat them like EAGAIN.
_GONE = frozenset(
    getattr(errno, name)
    for name in (
        "EAGAIN",
        "ECONNABORTED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",
        "EPROTO",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
)

ABORT_GRACE = 1.0
"""Seconds that a handler gets to end after its connection was aborted."""

ACCEPT_PAUSE = 0.1
"""Seconds without accepting after the machine had no room for another connection."""


@dataclass(slots=True)
class Counters:
    """What a server has seen since it started."""

    accepted: int = 0
    active: int = 0
    accept_failures: int = 0
    handler_failures: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What a server does with each connection, whatever its concurrency model.

    Attributes:
        handler: the coroutine function run for each connection.
        framing: how messages are marked off.
        max_message: bytes that a message may have.
        max_connections: connections served at once; more wait in the backlog of the kernel.
        idle_timeout: seconds that one receive or send of a handler may wait; None waits for ever.
        message_timeout: seconds from the first bytes of a message to its end.
        drain: seconds that handlers get to end after a drain began.
        handshake_timeout: seconds for TLS and WebSocket, before the handler is run.
        once: end after one connection.
        workers: processes of the prefork model; None for as many as there are processors.
        tls: the certificate and what else TLS is to be like, where an endpoint asks for it.
        paths: of each port that serves one WebSocket path only, that path.
        origins: origins of pages that may connect by WebSocket; None for the page's own host only.
        counters: what has happened.
    """

    handler: Handler
    framing: Framing
    max_message: int = DEFAULT_MAX_MESSAGE
    max_connections: int = 1000
    idle_timeout: float | None = None
    message_timeout: float | None = None
    drain: float = 5.0
    handshake_timeout: float = 10.0
    once: bool = False
    workers: int | None = None
    tls: ssl.SSLContext | None = None
    paths: Mapping[int | str | None, str] = field(default_factory=dict)
    origins: Sequence[str] | None = None
    counters: Counters = field(default_factory=Counters)


class Model(Protocol):
    """The contract of a driver: one is made for each server, with its `Policy`, and serves once."""

    def serve(self, listeners: Sequence[Listener], ready: Callable[[], None]) -> None:
        """Accept and serve until drained or stopped; every thread, task and connection is gone at the end.

        Args:
            listeners: closed by the model as soon as it stops accepting.
            ready: called once when connections are accepted.
        """

    def drain(self) -> None:
        """Accept no more, let the handlers end until the deadline, then stop.

        May be called from any thread, from a signal handler, before `serve`, and more than once.
        """

    def stop(self) -> None:
        """Accept no more and abort every connection now; to be called like `drain`."""


class AcceptTrouble:
    """What to do when accept fails: survive what passes, log it once a second, count it."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._last_log = -1.0
        self._unlogged = 0

    def pause(self, error: OSError) -> float:
        """Say how long not to accept after this error.

        Returns:
            Seconds; 0 when only this one connection is lost.

        Raises:
            OSError: the error itself, when it will not pass by itself.
        """
        if error.errno in _GONE:
            return 0.0
        if error.errno not in _FULL:
            raise error
        self.note(f"accept: {error.strerror}")
        return ACCEPT_PAUSE

    def note(self, what: str) -> None:
        """Count one failure, and log it unless one was logged within this second."""
        self._counters.accept_failures += 1
        self._unlogged += 1
        now = time.monotonic()
        if self._last_log < 0 or now - self._last_log >= 1:
            advice = "raise the descriptor limit (ulimit -n) or lower max_connections"
            log.warning(
                "cannot accept now, new connections wait (%d times, %d are served): %s; %s",
                self._unlogged,
                self._counters.active,
                what,
                advice,
                extra={
                    "event": "accept-paused",
                    "fields": {
                        "count": self._unlogged,
                        "active": self._counters.active,
                        "why": what,
                        "advice": advice,
                    },
                },
            )
            self._last_log = now
            self._unlogged = 0


async def serve_connection(leaf: Transport | RecordTransport, policy: Policy) -> None:
    """Run the handler for one connection to its end: the same coroutine under every model.

    TLS and WebSocket come first, where the endpoint asks for them. Whatever the handler raises, SystemExit
    too, ends its own connection only: nothing but a cancellation and Ctrl-C leave this. The transport is
    closed in any case.

    Args:
        leaf: the transport over the socket that was accepted.
        policy: what to do with it.
    """
    transport = leaf
    process = os.getpid()
    try:
        transport = await accept_layers(
            leaf,
            tls=policy.tls,
            paths=policy.paths,
            origins=policy.origins,
            max_message=policy.max_message,
            timeout=policy.handshake_timeout,
        )
        await policy.handler(
            make_connection(
                transport,
                policy.framing,
                max_message=policy.max_message,
                timeout=policy.idle_timeout,
                message_timeout=policy.message_timeout,
            )
        )
    except ConnectionEnded as error:
        log.debug("%s ended: %s", _name(leaf), printable(str(error)))
    except (TimedOut, FramingError, TlsError) as error:
        # A conversation in datagrams has no other end than that nothing more comes.
        usual = leaf.peer.is_datagram and isinstance(error, TimedOut)
        log.log(logging.DEBUG if usual else logging.INFO, "%s closed: %s", _name(leaf), printable(str(error)))
    except GeneratorExit:  # the coroutine is closed from outside: nothing can be waited for any more
        log.debug("%s given up", _name(leaf))
        transport.abort()
        return
    except BaseException as error:
        if _is_meant_for_more(error):
            transport.abort()
            raise
        note_failure(leaf, policy, error)
    if os.getpid() != process:
        _end_copy()
    try:
        await transport.close()
    except Exception as error:
        log.debug("%s while closing: %s", _name(leaf), printable(str(error)))
        transport.abort()
    except BaseException:
        transport.abort()
        raise


def _end_copy() -> NoReturn:
    """End a process that a handler forked and that came back from it: there would be a second server.

    It would share the sockets, and have only one of the threads.
    """
    log.error(
        "a handler has forked, and process %d came back from it: let such a child end with os._exit",
        os.getpid(),
    )
    os._exit(1)


def _is_meant_for_more(error: BaseException) -> bool:
    """Tell what comes from outside, to end the task or the program, from what a handler raised itself."""
    if isinstance(error, KeyboardInterrupt):
        # Ctrl-C is raised wherever the main thread is, unless the signal is ignored, as in child processes.
        in_main = threading.current_thread() is threading.main_thread()
        return in_main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    # A model without asyncio is not to load it; where nobody has, nobody can have raised its error.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return False
    return task is not None and task.cancelling() > 0


def note_failure(transport: Transport | RecordTransport, policy: Policy, error: BaseException) -> None:
    """Count and log what a handler let out, with its traceback and the name of the peer."""
    policy.counters.handler_failures += 1
    # Not log.exception: the words of a peer may stand in the exception, and it would print them raw.
    log.error("the handler failed, closing %s: %s", _name(transport), _describe(error))


def _name(transport: Transport | RecordTransport) -> str:
    return f"connection from {printable(str(transport.peer))}"


def _describe(error: BaseException) -> str:
    """A traceback in which the words of a peer can forge no line: only its own newlines are kept."""
    chain: list[BaseException] = []
    here: BaseException | None = error
    while here is not None and here not in chain:
        chain.append(here)
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
    parts = [printable("".join(traceback.format_exception_only(error)).strip())]
    for link in chain:
        head = printable("".join(traceback.format_exception_only(link)).strip())
        parts.append(f"  {head}\n" + "".join(traceback.format_tb(link.__traceback__)).rstrip("\n"))
    return "\n".join(parts)
