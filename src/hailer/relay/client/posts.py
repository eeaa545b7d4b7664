"""The sender's side of durable mail: over all connections of a client, each post is stored once, in order.

A refused post does not use up its number, and the relay refuses those that were sent after it as a gap.
So after a refusal nothing more is sent until a fence has come back: then all the refusals of what was under
way are here, the refused posts leave the line, and what stood behind them is sent with new numbers.

A relay whose disk is full or fails says ``store``. That is no verdict: it may turn out that it has stored the
post after all. So the post keeps its number and is sent again, alone, until the relay stores it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from typing import TYPE_CHECKING

from hailer.errors import (
    BadFrame,
    ConnectionClosed,
    ConnectionLost,
    HailerError,
    Refused,
    StoreError,
    TimedOut,
)
from hailer.relay.client import commands
from hailer.relay.client.events import RefusedPost
from hailer.relay.client.line import WINDOW, Line, Post
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.client.events import Fail, Welcome
    from hailer.relay.client.journal import Journal
    from hailer.relay.client.link import Link

__all__ = ["Poster"]

log = logging.getLogger("hailer.relay.client")

_RETRY = 1.0
"""Seconds between two attempts to post to a relay that cannot store: as often as it tries itself."""

LINE_BYTES = 64 << 20
"""Bytes of payloads that wait to be stored before `post` waits: what a relay's mailbox holds by default."""


class Poster:
    """The posts of one client, over all its connections.

    Args:
        limit: posts that wait to be stored before more wait to be taken into the line.
        on_refused: called with each post that was refused and that nobody waits for; gives whether
            somebody was told.
        journal: writes them to an outbox; None keeps them in memory.

    Attributes:
        session: the id of the session; the client's own choice, so that it is the same on every connection.
    """

    def __init__(
        self, *, limit: int, on_refused: Callable[[RefusedPost], bool], journal: Journal | None = None
    ) -> None:
        self.session = secrets.token_urlsafe(24)
        self._limit = limit
        self._on_refused = on_refused
        self._journal = journal
        self._line = Line()
        self._key = 0
        self._link: Link | None = None
        self._fenced = False
        self._trouble = ""  # why the relay can store nothing at the moment
        self._retry: asyncio.TimerHandle | None = None
        self._error: HailerError | None = None
        self._turn = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None
        self._awaited = 0
        self._aside = 0  # refused posts in the outbox of which nobody has been told
        self._drained: list[tuple[int, asyncio.Future[None]]] = []

    # what the client does

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the relay's word on a post."""
        return self._awaited > 0

    @property
    def count(self) -> int:
        """Posts that are not known to be stored or refused."""
        return len(self._line)

    async def open(self, name: str) -> None:
        """Take up what an outbox holds from before.

        Raises:
            UsageError: it is not this name's outbox, or in use.
            StoreError: it cannot be read.
        """
        if self._journal is None:
            return
        held = await self._journal.open(name, self.session, self._kept, self.end)
        self.session, self._key = held.session, held.last_key
        self._line.restore(held.stored, [Post(to, payload, key) for key, to, payload in held.posts])
        for key, to, payload, code, explanation in held.refused:
            self._aside += 1
            self._told(key, self._on_refused(RefusedPost(to, payload, code, explanation)))

    async def put(self, post: Post, confirm: bool) -> None:
        """Take a post into the line, and wait for its end.

        Args:
            post: the post.
            confirm: wait until it is stored; else until it is in the outbox, if there is one.

        Raises:
            HailerError: it is not stored; what the error is says why.
        """
        async with self._turn:  # in the order of the calls
            if self._aside >= self._limit:
                raise StoreError(
                    f"the outbox keeps {self._aside} posts that were refused: have them told with on_refused"
                )
            while self._error is None and not self._has_room(len(post.payload)):
                await self._until_room()
            if self._error is not None:
                raise self._error.with_traceback(None)
            if confirm or self._journal is not None:
                post.outcome = asyncio.get_running_loop().create_future()
            self._append(post)
        if self._journal is not None and not confirm:
            self._journal.then(partial(_done, post))
        if post.outcome is not None:
            await self._outcome(post, post.outcome)

    async def drain(self) -> None:
        """Wait until every post so far is stored or refused.

        Raises:
            HailerError: posting has ended; it is the reason.
        """
        if self.count and self._error is None:
            drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.append((self._key, drained))
            await self._wait(drained)
        elif self.count and self._error is not None:
            raise self._error.with_traceback(None)

    async def close(self) -> None:
        """Close the outbox; what is in it stays there."""
        if self._journal is not None:
            await self._journal.close()
        elif self.count:
            log.warning("%d posts were not known to be stored at the end: drain() waits for them", self.count)

    # what happens to the connection

    async def resume(self, welcome: Welcome) -> bool:
        """Compare what the relay has stored with what it should have, after a login.

        Returns:
            Whether the session goes on. If not, there is a new one, to be logged in with.

        Raises:
            BadFrame: this is nothing that a relay says.
        """
        line, stored = self._line, welcome.stored
        known = welcome.session in (self.session, "")
        if known and line.stored <= stored <= line.last:
            self._settle(stored)
            await self._flushed()  # what was refused before must not be sent again
            return True
        if stored and (line.last == 0 or not known):
            raise BadFrame("the relay has stored posts of a session that it cannot know: correct the address")
        if stored > line.last:
            log.warning(
                "the relay has stored %d posts of a session of which this client knows only %d: the outbox is"
                " an old copy; what is left of it is sent in a new session",
                stored,
                line.last,
            )
            self._settle(line.last)
        elif line.stored:
            log.warning(
                "the relay has only %d posts of the session of which it had stored %d: its store was lost, or"
                " it is another relay; what was not stored yet is sent in a new session",
                stored,
                line.stored,
            )
        self.session = secrets.token_urlsafe(24) if known else welcome.session
        line.begin()
        if self._journal is not None:
            self._journal.changes.begin(self.session)
        await self._flushed()
        return not known  # then the relay chose the id, and knows it

    def attach(self, link: Link) -> None:
        """Send on this connection from now on."""
        self._link = link
        self._pump()

    def lost(self) -> None:
        """Take note that the connection is over: what is not stored is to be sent again."""
        self._link = None
        if self._retry is not None:
            self._retry.cancel()
        self._close_up()
        self._line.send_again()

    def end(self, error: HailerError) -> None:
        """Send nothing any more; those who wait get the reason. May be called twice."""
        if self._error is not None:
            return
        self._error = error
        for post in self._line:
            _done(post, self._fate(post, error))
        for waiting in (self._room, *(future for _, future in self._drained)):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    # what the relay says

    def stored(self, number: int) -> None:
        """Take note that every post up to this number is stored.

        Raises:
            ConnectionLost: there is no such post; a new login shows what is.
        """
        if number > self._line.last:
            raise ConnectionLost(
                f"the relay says that post {number} is stored, which was never sent: look there"
            )
        self._settle(number)
        self._pump()

    def refused(self, fail: Fail) -> None:
        """Take note of a refused post.

        Raises:
            ConnectionLost: the relay misses a post that it was sent; a new login shows which.
        """
        if fail.code == "gap":
            if not self._fenced:
                raise ConnectionLost("the relay misses a post that it was sent: logging in again tells which")
            return
        if fail.id.isdecimal():
            post = self._line.sent(int(fail.id))
            concerned = [post] if post is not None else []
        else:
            concerned = list(self._line.under_way)  # a relay that knows no POST refuses each like this
        if fail.code == "store":
            why = printable(fail.explanation).partition(";")[0]  # what follows advises who types
            if concerned and not self._trouble:
                log.warning("posts are tried again each second: %s", why)
            self._trouble = why
            self._line.window = 1
        else:
            self._refuse(concerned, fail)
            # all behind it is sent again: where one post after the other is refused, that is to be little
            self._line.window = self._line.window // 2 or 1
        if concerned and not self._fenced and self._link is not None:
            self._fenced = True
            self._link.fence(partial(self._after_fence, self._link))

    def too_long(self, fail: Fail, most: int) -> None:
        """Take note of the most bytes that the relay takes: it ends the connection over a longer payload."""
        self._refuse([post for post in self._line if len(post.payload) > most], fail)

    def disappoint(self, error: HailerError) -> None:
        """Give those who wait an error; their posts stay in the line."""
        for post in self._line:
            _done(post, error)
            post.outcome = None
        for waiting in (self._room, *(future for _, future in self._drained)):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)

    # inside

    def _append(self, post: Post) -> None:
        self._key += 1
        post.key = self._key
        self._line.add(post)
        if self._journal is None:
            post.kept = True
            self._pump()
        else:
            self._journal.add(post)

    def _kept(self, posts: list[Post]) -> None:
        for post in posts:
            post.kept = True
        self._pump()

    def _pump(self) -> None:
        """Send what may be sent."""
        link = self._link
        if link is not None and not self._fenced and self._error is None:
            while (item := self._line.next()) is not None:
                number, post = item
                link.say(commands.post(number, post.to, post.payload))

    def _settle(self, number: int) -> None:
        """Let the posts up to this number leave the line: they are stored."""
        posts = self._line.settle(number)
        for post in posts:
            _done(post)
        if posts:
            self._trouble = ""
            self._line.window = min(WINDOW, self._line.window + len(posts))
            if self._journal is not None:
                self._journal.changes.stored = number
                self._journal.changes.stored_key = posts[-1].key
                self._journal.write()
            self._look_round()

    def _refuse(self, posts: list[Post], fail: Fail) -> None:
        for post in posts:
            if post.refusal is None:
                post.refusal = Refused(fail.code, "POST", printable(fail.explanation))
                self._tell(post, post.refusal)

    def _tell(self, post: Post, refusal: Refused) -> None:
        """Tell of a refusal whoever there is to be told."""
        if self._journal is not None:
            self._aside += 1
            self._journal.changes.refused.append((post.key, refusal.code, refusal.explanation))
            self._journal.write()
        if post.outcome is not None and not post.outcome.done():
            post.outcome.set_exception(refusal)
            self._told(post.key, True)
        else:
            refused = RefusedPost(post.to, post.payload, refusal.code, refusal.explanation)
            self._told(post.key, self._on_refused(refused))

    def _told(self, key: int, told: bool) -> None:
        """Have a refused post leave the outbox, with a later commit, if somebody knows of it."""
        if self._journal is not None and told:
            self._aside -= 1
            self._journal.then(partial(self._journal.forget, key))

    def _after_fence(self, link: Link) -> None:
        if self._journal is None:
            self._go_on(link)
        else:
            # Before the refusal is on disk, a restart would give the numbers to the wrong posts.
            self._journal.then(partial(self._go_on, link))

    def _go_on(self, link: Link) -> None:
        pause = _RETRY if self._trouble else 0
        self._retry = asyncio.get_running_loop().call_later(pause, self._try_again, link)

    def _try_again(self, link: Link) -> None:
        if link is self._link:
            self._close_up()
            self._line.send_again()
            self._pump()

    def _close_up(self) -> None:
        self._fenced = False
        self._line.close_up()
        self._look_round()

    def late(self, post: Post) -> TimedOut:
        """What is known of a post that was not stored in time."""
        why = f" ({self._trouble})" if self._trouble else ""
        if self._journal is not None and post.key:
            return TimedOut(f"the post was not stored in time{why}: it stays in the outbox for another try")
        if post.said:
            return TimedOut(
                f"the post was not stored in time{why}: it goes on being tried until this client"
                " ends, and may be stored by then"
            )
        return TimedOut("the post was not sent in time: look whether the relay runs, and post it again")

    async def _flushed(self) -> None:
        if self._journal is not None and self._error is None:
            try:
                await self._journal.flushed()
            except StoreError:
                pass  # posting has ended, and those who posted were told

    def _has_room(self, size: int) -> bool:
        count = len(self._line)
        return not count or (count < self._limit and self._line.size + size <= LINE_BYTES)

    async def _until_room(self) -> None:
        self._room = asyncio.get_running_loop().create_future()
        try:
            await self._wait(self._room)
        finally:
            self._room = None

    async def _wait(self, future: asyncio.Future[None]) -> None:
        """Wait for what the relay has to say first; it may stand behind messages that nobody receives."""
        self._awaited += 1
        if self._link is not None:
            self._link.look()
        try:
            await future
        finally:
            self._awaited -= 1

    def _look_round(self) -> None:
        """Wake those who wait for posts to leave the line."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        first = next(iter(self._line), None)
        while self._drained and (first is None or first.key > self._drained[0][0]):
            _, drained = self._drained.pop(0)
            if not drained.done():
                drained.set_result(None)

    async def _outcome(self, post: Post, outcome: asyncio.Future[None]) -> None:
        try:
            await self._wait(outcome)
        except asyncio.CancelledError:
            if self._journal is None:
                self._line.withdraw(post)
                self._look_round()
            raise
        finally:
            post.outcome = None

    def _fate(self, post: Post, error: HailerError) -> HailerError:
        """What is known of a post when posting ends."""
        if self._journal is not None:
            if isinstance(error, StoreError) and not post.kept:
                return error
            return ConnectionLost(f"the post stays in the outbox for the next client that has it, as {error}")
        if not post.said:
            return ConnectionClosed(f"the post was not sent, as {error}")
        return ConnectionLost(f"it is unknown whether the post was stored, as {error}")


def _done(post: Post, error: HailerError | None = None) -> None:
    if post.outcome is not None and not post.outcome.done():
        if error is None:
            post.outcome.set_result(None)
        else:
            post.outcome.set_exception(error)
