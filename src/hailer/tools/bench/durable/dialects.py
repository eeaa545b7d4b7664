"""What the durable load says to each store and hears from it, as bytes: one class for each protocol.

Nothing here opens a socket. `DURABLE` has them all by name. A mailbox is what a message is kept in until its
receiver takes it: hailer's mailbox, a stream of JetStream or redis, the queue of a persistent MQTT session.
"""

from __future__ import annotations

import json
import re
from typing import Protocol

from hailer.tools.bench.durable.takers import HailerTaker, MqttTaker, NatsTaker, RedisTaker, Taker
from hailer.tools.bench.relay.dialects import LineDialect, MqttDialect, NatsDialect, RedisDialect, Step
from hailer.tools.bench.relay.posting import Acks, Refused, StoredLines

__all__ = ["DURABLE", "DurableDialect", "Posts"]


class Posts(Protocol):
    """The endless stream of one sender's messages."""

    def take(self, count: int) -> bytes | memoryview:
        """The bytes of the next messages; of a window at most."""


class Ring:
    """Messages of one size that come again and again, prepared ahead."""

    def __init__(self, messages: list[bytes], window: int) -> None:
        self.size, self.count = len(messages[0]), len(messages)
        self.run = memoryview(b"".join(messages) * (window // len(messages) + 2))
        self.place = 0

    def take(self, count: int) -> memoryview:
        start = self.place
        self.place = (start + count) % self.count
        return self.run[start * self.size : (start + count) * self.size]


class Numbered:
    """Messages that are all the same but for a number, which counts up from 1 without end."""

    def __init__(self, line: bytes) -> None:
        self.line = line
        self.next = 1

    def take(self, count: int) -> bytes:
        first, self.next = self.next, self.next + count
        return self.line * count % tuple(range(first, first + count))


class Ends:
    """An acknowledgement for each message: as many as `end` comes."""

    def __init__(self, end: bytes, refusal: bytes) -> None:
        self.end, self.refusal, self.tail = end, refusal, b""

    def count(self, data: bytes) -> int:
        data = self.tail + data
        if self.refusal in data:
            raise Refused(f"it said {data[:300]!r}")
        # Too short to hold a whole end: nothing is counted twice.
        self.tail = data[len(data) - len(self.end) + 1 :]
        return data.count(self.end)


class Pubacks:
    """MQTT's PUBACK: four bytes with the packet's identifier (section 3.4), in the order of the messages."""

    def __init__(self, identifiers: int) -> None:
        self.run = b"".join(b"\x40\x02" + n.to_bytes(2, "big") for n in range(1, identifiers + 1)) * 2
        self.place = 0

    def count(self, data: bytes) -> int:
        before, at = self.place, 0
        while at < len(data):
            size = min(len(data) - at, len(self.run) - self.place)
            if data[at : at + size] != self.run[self.place : self.place + size]:
                raise Refused(f"it said {data[:300]!r}")
            self.place = (self.place + size) % (len(self.run) // 2)
            at += size
        return (before % 4 + len(data)) // 4


class DurableDialect(Protocol):
    """A protocol, as far as the durable loads need it."""

    def create(self, box: str) -> list[Step]:
        """The steps, on a connection of their own, after which `box` keeps what is sent to it."""

    def login(self, name: str) -> list[Step]:
        """The steps after which a sender may send."""

    def posts(self, name: str, box: str, body: bytes, window: int) -> Posts:
        """What the sender `name` sends to `box`, at most `window` messages at a time."""

    def acks(self, window: int) -> Acks:
        """What it hears."""

    def taking(self, box: str) -> list[Step]:
        """The steps after which the receiver of `box` may take what is in it."""

    def taker(self, box: str, body: bytes) -> Taker:
        """What it hears and says then."""

    def held(self, box: str) -> list[Step]:
        """The steps to find out how many messages `box` holds: the last answer's group; or none."""


class HailerDurable:
    """POST and STORED."""

    def create(self, box: str) -> list[Step]:
        return [*LineDialect().login(box, None), Step(b"QUIT\n", re.compile(rb"^BYE\b.*\n", re.MULTILINE))]

    def login(self, name: str) -> list[Step]:
        return LineDialect().login(name, None)

    def posts(self, name: str, box: str, body: bytes, window: int) -> Posts:  # noqa: ARG002
        return Numbered(b"POST %%d %s :%s\n" % (box.encode(), body))

    def acks(self, window: int) -> Acks:  # noqa: ARG002
        return StoredLines()

    def taking(self, box: str) -> list[Step]:
        return LineDialect().login(box, None)

    def taker(self, box: str, body: bytes) -> Taker:  # noqa: ARG002
        return HailerTaker(body)

    def held(self, box: str) -> list[Step]:
        return [Step(b"HELLO %s\n" % box.encode(), re.compile(rb"^WELCOME .*\bmail=(\d+)", re.MULTILINE))]


class NatsDurable:
    """JetStream: https://docs.nats.io/reference/reference-protocols/nats_api_reference.

    Args:
        one: one stream keeps all mailboxes, as its subjects; otherwise each is a stream of its own.
    """

    def __init__(self, *, one: bool) -> None:
        self.one = one

    def login(self, name: str) -> list[Step]:
        subscribe = b"SUB _INBOX.%s 1\r\nPING\r\n" % name.encode()
        return [*NatsDialect().login(name, None), Step(subscribe, re.compile(rb"PONG\r\n"))]

    def ask(self, name: str, subject: str, request: bytes, answer: bytes) -> list[Step]:
        """The steps of one request to JetStream's interface."""
        said = b"PUB %s _INBOX.%s %d\r\n%s\r\n" % (subject.encode(), name.encode(), len(request), request)
        return [*self.login(name), Step(said, re.compile(answer))]

    def create(self, box: str) -> list[Step]:
        stream, subject = ("all", "to.*") if self.one else (box, f"to.{box}")
        config = {"name": stream, "subjects": [subject], "storage": "file", "retention": "limits"}
        request = json.dumps(config).encode()
        return self.ask(
            box, f"$JS.API.STREAM.CREATE.{stream}", request, rb'stream_create_response".*"config"'
        )

    def posts(self, name: str, box: str, body: bytes, window: int) -> Posts:
        message = b"PUB to.%s _INBOX.%s %d\r\n%s\r\n" % (box.encode(), name.encode(), len(body), body)
        return Ring([message], window)

    def acks(self, window: int) -> Acks:  # noqa: ARG002
        return Ends(b"}\r\n", b'"error"')

    def taking(self, box: str) -> list[Step]:
        stream = "all" if self.one else box
        consumer = {
            "durable_name": box,
            "deliver_subject": f"out.{box}",
            "filter_subject": f"to.{box}",
            "ack_policy": "all",
            "max_ack_pending": 100_000,  # 1,000 otherwise
        }
        request = json.dumps({"stream_name": stream, "config": consumer}).encode()
        subject = f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{box}"
        ask = self.ask(box, subject, request, rb'consumer_create_response".*"config".*\r\n')
        return [*ask[:-1], Step(b"SUB out.%s 2\r\n" % box.encode(), re.compile(b"")), ask[-1]]

    def taker(self, box: str, body: bytes) -> Taker:  # noqa: ARG002
        return NatsTaker(body)

    def held(self, box: str) -> list[Step]:
        subject = f"to.{box}"
        request = json.dumps({"subjects_filter": subject}).encode()
        stream = "all" if self.one else box
        return self.ask(
            box, f"$JS.API.STREAM.INFO.{stream}", request, rb'"%s":(\d+)' % re.escape(subject).encode()
        )


class RedisDurable:
    """XADD to a redis stream, which is answered by the entry's identifier."""

    def create(self, box: str) -> list[Step]:
        del box  # the first XADD makes it
        return []

    def login(self, name: str) -> list[Step]:
        return RedisDialect().login(name, None)

    def posts(self, name: str, box: str, body: bytes, window: int) -> Posts:  # noqa: ARG002
        return Ring([RedisDialect.array(b"XADD", box.encode(), b"*", b"m", body)], window)

    def acks(self, window: int) -> Acks:  # noqa: ARG002
        # An identifier is a time, a hyphen and a number, an error begins with a hyphen.
        return Ends(b"-", b"-E")

    def taking(self, box: str) -> list[Step]:
        return self.login(box)

    def taker(self, box: str, body: bytes) -> Taker:
        return RedisTaker(box, body)

    def held(self, box: str) -> list[Step]:
        return [Step(RedisDialect.array(b"XLEN", box.encode()), re.compile(rb":(\d+)\r\n"))]


class MqttDurable:
    """MQTT 3.1.1 at QoS 1, to the queue of a persistent session whose client is away."""

    def create(self, box: str) -> list[Step]:
        # Without the clean session flag the session, its subscription and its queue stay (section 3.1.2.4).
        connect = MqttDialect.packet(
            0x10, MqttDialect.text("MQTT") + b"\x04\x00\x00\x00" + MqttDialect.text(box)
        )
        subscribe = MqttDialect.packet(0x82, b"\x00\x01" + MqttDialect.text(box) + b"\x01")
        return [
            Step(connect, re.compile(rb"\x20\x02[\x00\x01]\x00")),
            Step(subscribe, re.compile(rb"\x90\x03\x00\x01\x01")),
        ]

    def login(self, name: str) -> list[Step]:
        return MqttDialect().login(name, None)

    def posts(self, name: str, box: str, body: bytes, window: int) -> Posts:  # noqa: ARG002
        # Twice the window of identifiers: none is used again while it is under way.
        topic = MqttDialect.text(box)
        numbers = range(1, 2 * window + 1)
        return Ring([MqttDialect.packet(0x32, topic + n.to_bytes(2, "big") + body) for n in numbers], window)

    def acks(self, window: int) -> Acks:
        return Pubacks(2 * window)

    def taking(self, box: str) -> list[Step]:
        return self.create(box)

    def taker(self, box: str, body: bytes) -> Taker:
        return MqttTaker(box, body)

    def held(self, box: str) -> list[Step]:
        del box
        return []


DURABLE: dict[str, DurableDialect] = {
    "hailer": HailerDurable(),
    "nats": NatsDurable(one=False),
    "nats-one": NatsDurable(one=True),
    "redis": RedisDurable(),
    "mqtt": MqttDurable(),
}
