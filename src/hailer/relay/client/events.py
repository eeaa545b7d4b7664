"""What a relay says, as typed events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from hailer.errors import UsageError

__all__ = [
    "Answered",
    "Asked",
    "Banner",
    "Bye",
    "End",
    "Event",
    "Expired",
    "Fail",
    "Gap",
    "HelpLine",
    "Here",
    "Joined",
    "Left",
    "Message",
    "Offline",
    "Online",
    "Other",
    "Ping",
    "Pong",
    "Presence",
    "RefusedPost",
    "Replier",
    "Stored",
    "Welcome",
]


class Replier(Protocol):
    """What a message needs to be replied to: a client."""

    async def send(self, to: str, payload: str | bytes, *, confirm: bool = True) -> None:
        """Send a message; see `hailer.relay.client.client.RelayClient.send`."""

    async def ack(self, number: int) -> None:
        """Acknowledge mail; see `hailer.relay.client.client.RelayClient.ack`."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message for this client or for a room: a live one (MSG), or an entry of its mailbox (MAIL).

    Attributes:
        sender: the name that sent it.
        to: this client's name, or the room.
        payload: the bytes as they were sent.
        number: of the entry in the mailbox, counting up; None for a live message.
        store: what the relay's store is known by, in which the number counts; empty for a live message.
    """

    sender: str
    to: str
    payload: bytes
    _replier: Replier | None = field(default=None, repr=False, compare=False)
    number: int | None = None
    store: str = ""

    @property
    def cursor(self) -> str | None:
        """What to give a client as its `cursor` once this message and all before are dealt with.

        It holds the number and what it counts in: a relay that has lost its store begins anew, and a number
        alone would hide its mail. None for a live message.
        """
        return None if self.number is None else f"{self.store}:{self.number}"

    @property
    def text(self) -> str:
        """The payload as text; bytes that are no UTF-8 become U+FFFD. Peer text: escape it for a terminal."""
        return self.payload.decode("utf-8", "replace")

    async def reply(self, payload: str | bytes, *, confirm: bool = True) -> None:
        """Send to where this came from: the room if it was sent to one, else its sender.

        Args:
            payload: text or bytes.
            confirm: wait until the relay has taken it.

        Raises:
            The same as `RelayClient.send`.
        """
        if self._replier is None:
            raise UsageError("this message came from no client: send a new one with RelayClient.send")
        to = self.to if self.to.startswith("#") else self.sender
        await self._replier.send(to, payload, confirm=confirm)

    async def ack(self) -> None:
        """Acknowledge it: it is dealt with, and the mailbox need not keep it. Nothing for a live message.

        Raises:
            The same as `RelayClient.ack`.
        """
        if self.number is not None:
            if self._replier is None:
                raise UsageError("this message came from no client: acknowledge one that was received")
            await self._replier.ack(self.number)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question for this client (ASKED).

    Attributes:
        id: the asker's id for it.
        sender: the name that asks.
        payload: the bytes as they were sent.
    """

    id: str
    sender: str
    payload: bytes

    @property
    def text(self) -> str:
        """The payload as text; bytes that are no UTF-8 become U+FFFD. Peer text: escape it for a terminal."""
        return self.payload.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a question of this client (ANSWERED).

    Attributes:
        id: the id that the question had.
        sender: the name that answers.
        payload: the bytes as they were sent.
    """

    id: str
    sender: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """Somebody, perhaps this client, entered a room (JOINED)."""

    room: str
    name: str


@dataclass(frozen=True, slots=True)
class Left:
    """Somebody, perhaps this client, left a room (LEFT)."""

    room: str
    name: str


@dataclass(frozen=True, slots=True)
class Online:
    """A watched name has logged in (ONLINE)."""

    name: str


@dataclass(frozen=True, slots=True)
class Offline:
    """A watched name has gone (OFFLINE)."""

    name: str


@dataclass(frozen=True, slots=True)
class Here:
    """A part of a listing (HERE); `End` with ``WHO`` ends it.

    Attributes:
        room: whose members these are, or None for all who are logged in.
        names: in the order of the relay.
    """

    room: str | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class End:
    """The end of a listing (END): ``WHO`` or ``HELP``."""

    of: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that this client missed (GAP): it did not read them in time, or its mailbox was full.

    Attributes:
        count: how many.
        source: the name or the room that they came from.
        since: when the first of them was dropped, RFC 3339 in UTC, by the relay's clock.
    """

    count: int
    source: str
    since: str


@dataclass(frozen=True, slots=True)
class Stored:
    """Every POST of this session up to this number is stored (STORED)."""

    number: int


@dataclass(frozen=True, slots=True)
class Expired:
    """Posts of this client that nobody fetched in time (EXPIRED): an entry of its mailbox.

    Attributes:
        number: of the entry.
        to: whom they were for.
        count: how many.
        since: when the first of them was posted or dropped, RFC 3339 in UTC, by the relay's clock.
    """

    number: int
    to: str
    count: int
    since: str


@dataclass(frozen=True, slots=True)
class Fail:
    """One command was refused (FAIL).

    Attributes:
        code: the protocol's word for the reason.
        command: the refused verb.
        explanation: the relay's sentence.
        id: which ASK, ANSWER or POST it was, else empty; taken off the explanation.
    """

    code: str
    command: str
    explanation: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Bye:
    """The relay closes (BYE)."""

    reason: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """Logged in (WELCOME).

    Attributes:
        name: as it is registered.
        session: the secret by which this client can take its name over from a dead connection.
        relay: the software of the relay.
        stored: every POST of the session up to this number is stored.
        mail: how many entries wait in the mailbox.
        store: what the relay's store is known by, in which entries are numbered.
    """

    name: str
    session: str
    relay: str = ""
    stored: int = 0
    mail: int = 0
    store: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """Wants a PONG with the same token (PING)."""

    token: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a PING; it comes after the answers to all that was sent before (PONG)."""

    token: str


@dataclass(frozen=True, slots=True)
class HelpLine:
    """One line of the list of commands (HELP)."""

    text: str


@dataclass(frozen=True, slots=True)
class Banner:
    """How the relay greets (RELAY).

    Attributes:
        software: its name and version.
        text: what it says to people.
    """

    software: str
    text: str


@dataclass(frozen=True, slots=True)
class Other:
    """A well-formed line of a later version of the protocol, which may be ignored."""

    verb: str


@dataclass(frozen=True, slots=True)
class RefusedPost:
    """A post that the relay refused and whose caller was not there any more to be told.

    Attributes:
        to: whom it was for.
        payload: the bytes as they were to be sent.
        code: the protocol's word for the reason, such as ``quota``.
        explanation: the relay's sentence.
    """

    to: str
    payload: bytes
    code: str
    explanation: str


Presence = Online | Offline | Joined | Left
"""Who comes and goes."""

Event = (
    Message
    | Asked
    | Answered
    | Joined
    | Left
    | Online
    | Offline
    | Here
    | End
    | Gap
    | Stored
    | Expired
    | Fail
    | Bye
    | Welcome
    | Ping
    | Pong
    | HelpLine
    | Banner
    | Other
)
"""Anything that a relay says."""
