"""`connect`: one way to connect, for programs with an event loop, without one, and in handlers."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from hailer.connection import dialler
from hailer.endpoint import Endpoint
from hailer.errors import UsageError
from hailer.framing import DEFAULT_MAX_MESSAGE, as_framing
from hailer.framing.base import check_max_message
from hailer.matrix import kind_of, why_not_framing
from hailer.runtime.establish import TLS_SCHEMES, connect_layers, make_connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator
    from types import TracebackType

    from hailer.connection import Connection, Dial
    from hailer.errors import HailerError
    from hailer.framing import Framing
    from hailer.runtime.blocking import BlockingConnection

__all__ = ["Connecting", "connect"]


def connect(
    endpoint: Endpoint | str,
    *,
    framing: Framing | str | None = None,
    timeout: float | None = 10.0,
    retries: int = 0,
    retry_delay: float = 0.5,
    on_retry: Callable[[HailerError, int, float], None] | None = None,
    max_message: int = DEFAULT_MAX_MESSAGE,
    message_timeout: float | None = None,
    receive_timeout: float | None = None,
    local: Endpoint | str | None = None,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> Connecting:
    """Connect to an endpoint of any kind.

    Nothing happens until it is said how to wait::

        async with hailer.connect("localhost:7000") as connection:      # in an asyncio program
        connection = await hailer.connect("tls://example.org:7000")

        with hailer.connect("localhost:7000") as connection:            # in any other
        connection = hailer.connect("udp://localhost:7000").open()

    Args:
        endpoint: what to dial, or its text.
        framing: how messages are marked off in a stream, or its name; None is by lines. Records (datagrams,
            WebSocket messages) are messages as they are.
        timeout: seconds for connecting, all addresses, tries, TLS and WebSocket together; None is no limit.
        retries: how many more times to try to reach it.
        retry_delay: seconds before the first of these; each next wait is twice as long.
        on_retry: called before each wait with the error, the number of the retry, and the seconds until it.
        max_message: the most bytes of a message that the peer may send.
        message_timeout: seconds from the first bytes of a message to its end, however it drips.
        receive_timeout: seconds for a receive or send that names none; None waits for ever.
        local: the address to connect from.
        tls: whom to trust and who to be, from `hailer.client_context`; None trusts the system's authorities.
        server_name: the name that the certificate has to have; None for the endpoint's host.

    Raises, once it connects:
        EndpointError: the text is no endpoint.
        UsageError: the framing does not exist or does not go with the endpoint, or another argument makes
            no sense.
        ResolveError: the name does not resolve.
        DialError: no address could be reached.
        TlsError: the certificate is not to be trusted, or TLS was not agreed on.
        TimedOut: it took too long.
    """
    parsed = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
    kind = kind_of(parsed)
    if framing is not None:
        reason = why_not_framing(kind.name, framing)
        if reason is not None:
            raise UsageError(f"{parsed} takes no framing: {reason}")
    if tls is not None and parsed.scheme not in TLS_SCHEMES:
        raise UsageError(f"{parsed} is not encrypted: write tls:// or wss://, or leave tls out")
    if server_name is not None and parsed.scheme not in TLS_SCHEMES:
        raise UsageError(f"{parsed} shows no certificate: write tls:// or wss://, or leave server_name out")
    check_max_message(max_message)
    return Connecting(
        parsed,
        timeout,
        {
            "retries": retries,
            "retry_delay": retry_delay,
            "on_retry": on_retry,
            "local": Endpoint.parse(local) if isinstance(local, str) else local,
        },
        {
            "framing": as_framing("line" if framing is None else framing),
            "max_message": max_message,
            "timeout": receive_timeout,
            "message_timeout": message_timeout,
        },
        tls,
        server_name,
    )


class Connecting:
    """A connection that is about to be made: what `connect` gives. Each use makes another."""

    def __init__(
        self,
        endpoint: Endpoint,
        timeout: float | None,
        dialling: dict[str, Any],
        messages: dict[str, Any],
        tls: ssl.SSLContext | None,
        server_name: str | None,
    ) -> None:
        self._endpoint = endpoint
        self._timeout = None if timeout == math.inf else timeout
        self._dialling = dialling
        self._messages = messages
        self._tls = tls
        self._server_name = server_name
        self._entered = False
        self._open: Connection | None = None
        self._open_blocking: BlockingConnection | None = None

    # In an asyncio program.

    def __await__(self) -> Generator[Any, Any, Connection]:
        return self._connect().__await__()

    async def __aenter__(self) -> Connection:
        self._enter()
        try:
            self._open = await self._connect()
        except BaseException:
            self._entered = False
            raise
        return self._open

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._open is not None
        connection, self._open, self._entered = self._open, None, False
        await connection.close()

    # In any other.

    def open(self) -> BlockingConnection:
        """Connect without an event loop.

        Raises:
            UsageError: there is one: this would hold it up.
        """
        from hailer.runtime.blocking import BlockingConnection, run_to_end  # noqa: PLC0415
        from hailer.runtime.dialled import dial_blocking  # noqa: PLC0415

        # One of asyncio, or the one under the handlers of the models select and epoll.
        if _loop_runs() or dialler.get() not in (None, dial_blocking):
            raise UsageError("this would hold up the event loop: write await hailer.connect(...) here")
        return BlockingConnection(run_to_end(self._connect_by(dial_blocking)))

    def __enter__(self) -> BlockingConnection:
        self._enter()
        try:
            self._open_blocking = self.open()
        except BaseException:
            self._entered = False
            raise
        return self._open_blocking

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._open_blocking is not None
        connection, self._open_blocking, self._entered = self._open_blocking, None, False
        connection.close()

    def _enter(self) -> None:
        """Let no second block in before the first is left: its connection would be lost sight of."""
        if self._entered:
            raise UsageError("this connection is open already: call hailer.connect again for another")
        self._entered = True

    async def _connect(self) -> Connection:
        chosen = dialler.get()  # inside a handler its model knows how
        if chosen is None:
            from hailer.runtime.dialled import dial_aio  # noqa: PLC0415 (loads asyncio)

            chosen = dial_aio
        return await self._connect_by(chosen)

    async def _connect_by(self, dial: Dial) -> Connection:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        leaf = await dial(self._endpoint, timeout=self._timeout, **self._dialling)
        try:
            transport = await connect_layers(
                leaf,
                self._endpoint,
                tls=self._tls,
                server_name=self._server_name,
                max_message=self._messages["max_message"],
                deadline=deadline,
            )
            return make_connection(transport, **self._messages)
        except BaseException:
            leaf.abort()
            raise


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
