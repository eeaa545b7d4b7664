"""How receivers take what is stored in each protocol, and say that they have dealt with it."""

from __future__ import annotations

from typing import Protocol

from hailer.tools.bench.relay.dialects import MqttDialect, RedisDialect
from hailer.tools.bench.relay.posting import Refused

__all__ = ["HailerTaker", "MqttTaker", "NatsTaker", "RedisTaker", "Taker"]


class Taker(Protocol):
    """What one receiver hears and says.

    Attributes:
        begin: what it says first.
    """

    begin: bytes

    def take(self, data: bytes) -> tuple[int, bytes]:
        """The messages that the next bytes of the stream complete, and what is to be said to them.

        Raises:
            Refused: a message is missing, doubled or damaged.
        """


class HailerTaker:
    """MAIL, whose numbers go up by one, and one cumulative ACK for all that a read brought."""

    begin = b""

    def __init__(self, body: bytes) -> None:
        self.end, self.tail, self.last = b" :%s" % body, b"", 0

    def take(self, data: bytes) -> tuple[int, bytes]:
        data = self.tail + data
        end = data.rfind(b"\n") + 1
        self.tail = data[end:]
        if not end:
            return 0, b""
        count = data.count(b"\n", 0, end)
        last = data[data.rfind(b"\n", 0, end - 1) + 1 : end - 1]
        if not self.last:
            self.last = int(data.split(b" ", 2)[1]) - 1  # a mailbox may begin with any number
        self.last += count
        if not (last.startswith(b"MAIL %d " % self.last) and last.endswith(self.end)):
            raise Refused(f"MAIL {self.last} was due, and it said {last[:300]!r}")
        return count, b"ACK %d\n" % self.last


class NatsTaker:
    """JetStream's push: the last message of a read is acknowledged, with those before (ack_policy all)."""

    begin = b""

    def __init__(self, body: bytes) -> None:
        self.body, self.tail = body, b""

    def take(self, data: bytes) -> tuple[int, bytes]:
        data = (self.tail + data).replace(b"PING\r\n", b"")  # the next one comes in two minutes
        count = data.count(b"\r\n") // 2
        if not count:
            self.tail = data
            return 0, b""
        end = data.rfind(b"\r\n") + 2
        if data.count(b"\r\n") % 2:  # the last line is a head whose body has not come
            end = data.rfind(b"\r\n", 0, end - 2) + 2
        self.tail = data[end:]
        start = data.rfind(b"MSG ", 0, end)
        words = data[start : data.index(b"\r\n", start)].split()
        if data.count(b"MSG ", 0, end) != count or not data.endswith(self.body + b"\r\n", 0, end):
            raise Refused(f"it said {data[:300]!r}")
        return count, b"PUB %s 4\r\n+ACK\r\n" % words[3]


class RedisTaker:
    """XREAD waits for up to a thousand entries; XTRIM then drops those before the last one."""

    def __init__(self, box: str, body: bytes) -> None:
        self.box, self.tail = box.encode(), b""
        self.end = b"$%d\r\n%s\r\n" % (len(body), body)
        self.begin = self.read(b"0-0")

    def read(self, after: bytes) -> bytes:
        words = (b"XREAD", b"COUNT", b"1000", b"BLOCK", b"0", b"STREAMS", self.box, after)
        return RedisDialect.array(*words)

    def take(self, data: bytes) -> tuple[int, bytes]:
        data = self.tail + data
        # The answer to XTRIM first, then *1 *2 $… box *count, and for each entry *2 $… id *2 $1 m $… body.
        start = data.index(b"\r\n") + 2 if data.startswith(b":") and b"\r\n" in data else 0
        head = data[start : start + 100].split(b"\r\n", 5)
        if len(head) < 6 or data.count(b"\r\n", start) < 5 + 8 * int(head[4][1:]):
            self.tail = data
            return 0, b""
        count = int(head[4][1:])
        last = data.rfind(b"\r\n*2\r\n$1\r\nm\r\n")
        name = data[data.rfind(b"\r\n", 0, last) + 2 : last]
        if data.count(self.end, start) != count or not data.endswith(self.end):
            raise Refused(f"it said {data[:300]!r}")
        self.tail = b""
        return count, RedisDialect.array(b"XTRIM", self.box, b"MINID", name) + self.read(name)


class MqttTaker:
    """PUBLISH at QoS 1, each of which has its own PUBACK."""

    begin = b""

    def __init__(self, box: str, body: bytes) -> None:
        self.head = MqttDialect.packet(0x32, MqttDialect.text(box) + b"\0\0" + body)
        self.at = len(self.head) - len(body) - 2
        self.tail = b""

    def take(self, data: bytes) -> tuple[int, bytes]:
        data = self.tail + data
        size, at = len(self.head), self.at
        count = len(data) // size
        self.tail = data[count * size :]
        if data[at + 2 : size] != self.head[at + 2 :][: max(0, len(data) - at - 2)] or (
            count and data[(count - 1) * size : (count - 1) * size + at] != self.head[:at]
        ):
            raise Refused(f"it said {data[:300]!r}")
        places = range(at, count * size, size)
        return count, b"".join([b"\x40\x02" + data[place : place + 2] for place in places])
