"""What to do to a server, and what came of it: values, which pass between processes as JSON."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from hailer import errors
from hailer.errors import HailerError, UsageError
from hailer.tools.bench.wire.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RUN", "Interval", "Kind", "Load", "Outcome", "TlsFiles", "WrongAnswer", "clock", "numbered_lines"]

clock: Final = time.perf_counter_ns
"""Nanoseconds, of a clock that only rises."""

RUN: Final = 16
"""Messages after which a stream of numbered ones repeats itself."""

NUMBER: Final = 12
"""Digits of a datagram's number."""

MOST_CLIENTS: Final = 100_000
MOST_BYTES: Final = 64 << 20
"""What all messages that one client has in flight may take together."""

Kind = Literal["pingpong", "stream", "open", "connect", "idle"]


class WrongAnswer(HailerError):
    """A server sent other bytes than were due, or did not go on."""


@dataclass(frozen=True)
class TlsFiles:
    """Whom to trust and who to be, as `hailer.net.certificates.client_context` has it.

    Attributes:
        ca: the authorities to trust, PEM; None for the system's.
        cert: the certificate to show.
        key: its key, if that is in a file of its own.
        insecure: trust any certificate.
        server_name: the name that the certificate has to have; None for the endpoint's host.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure: bool = False
    server_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Load:
    """What to do to a server.

    Attributes:
        kind: ``pingpong``: each client keeps `in_flight` messages under way, and sends the next when an
            answer has come. ``stream``: sends as fast as the server takes it. ``open``: sends `rate`
            messages a second whether or not answers come; a message's time counts from when it was to leave.
            ``connect``: connects, has one message answered, closes, again and again. ``idle``: stays
            connected and says nothing.
        messages: what is sent, one after another, again from the first after the last; all of the same
            length. A stream gets the bytes as they are, so they contain what ends them; datagrams and
            WebSocket messages carry one each.
        expect: what answers one message: ``echo`` the same bytes; ``exact`` those of `answer`; ``line`` one
            line, whatever it says; ``mark`` whatever ends in `answer`; ``bytes:N`` N bytes; ``http`` one HTTP
            response; ``any`` whatever the next read brings; ``eof`` all until the server closes (with
            ``connect``); ``none`` nothing.
        answer: see `expect`.
        clients: connections, or sockets for datagrams.
        in_flight: messages that each client has under way (pingpong).
        rate: messages a second of all clients together (open).
        turns: messages after which a client closes its connection and opens another, 0 for never: then a
            server that serves one connection at a time gets to all of them (pingpong).
        reverse: the server sends, and the client says `messages` once, if there are any (stream).
        numbered: replace the beginning of datagrams by a number, so that each one that is lost, doubled or
            overtaken is seen.
        first: what is sent once on each connection, before all else.
        greeting: lines that the server then says, which are read and thrown away.
        timeout: seconds to connect, and of silence of the server when it has something to answer.
        patience: seconds after which a datagram that was not answered counts as lost.
        tls: for ``tls`` and ``wss``.
    """

    kind: Kind = "pingpong"
    messages: tuple[bytes, ...] = ()
    expect: str = "echo"
    answer: bytes = b""
    clients: int = 1
    in_flight: int = 1
    rate: float = 0.0
    turns: int = 0
    reverse: bool = False
    numbered: bool = False
    first: bytes = b""
    greeting: int = 0
    timeout: float = 10.0
    patience: float = 1.0
    tls: TlsFiles = TlsFiles()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"there is no load {self.kind!r}: give one of {', '.join(get_args(Kind))}")
        if len({len(each) for each in self.messages}) > 1:
            raise UsageError("the messages of a load differ in length: give them the same")
        if not 1 <= self.clients <= MOST_CLIENTS:
            raise UsageError(f"{self.clients} clients cannot be: give 1 to {MOST_CLIENTS}")
        if self.in_flight < 1 or self.in_flight * max(self.size, 1) > MOST_BYTES:
            raise UsageError(
                f"{self.in_flight} messages of {self.size} bytes in flight cannot be: give at least 1,"
                f" and {MOST_BYTES >> 20} MiB at most together"
            )
        if self.kind == "open" and not 0 < self.rate <= 10_000_000:
            raise UsageError(f"a rate of {self.rate:g} messages a second cannot be: give 1 to 10,000,000")
        talks = self.kind in ("pingpong", "open") or (self.kind == "stream" and not self.reverse)
        if talks and not self.size:
            raise UsageError("there is nothing to send: give a message of one byte or more")
        if self.expect == "none" and self.kind == "pingpong":
            raise UsageError("who waits for answers has to expect some: give another kind, or what answers")
        if self.expect == "eof" and self.kind != "connect":
            raise UsageError(
                "a server that closes after its answer is loaded with the kind connect: give that"
            )
        if not (self.expect in _EXPECTATIONS or self.bytes_expected):
            raise UsageError(
                f"{self.expect!r} cannot be expected: give one of {', '.join(_EXPECTATIONS)}, bytes:N"
            )
        if self.expect in ("exact", "mark") and not self.answer:
            raise UsageError("which answer is due? Give its bytes")

    @property
    def size(self) -> int:
        """Bytes of a message."""
        return len(self.messages[0]) if self.messages else 0

    @property
    def bytes_expected(self) -> int:
        """The number of ``bytes:N``, else 0."""
        word, _, number = self.expect.partition(":")
        return int(number) if word == "bytes" and number.isdecimal() and len(number) < 12 else 0

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        text = [each.decode("latin-1") for each in self.messages]
        others = {name: getattr(self, name).decode("latin-1") for name in ("first", "answer")}
        return {**asdict(self), "messages": text, **others}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Load:
        """Read what `as_json` gave."""
        messages = tuple(each.encode("latin-1") for each in fields["messages"])
        others = {name: fields[name].encode("latin-1") for name in ("first", "answer")}
        return cls(**{**fields, "messages": messages, **others, "tls": TlsFiles(**fields["tls"])})


_EXPECTATIONS: Final = ("echo", "exact", "line", "mark", "http", "any", "eof", "none")


def numbered_lines(size: int) -> tuple[bytes, ...]:
    """`RUN` different lines of so many bytes, their newline included; nobody can take one for another."""
    return tuple(
        (b"%02d " % n + b"abcdefghijklmnop"[n : n + 1] * size)[: size - 1] + b"\n" for n in range(RUN)
    )


@dataclass
class Interval:
    """What passed in a part of the measured time: seconds from its beginning, and numbers."""

    begin: float
    end: float
    messages: int
    bytes_up: int
    bytes_down: int
    lost: int = 0


@dataclass(kw_only=True)
class Outcome:
    """What came of a load.

    Attributes:
        seconds: how long was measured, without what came before and after.
        messages: how many were answered in that time, or taken where no answers are due; for ``connect``,
            connections with their answer.
        sent: how many were sent.
        bytes_up: to the server, as a program sees them, without what TCP and TLS add.
        bytes_down: from it.
        latency: from sending a message (for ``open`` from when it was due) to the whole of its answer; for
            ``connect`` from the beginning of connecting.
        connecting: how long it took to be connected, with TLS and WebSocket.
        connections: how many were opened, all together.
        clients: how many are connected at the end of it.
        processes: how many the load had.
        busy: processor time of the load for each second, of its busiest process: at 1 the load was the limit.
        cpu: seconds of processor time that the load took.
        late: the most seconds that a message left after it was due (open).
        due: how many were to leave (open).
        sent_again: segments of TCP that had to be sent again by this side, where the system tells.
        lost: datagrams that were not answered within the patience.
        doubled: datagrams that were answered more than once.
        reordered: answers that came after that of a later datagram.
        jitter: seconds by which the times of datagrams vary, RFC 3550 section 6.4.1.
        errors: what went wrong with single connections (connect), with how often.
        notes: what else is to be known, in sentences.
        failure: why it ended early, a sentence; empty when it did not.
        failure_kind: the class of that error in `hailer.errors`.
        interrupted: whether Ctrl-C ended it.
    """

    seconds: float = 0.0
    messages: int = 0
    sent: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    latency: Histogram = field(default_factory=Histogram)
    connecting: Histogram = field(default_factory=Histogram)
    connections: int = 0
    clients: int = 0
    processes: int = 1
    busy: float = 0.0
    cpu: float = 0.0
    late: float = 0.0
    due: int = 0
    sent_again: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    jitter: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    failure_kind: str = ""
    interrupted: bool = False

    @property
    def messages_per_s(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds else 0.0

    @property
    def error(self) -> HailerError | None:
        """Why it ended early, as an error that can be raised."""
        if not self.failure:
            return None
        kind = getattr(errors, self.failure_kind, WrongAnswer)
        try:
            error = kind(self.failure)
        except TypeError:  # it wants more than a sentence
            error = WrongAnswer(self.failure)
        return error if isinstance(error, HailerError) else WrongAnswer(self.failure)

    def add(self, other: Outcome) -> None:
        """Take in what another process saw at the same time."""
        self.seconds = max(self.seconds, other.seconds)
        for name in ("messages", "sent", "bytes_up", "bytes_down", "connections", "clients", "processes",
                     "cpu", "due", "sent_again", "lost", "doubled", "reordered"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.busy, self.late = max(self.busy, other.busy), max(self.late, other.late)
        self.jitter = max(self.jitter, other.jitter)
        self.latency.add(other.latency)
        self.connecting.add(other.connecting)
        for text, count in other.errors.items():
            self.errors[text] = self.errors.get(text, 0) + count
        self.notes += [note for note in other.notes if note not in self.notes]
        if not self.failure:
            self.failure, self.failure_kind = other.failure, other.failure_kind
        self.interrupted |= other.interrupted

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {**vars(self), "latency": self.latency.as_json(), "connecting": self.connecting.as_json()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Outcome:
        """Read what `as_json` gave."""
        times = {name: Histogram.from_json(fields[name]) for name in ("latency", "connecting")}
        return cls(**{**fields, **times})
