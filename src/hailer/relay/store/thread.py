"""The thread that a store works in, so that a slow disk delays nothing but what waits for it."""

from __future__ import annotations

import logging
import threading
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from hailer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.core.work import Work
    from hailer.relay.store.base import Store

__all__ = ["StoreThread"]

log = logging.getLogger("hailer.relay")

# Seconds: long beside the time between two commits under load, short beside what a person notices.
_MOMENT = 0.05


class StoreThread:
    """Does one piece of work after the other.

    Args:
        store: opened and loaded; the thread's own from now on.
        done: called in the thread with each piece of work, what it gave, and the error if it failed.
    """

    def __init__(self, store: Store, done: Callable[[Work, object, StoreError | None], None]) -> None:
        self._store = store
        self._done = done
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="hailer-store", daemon=True)
        self._thread.start()

    def start(self, work: Work) -> None:
        """Have a piece of work done; returns at once."""
        self._work.put(work)

    def close(self, seconds: float) -> bool:
        """Close the store once the work at hand is done.

        Args:
            seconds: to wait for that: a disk that hangs must not keep the relay from ending.

        Returns:
            Whether it is closed.
        """
        self._work.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                result: object = None
                error: StoreError | None = None
                try:
                    result = work.run(self._store)
                except StoreError as failure:
                    error = failure
                except Exception as failure:  # a fault of ours: nothing may be said to be stored by it
                    log.exception("a fault in hailer keeps the store from its work")
                    error = StoreError(f"a fault in hailer ({type(failure).__name__}): see the log")
                try:
                    self._done(work, result, error)
                except Exception:  # it costs who met it something; the store goes on
                    log.exception("a fault in hailer")
        finally:
            self._store.close()

    def _next(self) -> Work | None:
        """The next piece of work; if there is none for a moment, what the store put off is done."""
        try:
            return self._work.get(timeout=_MOMENT)
        except Empty:
            pass
        try:
            self._store.tidy()
        except StoreError as failure:
            # Nothing is lost: the next commit fails by it and is told, and then the store recovers.
            log.debug("the store could not be tidied: %s", failure)
        return self._work.get()
