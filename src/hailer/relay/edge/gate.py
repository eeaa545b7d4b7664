"""What the layers of new connections go by, on its way from the relay's process to a worker."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hailer.relay.edge.link import Gate

if TYPE_CHECKING:
    import ssl


def pack_gate(gate: Gate) -> bytes:
    """Give what `make_gate` makes another one of; the certificate goes by what was in its files."""
    told = {
        "pem": {name: pem.decode("latin-1") for name, pem in (gate.pem or {}).items()},
        "optional": gate.optional,
        "paths": list(gate.paths.items()),
        "origins": gate.origins,
        "max_message": gate.max_message,
    }
    return json.dumps(told).encode()


def make_gate(data: bytes) -> Gate:
    """Make a gate of what `pack_gate` gave.

    Raises:
        UsageError: the certificate cannot be used.
        OSError: the system has no place for it.
    """
    told = json.loads(data)
    return Gate(
        tls=_make_context(told["pem"], optional=told["optional"]) if told["pem"] else None,
        paths=dict(told["paths"]),
        origins=told["origins"],
        max_message=told["max_message"],
    )


def _make_context(pem: dict[str, str], *, optional: bool) -> ssl.SSLContext:
    from hailer.net.certificates import server_context  # noqa: PLC0415 (only for TLS)

    # The ssl module wants files; these are in memory where the system has such, as keys should be.
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        names: dict[str, Any] = {}
        for name, text in pem.items():
            if hasattr(os, "memfd_create"):
                file = stack.enter_context(os.fdopen(os.memfd_create(name), "wb"))
                names[name] = f"/proc/self/fd/{file.fileno()}"
            else:
                names[name] = str(Path(folder, name))
                file = stack.enter_context(Path(names[name]).open("wb"))
            file.write(text.encode("latin-1"))
            file.flush()
        return server_context(**names, optional=optional)
