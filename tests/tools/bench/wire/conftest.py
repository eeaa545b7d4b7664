"""Servers for the load: good ones over every transport, and bad ones by hand."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trustme

from hailer import Server, server_context
from hailer.services.echo import echo
from hailer.tools.bench.wire import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hailer.endpoint import Endpoint

    Handle = Callable[[socket.socket], None]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of an authority, and of a certificate with its key for this machine."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    own = authority.issue_cert("127.0.0.1", "localhost")
    own.private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    return folder / "ca.pem", folder / "own.pem"


@pytest.fixture
def files(certificates: tuple[Path, Path]) -> TlsFiles:
    """What a client trusts."""
    return TlsFiles(ca=str(certificates[0]))


@pytest.fixture
def serve_echo(certificates: tuple[Path, Path], tmp_path: Path) -> Iterator[Callable[..., Endpoint]]:
    """Serve echo over a transport, under asyncio or the model named; gives the endpoint."""
    servers: list[Server] = []

    def begin(scheme: str, model: str = "asyncio") -> Endpoint:
        where = f"{scheme}:{tmp_path / 's'}" if scheme.startswith("unix") else f"{scheme}://127.0.0.1:0"
        tls = server_context(certificates[1]) if scheme in ("tls", "wss") else None
        server = Server(where, echo, model, tls=tls)  # type: ignore[arg-type]
        server.__enter__()
        servers.append(server)
        return server.endpoints[0]

    yield begin
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def by_hand() -> Iterator[Callable[[Handle], int]]:
    """Serve each connection by a function of its socket, in a thread; gives the port on 127.0.0.1."""
    listeners: list[socket.socket] = []
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def begin(handle: Handle) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        listeners.append(listener)

        def one(sock: socket.socket) -> None:
            with sock, suppress(OSError):
                handle(sock)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    connections.append(sock)
                    threads.append(threading.Thread(target=one, args=(sock,)))
                    threads[-1].start()

        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield begin
    for each in [*listeners, *connections]:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        if each in listeners:
            each.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
