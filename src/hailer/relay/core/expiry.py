"""Entries that have waited too long are dropped; the senders that asked for it are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.relay.core.outboxes import timestamp
from hailer.relay.core.work import Older

if TYPE_CHECKING:
    from hailer.relay.core.clock import Clock
    from hailer.relay.core.mailbox import Mailbox
    from hailer.relay.core.relay import Relay
    from hailer.relay.core.work import Old

_AT_ONCE = 100
"""Segments that are taken at once."""


class Expiry:
    """What is too old.

    Args:
        relay: the core that it is a part of.

    Attributes:
        looks: the store is to look for it.
    """

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self.looks = False
        self._found = False
        self._untold: list[tuple[Mailbox, int, bytes]] = []

    def next_look(self) -> Older:
        """What the store is to look for."""
        self.looks = False
        relay = self._relay
        return Older(relay.mail.journal.age - int(relay.limits.mail_seconds), _AT_ONCE)

    def expire(self, segments: list[Old]) -> None:
        """Drop what was found; tell the senders that asked for it."""
        relay, mail = self._relay, self._relay.mail
        for segment in segments:
            box = mail.boxes.by_number.get(segment.box)
            if box is None or segment.last <= box.floor:
                continue
            self._found = True
            since = wall_time(relay.clock, mail.journal.age - segment.at).encode()
            for key, numbers in segment.senders.items():
                sender = mail.boxes.by_key.get(key)
                count = len([number for number in numbers if number > box.floor])
                if count and sender is not None and sender.notices:
                    self._note(sender, b"%s %d :since %s\n" % (box.name, count, since))
            relay.counters.expired += segment.last - box.floor
            relay.counters.meet("mail_seconds")
            box.floor = segment.last
            box.sent = max(box.sent, box.floor)
            mail.journal.floor(box)
            mail.delivery.want(box)

    def committed(self) -> None:
        """Go on after a commit: what was found last is gone from the store only now."""
        if self._found:
            self.looks, self._found = True, False
        if self._untold:
            self._untold = [note for note in self._untold if note[1] > note[0].stored]

    def recovered(self) -> None:
        """Put notices again that turned out not to be stored."""
        untold, self._untold = self._untold, []
        for box, number, tail in untold:
            if number > box.stored:
                self._note(box, tail)

    def _note(self, box: Mailbox, tail: bytes) -> None:
        """Tell a sender, by an entry of its mailbox; it is kept till that is stored."""
        line = b"EXPIRED %d %s" % (box.last + 1, tail)
        self._relay.mail.journal.add(box, [line], len(line))
        self._untold.append((box, box.last, tail))


def wall_time(clock: Clock, ago: float = 0.0) -> str:
    """The time of day some seconds ago, as it is shown."""
    return timestamp(clock.wall + clock.now - ago).decode()
