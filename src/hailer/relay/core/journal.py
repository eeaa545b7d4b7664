"""What is to be stored: gathered until the store takes the next batch, and taken back if it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.relay.core.batch import Batch, Segment, Sender
from hailer.relay.core.boxes import row

if TYPE_CHECKING:
    from hailer.relay.core.batch import Loaded, Member
    from hailer.relay.core.clock import Clock
    from hailer.relay.core.mailbox import Mailbox, Poster

LAZY = 0.05
"""Seconds that what nobody waits for (a new name, an ACK) waits for company before it is committed."""

_AGE_STEP = 600
"""Seconds that the relay's age grows by before it is stored, if nothing else is."""

_SEGMENT = 128 * 1024
"""Bytes from which a mailbox's next entries begin a new segment: one is read back as a whole."""


class Flight:
    """A batch that the store is at."""

    __slots__ = ("batch", "boxes", "posters", "segments", "size")

    def __init__(self, batch: Batch, segments: list[tuple[Mailbox, Segment]], boxes: list[Mailbox]) -> None:
        self.batch = batch
        self.segments = segments
        self.boxes = boxes
        self.posters: dict[Poster, int] = {}
        self.size = 0


class Journal:
    """What has changed since the last batch was taken.

    Attributes:
        urgent: somebody waits for the next commit.
        due: the instant at which a batch is to be taken though nobody waits for it.
        size: bytes of entries that are accepted and not in the store, those in flight included.
        next_entry: see `Batch.next_entry`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.urgent = False
        self.due = float("inf")
        self.size = 0
        self.next_entry = 1
        self._stored_age = 0
        self._born = 0.0  # the instant at which the relay's age was 0
        self._open: dict[Mailbox, None] = {}
        self._segments: list[tuple[Mailbox, Segment]] = []
        self._posters: dict[Poster, int] = {}
        self._rows: dict[Mailbox, None] = {}
        self._floors: dict[int, int] = {}
        self._members: dict[tuple[bytes, int], tuple[Member, bool]] = {}
        self._entered: set[tuple[bytes, int]] = set()  # of these: memberships that no store has seen
        self._forgotten: dict[int, None] = {}
        self._forgotten_senders: dict[tuple[int, bytes], None] = {}

    def load(self, loaded: Loaded) -> None:
        """Take what the store holds, at the start."""
        self._born = self._clock.now - loaded.age
        self._stored_age = loaded.age
        self.next_entry = loaded.next_entry

    @property
    def age(self) -> int:
        """For how many seconds relays have run on this store: the clock that mail ages by."""
        return int(self._clock.now - self._born)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to store."""
        return not self.urgent and self.due == float("inf")

    # what changes

    def _later(self, seconds: float = LAZY) -> None:
        self.due = min(self.due, self._clock.now + seconds)
        self._clock.wake(self.due)

    def touch(self, box: Mailbox, within: float = LAZY) -> None:
        """Store a mailbox's numbers with the next batch, which is to come within some seconds."""
        self._rows[box] = None
        self._later(within)

    def floor(self, box: Mailbox) -> None:
        """Drop entries that are dealt with."""
        self._floors[box.number] = box.floor
        self.touch(box)

    def joined(self, member: Member) -> None:
        """A name entered a room."""
        key = member.room.lower(), member.box
        if key not in self._members:
            self._entered.add(key)
        self._members[key] = (member, True)
        self._later()

    def left(self, member: Member) -> None:
        """A name left a room."""
        key = member.room.lower(), member.box
        if key in self._entered:  # while the store takes nothing, any number of rooms could be gone through
            self._entered.remove(key)
            del self._members[key]
        else:
            self._members[key] = (member, False)
        self._later()

    def forget(self, box: Mailbox) -> None:
        """Drop a mailbox."""
        self.next_entry = max(self.next_entry, box.last + 1)
        self._forgotten[box.number] = None
        self._rows.pop(box, None)
        self._floors.pop(box.number, None)
        self._later()

    def forget_sender(self, poster: Poster) -> None:
        """Drop a session that has posted."""
        self._posters.pop(poster, None)
        if poster.accepted:  # else the store has nothing of it
            self._forgotten_senders[poster.box.number, poster.id] = None
            self._later()

    def add(self, box: Mailbox, new: list[bytes], size: int) -> None:
        """Append entries, made for the numbers after `Mailbox.last`, of so many bytes, to a mailbox."""
        if not box.pending:
            box.pending_first = box.last + 1
            self._open[box] = None
        box.pending += new
        box.last += len(new)
        box.unstored += size
        box.pending_size += size
        self.size += size
        if box.pending_size >= _SEGMENT:
            self._close(box)
        self.urgent = True

    def grow_old(self, seconds: int = _AGE_STEP) -> None:
        """Store the relay's age if it has grown by so much."""
        if self.age - self._stored_age > seconds:
            self._later()

    def posted(self, poster: Poster) -> None:
        """Store how far a session has come, together with its entries."""
        poster.used = self.age
        self._posters[poster] = poster.accepted
        self._forgotten_senders.pop((poster.box.number, poster.id), None)  # it has begun anew
        self.urgent = True

    def _close(self, box: Mailbox) -> None:
        """Make a segment of what a mailbox has gathered."""
        data = b"".join(box.pending)
        segment = Segment(box.number, box.pending_first, box.last, self.age, data)
        self._segments.append((box, segment))
        box.pending = []
        box.pending_size = 0

    # batches

    def take(self) -> Flight:
        """Take all that has changed as one batch."""
        for box in self._open:
            if box.pending:
                self._close(box)
        age = self._stored_age = self.age
        batch = Batch(
            age=age,
            boxes=[row(box) for box in self._rows],
            segments=[segment for _, segment in self._segments],
            floors=self._floors,
            senders=[Sender(poster.box.number, poster.id, n, age) for poster, n in self._posters.items()],
            forgotten_senders=list(self._forgotten_senders),
            joined=[member for member, joined in self._members.values() if joined],
            left=[member for member, joined in self._members.values() if not joined],
            forgotten=list(self._forgotten),
            next_entry=self.next_entry,
        )
        flight = Flight(batch, self._segments, list(self._rows))
        flight.posters = self._posters
        flight.size = self.size
        self._clear()
        return flight

    def _clear(self) -> None:
        self._open = {}
        self._segments = []
        self._posters = {}
        self._rows = {}
        self._floors = {}
        self._members = {}
        self._entered = set()
        self._forgotten = {}
        self._forgotten_senders = {}
        self.urgent = False
        self.due = float("inf")

    def give_up(self, flight: Flight | None) -> list[Poster]:
        """Take back everything that was accepted and is not stored; the rest is to be tried again.

        Returns:
            The sessions whose posts are refused by this.
        """
        posters = {**(flight.posters if flight is not None else {}), **self._posters}
        boxes = {box: None for box, _ in (*(flight.segments if flight is not None else ()), *self._segments)}
        for box in (*boxes, *self._open):
            box.last = box.stored
            box.unstored = box.pending_size = 0
            box.pending = []
        rows, floors, members, forgotten = self._rows, self._floors, self._members, self._forgotten
        entered, forgotten_senders = self._entered, self._forgotten_senders
        self._clear()
        if flight is not None:
            batch = flight.batch
            known = {(member.room.lower(), member.box): (member, True) for member in batch.joined}
            known |= {(member.room.lower(), member.box): (member, False) for member in batch.left}
            rows = dict.fromkeys(flight.boxes) | rows
            floors = batch.floors | floors
            members = known | members
            forgotten = dict.fromkeys(batch.forgotten) | forgotten
            forgotten_senders = dict.fromkeys(batch.forgotten_senders) | forgotten_senders
            entered -= known.keys()
        self._rows = {box: None for box in rows if box.number not in forgotten}
        self._floors, self._members, self._forgotten = floors, members, forgotten
        self._entered, self._forgotten_senders = entered, forgotten_senders
        self.size = 0
        self._later()
        return list(posters)
