"""Three designs of servers, and services that each is right for.

    python examples/designs.py concurrent              a process for each connection; echo, TCP port 7007
    python examples/designs.py connectionless          one datagram after another; echo, UDP port 7007
    python examples/designs.py connectionless daytime  the time of day, UDP port 7013
    python examples/designs.py connectionless finger   who somebody is, UDP port 7079
    python examples/designs.py select                  all connections in one process; echo, TCP port 7007

The first costs a process for each client and is for long conversations; the second costs next to nothing and
may lose a question or an answer; the third is for many clients that are mostly silent. To `hailer.Server` a
design is two words, the kind of endpoint and the model, and each handler here serves in all three.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import hailer
from hailer.services.clocks import daytime
from hailer.services.echo import echo

if TYPE_CHECKING:
    from hailer.matrix import ModelName

DESIGNS: dict[str, tuple[str, ModelName]] = {
    "concurrent": ("tcp", "fork"),
    "connectionless": ("udp", "iterative"),
    "select": ("tcp", "select"),
}
PEOPLE = {"ada": "writes notes on an engine", "grace": "looks for moths in relays"}


def finger(message: bytes) -> bytes:
    """Tell who somebody is: a handler that gives the answer to a message."""
    name = message.decode(errors="replace").strip()
    return f"{name}: {PEOPLE.get(name, 'no such user')}".encode()


SERVICES = {"echo": (echo, 7007), "daytime": (daytime, 7013), "finger": (finger, 7079)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve a small service in one of three designs.")
    parser.add_argument("design", choices=tuple(DESIGNS))
    parser.add_argument("service", nargs="?", choices=tuple(SERVICES), default="echo")
    parser.add_argument("--port", type=int)
    args = parser.parse_args()
    scheme, model = DESIGNS[args.design]
    handler, port = SERVICES[args.service]
    endpoint = hailer.Endpoint(scheme, "localhost", port if args.port is None else args.port)
    server = hailer.Server(endpoint, handler, model)
    print(*(f"listening on {each}" for each in server.bind()), sep="\n", flush=True)
    server.serve()


if __name__ == "__main__":
    try:
        main()
    except hailer.HailerError as error:
        sys.exit(f"designs: {error}")
