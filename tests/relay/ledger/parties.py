"""Who posts and who takes in tests of loss: plain sockets, with nothing of the library that is under test."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.relay.ledger.book import Ledger, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    Dial = Callable[[], socket.socket]


class Event(NamedTuple):
    """One event: the words of its line, and its text or counted bytes."""

    words: tuple[bytes, ...]
    text: bytes | None = None

    @property
    def verb(self) -> bytes:
        return self.words[0]

    def number(self, key: bytes) -> int:
        """The number after ``key=``."""
        return next(int(word.partition(b"=")[2]) for word in self.words if word.startswith(key + b"="))


class Stream:
    """One connection, in events."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""
        self._kept: list[Event] = []

    def say(self, *lines: bytes) -> None:
        """Send lines, or heads with counted bytes after them."""
        self.sock.sendall(b"".join(line + b"\n" for line in lines))

    def post(self, number: int, to: str, payload: bytes) -> bytes:
        """A POST, with its LF; counted where it has to be."""
        if payload.isascii() and payload.decode().isprintable():
            return b"POST %d %s :%s\n" % (number, to.encode(), payload)
        return b"POST %d %s %d\n%s" % (number, to.encode(), len(payload), payload)

    def receive(self) -> list[Event]:
        """What came, at least one event.

        Raises:
            OSError: the connection is lost, or nothing came within the socket's time.
        """
        if self._kept:
            kept, self._kept = self._kept, []
            return kept
        while True:
            data = self.sock.recv(1 << 18)
            if not data:
                raise ConnectionResetError("the relay closed")
            events = self._parse(self._rest + data)
            if events:
                return events

    def unread(self, events: list[Event]) -> None:
        """Give back what came too early."""
        self._kept = events + self._kept

    def until(self, verb: bytes) -> Event:
        """The next event of this kind; those before it are thrown away, those after it kept."""
        while True:
            events = self.receive()
            for place, event in enumerate(events):
                if event.verb == verb:
                    self.unread(events[place + 1 :])
                    return event

    def drain(self) -> list[Event]:
        """All that comes before the answer to a PING that is sent now."""
        self.say(b"PING drained")
        before: list[Event] = []
        while True:
            events = self.receive()
            for place, event in enumerate(events):
                if event.words == (b"PONG", b"drained"):
                    self.unread(events[place + 1 :])
                    return before
                before.append(event)

    def read_to_the_end(self) -> None:
        """Wait until the relay has closed, or reset, the connection."""
        try:
            while True:
                self.receive()
        except ConnectionError:
            pass

    def _parse(self, data: bytes) -> list[Event]:
        events, at = [], 0
        while (end := data.find(b"\n", at)) >= 0:
            head, colon, text = data[at:end].partition(b" :")
            words = tuple(head.split(b" "))
            if colon or words[0] != b"MAIL":
                events.append(Event(words, text if colon else None))
                at = end + 1
                continue
            stop = end + 1 + int(words[-1])
            if stop > len(data):
                break
            events.append(Event(words[:-1], data[end + 1 : stop]))
            at = stop
        self._rest = data[at:]
        return events

    def hello(self, name: str, options: str) -> tuple[Event, list[Event]]:
        """Log in; gives WELCOME and what came with it.

        Raises:
            ConnectionError: it was refused.
        """
        self.say(f"HELLO {name} {options}".rstrip().encode())
        while True:
            events = self.receive()
            for place, event in enumerate(events):
                if event.verb == b"WELCOME":
                    return event, events[place + 1 :]
                if event.verb in {b"FAIL", b"BYE"}:
                    raise ConnectionRefusedError(f"HELLO was answered with {event}")

    def reset(self) -> None:
        """Vanish by RST: what is on its way is lost."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class Party(threading.Thread):
    """Somebody who connects again whenever the connection is lost, until told to end.

    Args:
        dial: connects to the relay.
        name: to log in with.
        ledger: where everything is taken down.
        seed: of its dice.
        token: of its account, if it has one.
        patience: seconds of silence after which it takes the connection for lost.

    Attributes:
        connections: how often it logged in.
        fault: what it saw that must never be, for the test to look at.
    """

    def __init__(
        self, dial: Dial, name: str, ledger: Ledger, *, seed: int = 0, token: str = "", patience: float = 10.0
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.dial = dial
        self.ledger = ledger
        self.dice = random.Random(f"{name} {seed}")
        self.session = f"{name}-{self.dice.getrandbits(64):x}"
        self.token = token
        self.patience = patience
        self.connections = 0
        self.fault: BaseException | None = None
        self.ending = threading.Event()
        self._stream: Stream | None = None

    def run(self) -> None:
        try:
            while not self._through():
                try:
                    with Stream(self.dial()) as self._stream:
                        self._stream.sock.settimeout(self.patience)
                        self._stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        self._log_in(self._stream)
                except OSError:
                    continue
        except BaseException as error:
            self.fault = error
            self.ledger.give_up(error)

    def _log_in(self, stream: Stream) -> None:
        options = f"session={self.session}" + (f" token={self.token}" if self.token else "")
        welcome, events = stream.hello(self.name, options)
        self.connections += 1
        self._converse(stream, welcome, events)

    def _through(self) -> bool:
        return self.ending.is_set()

    def _converse(self, stream: Stream, welcome: Event, events: list[Event]) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Have it end as soon as it can."""
        self.ending.set()

    def hang_up(self) -> None:
        """Have it end now, wherever it is."""
        self.ending.set()
        if self._stream is not None:
            try:
                self._stream.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def check(self, seconds: float = 30.0) -> None:
        """Wait for its end; fail the test if it did not come to one, or saw what must not be."""
        self.join(seconds)
        if self.fault is not None:
            raise self.fault
        assert not self.is_alive(), f"{self.name} did not come to an end"


class Poster(Party):
    """Posts unique values, many in flight; sends again what was not acknowledged when the connection broke.

    Args:
        to: each a name or a room, with who is to get what is posted to it.
        window: posts in flight.
        size: bytes of a payload, about.
        most: how many values it posts before it ends by itself; None for any number.
        forgets: how likely it is to begin a new session after a loss, and to give up what was in flight.

    Attributes:
        forgotten: how often the relay knew less of its session than it had acknowledged.
        refusals: FAILs of posts by code; each is posted again.
    """

    def __init__(
        self,
        dial: Dial,
        name: str,
        ledger: Ledger,
        to: Mapping[str, tuple[str, ...]],
        *,
        window: int = 100,
        size: int = 40,
        most: int | None = None,
        forgets: float = 0.0,
        seed: int = 0,
        token: str = "",
        patience: float = 10.0,
    ) -> None:
        super().__init__(dial, name, ledger, seed=seed, token=token, patience=patience)
        self.to = to
        self.window = window
        self.size = size
        self.most = most
        self.forgets = forgets
        self.forgotten = 0
        self.refusals: dict[str, int] = {}
        self._serial = 0
        # of the session: what POST 1, 2, ... are; how many are acknowledged; the next one to send
        self._made: list[tuple[Value, str, bytes]] = []
        self._stored = 0
        self._next = 1
        self._asked = self._settled = False
        self._fence = b""
        self._pause = threading.Event()

    def _through(self) -> bool:
        return self._makes_no_more() and self._stored == len(self._made)

    def _makes_no_more(self) -> bool:
        return self.ending.is_set() or self._serial == self.most

    def hang_up(self) -> None:
        """End now: what is in flight stays unknown."""
        del self._made[self._stored :]
        super().hang_up()

    def _begin_anew(self, session: str, keep: list[tuple[Value, str, bytes]]) -> None:
        self.session, self._made, self._stored = session, keep, 0

    def _log_in(self, stream: Stream) -> None:
        if self.connections and self.dice.random() < self.forgets:
            self._begin_anew(f"{self.name}-{self.dice.getrandbits(64):x}", [])
        super()._log_in(stream)

    def _converse(self, stream: Stream, welcome: Event, events: list[Event]) -> None:
        stored = welcome.number(b"stored")
        assert stored <= len(self._made), f"STORED {stored} of {len(self._made)} posts"
        if stored < self._stored:
            self.forgotten += 1
            self._begin_anew(self.session, self._made[self._stored :])
        self._acknowledge(stored)
        self._next, self._fence, self._asked = stored + 1, b"", False
        rooms = [room for room in self.to if room.startswith("#")]
        if rooms and not self._settled:  # a JOIN is stored with the first posts at the latest
            stream.say(*(b"JOIN " + room.encode() for room in rooms))
        while not self._through():
            for event in events:
                self._heed(stream, event)
            if not self._fence:
                self._post(stream)
            if self._through():
                break
            events = stream.receive()
        stream.say(b"QUIT")

    def _post(self, stream: Stream) -> None:
        """Post some, and ask for a word before the rest: so posts come while others are being stored."""
        if self._asked:
            return
        last = min(self._stored + self.window, self._next + self.dice.randrange(self.window // 2 + 1))
        while len(self._made) < last and not self._makes_no_more():
            to = self.dice.choice(list(self.to))
            value = Value(self.name, self._serial)
            self._serial += 1
            end = "\n\x00" if self.dice.random() < 0.1 else ""
            self._made.append((value, to, value.text(self.dice.randrange(self.size * 2), end)))
        posts = []
        while self._next <= min(last, len(self._made)):
            value, to, payload = self._made[self._next - 1]
            self.ledger.posted(value, self.to[to])
            posts.append(stream.post(self._next, to, payload))
            self._next += 1
        if posts:
            self._asked = True
            stream.sock.sendall(b"".join(posts) + b"PING more\n")

    def _heed(self, stream: Stream, event: Event) -> None:
        if event.verb == b"STORED":
            self._settled = True
            self._acknowledge(int(event.words[1]))
        elif event.verb == b"BYE":
            raise ConnectionResetError(str(event))
        elif event.verb == b"PONG" and event.words[1] == b"more":
            self._asked = False
        elif event.verb == b"PONG" and event.words[1] == self._fence:
            self._fence = b""
            self._pause.wait(0.01)  # what it was refused for does not pass in no time
        elif event.verb == b"FAIL" and event.words[2] == b"POST":
            code = event.words[1].decode()
            self.refusals[code] = self.refusals.get(code, 0) + 1
            refused = int((event.text or b"").partition(b":")[0])
            # one too high follows one that was refused; to begin after the last stored one is never wrong
            self._next = min(self._next, self._stored + 1 if code == "gap" else refused)
            if not self._fence:
                self._fence = b"f%d" % sum(self.refusals.values())
                stream.say(b"PING " + self._fence)
        elif event.verb == b"FAIL":
            raise AssertionError(f"{self.name} was told {event}")

    def _acknowledge(self, stored: int) -> None:
        assert stored <= len(self._made), f"STORED {stored} of {len(self._made)} posts"
        while self._stored < stored:
            self.ledger.acknowledged(self._made[self._stored][0])
            self._stored += 1


class Taker(Party):
    """Takes mail, acknowledges now and then, goes away at any moment and comes back.

    Args:
        cursor: whether it keeps the number of the last entry that it took, and takes none twice.
        acks: how likely it is to ACK after a read.
        goes: how likely it is to go away after a read.
        rooms: rooms to join when it first comes.

    Attributes:
        again: entries that came again, and were known by the cursor.
        gaps: GAP lines that it was told.
        ready: set once it has joined its rooms.
    """

    def __init__(
        self,
        dial: Dial,
        name: str,
        ledger: Ledger,
        *,
        cursor: bool = True,
        acks: float = 0.3,
        goes: float = 0.02,
        rooms: tuple[str, ...] = (),
        seed: int = 0,
        token: str = "",
        patience: float = 10.0,
    ) -> None:
        super().__init__(dial, name, ledger, seed=seed, token=token, patience=patience)
        self.keeps_cursor = cursor
        self.cursor = 0
        self.acks = acks
        self.goes = goes
        self.rooms = rooms
        self.again = 0
        self.gaps: list[Event] = []
        self.ready = threading.Event()

    def _converse(self, stream: Stream, welcome: Event, events: list[Event]) -> None:
        if not self.ready.is_set():
            stream.say(*(b"JOIN " + room.encode() for room in self.rooms), b"PING joined")
        newest = 0
        while not self.ending.is_set():
            for event in events:
                if event.verb == b"MAIL":
                    number = int(event.words[1])
                    assert newest in {0, number - 1}, f"entry {number} came after {newest} to {self.name}"
                    newest = number
                    self._take(number, Value.parse(event.text or b""))
                elif event.verb == b"PONG":
                    self.ready.set()
                elif event.verb == b"GAP":
                    self.gaps.append(event)
                elif event.verb == b"BYE":
                    raise ConnectionResetError(str(event))
                elif event.verb == b"FAIL":
                    raise AssertionError(f"{self.name} was told {event}")
            if newest and self.dice.random() < self.acks:
                stream.say(b"ACK %d" % newest)
            if self.dice.random() < self.goes:
                stream.reset()
                return
            events = stream.receive()

    def _take(self, number: int, value: Value) -> None:
        self.ledger.shown(self.name, number, value)
        if not self.keeps_cursor:
            self.ledger.took(self.name, value)
        elif number <= self.cursor:
            self.again += 1
        else:
            self.cursor = number
            self.ledger.took(self.name, value)


def waiting_mail(dial: Dial, name: str, session: str, newest: int, token: str = "") -> int:
    """Log in, ACK all up to the newest entry, and log in again: how many entries the relay says wait then."""
    options = f"session={session}" + (f" token={token}" if token else "")
    with Stream(dial()) as stream:
        welcome, events = stream.hello(name, options)
        stream.unread(events)
        if welcome.number(b"mail"):
            while int(stream.until(b"MAIL").words[1]) < newest:
                pass
        stream.say(b"ACK %d" % newest, b"QUIT")
        stream.read_to_the_end()
    with Stream(dial()) as stream:
        return stream.hello(name, options)[0].number(b"mail")


class LivePair:
    """Two who talk by SEND, to see that live messages go on and how long they take.

    Args:
        dial: connects to the relay.
        names: of the two.
    """

    def __init__(self, dial: Dial, names: tuple[str, str] = ("ping", "pong")) -> None:
        self._streams = []
        for name in names:
            stream = Stream(dial())
            stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.hello(name, "")
            self._streams.append(stream)
        self._names = names

    def round_trips(self, count: int) -> list[float]:
        """So many messages there and back, one after the other; gives the seconds of each, sorted."""
        taken = []
        for number in range(count):
            text = b"%d" % number
            begun = time.perf_counter()
            for here, there, to in ((0, 1, self._names[1]), (1, 0, self._names[0])):
                self._streams[here].say(b"SEND %s :%s" % (to.encode(), text))
                (event,) = self._streams[there].receive()
                assert (event.verb, event.text) == (b"MSG", text), event
            taken.append(time.perf_counter() - begun)
        return sorted(taken)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            stream.sock.close()
