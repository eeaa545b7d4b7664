"""Programs that talk over sockets: a relay, a library and a command.

The public names are imported when first used, so that ``hailer --version`` stays quick and a
program that only parses endpoints does not load an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer._version import __version__

if TYPE_CHECKING:
    from hailer.connecting import connect as connect
    from hailer.connection import Connection as Connection
    from hailer.connection import Handler as Handler
    from hailer.connection import RecordConnection as RecordConnection
    from hailer.connection import sleep as sleep
    from hailer.endpoint import Endpoint as Endpoint
    from hailer.errors import BadFrame as BadFrame
    from hailer.errors import BusyError as BusyError
    from hailer.errors import ConnectionClosed as ConnectionClosed
    from hailer.errors import ConnectionEnded as ConnectionEnded
    from hailer.errors import ConnectionLost as ConnectionLost
    from hailer.errors import DialError as DialError
    from hailer.errors import EndOfStream as EndOfStream
    from hailer.errors import EndpointError as EndpointError
    from hailer.errors import ForeignAwaitError as ForeignAwaitError
    from hailer.errors import FramingError as FramingError
    from hailer.errors import HailerError as HailerError
    from hailer.errors import ListenError as ListenError
    from hailer.errors import MessageError as MessageError
    from hailer.errors import MessageTooLong as MessageTooLong
    from hailer.errors import Refused as Refused
    from hailer.errors import RelayClosed as RelayClosed
    from hailer.errors import RelayError as RelayError
    from hailer.errors import ResolveError as ResolveError
    from hailer.errors import StoreError as StoreError
    from hailer.errors import TimedOut as TimedOut
    from hailer.errors import TlsError as TlsError
    from hailer.errors import TruncatedMessage as TruncatedMessage
    from hailer.errors import UsageError as UsageError
    from hailer.framing import Framing as Framing
    from hailer.net.certificates import client_context as client_context
    from hailer.net.certificates import server_context as server_context
    from hailer.relay.client.client import RelayClient as RelayClient
    from hailer.relay.client.events import Asked as Asked
    from hailer.relay.client.events import Expired as Expired
    from hailer.relay.client.events import Gap as Gap
    from hailer.relay.client.events import Joined as Joined
    from hailer.relay.client.events import Left as Left
    from hailer.relay.client.events import Message as Message
    from hailer.relay.client.events import Offline as Offline
    from hailer.relay.client.events import Online as Online
    from hailer.relay.client.events import RefusedPost as RefusedPost
    from hailer.server import Server as Server
    from hailer.transport import RecordTransport as RecordTransport
    from hailer.transport import Transport as Transport

_HOME = {
    "Connection": "hailer.connection",
    "Handler": "hailer.connection",
    "RecordConnection": "hailer.connection",
    "sleep": "hailer.connection",
    "Endpoint": "hailer.endpoint",
    "BadFrame": "hailer.errors",
    "BusyError": "hailer.errors",
    "ConnectionClosed": "hailer.errors",
    "ConnectionEnded": "hailer.errors",
    "ConnectionLost": "hailer.errors",
    "DialError": "hailer.errors",
    "EndOfStream": "hailer.errors",
    "EndpointError": "hailer.errors",
    "ForeignAwaitError": "hailer.errors",
    "FramingError": "hailer.errors",
    "HailerError": "hailer.errors",
    "ListenError": "hailer.errors",
    "MessageError": "hailer.errors",
    "MessageTooLong": "hailer.errors",
    "Refused": "hailer.errors",
    "RelayClosed": "hailer.errors",
    "RelayError": "hailer.errors",
    "ResolveError": "hailer.errors",
    "TimedOut": "hailer.errors",
    "StoreError": "hailer.errors",
    "TlsError": "hailer.errors",
    "TruncatedMessage": "hailer.errors",
    "UsageError": "hailer.errors",
    "Framing": "hailer.framing",
    "client_context": "hailer.net.certificates",
    "server_context": "hailer.net.certificates",
    "RelayClient": "hailer.relay.client.client",
    "Asked": "hailer.relay.client.events",
    "Expired": "hailer.relay.client.events",
    "Gap": "hailer.relay.client.events",
    "Joined": "hailer.relay.client.events",
    "Left": "hailer.relay.client.events",
    "Message": "hailer.relay.client.events",
    "Offline": "hailer.relay.client.events",
    "Online": "hailer.relay.client.events",
    "RefusedPost": "hailer.relay.client.events",
    "connect": "hailer.connecting",
    "Server": "hailer.server",
    "RecordTransport": "hailer.transport",
    "Transport": "hailer.transport",
}

__all__ = ["__version__", *_HOME]  # noqa: PLE0604 (the names of the table above)


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'hailer' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 (not needed by those who use none of the names)

    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
