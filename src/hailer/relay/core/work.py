"""What the core wants of the store: one piece of work at a time, done by a thread of the store's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from hailer.errors import StoreError
from hailer.relay.core import mailbox

if TYPE_CHECKING:
    from hailer.relay.core.batch import Batch, Loaded, Page
    from hailer.relay.core.mailbox import Mailbox
    from hailer.relay.store.base import Store

_TAKEN_APART = 512 * 1024
"""Bytes of old entries that are looked at one by one at once: some 50 ms, which others may wait for."""


class Work(Protocol):
    """One piece of work; what it gives goes back to the core by `Mail.done`."""

    def run(self, store: Store) -> object:
        """Do it; may block, and raises StoreError."""


class Commit(NamedTuple):
    """Put a batch on disk."""

    batch: Batch

    def run(self, store: Store) -> dict[int, int]:
        """See `Store.commit`."""
        return store.commit(self.batch)


class Read(NamedTuple):
    """Read a page for each of some mailboxes."""

    wanted: list[tuple[Mailbox, int]]
    """Each with the last entry that its reader has."""
    most: int

    def run(self, store: Store) -> list[Page | StoreError]:
        """See `Store.read`; what is wrong with one mailbox is nothing to the others."""
        return [self._page(store, box.number, last) for box, last in self.wanted]

    def _page(self, store: Store, box: int, last: int) -> Page | StoreError:
        try:
            return store.read(box, last, self.most)
        except StoreError as error:
            return error


class Old(NamedTuple):
    """A segment that is too old.

    Attributes:
        box: the number of its mailbox.
        last: the number of its last entry.
        at: the relay's age when it was accepted, in seconds.
        senders: the numbers of its entries, by the key of who sent them.
    """

    box: int
    last: int
    at: int
    senders: dict[bytes, list[int]]


class Older(NamedTuple):
    """Look for entries that are too old."""

    at: int
    most: int
    """Segments that are looked for."""

    def run(self, store: Store) -> list[Old]:
        """See `Store.older`; not all that it finds if that is much."""
        found: list[Old] = []
        size = 0
        for segment in store.older(self.at, self.most):
            size += len(segment.data)
            if found and size > _TAKEN_APART:
                break
            senders: dict[bytes, list[int]] = {}
            for entry in mailbox.entries(segment.data):
                senders.setdefault(entry.sender.lower(), []).append(entry.number)
            found.append(Old(segment.box, segment.last, segment.at, senders))
        return found


class Recover(NamedTuple):
    """Try whether the store takes something again."""

    def run(self, store: Store) -> Loaded:
        """See `Store.recover`."""
        return store.recover()
