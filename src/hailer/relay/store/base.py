"""What a relay asks of a store; `hailer.testing.check_store` holds one to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hailer.relay.core.batch import Batch, Loaded, Page, Segment

__all__ = ["Store"]


class Store(Protocol):
    """A store: opened by one thread and then used by one thread at a time, the store's own.

    Every method may block. What goes wrong is a `StoreError`.
    """

    def load(self) -> Loaded:
        """All that is held but the entries: called once, before anything else."""

    def commit(self, batch: Batch) -> dict[int, int]:
        """Put a batch on disk: when this returns, it survives a power cut.

        What a batch says of a mailbox never goes back: `Box.last`, `Box.floor`, `Batch.age` and
        `Batch.next_entry` that are below what is held change nothing. A `Segment` moves its mailbox's
        `last` and `size`, a floor its `floor` and `size`, whether the `Box` is in the batch or not. What
        is forgotten is gone, whatever else the batch says of it; a membership or a session is either
        written or dropped in one batch.

        Returns:
            The bytes of the segments that `Batch.floors` dropped, by mailbox number; each of them is here.

        Raises:
            StoreError: it is not known to be stored; the store takes no more until `recover`.
        """

    def read(self, box: int, after: int, most: int) -> Page:
        """Read the segments that hold entries after a number, as many as fit, one at least.

        Args:
            box: the mailbox's number.
            after: the last entry that is not wanted. The first segment may begin at or before it.
            most: bytes.
        """

    def older(self, at: int, most: int) -> list[Segment]:
        """The segments accepted before this age of the relay, the oldest of each mailbox first; so many."""

    def recover(self) -> Loaded:
        """Try to go on after an error: only if a test commit reaches the disk.

        Returns:
            What is held now, which may be more than was acknowledged.

        Raises:
            StoreError: not yet.
        """

    def tidy(self) -> None:
        """Do work that was put off, if there is much: to be called when nobody waits for a commit.

        Raises:
            StoreError: nothing was lost; the store takes no more until `recover`.
        """

    def close(self) -> None:
        """Release everything; may be called twice."""
