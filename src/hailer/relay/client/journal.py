"""What a client posts, written to its outbox off the event loop, as much as there is at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hailer.errors import HailerError, StoreError
from hailer.relay.client.outbox import Changes, Held, Outbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hailer.relay.client.line import Post

__all__ = ["Journal"]


class Journal:
    """Writes to an outbox in a thread of its own, one commit after the other.

    Args:
        path: the outbox.

    Attributes:
        changes: what the next commit will write; `write` has it written.
    """

    def __init__(self, path: Path) -> None:
        self._outbox = Outbox(path)
        self.changes = Changes()
        self._adding: list[Post] = []
        self._then: list[Callable[[], object]] = []
        self._to_write = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "hailer-outbox")
        self._task: asyncio.Task[None] | None = None

    async def open(
        self,
        name: str,
        session: str,
        on_kept: Callable[[list[Post]], None],
        on_broken: Callable[[HailerError], None],
    ) -> Held:
        """Open the outbox.

        Args:
            name: whose it is or will be.
            session: the session of a new one.
            on_kept: called with posts once they are on disk.
            on_broken: called with the reason when it cannot be written any more.

        Raises:
            UsageError: it is another's, or in use.
            StoreError: it cannot be read or written.
        """
        loop = asyncio.get_running_loop()
        try:
            held = await loop.run_in_executor(self._thread, self._outbox.open, name, session)
        except BaseException:
            self._thread.submit(self._outbox.close)  # who gave up waiting must not keep others out of it
            self._thread.shutdown(wait=False)
            raise
        self._task = loop.create_task(self._work(on_kept, on_broken), name="hailer-outbox")
        return held

    def add(self, post: Post) -> None:
        """Have a post written."""
        self.changes.added.append((post.key, post.to, post.payload))
        self._adding.append(post)
        self.write()

    def write(self) -> None:
        """Have the changes written."""
        self._to_write.set()

    def forget(self, key: int) -> None:
        """Have a refused post dropped, by whichever commit comes next: it is known to whom it concerns."""
        self.changes.told.append(key)

    def then(self, callback: Callable[[], object]) -> None:
        """Have a function called once all changes so far are on disk; never if they cannot be written."""
        self._then.append(callback)
        self.write()

    async def flushed(self) -> None:
        """Wait until all changes so far are on disk.

        Raises:
            StoreError: they cannot be written.
        """
        if self._task is None or self._task.done():
            raise StoreError("the outbox cannot be written any more: make another client with it")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.then(lambda: None if done.done() else done.set_result(None))
        await asyncio.wait([done, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise StoreError("the outbox cannot be written any more: make another client with it")

    async def close(self) -> None:
        """Write what is to be written, and close the outbox. May be called twice."""
        if self._task is None:
            return
        try:
            await self.flushed()
        except StoreError:
            pass  # whoever posted was told
        task, self._task = self._task, None
        task.cancel()
        await asyncio.wait([task])
        await asyncio.get_running_loop().run_in_executor(self._thread, self._outbox.close)
        self._thread.shutdown(wait=False)

    async def _work(
        self, on_kept: Callable[[list[Post]], None], on_broken: Callable[[HailerError], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            changes, self.changes = self.changes, Changes()
            adding, self._adding = self._adding, []
            then, self._then = self._then, []
            try:
                await loop.run_in_executor(self._thread, self._outbox.commit, changes)
            except StoreError as error:
                on_broken(error)
                return
            if adding:
                on_kept(adding)
            for callback in then:
                callback()
