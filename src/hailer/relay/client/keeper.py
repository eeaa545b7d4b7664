"""Staying logged in: one connection after the other, each with the same session, rooms and watches."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hailer.errors import (
    BadFrame,
    ConnectionLost,
    HailerError,
    MessageTooLong,
    Refused,
    RelayClosed,
    TimedOut,
    UsageError,
)
from hailer.net import backoff
from hailer.relay.client import commands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from hailer.endpoint import Endpoint
    from hailer.relay.client.link import Link
    from hailer.relay.client.posts import Poster
    from hailer.transport import Transport

__all__ = ["Keeper", "is_final", "tell", "within"]

_PARTING = 2.0
"""Seconds that a session which does not go on gets for its BYE."""

log = logging.getLogger("hailer.relay.client")


class Keeper:
    """Connects, logs in, and does so again when the connection is lost.

    Args:
        relay: where the relay is.
        name: who to be.
        token: proves it, if the relay has accounts.
        timeout: seconds for connecting and logging in; None waits for ever.
        retry_delay: seconds before the first attempt to connect again; None makes none.
        dial: connects to where the relay is.
        posts: what is posted; it names the session.
        notices: ask to be told of posts that expire unread.
        make_link: makes a link of a new transport.
        on_connected: called after each login.
        on_disconnected: called with the reason each time the connection is lost.
        on_end: called with the reason when there will be no more connections.

    Attributes:
        name: as the relay has registered it.
        rooms: the rooms to be in: by their key, as they are written.
        watching: the names to watch, () for all; None for no watching.
        link: the connection, None while there is none.
        error: why there will be no more connections, once that is so.
        unknown: set when a connection was lost that may have taken unconfirmed messages with it.
    """

    def __init__(
        self,
        relay: Endpoint,
        name: str,
        token: str | None,
        *,
        timeout: float | None,
        retry_delay: float | None,
        dial: Callable[[Endpoint], Awaitable[Transport]],
        posts: Poster,
        notices: bool,
        make_link: Callable[[Transport], Link],
        on_connected: Callable[[], object] | None,
        on_disconnected: Callable[[HailerError], object] | None,
        on_end: Callable[[HailerError], None],
    ) -> None:
        self.relay = relay
        self.name = name
        self.rooms: dict[str, str] = {}
        self.watching: tuple[str, ...] | None = None
        self.link: Link | None = None
        self.error: HailerError | None = None
        self.unknown: ConnectionLost | None = None
        self._token = token
        self._posts = posts
        self._notices = notices
        self._timeout = timeout
        self._retry_delay = retry_delay
        self._dial = dial
        self._make_link = make_link
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_end = on_end
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Log in for the first time, and stay so from then on."""
        if self._task is not None or self.error is not None:
            raise UsageError("a client connects once: make another RelayClient")
        await self._posts.open(self.name)
        try:
            link = await self._login()
        except BaseException:
            await self._posts.close()
            raise
        self._task = asyncio.get_running_loop().create_task(
            self._keep(link), name=f"hailer-relay-{self.name}"
        )

    async def stop(self, error: HailerError) -> Link | None:
        """Make no more connections; whoever waits for one gets the error.

        Returns:
            The last link, which is to be closed, if there is one.
        """
        self._end(error)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        link, self.link = self.link, None
        return link

    def check(self) -> None:
        """See that the client is connected or will be again.

        Raises:
            HailerError: it will not.
            UsageError: it never was.
        """
        self._check_not_ended()
        if self._task is None:
            raise UsageError("this client is not connected: use it with (async) with, or connect() it first")

    def _check_not_ended(self) -> None:
        if self.error is not None:
            raise self.error.with_traceback(None)

    async def ready(self) -> Link:
        """Give the link, once there is one with room for more.

        Raises:
            HailerError: there will be none any more.
            UsageError: the client never connected.
        """
        while True:
            link = self.link
            if link is not None and not link.ended.done():
                if link.has_room:
                    return link
                await link.room()
                continue
            self.check()
            self._changed.clear()
            await self._changed.wait()

    async def _login(self) -> Link:
        """Connect, log in, and be where the client was before."""
        late = f"the relay at {self.relay} did not let {self.name} in in time: look whether it runs"
        async with within(self._timeout, late):
            link = await self._login_once() or await self._login_once()  # the second time in a new session
            if link is None:
                raise ConnectionLost(
                    "the relay knows a session that was made just now: look what listens there"
                )
        self.link = link
        self._posts.attach(link)
        self._changed.set()
        tell(self._on_connected)
        return link

    async def _login_once(self) -> Link | None:
        """Log in; None if the session does not go on, and the login is to be made with the new one."""
        link = self._make_link(await self._dial(self.relay))
        try:
            hello = commands.hello(self.name, self._token, self._posts.session, notices=self._notices)
            welcome = await link.login(hello)
            self.name = welcome.name
            if not await self._posts.resume(welcome):
                await link.leave(_PARTING)
                await link.close()
                return None
            await self._restore(link)
            self._check_not_ended()  # meanwhile
        except BaseException:
            await link.close()
            raise
        return link

    async def _restore(self, link: Link) -> None:
        wanted = [(commands.join(room), "JOIN") for room in self.rooms.values()]
        if self.watching is not None:
            wanted.append((commands.watch(self.watching), "WATCH"))
        calls = [link.call(line, verb) for line, verb in wanted]
        for (line, _), outcome in zip(
            wanted, await asyncio.gather(*calls, return_exceptions=True), strict=True
        ):
            if isinstance(outcome, Refused):
                log.warning("after the new login the relay refused %s: %s", line.decode().strip(), outcome)
                self.rooms = {key: room for key, room in self.rooms.items() if commands.join(room) != line}
            elif isinstance(outcome, UsageError):
                raise ConnectionLost("too many messages wait to be received: receive them") from outcome
            elif isinstance(outcome, BaseException):
                raise outcome

    async def _keep(self, link: Link) -> None:
        """See every connection to its end, and connect again."""
        while True:
            error = await asyncio.shield(link.ended)
            self.link = None
            if link.unconfirmed and self.unknown is None:
                self.unknown = ConnectionLost(
                    f"the connection was lost ({error}) and what was sent without confirmation shortly before"
                    " it may not have arrived: ask the receiver or send it again"
                )
            self._posts.lost()
            await link.close()
            tell(self._on_disconnected, error)
            if self._retry_delay is None or is_final(error):
                self._end(error)
                return
            try:
                link = await self._login_again(self._retry_delay)
            except HailerError as final:
                self._end(final)
                return

    async def _login_again(self, delay: float) -> Link:
        pauses = backoff.delays(delay)
        while True:
            await asyncio.sleep(next(pauses))
            try:
                return await self._login()
            except HailerError as error:
                if is_final(error):
                    raise
                log.info("the relay at %s cannot be reached yet: %s", self.relay, error)

    def _end(self, error: HailerError) -> None:
        if self.error is None:
            self.error = error
        self._changed.set()
        self._on_end(error)


def is_final(error: HailerError) -> bool:
    """Whether connecting again would not help."""
    if isinstance(error, RelayClosed):
        return error.reason == "replaced"  # two clients with one session would replace each other for ever
    return isinstance(error, Refused | UsageError | BadFrame | MessageTooLong)


def tell(callback: Callable[..., object] | None, *what: object) -> None:
    """Call what the application gave, if it gave anything; what goes wrong there is logged."""
    if callback is not None:
        try:
            callback(*what)
        except Exception:
            log.exception("a callback of the relay client failed")


@asynccontextmanager
async def within(seconds: float | None, otherwise: str) -> AsyncIterator[None]:
    """Raise TimedOut with a sentence when the work takes longer than some seconds (None: never)."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        if isinstance(error, TimedOut):
            raise
        raise TimedOut(otherwise) from None
