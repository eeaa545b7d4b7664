"""What a person asked to be done to a server of theirs, made into loads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from hailer.errors import UsageError
from hailer.framing.delimited import unescape
from hailer.tools.bench.results import Case
from hailer.tools.bench.wire import Load, TlsFiles, check_load

if TYPE_CHECKING:
    from hailer.endpoint import Endpoint
    from hailer.framing import Framing
    from hailer.tools.bench.wire.load import Kind

__all__ = ["Asked", "messages_of", "plan"]

_MOST_FILE: Final = 16 << 20

_RUN: Final = 16
"""Different messages, where they are ours to choose."""

_LARGE: Final = 1 << 20
"""Bytes of a message from which on all are the same one: they are kept ready to be sent."""

_MANY: Final = 32
"""Clients of the tour beside the single one."""

_AT_ONCE: Final = 8
"""Clients that connect at the same time in the tour."""

_WEBSOCKET: Final = ("ws", "wss")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person asked for; None is what was left to us.

    Attributes:
        kind: the kind of load; None for a tour of several.
        text: what to send, with escapes.
        data: what to send as it is.
        size: bytes of a message where neither is given.
        expect: as `Load.expect`; also ``message``, one of the framing, and ``text:TEXT``.
        framing: how text is framed.
        clients: how many.
        in_flight: messages of each client under way.
        rate: messages a second.
        reverse: the server sends.
        first: what is sent once on each connection, with escapes.
        greeting: lines that it then says first.
        turns: see `Load`.
        timeout: see `Load`.
        patience: see `Load`.
        tls: see `Load`.
    """

    kind: Kind | None = None
    text: str | None = None
    data: bytes | None = None
    size: int | None = None
    expect: str | None = None
    framing: Framing | None = None
    clients: int | None = None
    in_flight: int = 1
    rate: float | None = None
    reverse: bool = False
    first: str | None = None
    greeting: int = 0
    turns: int = 0
    timeout: float = 10.0
    patience: float = 1.0
    tls: TlsFiles = field(default_factory=TlsFiles)


def plan(endpoint: Endpoint, asked: Asked) -> list[tuple[Case, Load]]:
    """Make loads of what was asked for.

    Raises:
        UsageError: it does not fit together, or not the endpoint.
    """
    messages, numbered = messages_of(endpoint, asked)
    expect, answer = _expected(endpoint, asked)
    load = Load(
        kind="connect",
        messages=messages,
        expect=expect,
        answer=answer,
        clients=asked.clients or 1,
        first=b"" if asked.first is None else _framed(endpoint, asked.framing, unescape(asked.first)),
        greeting=asked.greeting,
        numbered=numbered and expect == "echo",
        timeout=asked.timeout,
        patience=asked.patience,
        tls=asked.tls,
    )
    loads = [replace(load, **fields) for fields in _kinds(endpoint, asked, expect)]
    for each in loads:
        check_load(endpoint, each)
    return [(_case(each), each) for each in loads]


def _kinds(endpoint: Endpoint, asked: Asked, expect: str) -> list[dict[str, Any]]:
    kind = asked.kind
    if kind is None and asked.rate is not None:
        kind = "open"
    if kind is None and asked.reverse:
        kind = "stream"
    if kind is None and (asked.in_flight > 1 or asked.turns):
        kind = "pingpong"
    if asked.rate is not None and kind != "open":
        raise UsageError(f"a rate is kept by the kind open: leave --rate out, or --kind {kind}")
    if asked.reverse and kind != "stream":
        raise UsageError(f"the server pours with the kind stream: leave --reverse out, or --kind {kind}")
    if kind == "open" and asked.rate is None:
        raise UsageError("the kind open keeps a rate: say how many messages a second with --rate")
    if (asked.in_flight > 1 or asked.turns) and kind != "pingpong":
        raise UsageError(
            f"messages are counted in flight, or by turns, with the kind pingpong: leave --kind {kind} out"
        )
    if kind is not None:
        return [{"kind": kind, "in_flight": asked.in_flight, "turns": asked.turns,
                 "rate": asked.rate or 0.0, "reverse": asked.reverse}]  # fmt: skip
    clients = asked.clients or _MANY
    connect: dict[str, Any] = {"kind": "connect", "clients": asked.clients or _AT_ONCE}
    single: list[dict[str, Any]] = [{"kind": "pingpong", "clients": 1}] if clients > 1 else []
    many: dict[str, Any] = {"kind": "pingpong", "clients": clients}
    stream: dict[str, Any] = {"kind": "stream", "clients": asked.clients or 1}
    if expect == "eof":
        return [connect]
    tour = [*single, many, stream] if expect != "none" else [stream]
    if expect in ("any", "http"):
        # Answers that were not waited for cannot be told apart, and a client of HTTP waits.
        tour.remove(stream)
    return tour if endpoint.is_datagram else [connect, *tour]


def _case(load: Load) -> Case:
    count = f"{load.clients} client{'s' * (load.clients != 1)}"
    what = {
        "pingpong": "pingpong" + (f", {load.in_flight} in flight" if load.in_flight > 1 else ""),
        "stream": "download" if load.reverse else "stream",
        "open": f"open loop, {load.rate:,.0f}/s",
        "connect": "connect",
        "idle": "idle",
    }[load.kind]
    values: dict[str, str | int | float] = {
        "clients": load.clients,
        "size": load.size,
        "expect": load.expect,
        "in_flight": load.in_flight,
    }
    return Case(load.kind, f"{what}, {count}", values | ({"rate": load.rate} if load.rate else {}))


def messages_of(endpoint: Endpoint, asked: Asked) -> tuple[tuple[bytes, ...], bool]:
    """Make what is sent.

    Returns:
        The messages, and whether a number may be put into them.

    Raises:
        UsageError: it cannot be sent so.
    """
    if sum(given is not None for given in (asked.text, asked.data, asked.size)) > 1:
        raise UsageError("there is more than one message: give one of --send, --file and --size")
    if asked.data is not None:
        if len(asked.data) > _MOST_FILE:
            raise UsageError(
                f"a message of {len(asked.data)} bytes is too long: give {_MOST_FILE >> 20} MiB at most"
            )
        return ((asked.data,) if asked.data else ()), False
    if asked.text is not None:
        message = _framed(endpoint, asked.framing, unescape(asked.text))
        return ((message,) if message else ()), False
    if asked.reverse and asked.size is None:
        return (), False
    size = 64 if asked.size is None else asked.size
    records = _records(endpoint)
    ended = asked.framing is None and not records
    body = max(0, size - ended)
    run = _RUN if size <= _LARGE else 1
    texts = [(b"%02d " % n + b"abcdefghijklmnop"[n : n + 1] * body)[:body] for n in range(run)]
    if ended:
        return tuple(text + b"\n" for text in texts) if size else (), True
    return tuple(_framed(endpoint, asked.framing, text) for text in texts) if size else (), True


def _records(endpoint: Endpoint) -> bool:
    return endpoint.is_datagram or endpoint.scheme in (*_WEBSOCKET, "unix+seqpacket")


def _framed(endpoint: Endpoint, framing: Framing | None, text: bytes) -> bytes:
    """Frame a text; without a framing it is a line, unless it says itself where lines end."""
    if _records(endpoint):
        if framing is not None and framing.name != "raw":
            raise UsageError(f"{endpoint} keeps the boundaries of messages itself: leave --framing out")
        return text
    if framing is None:
        return text if b"\n" in text or not text else text + b"\n"
    return framing.encode(text)


def _expected(endpoint: Endpoint, asked: Asked) -> tuple[str, bytes]:
    """What answers a message, as `Load` has it."""
    expect = asked.expect
    if expect is None:
        return ("any" if asked.reverse else "echo"), b""
    if expect.startswith("text:"):
        return "exact", _framed(endpoint, asked.framing, unescape(expect.removeprefix("text:")))
    if _records(endpoint) and expect in ("line", "message"):
        return "any", b""
    if expect != "message":
        return expect, b""
    name = "line" if asked.framing is None else asked.framing.name
    if name in ("line", "crlf"):
        return "line", b""
    if name == "null":
        return "mark", b"\0"
    if name.startswith("delimiter:"):
        return "mark", unescape(name.removeprefix("delimiter:"))
    raise UsageError(
        f"where a message of the framing {name} ends is not looked for: expect echo, bytes:N or text:TEXT"
    )
