"""What goes out to those whose mailboxes have something for them.

New entries are sent as they were stored. A reader that does not keep up, or has just logged in, is sent pages
that are read from the store, one when the one before has left its outbox: mail never waits in memory for a
reader, and no sender waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.errors import StoreError
from hailer.relay.core import mailbox
from hailer.relay.core.work import Read

if TYPE_CHECKING:
    from hailer.relay.core.batch import Page, Segment
    from hailer.relay.core.mailbox import Mailbox
    from hailer.relay.core.relay import Relay
    from hailer.relay.core.session import Session

_PAGE = 512 * 1024
"""Bytes of mail that are read for one reader at once."""

_ROOM = 512 * 1024
"""Bytes that may wait for a reader when new mail is put on top of them, and not read for it later."""

_LOW = 64 * 1024
"""Bytes that are left of a reader's page when the next one is read."""

_READS = 16
"""Readers whose pages are one piece of work."""

_RETRY = 1.0
"""Seconds between two attempts to read what cannot be read."""


class Delivery:
    """The way from mailboxes to their readers.

    Args:
        relay: the core that it is a part of.

    Attributes:
        wanted: mailboxes of which a page is to be read, in their order.
        deadline: the instant at which `tick` has something to do.
        unreadable: why somebody's mail cannot be read now, which is tried again; empty when all can.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.wanted: dict[Mailbox, None] = {}
        self.deadline = float("inf")
        self.unreadable = ""
        self._unread: dict[Mailbox, None] = {}

    def tick(self, now: float) -> None:
        """Try again to read what could not be read."""
        if now >= self.deadline:
            self.deadline = float("inf")
            self.wanted |= self._unread
            self._unread = {}

    def want(self, box: Mailbox) -> None:
        """Have a page read for a reader that has not been sent all that is stored."""
        reader = box.reader
        if reader is None:
            return
        reader.mailing = box.sent < box.stored  # also of one that took over while a page is read
        if not reader.mailing:
            return
        self._relay.outboxes.take_care(reader)
        if box.wanted or reader.waiting > _LOW:
            return  # `read` or `drained` comes back to it
        box.wanted = True
        self.wanted[box] = None
        self._relay.mail.stirred = True

    def drained(self, session: Session) -> None:
        """Go on with a reader of which some output was written."""
        if session.box is not None:
            self.want(session.box)

    def stored(self, box: Mailbox, segment: Segment) -> None:
        """Send what has just been stored, if its reader has all that comes before it and room for more."""
        reader = box.reader
        if reader is None or box.wanted:
            return
        if box.sent + 1 == segment.first and reader.waiting <= _ROOM:
            self._send(box, reader, segment.data, segment.last)
        else:
            self.want(box)

    def next_read(self) -> Read:
        """The pages that are to be read next."""
        boxes = list(self.wanted)[:_READS]
        for box in boxes:
            del self.wanted[box]
        return Read([(box, box.sent) for box in boxes], _PAGE)

    def read(self, work: Read, pages: list[Page | StoreError]) -> None:
        """Send the pages that were read; none if nothing came of it."""
        for box, _ in work.wanted:
            box.wanted = False
        unreadable = ""
        for (box, wanted_after), page in zip(work.wanted, pages, strict=False):
            reader = box.reader
            if reader is None or reader.closing:
                continue
            if isinstance(page, StoreError):
                unreadable = str(page)
                box.wanted = True
                self._unread[box] = None
                continue
            if box.sent == wanted_after and page.last > box.sent:
                data = page.data if page.first > box.sent else mailbox.after(page.data, box.sent)
                self._send(box, reader, data, page.last)
            elif box.sent == wanted_after:
                box.sent = box.stored  # the rest was dealt with meanwhile
            # else another one has logged in meanwhile
            self.want(box)
        if unreadable:
            self.deadline = self._relay.clock.now + _RETRY
            self._relay.counters.store_failures += not self.unreadable
        if unreadable or not self._unread:
            self.unreadable = unreadable

    def _send(self, box: Mailbox, reader: Session, data: bytes, last: int) -> None:
        """Put entries into a reader's outbox."""
        if reader.crlf:
            data = mailbox.with_crlf(data)
        self._relay.outboxes.put_mail(reader, data)
        self._relay.counters.mailed += last - box.sent
        box.sent = last
