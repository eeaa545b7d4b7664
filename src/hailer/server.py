"""`Server`: one handler, on any endpoints, under one concurrency model."""

from __future__ import annotations

import logging
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Self, cast

from hailer.endpoint import Endpoint
from hailer.errors import HailerError, UsageError
from hailer.framing import DEFAULT_MAX_MESSAGE, as_framing
from hailer.framing.base import check_max_message
from hailer.handlers import as_handler
from hailer.matrix import MODELS, ModelName, kind_of, why_not
from hailer.net.listen import listen
from hailer.net.oserrors import map_os_error
from hailer.runtime.establish import TLS_SCHEMES, WEB_SCHEMES, load_layers
from hailer.runtime.model import Counters, Policy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType, TracebackType

    from hailer.framing import Framing
    from hailer.handlers import AnyHandler
    from hailer.net.listener import Listener
    from hailer.runtime.aio import Loop
    from hailer.runtime.model import Model
    from hailer.runtime.process import BackgroundProcess
    from hailer.runtime.supervisor import Supervisor

__all__ = ["MODELS", "ModelName", "Server"]

log = logging.getLogger("hailer.server")

_SPARE_DESCRIPTORS = 32
"""Descriptors that connections leave to the rest of the program."""


class Server:
    """Serves a handler on endpoints, under a concurrency model.

    ``with Server(...) as server`` serves beside the block, in a thread or, under fork and prefork, a process
    of its own, which is handy in tests; `serve` serves in this thread.

    Args:
        endpoint: what to listen on, or its text, or several; port 0 takes a free one, see `endpoints`.
        handler: ``async def handle(connection)``, ``def reply(message)``, or under the blocking models
            ``def handle(connection)``; see `hailer.handlers`.
        model: one of `MODELS`.
        framing: how messages are marked off in streams, or the name of that; None is by lines. Records
            (datagrams, WebSocket messages) are messages as they are.
        max_message: the most bytes of a message that a peer may send; longer ones are refused to the handler.
        max_connections: how many are served at once, fewer if the limit on descriptors is lower; more
            wait in the kernel's backlog.
        workers: processes of the prefork model; None for as many as there are processors, at least 2.
        idle_timeout: seconds that a receive or send without a time-out of its own may take; None is no limit.
        message_timeout: seconds from the first bytes of a message to its end, however it drips.
        handshake_timeout: seconds for TLS and WebSocket before the handler is run.
        drain: seconds that handlers get to end after `drain` before they are aborted.
        backlog: connections that the kernel keeps waiting.
        once: end after one connection.
        tls: the certificate for tls:// and wss://, from `hailer.server_context`.
        origins: origins of pages that may connect by WebSocket, such as ``https://example.org``, or ``*``;
            None for pages of the same host only. Programs that are no browsers send none and may connect.
        amplification: bytes that may go to a UDP peer for each byte that came from it, since the sender of
            a datagram can be forged; peers on this machine are exempt.
        unix_mode: the permissions of a Unix socket's path.
        loop: the event loop of the asyncio model: uvloop where it is installed (``auto``), or by name.

    Attributes:
        ended_by: the number of the signal that ended `serve`, None for another end.

    Raises:
        UsageError: a model or framing that does not exist, what cannot be combined (`hailer.matrix`), or a
            handler that the model cannot run.
        EndpointError: the text is no endpoint.
    """

    def __init__(
        self,
        endpoint: Endpoint | str | Sequence[Endpoint | str],
        handler: AnyHandler,
        model: ModelName = "asyncio",
        *,
        framing: Framing | str | None = None,
        max_message: int = DEFAULT_MAX_MESSAGE,
        max_connections: int = 1000,
        workers: int | None = None,
        idle_timeout: float | None = 300.0,
        message_timeout: float | None = None,
        handshake_timeout: float = 10.0,
        drain: float = 5.0,
        backlog: int = 1024,
        once: bool = False,
        tls: ssl.SSLContext | None = None,
        origins: Sequence[str] | None = None,
        amplification: float = 1.0,
        unix_mode: int = 0o600,
        loop: Loop = "auto",
    ) -> None:
        if model not in MODELS:
            raise UsageError(f"there is no model {model!r}: choose one of {', '.join(MODELS)}")
        for name, number in (("max_connections", max_connections), ("workers", workers)):
            if number is not None and number < 1:
                raise UsageError(f"{name} is {number}: allow at least 1")
        check_max_message(max_message)
        given = [endpoint] if isinstance(endpoint, (Endpoint, str)) else list(endpoint)
        self._endpoints = [Endpoint.parse(each) if isinstance(each, str) else each for each in given]
        _check_cells(self._endpoints, model, framing, tls)
        self._backlog = backlog
        self._amplification = amplification
        self._unix_mode = unix_mode
        self._listeners: list[Listener] = []
        self._paths: dict[int | str | None, str] = {}
        self._policy = Policy(
            handler=as_handler(handler, blocking=MODELS[model].blocking, model=model),
            framing=as_framing(framing if framing is not None else "line"),
            max_message=max_message,
            max_connections=_within_descriptors(max_connections, _descriptors_each(self._endpoints, model)),
            workers=workers,
            idle_timeout=idle_timeout,
            message_timeout=message_timeout,
            handshake_timeout=handshake_timeout,
            drain=drain,
            once=once,
            tls=tls,
            paths=self._paths,
            origins=origins,
        )
        self._kind = MODELS[model]
        self._model = _make_model(model, self._policy, loop)
        # A model of processes counts in memory that these share.
        self._counters: Counters = getattr(self._model, "counters", self._policy.counters)
        self._bound: list[Endpoint] = []
        self._served = False
        self._thread: threading.Thread | None = None
        self._process: BackgroundProcess | None = None
        self._failure: BaseException | None = None
        self.ended_by: int | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """What is listened on, with the ports that were taken; empty before `bind`."""
        return list(self._bound)

    @property
    def counters(self) -> Counters:
        """What has happened so far: connections accepted and active, accepts and handlers that failed."""
        return self._counters

    def bind(self) -> list[Endpoint]:
        """Open the listening sockets: from now on peers can connect, and wait.

        Returns:
            The endpoints, with the ports that were taken.

        Raises:
            ListenError: the endpoint is in use, not ours or not permitted.
            ResolveError: its host does not resolve.
        """
        if not self._bound:
            try:
                for endpoint in self._endpoints:
                    self._listeners += self._listen(endpoint)
            except BaseException:
                self.close()
                raise
            self._bound = [listener.endpoint for listener in self._listeners]
            log.info("listening on %s", " and ".join(map(str, self._bound)))
        return self.endpoints

    def serve(self, *, signals: bool = True) -> None:
        """Bind if need be, and serve until drained or stopped; a server serves once.

        Args:
            signals: in the main thread, let SIGTERM, SIGINT (Ctrl-C) and SIGHUP, unless that has a handler or
                is ignored, drain and a second one stop.

        Raises:
            ListenError: listening or accepting failed.
            UsageError: it has served already.
        """
        self._begin()
        if signals and threading.current_thread() is threading.main_thread():
            with self._signals():
                self._run(_nothing)
        else:
            self._run(_nothing)
        log.info("stopped serving %s", " and ".join(map(str, self._bound)))

    async def serve_async(self) -> None:
        """Serve in the running event loop, beside what else it does; to cancel this is to stop.

        Raises:
            UsageError: the model is not asyncio, or it has served already.
            ListenError: listening or accepting failed.
        """
        from hailer.runtime.aio_server import AsyncioModel  # noqa: PLC0415 (see _make_model)

        if not isinstance(self._model, AsyncioModel):
            raise UsageError("only the asyncio model serves in an event loop: use serve() for this one")
        self._begin()
        try:
            await self._model.serve_async(self._listeners, _nothing)
        finally:
            self.close()

    def drain(self) -> None:
        """Accept no more, let the handlers end within the drain time, then stop serving.

        Returns at once; `serve` returns when it is done. From any thread or signal handler.
        """
        (self._process or self._model).drain()

    def stop(self) -> None:
        """Accept no more, abort all connections and stop serving; to be called like `drain`."""
        (self._process or self._model).stop()

    def close(self) -> None:
        """Close the listening sockets of a server that was bound and not served."""
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _listen(self, endpoint: Endpoint) -> list[Listener]:
        listeners = listen(
            endpoint,
            backlog=self._backlog,
            mode=self._unix_mode,
            most=self._policy.max_connections,
            amplification=self._amplification,
        )
        for listener in listeners:
            if endpoint.scheme in WEB_SCHEMES and endpoint.path != "/":
                self._paths[listener.endpoint.port] = endpoint.path
            if endpoint.scheme == "fd" and self._policy.tls is not None and listener.endpoint.scheme == "tcp":
                listener.endpoint = replace(
                    listener.endpoint, scheme="tls"
                )  # what a certificate is given for
        return listeners

    def __enter__(self) -> Self:
        self._begin()
        if self._kind.processes:
            from hailer.runtime.process import BackgroundProcess  # noqa: PLC0415 (see _make_model)

            # To fork from one thread among others is unsafe: what does so gets a process of its own.
            try:
                self._process = BackgroundProcess(cast("Supervisor", self._model), self._listeners)
            finally:
                self.close()
            return self
        ready = threading.Event()

        def serve() -> None:
            try:
                self._run(ready.set)
            except BaseException as error:
                self._failure = error
            finally:
                ready.set()

        self._thread = threading.Thread(target=serve, name="hailer-server", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no room for a thread
            self.close()
            raise
        ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self.drain()
        if self._thread is not None:
            self._thread.join()
        if self._process is not None:
            self._failure = self._process.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def _run(self, ready: Callable[[], None]) -> None:
        try:
            self._model.serve(self._listeners, ready)
        except HailerError:
            raise
        except OSError as error:  # no descriptor for what waits
            raise map_os_error(error, "listen", " and ".join(map(str, self._bound))) from error
        finally:
            self.close()  # where a model came not even so far

    def _begin(self) -> None:
        if self._served:
            raise UsageError("this server has served already: make another")
        self.bind()
        for endpoint in self._bound:
            load_layers(endpoint.scheme)
        self._served = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Drain at the first signal, stop at the second; a third interrupts, a fourth ends the process."""
        count = 0

        def on_signal(number: int, _frame: FrameType | None) -> None:
            nonlocal count
            count += 1
            if count == 1:
                self.ended_by = number
                self.drain()
            elif count == 2:
                self.stop()
            else:
                for each in numbers:  # for a handler that catches that too
                    signal.signal(each, signal.SIG_DFL)
                raise KeyboardInterrupt

        numbers = [signal.SIGINT, signal.SIGTERM]
        # The terminal has gone. Whoever is to outlive that ignores it (nohup).
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _make_model(name: ModelName, policy: Policy, loop: Loop) -> Model:
    # Imported when chosen: a blocking server loads no event loop.
    if name == "asyncio":
        from hailer.runtime.aio_server import AsyncioModel  # noqa: PLC0415

        return AsyncioModel(policy, loop)
    if name in ("select", "epoll"):
        from hailer.runtime.ready_server import ReadyModel  # noqa: PLC0415

        return ReadyModel(policy, name)
    if name in ("fork", "prefork"):
        from hailer.runtime import fork_server  # noqa: PLC0415

        return fork_server.ForkModel(policy) if name == "fork" else fork_server.PreforkModel(policy)
    from hailer.runtime import blocking_server  # noqa: PLC0415

    return blocking_server.ThreadModel(policy) if name == "thread" else blocking_server.IterativeModel(policy)


def _check_cells(
    endpoints: Sequence[Endpoint], model: ModelName, framing: Framing | str | None, tls: ssl.SSLContext | None
) -> None:
    """Refuse what cannot be combined."""
    if not endpoints:
        raise UsageError(
            "there is nothing to listen on: give at least one endpoint, such as tcp://localhost:7000"
        )
    kinds = [kind_of(endpoint) for endpoint in endpoints]
    # Where streams are served too, the framing is meant for those.
    chosen = framing if all(kind.records for kind in kinds) else None
    for endpoint, kind in zip(endpoints, kinds, strict=True):
        reason = why_not(model, kind.name, chosen)
        if reason is not None:
            raise UsageError(
                f"{endpoint} cannot be served so: {reason}; hailer serve --list shows what can be"
            )
        if kind.name in TLS_SCHEMES and tls is None:
            raise UsageError(f"{endpoint} needs a certificate: give tls=hailer.server_context(cert, key)")
    if tls is not None and not any(kind.name in (*TLS_SCHEMES, "fd") for kind in kinds):
        raise UsageError(
            f"a certificate was given, but {endpoints[0]} is not encrypted: write tls:// or wss://"
        )


def _descriptors_each(endpoints: Sequence[Endpoint], model: ModelName) -> int:
    """How many descriptors one connection takes here, at most."""
    # A conversation in datagrams has both ends of a pair open, or one end and the pipe of a child; but where
    # each datagram is a conversation of its own, the one end is closed at once.
    pairs = any(endpoint.is_datagram for endpoint in endpoints) and model not in ("iterative", "prefork")
    return 2 if pairs else 1


def _within_descriptors(wanted: int, each: int) -> int:
    """Stay below the limit on open files: at the limit itself nothing in the program works any more."""
    import resource  # noqa: PLC0415 (only POSIX has it)

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    fewer = max(1, (soft - _SPARE_DESCRIPTORS) // each)
    if soft == resource.RLIM_INFINITY or wanted <= fewer:
        return wanted
    log.warning(
        "at most %d connections instead of %d: the limit on open files is %d (ulimit -n)",
        fewer,
        wanted,
        soft,
    )
    return fewer


def _nothing() -> None:
    pass
