"""What the load says to each relay and hears from it, as bytes: one class for each protocol.

Nothing here opens a socket. `DIALECTS` has them all by name.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

__all__ = [
    "DIALECTS",
    "Dialect",
    "IrcDialect",
    "LineDialect",
    "MqttDialect",
    "NatsDialect",
    "RedisDialect",
    "Step",
]


@dataclass(frozen=True)
class Step:
    """One move of a login: what is said, and what the answer must hold before the next move."""

    say: bytes
    answer: re.Pattern[bytes]


TEXT_BYTES = 65_536 - 256  # that one of hailer's lines can hold, whatever its head is
_NO_TEXT = re.compile(rb"[^\x20-\x7e]")  # what the loads send is ASCII or, with these, anything


class Dialect:
    """A relay's protocol, as far as the loads need it.

    Attributes:
        quiet: seconds without a byte after which a relay's talk that follows logins is over.
        room: the name of the room, channel, subject or topic that fan-out goes to.
        sender_joins: whether one must be in a room to send to it.
        confirms: whether the sender is told something for each message that it sends.
        longest: bytes that a message may have at most.
    """

    quiet = 0.5
    room = "all"
    sender_joins = False
    confirms = False
    longest = 1024 * 1024

    def login(self, name: str, hears: str | None) -> list[Step]:
        """The steps that log `name` in and subscribe it to `hears` (a name, the room, or nothing)."""
        raise NotImplementedError

    def sent(self, to: str, body: bytes) -> bytes:
        """The bytes with which anybody sends one message to `to`."""
        raise NotImplementedError

    def received(self, sender: str, to: str, body: bytes) -> bytes:
        """The bytes in which that message arrives."""
        raise NotImplementedError

    def reply(self, data: bytes) -> bytes:
        """What must be said to the talk in `data` (a liveness question), often nothing."""
        del data
        return b""

    def is_confirmation(self, data: bytes) -> bool:
        """Whether all of `data`, heard by a sender while it sends, says that its messages were taken."""
        del data
        return False


class LineDialect(Dialect):
    """hailer's own lines, which the floor speaks too."""

    room = "#all"
    sender_joins = True

    def login(self, name: str, hears: str | None) -> list[Step]:
        # A banner may come first, and others' events at any time, so the answer may begin any line.
        steps = [
            Step(
                b"HELLO %s\n" % name.encode(), re.compile(rb"^WELCOME %s\b.*\n" % name.encode(), re.MULTILINE)
            )
        ]
        if hears == self.room:
            joined = rb"^JOINED %s %s\b.*\n" % (re.escape(hears).encode(), name.encode())
            steps.append(Step(b"JOIN %s\n" % hears.encode(), re.compile(joined, re.MULTILINE)))
        return steps

    def sent(self, to: str, body: bytes) -> bytes:
        return self.spelled(b"SEND %s" % to.encode(), body)

    def received(self, sender: str, to: str, body: bytes) -> bytes:
        return self.spelled(b"MSG %s %s" % (sender.encode(), to.encode()), body)

    @staticmethod
    def spelled(head: bytes, body: bytes) -> bytes:
        """A line with its text, or where a line cannot hold that, the bytes counted: see the protocol."""
        if _NO_TEXT.search(body) or len(body) > TEXT_BYTES:
            return b"%s %d\n%s" % (head, len(body), body)
        return b"%s :%s\n" % (head, body)


class NatsDialect(Dialect):
    """NATS core: https://docs.nats.io/reference/reference-protocols/nats-protocol."""

    # A new client is asked PING 2 to 2.4 seconds after it connected, once, to measure its round trip.
    quiet = 2.6

    def login(self, name: str, hears: str | None) -> list[Step]:
        pong = re.compile(rb"PONG\r\n")
        steps = [
            Step(b"", re.compile(rb"INFO .*\r\n")),
            Step(b'CONNECT {"verbose":false,"pedantic":false,"name":"%s"}\r\nPING\r\n' % name.encode(), pong),
        ]
        if hears is not None:
            steps.append(Step(b"SUB %s 1\r\nPING\r\n" % hears.encode(), pong))
        return steps

    def sent(self, to: str, body: bytes) -> bytes:
        return b"PUB %s %d\r\n%s\r\n" % (to.encode(), len(body), body)

    def received(self, sender: str, to: str, body: bytes) -> bytes:  # noqa: ARG002
        return b"MSG %s 1 %d\r\n%s\r\n" % (to.encode(), len(body), body)

    def reply(self, data: bytes) -> bytes:
        return b"PONG\r\n" * data.count(b"PING\r\n")


class RedisDialect(Dialect):
    """Redis publish and subscribe, in RESP2: https://redis.io/docs/latest/develop/reference/protocol-spec/."""

    confirms = True  # each PUBLISH is answered by the number of clients that got it

    @staticmethod
    def array(*items: bytes) -> bytes:
        """A RESP array of bulk strings."""
        return b"*%d\r\n" % len(items) + b"".join(b"$%d\r\n%s\r\n" % (len(item), item) for item in items)

    def login(self, name: str, hears: str | None) -> list[Step]:  # noqa: ARG002
        if hears is None:
            return [Step(b"PING\r\n", re.compile(rb"\+PONG\r\n"))]
        return [Step(self.array(b"SUBSCRIBE", hears.encode()), re.compile(rb"\r\n:1\r\n"))]

    def sent(self, to: str, body: bytes) -> bytes:
        return self.array(b"PUBLISH", to.encode(), body)

    def received(self, sender: str, to: str, body: bytes) -> bytes:  # noqa: ARG002
        return self.array(b"message", to.encode(), body)

    def is_confirmation(self, data: bytes) -> bool:
        return not data.translate(None, b":0123456789\r\n")


class MqttDialect(Dialect):
    """MQTT 3.1.1 at QoS 0: https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html."""

    @staticmethod
    def packet(first: int, content: bytes) -> bytes:
        """A control packet: first byte, remaining length (section 2.2.3), content."""
        length, rest = bytearray(), len(content)
        while rest > 127:
            length.append(rest & 127 | 128)
            rest >>= 7
        length.append(rest)
        return bytes([first]) + bytes(length) + content

    @staticmethod
    def text(value: str) -> bytes:
        """A string with its length in front (section 1.5.3)."""
        return struct.pack(">H", len(value)) + value.encode()

    def login(self, name: str, hears: str | None) -> list[Step]:
        # Protocol level 4, clean session, keep-alive 0: never asked for a sign of life (section 3.1.2).
        connect = self.packet(0x10, self.text("MQTT") + b"\x04\x02\x00\x00" + self.text(name))
        steps = [Step(connect, re.compile(rb"\x20\x02\x00\x00"))]
        if hears is not None:
            subscribe = self.packet(0x82, b"\x00\x01" + self.text(hears) + b"\x00")
            steps.append(Step(subscribe, re.compile(rb"\x90\x03\x00\x01\x00")))
        return steps

    def sent(self, to: str, body: bytes) -> bytes:
        return self.packet(0x30, self.text(to) + body)

    def received(self, sender: str, to: str, body: bytes) -> bytes:  # noqa: ARG002
        return self.sent(to, body)


class IrcDialect(Dialect):
    """IRC as a client speaks it to ngircd: RFC 2812, with the host in the form of an address."""

    room = "#all"
    sender_joins = True
    longest = 400  # a line has 512 bytes with everything (section 2.3), its head takes up to 80

    def login(self, name: str, hears: str | None) -> list[Step]:
        nick = name.encode()
        # The end of the message of the day, or that there is none.
        welcome = re.compile(rb"^:\S+ (376|422) %s .*\r\n" % nick, re.MULTILINE)
        steps = [Step(b"NICK %s\r\nUSER %s 0 * :%s\r\n" % (nick, nick, nick), welcome)]
        if hears is not None and hears.startswith("#"):
            listed = re.compile(rb"^:\S+ 366 %s .*\r\n" % nick, re.MULTILINE)
            steps.append(Step(b"JOIN %s\r\n" % hears.encode(), listed))
        return steps

    def sent(self, to: str, body: bytes) -> bytes:
        return b"PRIVMSG %s :%s\r\n" % (to.encode(), body)

    def received(self, sender: str, to: str, body: bytes) -> bytes:
        nick = sender.encode()
        return b":%s!~%s@127.0.0.1 PRIVMSG %s :%s\r\n" % (nick, nick, to.encode(), body)

    def reply(self, data: bytes) -> bytes:
        return b"".join(
            b"PONG %s\r\n" % token for token in re.findall(rb"^PING (\S+)\r\n", data, re.MULTILINE)
        )


DIALECTS: dict[str, Dialect] = {
    "hailer": LineDialect(),
    "floor": LineDialect(),
    "nats": NatsDialect(),
    "redis": RedisDialect(),
    "mqtt": MqttDialect(),
    "irc": IrcDialect(),
}
