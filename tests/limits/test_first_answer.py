"""The first answer comes at once, and however long a server is willing to wait."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

import hailer
from hailer.matrix import MODELS
from hailer.net.certificates import server_context
from hailer.services.echo import echo
from tests.limits.served import PATIENCE

if TYPE_CHECKING:
    import ssl
    from pathlib import Path
    from typing import Any


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux acknowledges when it is told to")
@pytest.mark.parametrize("model", MODELS)
def test_a_tls_client_that_waits_for_acknowledgements(
    model: Any, certificate: Path, trusting: ssl.SSLContext
) -> None:
    """Without TCP_NODELAY it keeps its first message back: for 40 ms, if the server does not see to it."""
    waits: list[float] = []
    with hailer.Server("tls://127.0.0.1:0", echo, model, tls=server_context(certificate)) as server:
        for _ in range(5):
            plain = socket.create_connection(("127.0.0.1", server.endpoints[0].port), PATIENCE)
            with trusting.wrap_socket(plain, server_hostname="localhost") as client:
                start = time.monotonic()
                client.sendall(b"hello\n")
                assert client.recv(100) == b"hello\n"
                waits.append(time.monotonic() - start)
    assert min(waits) < 0.02, waits


@pytest.mark.parametrize("seconds", [3e6, 1e300])
@pytest.mark.parametrize("model", MODELS)
def test_a_very_long_time_out(model: Any, seconds: float) -> None:
    with (
        hailer.Server("tcp://127.0.0.1:0", echo, model, idle_timeout=seconds) as server,
        hailer.connect(server.endpoints[0]) as connection,
    ):
        for message in (b"hello", b"again"):
            connection.send(message, seconds)
            assert connection.receive(seconds) == message
