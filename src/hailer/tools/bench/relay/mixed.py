"""The mixed load: four senders, messages from 16 B to 64 KiB, half of them any bytes, to receivers by chance.

What comes is told apart by its first bytes: what one sender says to one receiver arrives in order, but
in which order that of several senders arrives is the relay's affair. So a receiver knows for each sender
what has to come next from it, live and stored, and each message has to be one of these, byte for byte.
"""

from __future__ import annotations

import contextlib
import math
import random
import re
import select
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.relay.meter import Meter, Outcome
from hailer.tools.bench.relay.party import Lane, LoadError, Party, hear, polling
from hailer.tools.bench.relay.posting import Refused
from hailer.tools.bench.relay.streams import TRIES

if TYPE_CHECKING:
    import socket

    from hailer.tools.bench.relay.dialects import Dialect
    from hailer.tools.bench.relay.posting import Acks, Posting

__all__ = ["LARGEST", "SENDERS", "SMALLEST", "Receiver", "make_deck", "measure"]

SENDERS: Final = 4
SMALLEST: Final = 16
LARGEST: Final = 64 * 1024
POSTED: Final = 0.1
"""The share of messages that are to be stored, in the load that has them."""
WINDOW: Final = 256
"""Messages of one sender that may wait to be acknowledged as stored; then it waits, as a client would."""
_DECK: Final = 1024  # messages of one sender, which it sends again and again
_CHUNK: Final = 16  # messages that are handed to a socket at once
_STEP: Final = 128 * 1024  # bytes that one read brings at most
_SPACE: Final = _STEP + 2 * LARGEST  # those, and the beginning of a message before them
_NUMBER_BEGUN: Final = re.compile(rb"M(A(I(L( \d*)?)?)?)?")
_NUMBER: Final = re.compile(rb"MAIL (\d+) ")


def make_deck(sender: int, receivers: int, *, posting: bool) -> list[tuple[int, bytes, bool]]:
    """The messages of one sender, the same each time: to which receiver, what, and whether to be stored."""
    chance = random.Random(1000 + sender)  # noqa: S311 (nothing is secret here)
    deck = []
    for n in range(_DECK):
        size = round(math.exp(chance.uniform(math.log(SMALLEST), math.log(LARGEST))))
        mark = b"%02d.%05d " % (sender, n)
        if chance.random() < 0.5:
            # Two bytes that no line can hold, so that it is counted where others are text.
            body = (mark + b"\n\0" + chance.randbytes(size))[:size]
        else:
            body = (mark + b"the quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[:size]
        deck.append((chance.randrange(receivers), body, posting and chance.random() < POSTED))
    return deck


class Strand:
    """What one sender says to one receiver, live or stored, in its order, again and again.

    Attributes:
        frames: the messages as they arrive; stored ones from behind their number on.
        at: which of them is next.
    """

    __slots__ = ("at", "frames")

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.at = 0


class Receiver(Lane):
    """One who receives from several senders.

    Attributes:
        live, mail: what has to come from each sender.
        left: messages that are to come.
        number: of the next entry of the mailbox, in a protocol that numbers them; 0 before the first.
    """

    __slots__ = ("live", "mail", "number", "rest")

    def __init__(self, name: str, sock: socket.socket) -> None:
        super().__init__(name, sock)
        self.live: list[Strand] = []
        self.mail: list[Strand] = []
        self.number = 0
        self.rest = b""

    @property
    def per_pass(self) -> int:
        """Messages that are to come in one pass over all decks."""
        return sum(len(strand.frames) for strand in (*self.live, *self.mail))

    def take(self, data: bytearray, size: int) -> int:
        """Compare what has come with what had to; returns how many messages that were.

        Args:
            data: its first `size` bytes begin with a message; what is left of them is kept.

        Raises:
            LoadError: something else came.
        """
        place = count = 0
        while place < size:
            end = self._match(data, place, size)
            if not end:
                break
            place = end
            count += 1
        self.rest = bytes(data[place:size])
        if self.rest and not self._may_begin(self.rest):
            dues = [strand.frames[strand.at][:60] for strand in (*self.live, *self.mail)]
            raise LoadError(
                f"the relay garbled, lost or reordered a message to {self.name}: it sent "
                f"{self.rest[:100]!r} where one of these was due: {dues!r}"
            )
        self.left -= count
        if self.left < 0:
            raise LoadError(f"the relay sent {self.name} {-self.left} messages more than were sent to it")
        return count

    def _match(self, data: bytearray, place: int, size: int) -> int:
        """The end of the whole message that begins here; 0 if none does."""
        for strand in self.live:
            frame = strand.frames[strand.at]
            if data.startswith(frame, place, size):
                strand.at = (strand.at + 1) % len(strand.frames)
                return place + len(frame)
        if self.mail and data.startswith(b"MAIL ", place, size):
            if not self.number:
                # Entries may begin with any number.
                first = _NUMBER.match(data, place, size)
                self.number = int(first.group(1)) if first else 0
            head = b"MAIL %d" % self.number
            if data.startswith(head, place, size):
                place += len(head)
                for strand in self.mail:
                    frame = strand.frames[strand.at]
                    if data.startswith(frame, place, size):
                        strand.at = (strand.at + 1) % len(strand.frames)
                        self.number += 1
                        return place + len(frame)
        return 0

    def _may_begin(self, rest: bytes) -> bool:
        """Whether a message that is due begins with this."""
        if any(strand.frames[strand.at].startswith(rest) for strand in self.live):
            return True
        if not self.number:
            return bool(self.mail) and _NUMBER_BEGUN.fullmatch(rest) is not None
        head = b"MAIL %d" % self.number
        return any((head + strand.frames[strand.at]).startswith(rest) for strand in self.mail)


class Sender(Lane):
    """One who sends its deck again and again, and waits when too much of it is not stored yet.

    Attributes:
        left: chunks of the deck that are still to be sent.
        posted, stored: messages that were to be stored, and that are, by what the relay said.
    """

    __slots__ = ("_acks", "_at", "_chunks", "_rest", "posted", "stored")

    def __init__(self, name: str, sock: socket.socket, acks: Acks | None) -> None:
        super().__init__(name, sock)
        self._acks = acks
        self._chunks: list[list[bytes]] = []
        self._at = 0
        self._rest = memoryview(b"")
        self.posted = self.stored = 0

    def deal(self, messages: list[tuple[bytes, ...]]) -> None:
        """Have a deck to send; each message of it is one piece, or two with its number between."""
        self._chunks = []
        for start in range(0, len(messages), _CHUNK):
            pieces = [b""]
            for message in messages[start : start + _CHUNK]:
                pieces[-1] += message[0]
                pieces += message[1:]
            self._chunks.append(pieces)

    @property
    def chunks(self) -> int:
        """Into how many pieces the deck is cut."""
        return len(self._chunks)

    def push(self, posts: list[int]) -> bool:
        """Send what the socket takes; returns whether there was anything to send.

        Args:
            posts: how many messages of each chunk are to be stored.
        """
        if not self._rest:
            waiting = self.posted - self.stored
            if not self.left or waiting + posts[self._at] > WINDOW:
                return False
            pieces = self._chunks[self._at]
            numbered = [pieces[0]]
            for number, piece in enumerate(pieces[1:], self.posted + 1):
                numbered += (b"%d" % number, piece)
            self._rest = memoryview(pieces[0] if len(pieces) == 1 else b"".join(numbered))
            self.posted += posts[self._at]
            self._at = (self._at + 1) % len(self._chunks)
            self.left -= 1
        with contextlib.suppress(BlockingIOError):
            self._rest = self._rest[self.sock.send(self._rest) :]
        return True

    @property
    def done(self) -> bool:
        """Whether all has been sent, and stored what was to be."""
        return not self.left and not self._rest and self.stored == self.posted

    def listen(self, dialect: Dialect) -> None:
        """Take what the relay says.

        Raises:
            LoadError: it refuses something.
        """
        told = hear(self)
        if self._acks is not None:
            try:
                self.stored += self._acks.count(told)
            except Refused as error:
                raise LoadError(
                    f"{self.name} posted {self.posted}, {self.stored} were stored: {error}"
                ) from None
            if self.stored > self.posted:
                raise LoadError(f"{self.name} posted {self.posted}, and heard that {self.stored} were stored")
        elif answer := dialect.reply(told):
            self.sock.send(answer)
        elif not dialect.is_confirmation(told):
            raise LoadError(f"{self.name} was told {told[:200]!r} while it was sending")


class Mix:
    """Who sends and receives, what, and what has come of it."""

    def __init__(self, party: Party, posting: Posting | None) -> None:
        self.party = party
        self.posting = posting
        self.senders: list[Sender] = []
        self.receivers: list[Receiver] = []
        self.posts: list[list[int]] = []  # of each sender, in each of its chunks
        self.messages = self.bytes = 0  # of one pass over all decks

    def log_in(self, count: int) -> None:
        """Connect everybody."""
        party, posting = self.party, self.posting
        if posting is not None and (steps := posting.prepare()):
            party.connect("the first", steps).close()
        for n in range(count):
            name = f"r{n:05d}"
            further = posting.hearing(name) if posting else []
            receiver = Receiver(name, party.connect(name, [*party.dialect.login(name, name), *further]))
            self.receivers.append(receiver)
            party.receivers.append(receiver)
        for n in range(SENDERS):
            name = f"s{n:05d}"
            further = posting.login(name) if posting else []
            sock = party.connect(name, [*party.dialect.login(name, None), *further])
            sender = Sender(name, sock, posting.acks() if posting else None)
            self.senders.append(sender)
            party.senders.append(sender)
        party.settle()

    def deal(self) -> None:
        """Give everybody what it has to say and to hear."""
        dialect, posting = self.party.dialect, self.posting
        for number, sender in enumerate(self.senders):
            live: dict[int, Strand] = defaultdict(Strand)
            mail: dict[int, Strand] = defaultdict(Strand)
            said: list[tuple[bytes, ...]] = []
            posts: list[int] = []
            for n, (to, body, post) in enumerate(
                make_deck(number, len(self.receivers), posting=posting is not None)
            ):
                name = self.receivers[to].name
                self.bytes += len(body)
                self.messages += 1
                if n % _CHUNK == 0:
                    posts.append(0)
                if not post or posting is None:
                    said.append((dialect.sent(name, body),))
                    live[to].frames.append(dialect.received(sender.name, name, body))
                    continue
                posts[-1] += 1
                said.append(posting.posted(sender.name, name, body))
                *_, frame = arrives = posting.received(sender.name, name, body)
                (mail if len(arrives) == 2 else live)[to].frames.append(frame)
            sender.deal(said)
            self.posts.append(posts)
            for to, strand in live.items():
                self.receivers[to].live.append(strand)
            for to, strand in mail.items():
                self.receivers[to].mail.append(strand)

    def stream(self, passes: int) -> float:
        """Pass all decks so often, and see all of them arrive; returns the seconds that it took.

        Raises:
            LoadError: something was lost, damaged or refused.
        """
        party, posting = self.party, self.posting
        for sender in self.senders:
            sender.left = passes * sender.chunks
        for receiver in self.receivers:
            receiver.left = passes * receiver.per_pass
        receivers = {each.sock.fileno(): each for each in self.receivers}
        senders = {
            each.sock.fileno(): (each, posts) for each, posts in zip(self.senders, self.posts, strict=True)
        }
        unfinished = sum(1 for each in self.receivers if each.left)
        space = bytearray(_SPACE)
        view = memoryview(space)
        with polling(receivers, select.EPOLLIN) as poller:
            for fd in senders:
                poller.register(fd, select.EPOLLIN | select.EPOLLOUT)
            start = time.perf_counter()
            while unfinished or not all(sender.done for sender in self.senders):
                events = poller.poll(party.stall)
                if not events:
                    raise party.stalled()
                for fd, event in events:
                    if fd in receivers:
                        receiver = receivers[fd]
                        held, number = len(receiver.rest), receiver.number
                        view[:held] = receiver.rest
                        size = receiver.read_into(view[held : held + _STEP])
                        had = receiver.left
                        receiver.take(space, held + size)
                        unfinished -= bool(had) and not receiver.left
                        if receiver.number != number and posting is not None:
                            with contextlib.suppress(BlockingIOError):
                                receiver.sock.send(posting.taken(receiver.number - 1))
                        continue
                    sender, posts = senders[fd]
                    if event & ~select.EPOLLOUT:
                        sender.listen(party.dialect)
                        poller.modify(fd, select.EPOLLIN | select.EPOLLOUT)
                    if event & select.EPOLLOUT and not sender.push(posts):
                        poller.modify(fd, select.EPOLLIN)
            return time.perf_counter() - start

    def check_held(self) -> None:
        """Ask the relay how much it has stored, where it tells that.

        Raises:
            LoadError: it is not what it has said.
        """
        if self.posting is None or not (steps := self.posting.held()):
            return
        sock, answer = self.party.ask("the last", steps)
        sock.close()
        stored = sum(sender.stored for sender in self.senders)
        if int(answer) != stored:
            raise LoadError(f"the relay said that {stored} messages were stored, and holds {int(answer)}")


def measure(
    dialect: Dialect,
    port: int,
    count: int,
    posting: Posting | None,
    seconds: float,
    pid: int | None,
    stall: float,
) -> Outcome:
    """Put the mixed load on a relay.

    Args:
        dialect: what it speaks.
        port: where it listens.
        count: receivers.
        posting: how a tenth of the messages is stored; None for no such messages.
        seconds: about how long to measure.
        pid: the relay's process.
        stall: seconds without a byte after which it has failed.

    Raises:
        LoadError: it lost, doubled, reordered, damaged or refused something, or stopped.
    """
    party = Party(dialect, port, stall)
    mix = Mix(party, posting)
    try:
        mix.log_in(count)
        mix.deal()
        passes = max(1, round(seconds / mix.stream(1)))
        for _ in range(TRIES):
            meter = Meter(pid)
            stored = -sum(sender.stored for sender in mix.senders)
            took = mix.stream(passes)
            figures = meter.read(passes * mix.messages, took)
            stored += sum(sender.stored for sender in mix.senders)
            if took >= seconds / 2:
                break
            passes = round(passes * seconds / took)  # something held the trial up
        party.expect_silence()
        mix.check_held()
    finally:
        party.close()
    figures["bytes_per_s"] = round(passes * mix.bytes / took)
    if posting is not None:
        figures["stored_per_s"] = round(stored / took, 1)
    return Outcome(figures)
