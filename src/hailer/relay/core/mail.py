"""Durable mail: what is accepted, what is said once it is stored, and what is sent to whom.

Theory of operation. A POST that nothing speaks against gets its number in the mailbox and waits, as the
line that its receiver will be sent, in the `Journal`. Whenever the store is free it gets all that has
gathered as one `Batch`; when that is on disk, each session that posted is told by one STORED, and each
mailbox's new entries go out to its reader as they were stored (see `Delivery`). Nothing is said before.

The store does one piece of `Work` at a time, in a thread that is not the core's business: when `stirred`,
an edge asks for it by `next_work`, and hands what came of it to `done`.

When a commit fails, all that was accepted and is not stored is refused, and so is every POST until the
store has shown, tried again each second, that it takes something. It may turn out to hold what was refused;
then a POST that is sent again is known, and is not stored twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.relay.core.boxes import Boxes
from hailer.relay.core.delivery import Delivery
from hailer.relay.core.expiry import Expiry, wall_time
from hailer.relay.core.journal import Journal
from hailer.relay.core.mailbox import Poster
from hailer.relay.core.work import Commit, Older, Read, Recover
from hailer.relay.grammar import fail

if TYPE_CHECKING:
    from hailer.errors import StoreError
    from hailer.relay.core.batch import Loaded
    from hailer.relay.core.journal import Flight
    from hailer.relay.core.mailbox import Mailbox
    from hailer.relay.core.relay import Relay
    from hailer.relay.core.session import Session
    from hailer.relay.core.work import Work

_MOST_UNSTORED = 16 << 20
"""Bytes that are accepted and not stored, above which no more is accepted: who posts has to wait."""

_RETRY = 1.0
"""Seconds between two attempts to get a store to work again."""

_EXPIRY = 600.0
"""Most seconds between two looks for what is too old: with 100,000 mailboxes one takes a tenth of a second
of the store's time, and some 30 ms of everybody's."""

_GRACE = 3600
"""Seconds after the start in which nothing unused is forgotten: a relay that was killed does not know who was
connected till then."""


class Mail:
    """All mail of one relay.

    Args:
        relay: the core that it is a part of.

    Attributes:
        boxes: the mailboxes.
        journal: what is to be stored.
        delivery: what is sent to readers.
        expiry: what is dropped as it is too old.
        store: what the store is known by.
        trouble: why the store takes nothing now; empty when it does.
        stirred: there may be work for the store.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.journal = Journal(relay.clock)
        self.boxes = Boxes(relay.limits, self.journal)
        self.delivery = Delivery(relay)
        self.expiry = Expiry(relay)
        self.store = "none"
        self.trouble = ""
        self.stirred = False
        self._ending = False
        self._busy = False
        self._flight: Flight | None = None
        self._read_next = False
        self._held: dict[Session, None] = {}
        self._quitting: dict[Session, bytes] = {}
        self._ended: dict[Session, None] = {}
        self._retry_at = 0.0
        self._expiry_at = 0.0
        self._forgets_from = 0

    def load(self, loaded: Loaded) -> None:
        """Take what the store holds, at the start."""
        self.journal.load(loaded)
        self.boxes.load(loaded)
        self.store = loaded.store or self.store
        self.boxes.keep(self._relay.accounts)
        self._forgets_from = self.journal.age + _GRACE

    @property
    def deadline(self) -> float:
        """The instant at which `tick` has something to do."""
        if self._busy:
            return self._expiry_at
        return min(
            self._retry_at if self.trouble else self.journal.due, self.delivery.deadline, self._expiry_at
        )

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now >= self._expiry_at:
            seconds = self._relay.limits.mail_seconds
            self._expiry_at = now + max(60.0, min(seconds / 100, _EXPIRY))
            self.expiry.looks = True
            too_old = self.journal.age - int(seconds)
            if self.journal.age >= self._forgets_from:
                self.boxes.take_out_of_rooms(too_old)
                self.boxes.forget(too_old, 1000)
                self.boxes.forget_posters(too_old)
            self.journal.grow_old()
        self.delivery.tick(now)
        self.stirred = True

    def end(self) -> None:
        """Store what is accepted without waiting for more; see `finished`."""
        self.journal.grow_old(0)
        self._ending = self.stirred = True

    @property
    def finished(self) -> bool:
        """Whether all that can be stored is stored."""
        return not self._busy and (self.journal.empty or bool(self.trouble))

    # who is here

    def arrive(self, session: Session, *, notices: bool) -> tuple[int, int]:
        """Give a session that has just logged in its mailbox.

        Args:
            session: it has its name and its id.
            notices: whether it wants to be told what of its posts expires.

        Returns:
            Up to which POST of this session everything is stored, and how many entries wait for its name.
        """
        box = self.boxes.ensure(session.key, session.name)
        if box is None:
            return 0, 0
        session.box = box
        if box.notices != notices:
            box.notices = notices
            self.journal.touch(box)
        box.reader = session
        box.sent = box.floor
        poster = box.posters.get(session.id)
        if poster is None:
            return 0, box.stored - box.floor
        session.poster, poster.link = poster, session
        return poster.stored, box.stored - box.floor

    def deliver(self, session: Session) -> None:
        """Begin to send what waits for who has just logged in."""
        if session.box is not None:
            self._tell_gaps(session.box)
            self.delivery.want(session.box)

    def depart(self, session: Session) -> None:
        """Take note that a session has gone, or was replaced."""
        box, poster = session.box, session.poster
        session.box = session.poster = None
        session.mailing = False
        self._held.pop(session, None)
        self._quitting.pop(session, None)
        self._ended.pop(session, None)
        if poster is not None and poster.link is session:
            poster.link = None
        if box is not None and box.reader is session:
            box.reader = None
            self.boxes.use(box)

    def owes(self, session: Session) -> bool:
        """Tell whether a session that sends no more is still to be told something; it is looked at again."""
        poster = session.poster
        owes = session.mailing or (poster is not None and poster.accepted > poster.stored)
        if owes:
            self._ended[session] = None
        return owes

    def hear_out(self, session: Session, reason: bytes) -> bool:
        """Have a session that quits closed once what it posted is stored; False if it can be closed now."""
        poster = session.poster
        if poster is None or poster.accepted == poster.stored:
            return False
        self._quitting[session] = reason
        self._hold(session)  # not by its limits' time: it waits for us
        return True

    def _hold(self, session: Session) -> None:
        session.holders += 1
        if session.holders == 1:
            self._relay.held.append(session)

    def _part(self) -> None:
        """Close those who only waited for what has just been done."""
        self._relay.answered += self._ended
        self._ended = {}
        for session, reason in list(self._quitting.items()):
            if session.poster is None or session.poster.accepted == session.poster.stored:
                del self._quitting[session]
                self._relay.close(session, reason)

    # what is accepted

    def poster(self, session: Session) -> Poster | None:
        """What a session's POSTs are counted in; None if its name has no mailbox or too many of them."""
        if session.poster is None and session.box is not None:
            posters = session.box.posters
            if len(posters) >= self._relay.limits.sessions:
                # retries of the one that posted longest ago, should any still come, would be stored again
                away = [old for old in posters.values() if old.link is None]
                if not away:
                    return None
                oldest = min(away, key=lambda old: old.used)
                self._relay.counters.meet("sessions", session)
                self.boxes.forget_poster(oldest)
            session.poster = posters[session.id] = Poster(session.box, session.id)
            session.poster.link = session
        return session.poster

    def put(self, box: Mailbox, entry: bytes, session: Session | None = None) -> bool:
        """Append an entry made for the number after the last one.

        Args:
            box: the mailbox.
            entry: the line and its bytes.
            session: who is told if it is refused.

        Returns:
            False, with the limit counted, if the mailbox or the store is too full.
        """
        full = self._full(box, 1, len(entry))
        if full:
            self._relay.counters.meet(full, session)
            return False
        self.journal.add(box, [entry], len(entry))
        return True

    def takes(self, box: Mailbox, count: int, size: int) -> bool:
        """Tell whether a mailbox has room for so many entries of so many bytes together."""
        return not self._full(box, count, size)

    def _full(self, box: Mailbox, count: int, size: int) -> str:
        """The limit that they are over, if there is one."""
        limits = self._relay.limits
        if box.last - box.floor + count > limits.mail_entries:
            return "mail_entries"
        if box.size + box.unstored + size > limits.mail_bytes:
            return "mail_bytes"
        return "" if self.has_room(size) else "mail_total"

    def has_room(self, size: int) -> bool:
        """Tell whether all mailboxes together have room for so many bytes."""
        return self.boxes.size + self.journal.size + size <= self._relay.limits.mail_total

    def miss(self, box: Mailbox, room: bytes) -> None:
        """Take note that a mailbox was too full for a message to a room; its owner is told, be it later."""
        if box.gaps is None:
            box.gaps = {}
        if room not in box.gaps and len(box.gaps) >= self._relay.limits.rooms:
            # one is of a room that it is no member of any more: it was away when it had to make way
            oldest = next(iter(box.gaps))
            del box.gaps[next((old for old in box.gaps if old.lower() not in box.rooms), oldest)]
        count, since = box.gaps.get(room) or (0, wall_time(self._relay.clock))
        box.gaps[room] = (count + 1, since)
        self._relay.counters.mail_missed += 1
        self.journal.touch(box)

    @property
    def crowded(self) -> bool:
        """Whether so much is accepted and not stored that no more is; who posts has to wait for its turn."""
        return self.journal.size > _MOST_UNSTORED

    def hold_back(self, session: Session) -> None:
        """Have a session that wants to post wait, unread, until there is room for what it posts."""
        if session not in self._held:
            self._held[session] = None
            self._relay.counters.held += 1
            self._hold(session)

    def leave(self, box: Mailbox, room: bytes) -> bool:
        """Have a name get no more of what is posted to a room; see `Boxes.leave`."""
        # what it missed is told now: else, from room to room, there would be more and more to tell
        missed = next((name for name in box.gaps or () if name.lower() == room.lower()), None)
        if missed is not None and box.reader is not None:
            self._tell_gap(box, box.reader, missed)
        return self.boxes.leave(box, room)

    def posted(self, poster: Poster, count: int) -> None:
        """Count posts that were put where they belong."""
        poster.accepted += count
        self._relay.counters.posted += count
        self.journal.posted(poster)
        self.stirred = True

    def acknowledge(self, box: Mailbox, number: int) -> None:
        """Take note that the entries up to one are dealt with."""
        self._relay.counters.acknowledged += number - box.floor
        box.floor = number
        self.journal.floor(box)
        if box.gaps:
            self._tell_gaps(box)

    # the store's work

    def next_work(self) -> Work | None:
        """What the store is to do next; None if it is busy, or there is nothing."""
        self.stirred = False
        if self._busy:
            return None
        work = self._next()
        self._busy = work is not None
        return work

    def _next(self) -> Work | None:
        journal, now = self.journal, self._relay.clock.now
        if self.trouble:
            return Recover() if now >= self._retry_at else None
        # by turns: none keeps another waiting for long
        due = journal.urgent or now >= journal.due or (self._ending and not journal.empty)
        if self.delivery.wanted and (self._read_next or not (due or self.expiry.looks)):
            self._read_next = False
            return self.delivery.next_read()
        if self.expiry.looks:
            return self.expiry.next_look()
        if due:
            self._read_next = True
            self._flight = journal.take()
            return Commit(self._flight.batch)
        return None

    def done(self, work: Work, result: object, error: StoreError | None) -> None:
        """Take what came of a piece of work."""
        self._busy = False
        self.stirred = True
        if isinstance(work, Read):
            self.delivery.read(work, result if error is None else [])  # type: ignore[arg-type]
        if error is not None and not isinstance(work, Older):  # which is looked for again in its time
            self._fail(error)
        elif isinstance(work, Commit):
            self._committed(result)  # type: ignore[arg-type]  # what each gives stands at its run()
        elif isinstance(work, Older):
            self.expiry.expire(result or [])  # type: ignore[arg-type]
        elif isinstance(work, Recover):
            self._recovered(result)  # type: ignore[arg-type]
        if self._ended or self._quitting:
            self._part()
        self._relay.clock.wake(self.deadline)

    def _committed(self, freed: dict[int, int]) -> None:
        flight = self._flight
        assert flight is not None
        self._flight = None
        relay = self._relay
        relay.counters.commits += 1
        self.journal.size -= flight.size
        for poster, number in flight.posters.items():
            poster.stored = number
            if poster.link is not None:
                relay.say(poster.link, b"STORED %d\n" % number)
        for box, segment in flight.segments:
            size = len(segment.data)
            box.stored = segment.last
            box.size += size
            box.unstored -= size
            self.boxes.size += size
            self.delivery.stored(box, segment)
        for number, size in freed.items():
            self.boxes.size -= size
            owner = self.boxes.by_number.get(number)
            if owner is not None:
                owner.size -= size
        if self._held and not self.crowded:
            self._release()
        self.expiry.committed()

    def _release(self) -> None:
        for session in self._held:
            session.holders -= 1
            if not session.holders:
                self._relay.released.append(session)
        self._held = {}

    # what is sent

    def _tell_gaps(self, box: Mailbox) -> None:
        """Say how many messages to rooms were missed, once there is room again."""
        if box.gaps and box.reader is not None and box.waiting < self._relay.limits.mail_entries:
            for room in list(box.gaps):
                self._tell_gap(box, box.reader, room)

    def _tell_gap(self, box: Mailbox, reader: Session, room: bytes) -> None:
        count, since = (box.gaps or {}).pop(room)
        self._relay.say(reader, b"GAP %d %s :since %s\n" % (count, room, since.encode()))
        self.journal.touch(box)

    # what goes wrong

    def _fail(self, error: StoreError) -> None:
        """Refuse all that was accepted and is not stored, and try the store again in a while."""
        relay = self._relay
        self._retry_at = relay.clock.now + _RETRY
        if not self.trouble:
            relay.counters.store_failures += 1
        self.trouble = str(error)
        for poster in self.journal.give_up(self._flight):
            if poster.link is not None:
                self.refuse(poster.link, range(poster.stored + 1, poster.accepted + 1))
            poster.accepted = poster.stored
        self._flight = None
        self._release()

    def refuse(self, session: Session, numbers: range) -> None:
        """Tell a sender that nothing can be stored now."""
        why = b"%d: the relay cannot store mail at the moment; send it again later"
        # in one piece: who has posted much is not to be cut for the length of the answer
        self._relay.say(session, b"".join([fail(b"store", b"POST", why % number) for number in numbers]))
        self._relay.counters.refused += len(numbers)

    def _recovered(self, loaded: Loaded) -> None:
        """Go on: with what the store holds, which may be more than was acknowledged."""
        self.trouble = ""
        self.boxes.correct(loaded)
        for sender in loaded.senders:
            box = self.boxes.by_number.get(sender.box)
            if box is None:
                continue
            poster = box.posters.get(sender.id)
            if poster is not None and sender.stored > poster.stored:
                poster.stored = poster.accepted = sender.stored
                if poster.link is not None:
                    self._relay.say(poster.link, b"STORED %d\n" % sender.stored)
        self.expiry.recovered()
        for box in self.boxes.by_number.values():
            self.delivery.want(box)
