"""Transports over sockets that this side dialled: one function for each way to wait."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hailer.errors import UsageError
from hailer.net.dial import dial, dial_async
from hailer.net.oserrors import map_os_error
from hailer.runtime.records import SocketRecords
from hailer.runtime.sockets import keeps_records, prepare

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from hailer.endpoint import Endpoint
    from hailer.runtime.waiting import Waiter
    from hailer.transport import RecordTransport, Transport

__all__ = ["dial_aio", "dial_blocking", "make_leaf"]


async def dial_aio(endpoint: Endpoint, **options: Any) -> Transport | RecordTransport:
    """Dial in the running event loop; see `hailer.net.dial.dial_async` for the options and errors.

    Raises:
        UsageError: there is no running event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(
            "hailer.connect was awaited where nothing can wait for it: outside of handlers and of event loops"
            " use `with hailer.connect(...)` or .open()"
        ) from None
    from hailer.runtime.aio import AioTransport  # noqa: PLC0415 (not for the blocking ones)
    from hailer.runtime.waiting import AioWaiter  # noqa: PLC0415

    sock = await dial_async(endpoint, **options)
    if not keeps_records(sock):
        return await AioTransport.adopt(sock, endpoint.scheme)
    with _mapping(sock, endpoint):
        return SocketRecords(sock, endpoint.scheme, AioWaiter(sock))


async def dial_blocking(endpoint: Endpoint, **options: Any) -> Transport | RecordTransport:
    """Dial without suspending; see `hailer.net.dial.dial` for the options and errors."""
    from hailer.runtime.blocking import BlockingTransport  # noqa: PLC0415 (not for the others)
    from hailer.runtime.waiting import PollWaiter  # noqa: PLC0415

    return make_leaf(dial(endpoint, **options), endpoint, PollWaiter, BlockingTransport)


def make_leaf(
    sock: socket.socket,
    endpoint: Endpoint,
    make_waiter: Callable[[socket.socket], Waiter],
    make_stream: Callable[[socket.socket, str], Transport],
) -> Transport | RecordTransport:
    """Make the transport over a socket that was dialled; it is closed if this fails.

    Args:
        sock: the socket.
        endpoint: what was dialled.
        make_waiter: makes what waits for a socket of records.
        make_stream: makes the transport over one of a stream, for endpoints of a scheme.

    Raises:
        HailerError: the connection has gone already.
    """
    with _mapping(sock, endpoint):
        if keeps_records(sock):
            return SocketRecords(sock, endpoint.scheme, make_waiter(sock))
        prepare(sock)
        return make_stream(sock, endpoint.scheme)


@contextmanager
def _mapping(sock: socket.socket, endpoint: Endpoint) -> Iterator[None]:
    """Close the socket if what is done with it fails, and make the system's errors ours."""
    try:
        yield
    except OSError as error:
        sock.close()
        raise map_os_error(error, "dial", endpoint.address_text) from error
    except BaseException:
        sock.close()
        raise
