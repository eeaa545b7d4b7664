"""`Server`: one endpoint, one handler, one concurrency model."""

from __future__ import annotations

import inspect
import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Self, get_args

from hailer.endpoint import Endpoint
from hailer.errors import UsageError
from hailer.framing import DEFAULT_MAX_MESSAGE, as_framing
from hailer.net.listen import listen
from hailer.runtime.model import Counters, Policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

    from hailer.connection import Handler
    from hailer.framing import Framing
    from hailer.net.listener import Listener
    from hailer.runtime.aio import Loop
    from hailer.runtime.model import Model

__all__ = ["MODELS", "ModelName", "Server"]

log = logging.getLogger("hailer.server")

ModelName = Literal["asyncio", "thread", "iterative"]

MODELS: tuple[ModelName, ...] = get_args(ModelName)
"""The names of the concurrency models."""

_SPARE_DESCRIPTORS = 32
"""Descriptors that connections leave to the rest of the program."""


class Server:
    """Serves a handler on an endpoint, under a concurrency model.

    ``with Server(...) as server`` serves in a thread of its own until the end of the block, which is
    handy in tests; `serve` serves in this one.

    Args:
        endpoint: what to listen on, or its text; port 0 takes a free one, see `endpoints`.
        handler: ``async def handle(connection)``.
        model: ``asyncio`` (a task for each connection), ``thread`` (a thread for each, from a bounded
            pool) or ``iterative`` (one connection after another).
        framing: how messages are marked off, or the name of that.
        max_message: the most bytes of a message that a peer may send; longer ones are refused to the handler.
        max_connections: how many are served at once, fewer if the limit on descriptors is lower; more
            wait in the kernel's backlog.
        idle_timeout: seconds that a receive or send without a time-out of its own may take; None is no limit.
        message_timeout: seconds from the first bytes of a message to its end, however it drips.
        drain: seconds that handlers get to end after `drain` before they are aborted.
        backlog: connections that the kernel keeps waiting.
        loop: the event loop of the asyncio model: uvloop where it is installed (``auto``), or by name.

    Raises:
        UsageError: a model or framing that does not exist, a handler that is no coroutine function.
        EndpointError: the text is no endpoint.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        handler: Handler,
        model: ModelName = "asyncio",
        *,
        framing: Framing | str = "line",
        max_message: int = DEFAULT_MAX_MESSAGE,
        max_connections: int = 1000,
        idle_timeout: float | None = 300.0,
        message_timeout: float | None = None,
        drain: float = 5.0,
        backlog: int = 1024,
        loop: Loop = "auto",
    ) -> None:
        if not inspect.iscoroutinefunction(handler) and not inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 (an object whose __call__ is a coroutine function)
        ):
            raise UsageError("a handler is a coroutine function: write async def handle(connection)")
        if max_connections < 1:
            raise UsageError(f"max_connections is {max_connections}: allow at least 1")
        self._endpoint = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        self._backlog = backlog
        self._listeners: list[Listener] = []
        self._policy = Policy(
            handler=handler,
            framing=as_framing(framing),
            max_message=max_message,
            max_connections=_within_descriptors(max_connections),
            idle_timeout=idle_timeout,
            message_timeout=message_timeout,
            drain=drain,
        )
        self._model = _make_model(model, self._policy, loop)
        self._bound: list[Endpoint] = []
        self._served = False
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """What is listened on, with the ports that were taken; empty before `bind`."""
        return list(self._bound)

    @property
    def counters(self) -> Counters:
        """What has happened so far: connections accepted and active, accepts and handlers that failed."""
        return self._policy.counters

    def bind(self) -> list[Endpoint]:
        """Open the listening sockets: from now on peers can connect, and wait.

        Returns:
            The endpoints, with the ports that were taken.

        Raises:
            ListenError: the endpoint is in use, not ours or not permitted.
            ResolveError: its host does not resolve.
        """
        if not self._bound:
            self._listeners = listen(self._endpoint, backlog=self._backlog)
            self._bound = [listener.endpoint for listener in self._listeners]
            log.info("listening on %s", " and ".join(map(str, self._bound)))
        return self.endpoints

    def serve(self, *, signals: bool = True) -> None:
        """Bind if need be, and serve until drained or stopped; a server serves once.

        Args:
            signals: in the main thread, let SIGTERM and SIGINT (Ctrl-C) drain and a second one stop.

        Raises:
            ListenError: listening or accepting failed.
            UsageError: it has served already.
        """
        self._begin()
        if signals and threading.current_thread() is threading.main_thread():
            with self._signals():
                self._model.serve(self._listeners, _nothing)
        else:
            self._model.serve(self._listeners, _nothing)
        log.info("stopped serving %s", self._endpoint)

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
        await self._model.serve_async(self._listeners, _nothing)

    def drain(self) -> None:
        """Accept no more, let the handlers end within the drain time, then stop serving.

        Returns at once; `serve` returns when it is done. From any thread or signal handler.
        """
        self._model.drain()

    def stop(self) -> None:
        """Accept no more, abort all connections and stop serving; to be called like `drain`."""
        self._model.stop()

    def close(self) -> None:
        """Close the listening sockets of a server that was bound and not served."""
        for listener in self._listeners:
            listener.close()

    def __enter__(self) -> Self:
        self.bind()
        ready = threading.Event()
        self._served = True

        def serve() -> None:
            try:
                self._model.serve(self._listeners, ready.set)
            except BaseException as error:
                self._failure = error
            finally:
                ready.set()

        self._thread = threading.Thread(target=serve, name="hailer-server", daemon=True)
        self._thread.start()
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
        if self._failure is not None and kind is None:
            raise self._failure

    def _begin(self) -> None:
        if self._served:
            raise UsageError("this server has served already: make another")
        self.bind()
        self._served = True

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Drain at the first signal, stop at the second; a third interrupts."""
        count = 0

        def on_signal(_number: int, _frame: FrameType | None) -> None:
            nonlocal count
            count += 1
            if count == 1:
                self.drain()
            elif count == 2:
                self.stop()
            else:
                raise KeyboardInterrupt

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
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
    from hailer.runtime import blocking_server  # noqa: PLC0415

    if name == "thread":
        return blocking_server.ThreadModel(policy)
    if name == "iterative":
        return blocking_server.IterativeModel(policy)
    raise UsageError(f"there is no model {name!r}: choose one of {', '.join(MODELS)}")


def _within_descriptors(wanted: int) -> int:
    """Stay below the limit on open files: at the limit itself nothing in the program works any more."""
    import resource  # noqa: PLC0415 (only POSIX has it)

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or wanted <= soft - _SPARE_DESCRIPTORS:
        return wanted
    fewer = max(1, soft - _SPARE_DESCRIPTORS)
    log.warning(
        "at most %d connections instead of %d: the limit on open files is %d (ulimit -n)",
        fewer,
        wanted,
        soft,
    )
    return fewer


def _nothing() -> None:
    pass
