"""How a message that is to be stored is sent, acknowledged and received in each protocol, as bytes.

Nothing here opens a socket. `POSTING` has them all by name. What each relay does with such a message:

    hailer   POST, answered by STORED once it is committed (SQLite, synchronous=FULL); it comes as MAIL,
             which the receiver acknowledges
    nats     published with a subject for the answer, which JetStream sends once its stream has it; it comes
             as a core message, which nobody acknowledges, so this is less work than hailer does
    redis    a function of two commands, XADD to the receiver's stream and PUBLISH, answered once; it comes as
             a published message, which nobody acknowledges either
"""

from __future__ import annotations

import json
import re
from typing import Protocol

from hailer.tools.bench.relay.dialects import LineDialect, NatsDialect, RedisDialect, Step

__all__ = ["POSTING", "Acks", "Posting", "Refused"]


class Refused(Exception):
    """The relay said that it does not store something, or what it must not say."""


class Acks(Protocol):
    """What one sender hears."""

    def count(self, data: bytes) -> int:
        """The number of messages that the next bytes of the stream, however cut, say are stored.

        Raises:
            Refused: they say that something was not stored, or something else.
        """


class StoredLines:
    """hailer's cumulative ``STORED n``."""

    def __init__(self) -> None:
        self._tail, self._stored = b"", 0

    def count(self, data: bytes) -> int:
        *lines, self._tail = (self._tail + data).split(b"\n")
        before = self._stored
        for line in lines:
            word, _, number = line.partition(b" ")
            if word != b"STORED" or not number.isdigit() or int(number) < self._stored:
                raise Refused(f"it said {line[:300]!r}")
            self._stored = int(number)
        return self._stored - before


class Answers:
    """An answer of its own for each message, some of which mean that it is stored; all others are known, too.

    Args:
        known: one answer; it matches nothing but whole ones. Its group is there if the answer says stored.
    """

    def __init__(self, known: re.Pattern[bytes]) -> None:
        self._known, self._tail = known, b""

    def count(self, data: bytes) -> int:
        data = self._tail + data
        stored = end = 0
        while answer := self._known.match(data, end):
            end = answer.end()
            stored += answer.group(1) is not None
        self._tail = data[end:]
        if len(self._tail) > 1000 or b'"error"' in self._tail or self._tail.startswith(b"-"):
            raise Refused(f"it said {self._tail[:300]!r}")
        return stored


class Posting(Protocol):
    """A protocol, as far as messages that are to be stored go."""

    def prepare(self) -> list[Step]:
        """The steps, on a connection of their own, before anything can be stored."""

    def login(self, name: str) -> list[Step]:
        """The further steps after which a sender may post."""

    def hearing(self, name: str) -> list[Step]:
        """The further steps after which a receiver gets what is posted to it."""

    def posted(self, sender: str, to: str, body: bytes) -> tuple[bytes, ...]:
        """What the sender says: one piece, or two with the number of the message between them."""

    def received(self, sender: str, to: str, body: bytes) -> tuple[bytes, ...]:
        """What the receiver gets: one piece, or two with the number in its mailbox between them."""

    def taken(self, number: int) -> bytes:
        """What a receiver says to all messages up to the one with this number; often nothing."""

    def acks(self) -> Acks:
        """What a sender hears, of messages that are to be stored and of others."""

    def held(self) -> list[Step]:
        """The steps to find out how many messages are stored: the last answer's group; or none."""


class HailerPosting:
    """POST, STORED, MAIL and ACK."""

    def prepare(self) -> list[Step]:
        return []

    def login(self, name: str) -> list[Step]:  # noqa: ARG002
        return []

    def hearing(self, name: str) -> list[Step]:  # noqa: ARG002
        return []

    def posted(self, sender: str, to: str, body: bytes) -> tuple[bytes, ...]:  # noqa: ARG002
        return (b"POST ", LineDialect.spelled(b" %s" % to.encode(), body))

    def received(self, sender: str, to: str, body: bytes) -> tuple[bytes, ...]:
        return (b"MAIL ", LineDialect.spelled(b" %s %s" % (sender.encode(), to.encode()), body))

    def taken(self, number: int) -> bytes:
        return b"ACK %d\n" % number

    def acks(self) -> Acks:
        return StoredLines()

    def held(self) -> list[Step]:
        return []  # what its receivers got and acknowledged was in the store


class NatsPosting:
    """JetStream, one stream for all: https://docs.nats.io/reference/reference-protocols/nats_api_reference."""

    def prepare(self) -> list[Step]:
        config = {"name": "all", "subjects": ["to.*"], "storage": "file", "retention": "limits"}
        return self._ask("$JS.API.STREAM.CREATE.all", json.dumps(config).encode(), rb'response".*"config"')

    def login(self, name: str) -> list[Step]:
        return [Step(b"SUB _INBOX.%s 2\r\nPING\r\n" % name.encode(), re.compile(rb"PONG\r\n"))]

    def hearing(self, name: str) -> list[Step]:
        return [Step(b"SUB to.%s 2\r\nPING\r\n" % name.encode(), re.compile(rb"PONG\r\n"))]

    def posted(self, sender: str, to: str, body: bytes) -> tuple[bytes, ...]:
        return (b"PUB to.%s _INBOX.%s %d\r\n%s\r\n" % (to.encode(), sender.encode(), len(body), body),)

    def received(self, sender: str, to: str, body: bytes) -> tuple[bytes, ...]:
        return (b"MSG to.%s 2 _INBOX.%s %d\r\n%s\r\n" % (to.encode(), sender.encode(), len(body), body),)

    def taken(self, number: int) -> bytes:  # noqa: ARG002
        return b""

    def acks(self) -> Acks:
        return Answers(re.compile(rb'MSG _INBOX\.\w+ 2 \d+\r\n(\{"stream":"all", ?"seq":\d+\})\r\n'))

    def held(self) -> list[Step]:
        return self._ask("$JS.API.STREAM.INFO.all", b"", rb'"messages":(\d+)')

    @staticmethod
    def _ask(subject: str, request: bytes, answer: bytes) -> list[Step]:
        said = b"SUB _INBOX.asker 1\r\nPUB %s _INBOX.asker %d\r\n%s\r\n" % (
            subject.encode(),
            len(request),
            request,
        )
        return [*NatsDialect().login("asker", None), Step(said, re.compile(answer))]


class RedisPosting:
    """XADD and PUBLISH in one script: the message travels once, and is answered once."""

    POST = b"""#!lua name=bench
redis.register_function('post', function(keys, args)
    redis.call('XADD', keys[1], '*', 'm', args[1])
    redis.call('PUBLISH', args[2], args[1])
    return redis.status_reply('STORED')
end)"""
    HELD = b"""local held = 0
for _, box in ipairs(redis.call('KEYS', 'box:*')) do held = held + redis.call('XLEN', box) end
return held"""

    def prepare(self) -> list[Step]:
        return [Step(RedisDialect.array(b"FUNCTION", b"LOAD", self.POST), re.compile(rb"\$5\r\nbench\r\n"))]

    def login(self, name: str) -> list[Step]:  # noqa: ARG002
        return []

    def hearing(self, name: str) -> list[Step]:  # noqa: ARG002
        return []

    def posted(self, sender: str, to: str, body: bytes) -> tuple[bytes, ...]:  # noqa: ARG002
        box = b"box:" + to.encode()
        return (RedisDialect.array(b"FCALL", b"post", b"1", box, body, to.encode()),)

    def received(self, sender: str, to: str, body: bytes) -> tuple[bytes, ...]:
        return (RedisDialect().received(sender, to, body),)

    def taken(self, number: int) -> bytes:  # noqa: ARG002
        return b""

    def acks(self) -> Acks:
        return Answers(re.compile(rb"(?::\d+|(\+STORED))\r\n"))

    def held(self) -> list[Step]:
        return [Step(RedisDialect.array(b"EVAL", self.HELD, b"0"), re.compile(rb"^:(\d+)\r\n"))]


POSTING: dict[str, Posting] = {
    "hailer": HailerPosting(),
    "nats": NatsPosting(),
    "redis": RedisPosting(),
}
