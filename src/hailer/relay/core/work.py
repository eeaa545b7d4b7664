"""What the core wants of the store: one piece of work at a time, done by a thread of the store's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from hailer.relay.core.batch import Batch, Loaded, Page, Segment
    from hailer.relay.core.mailbox import Mailbox
    from hailer.relay.store.base import Store


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

    def run(self, store: Store) -> list[Page]:
        """See `Store.read`."""
        return [store.read(box.number, last, self.most) for box, last in self.wanted]


class Older(NamedTuple):
    """Look for entries that are too old."""

    at: int
    most: int

    def run(self, store: Store) -> list[Segment]:
        """See `Store.older`."""
        return store.older(self.at, self.most)


class Recover(NamedTuple):
    """Try whether the store takes something again."""

    def run(self, store: Store) -> Loaded:
        """See `Store.recover`."""
        return store.recover()
