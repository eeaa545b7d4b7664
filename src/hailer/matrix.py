"""What can be combined: models of concurrency, transports, framings, and the reason where something cannot.

The one place that knows: servers refuse by it, ``hailer serve --list`` prints it, the pages of the
documentation are made from it, and the tests run every cell of it.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from hailer.framing import FRAMING_NAMES, as_framing

if TYPE_CHECKING:
    from hailer.endpoint import Endpoint
    from hailer.framing import Framing

__all__ = [
    "FRAMINGS",
    "MODELS",
    "TRANSPORTS",
    "ModelKind",
    "ModelName",
    "TransportKind",
    "why_not",
    "why_not_framing",
    "why_not_model",
    "why_not_transport",
]

ModelName = Literal["iterative", "fork", "prefork", "thread", "select", "epoll", "asyncio"]


@dataclass(frozen=True, slots=True)
class ModelKind:
    """A model of concurrency.

    Attributes:
        name: what a person calls it by.
        summary: what it does, in a few words.
        blocking: whether a handler may hold up its thread or process.
        processes: whether handlers run in processes of their own.
    """

    name: ModelName
    summary: str
    blocking: bool = False
    processes: bool = False


MODELS: Final[dict[str, ModelKind]] = {
    each.name: each
    for each in (
        ModelKind("iterative", "one connection after another", blocking=True),
        ModelKind("fork", "a process for each connection", blocking=True, processes=True),
        ModelKind("prefork", "a few processes, each with a pool of threads", blocking=True, processes=True),
        ModelKind("thread", "a thread for each connection, from a bounded pool", blocking=True),
        ModelKind("select", "one thread; select(2) tells which connection is ready"),
        ModelKind("epoll", "one thread; epoll(7) tells which connection is ready"),
        ModelKind("asyncio", "one thread; a task for each connection, on uvloop or the stock loop"),
    )
}
assert tuple(MODELS) == get_args(ModelName)


@dataclass(frozen=True, slots=True)
class TransportKind:
    """A kind of transport.

    Attributes:
        name: how its endpoints begin, without a colon.
        summary: what it is, in a few words.
        records: whether it keeps the boundaries of messages itself.
    """

    name: str
    summary: str
    records: bool = False


TRANSPORTS: Final[dict[str, TransportKind]] = {
    each.name: each
    for each in (
        TransportKind("tcp", "TCP on IPv4 and IPv6 (tcp4, tcp6: only one)"),
        TransportKind("tls", "TLS over TCP, with client certificates if wanted"),
        TransportKind("udp", "UDP datagrams (udp4, udp6: only one)", records=True),
        TransportKind("unix", "a Unix stream socket"),
        TransportKind("unix+dgram", "Unix datagrams", records=True),
        TransportKind("unix+seqpacket", "a Unix socket with connections and records", records=True),
        TransportKind("ws", "WebSocket", records=True),
        TransportKind("wss", "WebSocket over TLS", records=True),
        TransportKind("fd", "an inherited socket: of systemd, inetd or a parent"),
        TransportKind("stdio", "standard input and output, as one connection"),
    )
}

FRAMINGS: Final = FRAMING_NAMES
"""The framings of streams, as a person writes them."""


def kind_of(endpoint: Endpoint) -> TransportKind:
    """The kind of an endpoint's transport."""
    return TRANSPORTS[endpoint.scheme.removesuffix("4").removesuffix("6")]


def why_not_model(model: str) -> str | None:
    """Say why a model cannot be had on this system; None when it can."""
    if MODELS[model].processes and not hasattr(os, "fork"):
        return "this system has no fork"
    if model == "epoll" and not hasattr(select, "epoll"):
        return "only Linux has epoll"
    return None


def why_not_transport(transport: str) -> str | None:
    """Say why a transport cannot be had on this system; None when it can."""
    if transport.startswith("unix") and not hasattr(socket, "AF_UNIX"):
        return "this system has no Unix sockets"
    if transport == "unix+seqpacket" and sys.platform == "darwin":
        return "macOS has no Unix sockets that keep the boundaries of records on a connection"
    return None


def why_not_framing(transport: str, framing: Framing | str) -> str | None:
    """Say why a framing cannot be used over a transport; None when it can.

    `raw` means the same as no framing where the transport keeps the boundaries.
    """
    if TRANSPORTS[transport].records and as_framing(framing).name != "raw":
        return "this transport keeps the boundaries of messages itself, so that no framing is needed"
    return None


def why_not(model: str, transport: str, framing: Framing | str | None = None) -> str | None:
    """Say why a cell of the matrix cannot be; None when it can.

    Args:
        model: the name of a model.
        transport: the name of a kind of transport.
        framing: how messages are marked off; None for the transport's own way.
    """
    if MODELS[model].processes and transport == "stdio":
        return "standard input and output are one connection, which is there: there is nothing to fork for"
    return (
        why_not_model(model)
        or why_not_transport(transport)
        or (why_not_framing(transport, framing) if framing is not None else None)
    )
