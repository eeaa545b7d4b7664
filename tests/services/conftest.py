"""Services on real sockets under every model, and on datagrams that a test writes down."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from hailer.connection import RecordConnection
from hailer.endpoint import Endpoint
from hailer.errors import MessageError
from hailer.runtime.blocking import run_to_end
from hailer.server import ModelName, Server
from hailer.services import SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hailer.connection import Handler
    from hailer.errors import FramingError
    from hailer.framing import Framing

MODELS: tuple[ModelName, ...] = ("asyncio", "thread", "iterative", "select", "epoll", "fork", "prefork")
"""The models that every service is tested under."""

PATIENCE = 10.0


class Served:
    """A server of one handler."""

    def __init__(self, server: Server, ends: ExitStack) -> None:
        self.server = server
        self._ends = ends

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.server.endpoints[0].port or 0)

    def connect(self, *, room: int = 0) -> socket.socket:
        """Connect a plain socket, with little room for what it does not read if `room` is given."""
        client = self._ends.enter_context(socket.socket())
        if room:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", self.port))
        return client

    def ask(self, data: bytes = b"") -> bytes:
        """Send this, finish, and read the answer to its end."""
        with self.connect() as client:
            with suppress(OSError):  # a service that does not listen may have answered and gone
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def exchange(self, *datagrams: bytes, patience: float = PATIENCE) -> list[bytes]:
        """Send datagrams one after another, each when the one before it was answered."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(patience)
            client.connect(("127.0.0.1", self.port))
            answers = []
            for datagram in datagrams:
                client.send(datagram)
                answers.append(client.recv(65535))
            return answers


def read_all(client: socket.socket) -> bytes:
    """Read to the end of the stream."""
    parts = []
    with suppress(ConnectionResetError):
        while data := client.recv(65536):
            parts.append(data)
    return b"".join(parts)


class Serve(Protocol):
    """The type of the fixture `serve`."""

    def __call__(
        self,
        service: str | Handler,
        framing: Framing | str | None = None,
        *,
        scheme: str = "tcp",
        **options: Any,
    ) -> Served: ...


@pytest.fixture(params=MODELS)
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Serves a service, by its name and in its framing, or a handler, under a model."""
    with ExitStack() as ends:

        def start(
            service: str | Handler,
            framing: Framing | str | None = None,
            *,
            scheme: str = "tcp",
            **options: Any,
        ) -> Served:
            if isinstance(service, str):
                if scheme == "tcp":
                    framing = framing or SERVICES[service].framing
                service = SERVICES[service].build()
            server = Server(
                f"{scheme}://127.0.0.1:0", service, request.param, framing=framing, drain=0.2, **options
            )
            return Served(ends.enter_context(server), ends)

        yield start


class Datagrams:
    """A record transport whose records come from the test, batch by batch, and then end.

    Args:
        batches: what each read brings.
        scheme: the kind of the two ends.
        largest: bytes of the largest record that can be sent.
    """

    def __init__(
        self, *batches: Sequence[bytes | FramingError], scheme: str = "udp", largest: int = 65507
    ) -> None:
        self._batches = list(batches)
        self._largest = largest
        unix = scheme.startswith("unix")
        self.local = Endpoint(scheme, path="@here") if unix else Endpoint(scheme, "127.0.0.1", 7)
        self.peer = Endpoint(scheme, path="@there") if unix else Endpoint(scheme, "127.0.0.1", 4950)
        self.sent: list[bytes] = []

    async def pull_records(self, limit: int, deadline: float | None = None) -> list[bytes | FramingError]:
        return [*self._batches.pop(0)] if self._batches else []

    async def push_records(self, records: Sequence[bytes], deadline: float | None = None) -> None:
        for record in records:
            if len(record) > self._largest:
                raise MessageError("this record is too large: send a shorter one")
            self.sent.append(record)

    async def finish(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def exchange(handler: Handler | str, datagrams: Datagrams) -> list[bytes]:
    """Run a handler over these datagrams; gives what it sent."""
    if isinstance(handler, str):
        handler = SERVICES[handler].build()
    run_to_end(handler(RecordConnection(datagrams)))
    return datagrams.sent
