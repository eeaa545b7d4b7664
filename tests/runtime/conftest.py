"""What the tests of several runtimes share."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def connected(family: str, folder: Path) -> tuple[socket.socket, socket.socket, str]:
    """Connect two sockets to each other; with their scheme."""
    if family == "tcp":
        listener = socket.create_server(("127.0.0.1", 0))
    else:
        path = folder / "pair"
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
    with listener:
        client = socket.socket(listener.family)
        client.connect(listener.getsockname())
        server, _ = listener.accept()
    return client, server, family
