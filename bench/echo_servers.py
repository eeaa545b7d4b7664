"""The echo servers that are measured: hailer under each model, the floors, and what others offer.

    python -m bench.echo_servers NAME

listens on a free port of loopback, prints it, and serves until it is killed. Names are such as
``hailer:thread``, ``floor:thread`` and ``trio``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import socket
import socketserver
import sys
from typing import TYPE_CHECKING, Any, get_args

from bench.echo_floors import FLOORS, READ_SIZE, WORKERS
from hailer.tools.bench.machine import raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GROUPS", "reason_against"]

GROUPS: dict[str, tuple[str, ...]] = {
    "iterative": ("floor:iterative", "hailer:iterative"),
    "fork": ("floor:fork", "hailer:fork", "socketserver:fork"),
    "prefork": ("floor:prefork", "hailer:prefork"),
    "thread": ("floor:thread", "hailer:thread", "socketserver:thread"),
    "select": ("floor:select", "hailer:select"),
    "epoll": ("floor:epoll", "hailer:epoll"),
    "asyncio": ("floor:asyncio", "hailer:asyncio", "streams:uvloop", "streams:stock"),
    "asyncio-stock": (
        *("floor:asyncio-stock", "hailer:asyncio-stock", "streams:stock"),
        *("gevent", "twisted", "trio"),
    ),
}
"""What is measured in turn, for each model: its floor comes first."""

LONGEST = 1 << 20  # bytes of a line where a server wants to know


def hailer(model: str) -> None:
    from hailer.server import Server  # noqa: PLC0415 (only this one wants it)
    from hailer.services.echo import echo  # noqa: PLC0415

    extra: dict[str, Any] = {}
    if model == "prefork" and "workers" in inspect.signature(Server).parameters:
        extra["workers"] = WORKERS
    name, _, loop = model.partition("-")
    server = Server(
        "tcp://127.0.0.1:0",
        echo,
        name,  # type: ignore[arg-type]  # from GROUPS, and known to `reason_against`
        max_connections=1100,
        loop=loop or "auto",  # type: ignore[arg-type]
        **extra,
    )
    tell(int(server.bind()[0].port or 0))
    server.serve()


class LineHandler(socketserver.StreamRequestHandler):
    """An echo of lines as the standard library's documentation has it."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while line := self.rfile.readline():
                self.wfile.write(line)


def standard(kind: str) -> None:
    base: type[socketserver.TCPServer] = (
        socketserver.ForkingTCPServer if kind == "fork" else socketserver.ThreadingTCPServer
    )
    made = type("Server", (base,), {"request_queue_size": 1024, "daemon_threads": True, "max_children": 1100})
    server: socketserver.TCPServer = made(("127.0.0.1", 0), LineHandler)
    tell(server.server_address[1])
    server.serve_forever()


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    writer.close()


def streams(loop: str) -> None:
    async def serve() -> None:
        server = await asyncio.start_server(echo_stream, sock=listening(), limit=2 * LONGEST)
        await server.serve_forever()

    if loop == "uvloop":
        import uvloop  # noqa: PLC0415

        uvloop.run(serve())
    else:
        asyncio.run(serve())


def gevent(_: str) -> None:
    from gevent.server import StreamServer  # type: ignore[import,unused-ignore]  # noqa: PLC0415

    def serve(sock: Any, _address: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError), sock.makefile("rb") as file:
            for line in file:
                sock.sendall(line)

    server = StreamServer(("127.0.0.1", 0), serve, backlog=1024)
    server.start()
    tell(server.server_port)
    server.serve_forever()


def twisted(_: str) -> None:
    from twisted.internet import protocol, reactor  # type: ignore[import,unused-ignore] # noqa: PLC0415
    from twisted.protocols.basic import LineReceiver  # type: ignore[import,unused-ignore] # noqa: PLC0415

    class Echo(LineReceiver):  # type: ignore[misc,unused-ignore]
        delimiter = b"\n"
        MAX_LENGTH = LONGEST

        def connectionMade(self) -> None:  # noqa: N802 (Twisted's word)
            self.transport.setTcpNoDelay(True)

        def lineReceived(self, line: bytes) -> None:  # noqa: N802 (Twisted's word)
            self.sendLine(line)

    port = reactor.listenTCP(0, protocol.Factory.forProtocol(Echo), backlog=1024, interface="127.0.0.1")
    tell(port.getHost().port)
    reactor.run()


def trio(_: str) -> None:
    import trio as library  # type: ignore[import,unused-ignore]  # noqa: PLC0415

    async def serve(stream: Any) -> None:
        rest = b""
        try:
            while data := await stream.receive_some(READ_SIZE):
                lines = (rest + data if rest else data).split(b"\n")
                rest = lines.pop()
                if lines:
                    await stream.send_all(b"".join([line + b"\n" for line in lines]))
        except library.BrokenResourceError:
            pass

    async def main() -> None:
        listener = library.SocketListener(library.socket.from_stdlib_socket(listening()))
        await library.serve_listeners(serve, [listener])

    library.run(main)


OTHERS: dict[str, tuple[Callable[[str], None], tuple[str, ...]]] = {
    "hailer": (hailer, ("hailer",)),
    "socketserver": (standard, ()),
    "streams": (streams, ()),
    "gevent": (gevent, ("gevent",)),
    "twisted": (twisted, ("twisted",)),
    "trio": (trio, ("trio",)),
}


def reason_against(name: str) -> str | None:
    """Why a server cannot be measured here, or None when it can."""
    kind, _, model = name.partition(":")
    wanted = OTHERS[kind][1] if kind in OTHERS else ()
    if name in {"floor:asyncio", "streams:uvloop"}:
        wanted = ("uvloop",)
    if missing := [module for module in wanted if importlib.util.find_spec(module) is None]:
        return f"{', '.join(missing)} is not installed"
    if kind == "hailer":
        from hailer.server import ModelName  # noqa: PLC0415

        if model.partition("-")[0] not in get_args(ModelName):
            return "hailer has no such model yet"
    return None


def listening() -> socket.socket:
    """Listen on a free port of loopback and print it.

    What is accepted inherits TCP_NODELAY. Without it a batch that is answered line by line waits for the
    peer's delayed acknowledgement; asyncio sets it by itself, but not for a socket that it was given.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tell(listener.getsockname()[1])
    return listener


def tell(port: int) -> None:
    print(port, flush=True)


def main() -> None:
    """Serve until killed."""
    raise_descriptor_limit()
    kind, _, model = sys.argv[1].partition(":")
    if kind == "floor":
        FLOORS[model](listening())
    else:
        OTHERS[kind][0](model)


if __name__ == "__main__":
    main()
