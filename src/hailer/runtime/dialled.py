"""Transports over sockets that this side dialled: one function for each way to wait."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from hailer.errors import UsageError
from hailer.net.dial import dial, dial_async
from hailer.net.oserrors import map_os_error
from hailer.runtime.records import SocketRecords
from hailer.runtime.sockets import prepare

if TYPE_CHECKING:
    from hailer.endpoint import Endpoint
    from hailer.transport import RecordTransport, Transport

__all__ = ["dial_aio", "dial_blocking"]


async def dial_aio(endpoint: Endpoint, **options: Any) -> Transport | RecordTransport:
    """Dial in the running event loop; see `hailer.net.dial.dial_async` for the options and errors.

    Raises:
        UsageError: there is no running event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(
            "hailer.connect was awaited where nothing can wait for it: a handler under select or epoll cannot"
            " connect, so choose another model; outside of handlers use `with` or .open()"
        ) from None
    from hailer.runtime.aio import AioTransport  # noqa: PLC0415 (not for the blocking ones)
    from hailer.runtime.waiting import AioWaiter  # noqa: PLC0415

    sock = await dial_async(endpoint, **options)
    if _keeps_records(sock):
        return SocketRecords(sock, endpoint.scheme, AioWaiter(sock))
    return await AioTransport.adopt(sock, endpoint.scheme)


async def dial_blocking(endpoint: Endpoint, **options: Any) -> Transport | RecordTransport:
    """Dial without suspending; see `hailer.net.dial.dial` for the options and errors."""
    from hailer.runtime.blocking import BlockingTransport  # noqa: PLC0415 (not for the others)
    from hailer.runtime.waiting import PollWaiter  # noqa: PLC0415

    sock = dial(endpoint, **options)
    try:
        if _keeps_records(sock):
            return SocketRecords(sock, endpoint.scheme, PollWaiter(sock))
        prepare(sock)
        return BlockingTransport(sock, endpoint.scheme)
    except OSError as error:
        sock.close()
        raise map_os_error(error, "dial", endpoint.address_text) from error


def _keeps_records(sock: socket.socket) -> bool:
    return sock.type != socket.SOCK_STREAM
