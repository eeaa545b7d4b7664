"""A relay put together: listeners, an edge, signals. Wiring only."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self, get_args

from hailer._version import __version__
from hailer.endpoint import Endpoint
from hailer.errors import EndpointError, UsageError
from hailer.logs import log_event
from hailer.net.listen import listen
from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from hailer.net.listener import Listener
    from hailer.relay.core.counters import Counters
    from hailer.relay.edge.base import Edge
    from hailer.runtime.aio import Loop

log = logging.getLogger("hailer.relay")

__all__ = ["DEFAULT_ENDPOINT", "MODELS", "ModelName", "RelayServer", "Settings"]

ModelName = Literal["asyncio", "thread"]

MODELS: tuple[ModelName, ...] = get_args(ModelName)

DEFAULT_ENDPOINT = Endpoint.parse("tcp://localhost:16273")

_STREAMS = ("tcp", "tcp4", "tcp6", "unix", "fd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a relay is to run.

    Attributes:
        listen: where; each a stream endpoint.
        model: ``asyncio`` (one thread, uvloop where there is one) or ``thread`` (one a client).
        loop: the event loop of the asyncio model: ``auto``, ``uvloop`` or ``stock``.
        limits: what a peer can make grow.
        drain: seconds that peers get to take their BYE when the relay stops.
        backlog: connections that the kernel keeps waiting.
        insecure: listen on addresses that are not loopback, though anybody there can log in.
    """

    listen: tuple[Endpoint, ...] = (DEFAULT_ENDPOINT,)
    model: ModelName = "asyncio"
    loop: Loop = "auto"
    limits: Limits = field(default_factory=Limits)
    drain: float = 5.0
    backlog: int = 1024
    insecure: bool = False


class RelayServer:
    """A relay that can be run here, or in a thread of its own by ``with RelayServer(settings) as relay``.

    Args:
        settings: how it is to run; the defaults are those of ``hailer relay``.

    Raises:
        EndpointError: an endpoint of a kind that a relay cannot listen on.
        UsageError: an address that is not loopback without `Settings.insecure`, or no such model.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        for endpoint in self.settings.listen:
            _check(endpoint, insecure=self.settings.insecure)
        self._edge = _make_edge(self.settings)
        self._listeners: list[Listener] = []
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """What is listened on, with the ports that were taken; empty before `bind`."""
        return [listener.endpoint for listener in self._listeners]

    @property
    def counters(self) -> Counters:
        """What has happened so far."""
        return self._edge.relay.counters

    def bind(self) -> list[Endpoint]:
        """Open the listening sockets.

        Raises:
            ListenError: an endpoint is in use, not ours or not permitted.
            ResolveError: its host does not resolve.
        """
        try:
            for endpoint in self.settings.listen:
                self._listeners += listen(endpoint, backlog=self.settings.backlog)
        except BaseException:
            self.close()
            raise
        return self.endpoints

    def serve(self) -> None:
        """Bind if need be, and serve until `stop`; a relay serves once."""
        if not self._listeners:
            self.bind()
        self._serve(_nothing)

    def _serve(self, ready: Callable[[], None]) -> None:
        def listening() -> None:
            for endpoint in self.endpoints:
                log_event(log, logging.INFO, "listening", endpoint=str(endpoint))
            ready()

        self._edge.serve(list(self._listeners), listening, self.settings.drain)
        self._edge.tell_counters("stopped")

    def tell_counters(self) -> None:
        """Log all counters in one line, the event ``counters``."""
        self._edge.tell_counters("counters")

    def stop(self) -> None:
        """Say BYE to all and end within the drain time; the second call ends at once.

        From any thread or signal handler; returns at once.
        """
        self._edge.stop()

    def close(self) -> None:
        """Close the listening sockets of a relay that was bound and not served."""
        for listener in self._listeners:
            listener.close()

    def __enter__(self) -> Self:
        self.bind()
        ready = threading.Event()

        def serve() -> None:
            try:
                self._serve(ready.set)
            except BaseException as error:
                self._failure = error
            finally:
                ready.set()

        self._thread = threading.Thread(target=serve, name="hailer-relay", daemon=True)
        self._thread.start()
        ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is not None:
            self.stop()
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure


def _check(endpoint: Endpoint, *, insecure: bool) -> None:
    if endpoint.scheme not in _STREAMS:
        kinds = ", ".join(f"{kind}:" for kind in _STREAMS)
        raise EndpointError(f"a relay cannot listen on {endpoint}: it takes {kinds}")
    if not (insecure or endpoint.is_loopback or endpoint.is_local):
        raise UsageError(
            f"{endpoint} can be reached from other machines, and anybody there could log in under any name: "
            "listen on localhost and let people come by ssh or a VPN, or say --insecure to allow it"
        )


def _make_edge(settings: Settings) -> Edge:
    # Imported when chosen: the thread model loads no event loop.
    if settings.model == "asyncio":
        from hailer.relay.edge.loop import LoopEdge  # noqa: PLC0415

        return LoopEdge(settings.limits, __version__, settings.loop)
    if settings.model == "thread":
        from hailer.relay.edge.threads import ThreadEdge  # noqa: PLC0415

        return ThreadEdge(settings.limits, __version__)
    raise UsageError(f"there is no model {settings.model!r} for a relay: choose one of {', '.join(MODELS)}")


def _nothing() -> None:
    pass
