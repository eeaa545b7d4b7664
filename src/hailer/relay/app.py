"""A relay put together: listeners, an edge, signals. Wiring only."""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

from hailer._version import __version__
from hailer.endpoint import Endpoint
from hailer.errors import EndpointError, HailerError, ListenError, StoreError, UsageError
from hailer.logs import log_event
from hailer.net.listen import listen
from hailer.net.listener import OnceListener
from hailer.relay.accounts import AccountFile
from hailer.relay.core.accounts import Accounts
from hailer.relay.core.limits import Limits
from hailer.relay.edge.link import LAYERED, Gate
from hailer.relay.grammar import MAX_LINE
from hailer.relay.store.memory import MemoryStore
from hailer.relay.store.place import default_path
from hailer.runtime.establish import TLS_SCHEMES

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from hailer.net.listener import Listener
    from hailer.relay.core.counters import Counters
    from hailer.relay.edge.base import Edge
    from hailer.relay.store.base import Store
    from hailer.runtime.aio import Loop

log = logging.getLogger("hailer.relay")

__all__ = ["DEFAULT_ENDPOINT", "MODELS", "ModelName", "RelayServer", "Settings"]

ModelName = Literal["asyncio", "thread"]

MODELS: tuple[ModelName, ...] = get_args(ModelName)

DEFAULT_ENDPOINT = Endpoint.parse("tcp://localhost:16273")

ClientCerts = Literal["optional", "required"]

CLIENT_CERTS: tuple[ClientCerts, ...] = get_args(ClientCerts)

MEMORY = "memory"
"""Said in place of the store's path: mail is gone with the relay."""

_STREAMS = ("tcp", "tcp4", "tcp6", "unix", "fd", "tls", "ws", "wss")


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
        cert: the certificate for ``tls://`` and ``wss://``, a PEM file; read again by `RelayServer.reload`.
        key: its key, a PEM file; None when it is in the same file.
        client_ca: authorities, a PEM file: a client's certificate of one of them proves its name.
        client_certs: whether clients may show one (``optional``) or have to (``required``).
        origins: the origins of pages that may connect by WebSocket, such as ``https://example.org``, or
            ``*``; None for pages of the same host only.
        accounts: the file of the accounts (see `hailer.relay.accounts`), which need not exist; None for a
            relay without accounts. Read again by `RelayServer.reload`.
        guests: whether names that have no account are for anybody; None for as long as there are no
            accounts at all.
        store: where mail is kept: a path of a file (see `hailer.relay.store.sqlite`), or ``memory``, from
            which it is gone with the relay; None for a file in the user's state directory.
        workers: processes that share the work of the asyncio model, this one counted: the others have
            sockets, TLS and WebSocket, and the core stays here.
    """

    listen: tuple[Endpoint, ...] = (DEFAULT_ENDPOINT,)
    model: ModelName = "asyncio"
    loop: Loop = "auto"
    limits: Limits = field(default_factory=Limits)
    drain: float = 5.0
    backlog: int = 1024
    insecure: bool = False
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    client_certs: ClientCerts = "optional"
    origins: tuple[str, ...] | None = None
    accounts: str | None = None
    guests: bool | None = None
    store: str | None = MEMORY
    workers: int = 1


class RelayServer:
    """A relay that can be run here, or in a thread of its own by ``with RelayServer(settings) as relay``.

    Args:
        settings: how it is to run; the defaults are those of ``hailer relay``.

    Raises:
        EndpointError: an endpoint of a kind that a relay cannot listen on.
        UsageError: an address that others can reach without TLS and accounts, unless `Settings.insecure`; a
            certificate that cannot be used, is missing or has no use; no such model; workers with another
            model than asyncio.
        StoreError: the accounts cannot be read.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._accounts = self._read_accounts(Accounts())
        for endpoint in self.settings.listen:
            self._check(endpoint)
        _check_certificate(self.settings)
        self._tls = _server_context(self.settings)
        self._edge = _make_edge(self.settings)
        self._bound = False
        self._listeners: list[Listener] = []
        self._reloading = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def endpoints(self) -> list[Endpoint]:
        """What is listened on, with the ports that were taken; empty before `bind`."""
        return [listener.endpoint for listener in self._listeners]

    @property
    def guests(self) -> bool:
        """Whether names that have no account are for anybody, now."""
        return self._accounts.guests

    @property
    def counters(self) -> Counters:
        """What has happened so far."""
        return self._edge.relay.counters

    def bind(self) -> list[Endpoint]:
        """Open the listening sockets and the store.

        Raises:
            StoreError: the store cannot be opened, or another relay has it.
            ListenError: an endpoint is in use, not ours or not permitted; or an inherited socket is not one
                that a relay can listen on.
            ResolveError: its host does not resolve.
            UsageError: an inherited socket can be reached from other machines without `Settings.insecure`.
        """
        try:
            with self._reloading:
                for endpoint in self.settings.listen:
                    for listener in listen(endpoint, backlog=self.settings.backlog):
                        self._listeners.append(listener)
                        self._take(listener, inherited=endpoint.scheme == "fd")
                self._edge.attach(self._open_store())
                # Not before the store is read: the accounts' mailboxes are those that it has.
                self._edge.set_accounts(self._accounts)
                self._bound = True
        except BaseException:
            self.close()
            raise
        return self.endpoints

    def reload(self) -> None:
        """Read the accounts again, and the certificate, its key and the clients' authorities.

        Connections that there are stay as they are, but for those whose account is gone: they get BYE. What
        cannot be used is logged, and what was before it stays. From any thread, not from a signal handler:
        it reads files.
        """
        with self._reloading:
            for what, file, read in (
                ("certificate", self.settings.cert, self._reload_certificate),
                ("accounts", self.settings.accounts, self._reload_accounts),
            ):
                if file is None:
                    continue
                try:
                    read()
                except HailerError as error:
                    advice = "what was before stays: mend it and reload again"
                    log_event(log, logging.ERROR, what, error=str(error), advice=advice)
                else:
                    log_event(log, logging.INFO, "reloaded", what=what)

    def _reload_certificate(self) -> None:
        self._tls = _server_context(self.settings)
        self._set_gate()

    def _reload_accounts(self) -> None:
        self._accounts = self._read_accounts(self._accounts)
        if self._bound:
            self._edge.set_accounts(self._accounts)

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
        """Close the listening sockets and the store of a relay that was bound and not served."""
        for listener in self._listeners:
            listener.close()
        self._edge.detach()

    def _open_store(self) -> Store:
        place, wanted = self.settings.store, self.settings.listen[0]
        if place == MEMORY:
            return MemoryStore()
        from hailer.relay.store.sqlite import SqliteStore  # noqa: PLC0415 (for those who keep their mail)

        try:
            store = SqliteStore(_own_place(wanted) if place is None else place)
        except StoreError:
            if place is not None or wanted.port != 0:
                raise
            # Another relay of this user, on a port that the system chose too, was first.
            store = SqliteStore(_own_place(self._listeners[0].endpoint))
        log_event(log, logging.INFO, "store", path=str(store.path))
        return store

    def _check(self, endpoint: Endpoint) -> None:
        _check(endpoint, insecure=self.settings.insecure, accounts=not self._accounts.guests)

    def _read_accounts(self, before: Accounts) -> Accounts:
        settings = self.settings
        if settings.accounts is None:
            if settings.guests is False:
                raise UsageError("nobody could log in: give the file of the accounts, or let guests in")
            return Accounts()
        accounts = AccountFile(Path(settings.accounts)).load(before, guests=settings.guests)
        if not (accounts.guests or len(accounts)):
            advice = "nobody can log in: make one with hailer account add, and reload"
            log_event(log, logging.WARNING, "no-accounts", file=settings.accounts, advice=advice)
        return accounts

    def _take(self, listener: Listener, *, inherited: bool) -> None:
        """Look at what is really listened on, which for ``fd://`` only the descriptor tells."""
        _check_kind(listener)
        endpoint = listener.endpoint
        if self._tls is not None and inherited and endpoint.scheme == "tcp":
            # What a certificate is given for, as in `hailer.Server`.
            listener.endpoint = endpoint = replace(endpoint, scheme="tls")
        self._check(endpoint)
        self._set_gate()

    def _set_gate(self) -> None:
        layered = [listener.endpoint for listener in self._listeners if listener.endpoint.scheme in LAYERED]
        if not layered:
            return
        import hailer.relay.edge.layers  # noqa: F401, PLC0415 (now, and not when the first client waits)

        limits = self.settings.limits
        self._edge.gate = Gate(
            tls=self._tls,
            # A WebSocket path that is given is the only one; "/" stands for none given.
            paths={endpoint.port: endpoint.path for endpoint in layered if endpoint.path not in ("", "/")},
            origins=self.settings.origins,
            max_message=limits.payload + MAX_LINE,
            pem=_pem(self.settings),
            optional=self.settings.client_certs == "optional",
        )

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


def _check_kind(listener: Listener) -> None:
    """Refuse an inherited socket of a wrong kind, which only the socket itself can tell."""
    if listener.socket.type != socket.SOCK_STREAM or isinstance(listener, OnceListener):
        raise ListenError(
            f"a relay cannot listen on the inherited socket {listener.endpoint}:"
            " pass one that listens for streams"
        )


def _check(endpoint: Endpoint, *, insecure: bool, accounts: bool) -> None:
    """Refuse what a relay cannot listen on, and where nobody should be let in by whoever passes.

    Args:
        endpoint: where it is to listen.
        insecure: allow that all the same.
        accounts: whether names have to be proven.
    """
    if endpoint.scheme not in _STREAMS:
        kinds = ", ".join(f"{kind}:" for kind in _STREAMS)
        raise EndpointError(f"a relay cannot listen on {endpoint}: it takes {kinds}")
    if insecure or endpoint.is_loopback or endpoint.is_local:
        return
    if endpoint.scheme not in TLS_SCHEMES:
        secure = "wss" if endpoint.scheme == "ws" else "tls"
        raise UsageError(
            f"{endpoint} can be reached from other machines, and whoever is on the way could read and change "
            f"all: listen on {secure}:// with a certificate and have accounts, or on localhost, or say "
            "--insecure to allow it"
        )
    if not accounts:
        raise UsageError(
            f"{endpoint} can be reached from other machines, and anybody there could log in under any name: "
            "have accounts (hailer account add), or listen on localhost, or say --insecure to allow it"
        )


def _check_certificate(settings: Settings) -> None:
    """Refuse a certificate that is missing or has no use."""
    needing = [endpoint for endpoint in settings.listen if endpoint.scheme in TLS_SCHEMES]
    if settings.cert is None:
        if settings.key is not None or settings.client_ca is not None:
            raise UsageError("--key and --client-ca go with a certificate: give --cert too")
        if needing:
            raise UsageError(
                f"{needing[0]} needs a certificate: give --cert and --key"
                f" (hailer cert {needing[0].host or 'localhost'} makes both, for development)"
            )
    elif not needing and not _inherits(settings):
        raise UsageError(
            f"a certificate was given, but {settings.listen[0]} is not encrypted: write tls:// or wss://"
        )
    if settings.client_certs == "required" and settings.client_ca is None:
        raise UsageError("nobody's client certificate could be trusted: name its authority with --client-ca")


def _server_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.cert is None:
        return None
    from hailer.net.certificates import server_context  # noqa: PLC0415 (only for TLS)

    return server_context(
        settings.cert,
        settings.key,
        client_ca=settings.client_ca,
        optional=settings.client_certs == "optional",
    )


def _pem(settings: Settings) -> dict[str, bytes] | None:
    """What the files of the certificate hold now, for workers; see `Gate.pem`.

    Not for them to read themselves: by then the files may have changed again, and nobody asked for that.
    """
    if settings.cert is None or settings.workers == 1:
        return None
    names = {"cert": settings.cert, "key": settings.key, "client_ca": settings.client_ca}
    try:
        return {name: Path(file).read_bytes() for name, file in names.items() if file is not None}
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read any more: {error.strerror}") from error


def _inherits(settings: Settings) -> bool:
    return any(endpoint.scheme == "fd" for endpoint in settings.listen)


def _make_edge(settings: Settings) -> Edge:
    if settings.workers < 1 or (settings.workers > 1 and settings.model != "asyncio"):
        raise UsageError("workers share the work of the asyncio model: choose that, or one worker")
    # Imported when chosen: the thread model loads no event loop.
    if settings.model == "asyncio" and settings.workers > 1:
        from hailer.relay.edge.workers import WorkersEdge  # noqa: PLC0415

        return WorkersEdge(settings.limits, __version__, settings.loop, settings.workers)
    if settings.model == "asyncio":
        from hailer.relay.edge.loop import LoopEdge  # noqa: PLC0415

        return LoopEdge(settings.limits, __version__, settings.loop)
    if settings.model == "thread":
        from hailer.relay.edge.threads import ThreadEdge  # noqa: PLC0415

        return ThreadEdge(settings.limits, __version__)
    raise UsageError(f"there is no model {settings.model!r} for a relay: choose one of {', '.join(MODELS)}")


def _own_place(endpoint: Endpoint) -> Path:
    """The store of the user's relay that listens there first: by its port, whatever else changes."""
    port = endpoint.port if endpoint.port not in {0, DEFAULT_ENDPOINT.port} else None
    return default_path(str(port or endpoint.path or ""))


def _nothing() -> None:
    pass
