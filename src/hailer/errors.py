"""Every error that hailer raises, in one tree.

    HailerError
    ├── UsageError                the caller's fault: nothing was sent or opened
    │   ├── EndpointError         text that is no endpoint (also a ValueError)
    │   ├── BusyError             two tasks receive on one connection
    │   ├── ForeignAwaitError     a handler awaits what its model cannot run
    │   └── MessageError          a message that its framing cannot carry
    ├── ResolveError              a name that does not resolve
    ├── DialError                 no address of an endpoint could be reached
    ├── ListenError               an address cannot be listened on
    ├── TimedOut                  a deadline passed (also the built-in TimeoutError)
    ├── ConnectionEnded           no more messages on this connection
    │   ├── EndOfStream           the peer finished, between two messages
    │   ├── ConnectionLost        the peer vanished: reset, aborted, unreachable
    │   └── ConnectionClosed      this side closed it
    ├── TlsError                  TLS could not be agreed on or was broken
    ├── FramingError              the peer's bytes break the framing
    │   ├── MessageTooLong        a message over the limit
    │   ├── TruncatedMessage      the stream ended in the middle of a message
    │   └── BadFrame              bytes that are no frame at all
    ├── StoreError                what should be kept cannot be written or read
    └── RelayError                what a relay says no to
        ├── Refused               FAIL: one command was refused
        └── RelayClosed           BYE: the relay ended the session

The message of each is one sentence that says what to do next, fit to be shown to a person.
Errors of the operating system are mapped to these in one place, `hailer.net`.
"""

from __future__ import annotations

__all__ = [
    "BadFrame",
    "BusyError",
    "ConnectionClosed",
    "ConnectionEnded",
    "ConnectionLost",
    "DialError",
    "EndOfStream",
    "EndpointError",
    "ForeignAwaitError",
    "FramingError",
    "HailerError",
    "ListenError",
    "MessageError",
    "MessageTooLong",
    "Refused",
    "RelayClosed",
    "RelayError",
    "ResolveError",
    "StoreError",
    "TimedOut",
    "TlsError",
    "TruncatedMessage",
    "UsageError",
]


class HailerError(Exception):
    """The root: catching it catches all that hailer raises on purpose."""


class UsageError(HailerError):
    """The caller asked for what cannot be; nothing was sent or opened."""


class EndpointError(UsageError, ValueError):
    """A text that is no endpoint, or an endpoint that does not fit the use."""


class BusyError(UsageError):
    """Two tasks receive on one connection at the same time."""


class ForeignAwaitError(UsageError):
    """A handler awaited something that its concurrency model cannot run."""


class MessageError(UsageError, ValueError):
    """A message that its framing or protocol cannot carry, such as a newline in a line."""


class ResolveError(HailerError):
    """A host or service name that does not resolve."""


class DialError(HailerError):
    """No address of an endpoint could be connected to.

    Attributes:
        attempts: what was tried: pairs of the address as text and its error as text.
    """

    def __init__(self, message: str, attempts: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.attempts = attempts


class ListenError(HailerError):
    """An endpoint cannot be listened on: in use, not ours, no permission."""


class TimedOut(HailerError, TimeoutError):
    """A deadline passed before the work was done."""


class ConnectionEnded(HailerError):
    """No more messages will come on this connection."""


class EndOfStream(ConnectionEnded):
    """The peer finished sending, between two messages; sending to it may still work."""


class ConnectionLost(ConnectionEnded):
    """The peer vanished in the middle: reset, aborted, unreachable."""


class ConnectionClosed(ConnectionEnded):
    """This side has closed the connection."""


class TlsError(HailerError):
    """TLS could not be agreed on with the peer, or was broken afterwards; the connection carries no more."""


class FramingError(HailerError):
    """The peer's bytes break the framing.

    Attributes:
        fatal: True when nothing after this can be told apart, so the connection is to be closed;
            False when the decoder goes on with the next message.
    """

    def __init__(self, message: str, *, fatal: bool = True) -> None:
        super().__init__(message)
        self.fatal = fatal


class MessageTooLong(FramingError):
    """A message over the limit; nothing of it was kept.

    Attributes:
        limit: the most bytes that a message may have.
    """

    def __init__(self, message: str, *, limit: int, fatal: bool = False) -> None:
        super().__init__(message, fatal=fatal)
        self.limit = limit


class TruncatedMessage(FramingError):
    """The stream ended in the middle of a message.

    Attributes:
        partial: the bytes of the message that did come.
    """

    def __init__(self, message: str, *, partial: bytes = b"") -> None:
        super().__init__(message, fatal=True)
        self.partial = partial


class BadFrame(FramingError):
    """Bytes that are no frame of this framing."""


class StoreError(HailerError):
    """What should be kept cannot be written or read: the disk is full or fails, or the file is not ours."""


class RelayError(HailerError):
    """What a relay says no to."""


class Refused(RelayError):
    """A relay refused one command (its FAIL line).

    Attributes:
        code: the protocol's word for the reason, such as ``offline``.
        command: the refused verb, such as ``SEND``.
        explanation: the relay's sentence.
    """

    def __init__(self, code: str, command: str, explanation: str) -> None:
        super().__init__(explanation or f"the relay refused {command}: {code}")
        self.code = code
        self.command = command
        self.explanation = explanation


class RelayClosed(RelayError):
    """A relay ended the session (its BYE line).

    Attributes:
        reason: the relay's sentence.
    """

    def __init__(self, reason: str) -> None:
        advice = (
            ": another client logged in under this name; give each its own" if reason == "replaced" else ""
        )
        super().__init__(f"the relay closed the session: {reason}{advice}")
        self.reason = reason
