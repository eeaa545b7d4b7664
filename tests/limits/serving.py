"""A server in a process of its own, for peers that mean no good: ``serving.py MODEL OPTIONS``, as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
from typing import TYPE_CHECKING, Any

import hailer
from hailer.errors import TimedOut
from hailer.net.certificates import server_context

if TYPE_CHECKING:
    from hailer.connection import Connection

log = logging.getLogger("handler")


async def handle(connection: Connection) -> None:
    """Do what a message says, or send it back."""
    async for message in connection:
        if message == b"fail":
            raise ValueError("evil \x1b[31m\u202e\nFORGED line")
        if message == b"exit":
            sys.exit(3)
        elif message == b"interrupt":
            raise KeyboardInterrupt
        elif message == b"close":
            raise GeneratorExit
        elif message == b"cancel":
            raise asyncio.CancelledError
        elif message == b"foreign":
            await asyncio.sleep(0)
            await connection.send(b"slept")
        elif message == b"return":
            return
        elif message == b"flood":
            await flood(connection)
        elif message == b"slow":
            await connection.send(b"started")
            await hailer.sleep(0.3)
            await connection.send(b"x" * 300_000)
            return
        elif message == b"for ever":
            await connection.send(b"started")
            await hailer.sleep(1000)
        else:
            await connection.send(message)


async def flood(connection: Connection) -> None:
    """Send until the peer has not read for too long."""
    sent = 0
    try:
        while sent < 1 << 30:
            await connection.send(b"x" * 65535)
            sent += 65536
    except TimedOut:
        log.info("flooded %d bytes", sent)
        raise


def main(model: str, options: dict[str, Any]) -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level="INFO", format="%(levelname)s %(name)s %(message)s")
    certificate = options.pop("certificate", None)
    early, late = options.pop("descriptors", None), options.pop("descriptors_later", None)
    if early:
        resource.setrlimit(resource.RLIMIT_NOFILE, (early, early))
    server = hailer.Server(
        options.pop("endpoints"),
        handle,
        model,  # type: ignore[arg-type]  # one of the models' names
        tls=server_context(certificate) if certificate else None,
        **options,
    )
    if late:
        resource.setrlimit(resource.RLIMIT_NOFILE, (late, late))
    print(json.dumps([str(endpoint) for endpoint in server.bind()]), flush=True)
    server.serve()
    counters = server.counters
    print(
        json.dumps(
            {
                name: getattr(counters, name)
                for name in ("accepted", "active", "accept_failures", "handler_failures")
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
