"""The well-known small services: `SERVICES`, by name.

Each is a handler for every model and transport: it awaits its connection and `hailer.sleep`, nothing
else. Where its RFC says what a datagram is answered with, the handler looks whether it has datagrams before
it (``connection.peer.is_datagram``); streams, with boundaries or without, are all served as TCP is there.

    from hailer import Server
    from hailer.services import SERVICES

    daytime = SERVICES["daytime"]
    Server("tcp://localhost:1313", daytime.build(), framing=daytime.framing).serve()
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from hailer.errors import UsageError
from hailer.framing import CrlfFraming, NullFraming, RawFraming
from hailer.services import chargen, clocks, discard, echo, greetings, qotd
from hailer.services.finger import finger
from hailer.services.plans import FingerDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hailer.connection import Handler
    from hailer.framing import Framing

__all__ = ["SERVICES", "Service"]

_CRLF = CrlfFraming()
_RAW = RawFraming()
_NULL = NullFraming()


@dataclass(frozen=True, slots=True)
class Service:
    """What there is to know about a service before it is served.

    Attributes:
        name: what ``hailer serve`` calls it.
        summary: what it does, in a few words.
        rfc: the number of its RFC, or None.
        port: the port that its RFC, or else the course it is from, gives it.
        framing: how messages are marked off on a stream where nothing else is asked for.
        datagram: whether it serves datagrams too.
        parameters: what `build` takes: name and meaning.
    """

    name: str
    summary: str
    rfc: int | None
    port: int
    framing: Framing
    datagram: bool
    make: Callable[..., Handler] = field(repr=False)
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def build(self, **parameters: str) -> Handler:
        """Make the handler.

        Args:
            parameters: text as a person types it, for names that `parameters` has.

        Raises:
            UsageError: there is no such parameter, its value cannot be used, or one is missing.
        """
        for name in parameters:
            if name not in self.parameters:
                known = " and ".join(self.parameters) or "none"
                raise UsageError(f"{self.name} has no parameter {name!r}: it takes {known}")
        return self.make(**parameters)


def _qotd(file: str | None = None) -> Handler:
    return qotd.qotd if file is None else qotd.quotations(file)


def _finger(directory: str | None = None, relay: str | None = None) -> Handler:
    if directory is not None and relay is None:
        return finger(FingerDirectory(directory))
    if relay is not None and directory is None:
        # Imported when asked for: it brings the relay's client, and with it an event loop.
        from hailer.services.relay_users import RelayUsers  # noqa: PLC0415

        return finger(RelayUsers(relay))
    raise UsageError("finger knows nobody by itself: give either directory=PATH or relay=ENDPOINT (--set)")


# The framings: echo, discard and time move bytes, in which any mark may occur; hello and ack have an exact
# number of them on the wire, and what ack is sent does not matter; the greeting ends with the NUL that its
# clients wait for; the others are lines.
SERVICES: Mapping[str, Service] = MappingProxyType(
    {
        service.name: service
        for service in (
            Service("echo", "send back what comes", 862, 7, _RAW, True, lambda: echo.echo),
            Service("discard", "throw away what comes", 863, 9, _RAW, True, lambda: discard.discard),
            Service("chargen", "characters without end", 864, 19, _CRLF, True, lambda: chargen.chargen),
            Service(
                "qotd",
                "a quotation each day",
                865,
                17,
                _CRLF,
                True,
                _qotd,
                MappingProxyType({"file": "quotations, with a line of % between two"}),
            ),
            Service("daytime", "the time for people", 867, 13, _CRLF, True, lambda: clocks.daytime),
            Service("time", "the time for programs", 868, 37, _RAW, True, lambda: clocks.time),
            Service(
                "finger",
                "who is there, and their plans",
                1288,
                79,
                _CRLF,
                False,
                _finger,
                MappingProxyType(
                    {
                        "directory": "a file for each user, with their plan",
                        "relay": "the relay whose users to tell of",
                    }
                ),
            ),
            Service(
                "greet",
                "a greeting that repeats the message",
                None,
                16273,
                _NULL,
                True,
                lambda: greetings.greet,
            ),
            Service("hello", "Hello, world!", None, 3490, _RAW, True, lambda: greetings.hello),
            Service("ack", "say that a message came", None, 51717, _RAW, True, lambda: greetings.ack),
        )
    }
)
"""Every service, by its name."""
