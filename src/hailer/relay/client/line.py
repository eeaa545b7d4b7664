"""The posts that are not known to be stored, in their order, and the number that each has.

The numbers of posts count up by one within a session, and the relay stores them in this order; so a post's
number is its place in the line, counted from the last that is stored. What was sent and is above the
WELCOME's ``stored=`` is sent again on the next connection under the same number, which the relay takes
only once. A refused post does not use up its number: it leaves the line, and those behind it move up.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from hailer.errors import Refused

__all__ = ["Line", "Post"]

WINDOW = 1000
"""Posts that are under way at once: a commit of the relay holds as many, and a resend costs little."""

WINDOW_BYTES = 4 << 20
"""Bytes of payloads that are under way at once, unless one alone has more."""


class Post:
    """One post in the line.

    Attributes:
        to: whom it is for.
        payload: its bytes.
        key: counts up in the order of the posts; the outbox knows it by this. 0 before it is in the line.
        outcome: done when it is stored, or known not to be; None when nobody waits for that.
        kept: it may be sent: it is on disk, where there is an outbox.
        said: it was sent under the number that it has now, so that the relay may have stored it.
        refusal: why the relay does not store it.
    """

    __slots__ = ("kept", "key", "outcome", "payload", "refusal", "said", "to")

    def __init__(self, to: str, payload: bytes, key: int = 0) -> None:
        self.to = to
        self.payload = payload
        self.key = key
        self.outcome: asyncio.Future[None] | None = None
        self.kept = False
        self.said = False
        self.refusal: Refused | None = None


class Line:
    """The line of one session.

    Attributes:
        stored: every post of the session up to this number is stored.
        last: the highest number that the relay may have seen.
        size: bytes of payloads in the line.
        window: posts that may be under way.
    """

    def __init__(self) -> None:
        self.stored = 0
        self.last = 0
        self.size = 0
        self.window = WINDOW
        self._sent: deque[Post] = deque()  # on this connection; the first has the number after `stored`
        self._sent_size = 0
        self._waiting: deque[Post] = deque()  # to be sent, behind those

    def __len__(self) -> int:
        return len(self._sent) + len(self._waiting)

    def __iter__(self) -> Iterator[Post]:
        return chain(self._sent, self._waiting)

    def restore(self, stored: int, posts: list[Post]) -> None:
        """Begin with posts that an earlier client may have sent."""
        self.stored = stored
        for post in posts:
            post.kept = post.said = True
            self.add(post)
        self.last = stored + len(posts)

    def add(self, post: Post) -> None:
        """Put a post at the end."""
        self._waiting.append(post)
        self.size += len(post.payload)

    def withdraw(self, post: Post) -> None:
        """Take a post out, if the relay cannot have seen it."""
        if not post.said and post in self._waiting:
            self._waiting.remove(post)
            self.size -= len(post.payload)

    def next(self) -> tuple[int, Post] | None:
        """The next post to be sent and its number; None if there is none, or enough is under way."""
        if not self._waiting or not self._waiting[0].kept or len(self._sent) >= self.window:
            return None
        size = self._sent_size + len(self._waiting[0].payload)
        if self._sent and size > WINDOW_BYTES:
            return None
        post = self._waiting.popleft()
        post.said = True
        self._sent.append(post)
        self._sent_size = size
        number = self.stored + len(self._sent)
        self.last = max(self.last, number)
        return number, post

    def settle(self, number: int) -> list[Post]:
        """Take out what is stored: all up to this number, which is at most `last`."""
        posts = []
        while self.stored < number:
            if self._sent:
                posts.append(self._sent.popleft())
                self._sent_size -= len(posts[-1].payload)
            else:
                posts.append(self._waiting.popleft())
            self.size -= len(posts[-1].payload)
            self.stored += 1
        return posts

    @property
    def under_way(self) -> Iterator[Post]:
        """The posts that were sent on this connection and are not known to be stored."""
        return iter(self._sent)

    def sent(self, number: int) -> Post | None:
        """The post with this number, if it was sent on this connection and is not known to be stored."""
        index = number - self.stored - 1
        return self._sent[index] if 0 <= index < len(self._sent) else None

    def close_up(self) -> None:
        """Take out the refused posts; those behind the first have their numbers to be given out again."""
        base = next((place for place, post in enumerate(self) if post.refusal is not None), None)
        if base is None:
            return
        posts = list(self)
        self._sent = deque(posts[: min(base, len(self._sent))])
        self._sent_size = sum(len(post.payload) for post in self._sent)
        behind = posts[len(self._sent) :]
        self._waiting = deque(post for post in behind if post.refusal is None)
        self.size -= sum(len(post.payload) for post in behind if post.refusal is not None)
        for post in posts[base:]:
            post.said = False
        self.last = min(self.last, self.stored + base)

    def send_again(self) -> None:
        """Have everything sent again, under the numbers that it has: the relay has dropped it, or is gone."""
        self._waiting.extendleft(reversed(self._sent))
        self._sent.clear()
        self._sent_size = 0

    def begin(self) -> None:
        """Begin a new session, of which nothing is sent yet."""
        self.stored = self.last = 0
        for post in self:
            post.said = False
