"""A client of a relay, for asyncio programs."""

from __future__ import annotations

import asyncio
import inspect
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hailer.endpoint import Endpoint
from hailer.errors import (
    ConnectionClosed,
    EndpointError,
    HailerError,
    Refused,
    UsageError,
)
from hailer.relay.client import commands
from hailer.relay.client.answers import Answerer
from hailer.relay.client.dialling import dial_relay
from hailer.relay.client.events import (
    Asked,
    Event,
    Expired,
    Gap,
    Joined,
    Left,
    Offline,
    Online,
    RefusedPost,
)
from hailer.relay.client.inbox import Inbox
from hailer.relay.client.keeper import Keeper, tell, within
from hailer.relay.client.line import Post
from hailer.relay.client.link import Link
from hailer.relay.client.mailbox import Mailbox
from hailer.relay.client.places import Places
from hailer.relay.client.posts import Poster
from hailer.relay.client.protocol import MAX_PAYLOAD, ClientProtocol
from hailer.relay.client.receiving import Receiving
from hailer.runtime.establish import TLS_SCHEMES

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from hailer.relay.client.answers import AskHandler
    from hailer.relay.client.events import Presence
    from hailer.relay.client.journal import Journal
    from hailer.transport import Transport

__all__ = ["DEFAULT_RELAY", "RelayClient"]

log = logging.getLogger("hailer.relay.client")

DEFAULT_RELAY = "tcp://localhost:16273"

_STREAMS = ("tcp", "tcp4", "tcp6", "tls", "ws", "wss", "unix", "fd", "stdio")

_PARTING = 2.0
"""Seconds that `close` waits for the relay's BYE."""


class RelayClient(Receiving, Places):
    """One name at a relay: ``async with RelayClient("alice") as client: ...``.

    What the methods tell is a fact: `send` returns when the relay has taken the message for everybody
    it is for, and raises Refused with the relay's reason when it has not. It is never sent twice: if
    the connection is lost before the relay's word came, ConnectionLost says that the outcome is unknown.
    `post` returns when the relay has stored the message for receivers who may be away, and goes on over lost
    connections: it is stored once, and in the order of the posts.

    When the connection is lost, the client dials again with growing pauses, logs in as the same
    session, and is in its rooms and watches its names again. Meanwhile every method waits for at most
    `timeout`. It gives up when its name has gone to somebody else, or a new login replaced it.

    Mail comes among the messages, with a number; ``await message.ack()`` says that it is dealt with. What is
    not acknowledged comes again to the next client of this name, never twice to the same one.

    Messages wait in a queue until they are received. When `queue_limit` of them (or 16 MiB) wait, the
    client stops reading, and the relay treats it as a slow receiver: it makes senders wait a moment, then
    drops and tells how many by a GAP, and after some seconds cuts it. The answers of the relay come on the
    same stream, behind these messages: while some task waits for one, reading goes on up to four times the
    limit; past that the waiting task gets a UsageError. So ``await client.ask(...)`` inside ``async for
    message in client`` works.

    Callbacks are plain functions, called on the event loop; they must not block. To await something
    there, start a task.

    Args:
        name: who to be: 1 to 64 letters, digits, ``.``, ``_`` and ``-``.
        relay: where the relay is: ``tcp://``, ``tls://``, ``ws://``, ``wss://`` or ``unix:``. What it asks
            for is what is used: nothing goes unencrypted to ``tls://`` and ``wss://``.
        token: proves who this is, if the relay has accounts.
        tls: whom to trust and which certificate to show, from `hailer.client_context`, for ``tls://`` and
            ``wss://``; None trusts the authorities of the system.
        server_name: the name that the relay's certificate has to have; None for the endpoint's host.
        timeout: seconds for connecting and for each answer of the relay; None waits for ever.
        reconnect: connect again when the connection is lost.
        on_connected: called after each login, once rooms and watches are there again.
        on_disconnected: called with the reason each time the connection is lost.
        on_gap: called with each `Gap`: messages for this client that the relay dropped as it did not
            read them, or as its mailbox was full. Without it they are logged as warnings.
        on_expired: called with each `Expired`: posts of this client that nobody fetched in time. Only with
            it the relay is asked to tell.
        on_refused: called with each `RefusedPost` that nobody waits for any more: it was posted without
            waiting, or its caller has gone, perhaps with the program before. Without it they are logged.
        on_presence: called with Online and Offline of watched names, and with Joined and Left of others in
            this client's rooms.
        on_ask: answers questions; see the method of this name.
        outbox: a file that keeps what is posted until it is stored, over the end of the program; for one
            client at a time. It is made if it is not there. Without one, posts wait in memory.
        post_limit: posts that wait to be stored before `post` waits to take more (also at 64 MiB).
        cursor: mail up to this one has been dealt with, as the receiver's own records say: `Message.cursor`
            of the last, or its number alone. It is acknowledged and not given again.
        queue_limit: messages that wait to be received before the client stops reading.
        heartbeat: seconds of silence before the relay is asked whether it is still there, and again until
            it is given up for lost; None never asks.
        retry_delay: seconds before the first attempt to connect again; each next pause is twice as long,
            up to 30 s, and made up to half shorter by chance.
        max_payload: the most bytes of a message, in either direction; not more than the relay takes.

    Raises:
        EndpointError: the relay's text is no endpoint, or of a kind at which no relay listens.
        UsageError: an argument makes no sense.
    """

    def __init__(
        self,
        name: str,
        relay: Endpoint | str = DEFAULT_RELAY,
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        timeout: float | None = 10.0,
        reconnect: bool = True,
        on_connected: Callable[[], object] | None = None,
        on_disconnected: Callable[[HailerError], object] | None = None,
        on_gap: Callable[[Gap], object] | None = None,
        on_expired: Callable[[Expired], object] | None = None,
        on_refused: Callable[[RefusedPost], object] | None = None,
        on_presence: Callable[[Presence], object] | None = None,
        on_ask: AskHandler | None = None,
        outbox: str | Path | None = None,
        post_limit: int = 10_000,
        cursor: int | str = "",
        queue_limit: int = 10_000,
        heartbeat: float | None = 30.0,
        retry_delay: float = 0.5,
        max_payload: int = MAX_PAYLOAD,
    ) -> None:
        commands.hello(name, token)  # is it well-formed?
        for callback in (on_connected, on_disconnected, on_gap, on_expired, on_refused, on_presence):
            if inspect.iscoroutinefunction(callback):
                raise UsageError(
                    f"{callback.__name__} is async: give a plain function, which may start a task"
                )
        if queue_limit < 1 or post_limit < 1 or max_payload < 1:
            raise UsageError("queue_limit, post_limit and max_payload allow nothing: give 1 or more")
        endpoint = Endpoint.parse(relay) if isinstance(relay, str) else relay
        if endpoint.scheme not in _STREAMS:
            raise EndpointError(f"no relay can be reached at {endpoint}: give tcp://HOST:PORT or unix:PATH")
        if (tls or server_name) and endpoint.scheme not in TLS_SCHEMES:
            raise UsageError(
                f"{endpoint} is not encrypted: write tls:// or wss://, or give no certificate, authority or"
                " server name"
            )
        self._timeout = timeout
        self._on_gap = on_gap
        self._on_expired = on_expired
        self._on_refused = on_refused
        self._on_presence = on_presence
        self._heartbeat = heartbeat
        self._max_payload = max_payload
        self._answerer = Answerer(on_ask, max_payload)
        self._inbox = Inbox(queue_limit)
        self._mailbox = Mailbox(cursor)
        self._posts = Poster(
            limit=post_limit,
            on_refused=self._take_back,
            journal=None if outbox is None else _journal(Path(outbox)),
        )
        self._keeper = Keeper(
            endpoint,
            name,
            token,
            timeout=timeout,
            retry_delay=retry_delay if reconnect else None,
            dial=partial(dial_relay, tls=tls, server_name=server_name),
            posts=self._posts,
            notices=on_expired is not None,
            make_link=self._make_link,
            on_connected=on_connected,
            on_disconnected=on_disconnected,
            on_end=self._end,
        )
        self._left: asyncio.Future[None] | None = None
        self._refused: Refused | None = None
        self._refused_count = 0

    # coming and going

    async def connect(self) -> None:
        """Connect and log in; ``async with`` does it.

        Raises:
            DialError: nobody listens there, or no WebSocket is opened.
            TlsError: the relay's certificate is not to be trusted, or it wants one.
            ResolveError: the host is not known.
            TimedOut: it took too long.
            Refused: the name is taken, or not ours.
            RelayClosed: the relay takes nobody at the moment.
            ConnectionLost: the connection broke during the login.
            FramingError: what listens there is no relay.
            UsageError: this client was connected before, so make another; or the outbox is another name's, or
                in use.
            StoreError: the outbox cannot be read or written.
        """
        await self._keeper.start()

    async def close(self) -> None:
        """Log out and release everything; messages that were not received are forgotten, but mail is not.

        What was posted and is not stored stays in the outbox, if there is one. Waits a short time for the
        relay to have read all that was sent. May be called twice.
        """
        if self._left is not None:
            await asyncio.shield(self._left)
            return
        self._left = asyncio.get_running_loop().create_future()
        link = None
        try:
            link = await self._keeper.stop(
                ConnectionClosed("this client was closed: make another RelayClient")
            )
            self._inbox.clear()
            await self._answerer.close()
            if link is not None:
                await link.leave(_PARTING)
        finally:
            if link is not None:
                await link.close()
            await self._posts.close()
            self._left.set_result(None)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def name(self) -> str:
        """The name, as the relay has registered it."""
        return self._keeper.name

    @property
    def connected(self) -> bool:
        """Whether the client is logged in at this moment, as far as it knows."""
        link = self._keeper.link
        return link is not None and not link.ended.done()

    # sending

    async def send(self, to: str, payload: str | bytes, *, confirm: bool = True) -> None:
        """Send a message to a name that is here or to a room that this client is in.

        Args:
            to: a name, or a room such as ``#lobby``.
            payload: text, sent as UTF-8, or bytes.
            confirm: wait until the relay has taken it: for a name, it stands in the receiver's queue;
                for a room, in those of its members, who are told of it by a GAP if they lose it later.
                Without it, `send` waits only while the relay does not read fast enough, and `drain` tells
                later whether all went well.

        Raises:
            Refused: it was not taken: ``offline``, ``not-joined``, ``slow`` ...
            ConnectionLost: the connection was lost, and it is unknown whether it was taken; it is not
                sent again by itself.
            TimedOut: no word came in time; it is unknown too, unless the client was not connected.
            MessageError: the payload is too long or cannot be encoded; nothing was sent.
            UsageError: `to` is neither a name nor a room; nothing was sent.
        """
        line = commands.send(to, commands.as_bytes(payload, self._max_payload))
        if confirm:
            await self._call(line, "SEND")
            return
        link = self._keeper.link
        if link is None or not link.has_room:
            async with self._in_time("SEND"):
                link = await self._keeper.ready()
        link.send(line)

    async def post(self, to: str, payload: str | bytes, *, confirm: bool = True) -> None:
        """Post a message for a name, which may be away, or for all members of a room.

        It is stored once, however often the connection breaks, and behind what was posted before. Many may be
        under way: ``await asyncio.gather(client.post(...), client.post(...))``. When `post_limit` of
        them wait to be stored, `post` waits first.

        A post whose caller gives up (TimedOut, or a cancelled task) is withdrawn if it was not sent yet. If
        it was sent, or is in the outbox, it goes on being tried, and only `on_refused` tells if the relay
        refuses it.

        Args:
            to: a name, or a room that this client has joined.
            payload: text, sent as UTF-8, or bytes.
            confirm: wait until it is stored. Without it, `post` returns when it will be sent (with an outbox,
                when it is on disk there), and `drain` waits for all of them.

        Raises:
            Refused: it is not stored: ``unknown``, ``not-joined``, ``quota`` ... Nothing else that was posted
                is refused with it.
            TimedOut: it was not stored in time, perhaps as the relay's disk is full; the message says which
                of the cases above it is.
            ConnectionLost: the client will not connect again, and it is unknown whether it was stored, or it
                stays in the outbox; the message says which.
            ConnectionClosed: the same, and it was not sent.
            StoreError: the outbox cannot be written; the post is not in it.
            MessageError: the payload is too long or cannot be encoded; nothing was posted.
            UsageError: `to` is neither a name nor a room; nothing was posted. Or too many messages wait to be
                received, behind which the relay's word stands; then the post goes on being tried.
        """
        data = commands.as_bytes(payload, self._max_payload)
        commands.post(0, to, b"")  # is it a name or a room?
        self._keeper.check()
        post = Post(to, data)
        try:
            async with asyncio.timeout(self._timeout):
                await self._posts.put(post, confirm)
        except TimeoutError:
            raise self._posts.late(post) from None

    @property
    def posts_waiting(self) -> int:
        """How many posts are not known to be stored or refused, those from an outbox among them."""
        return self._posts.count

    async def drain(self) -> None:
        """Wait until the relay has dealt with all that was sent, and has stored all that was posted.

        Raises:
            Refused: something sent or posted with ``confirm=False`` since the last drain was refused; this is
                the first refusal, and says how many there were.
            ConnectionLost: the connection was lost, and what was sent without confirmation shortly before
                may not have been taken.
            TimedOut: no word came in time.
        """
        async with self._in_time("POST"):
            await self._posts.drain()
        await self._call(b"", "PING")
        unknown, self._keeper.unknown = self._keeper.unknown, None
        refused, count = self._refused, self._refused_count
        self._refused, self._refused_count = None, 0
        if unknown is not None:
            raise unknown
        if refused is not None:
            why = refused.explanation + (f" ({count} refusals in all)" if count > 1 else "")
            raise Refused(refused.code, refused.command, why)

    async def ask(self, to: str, payload: str | bytes, *, timeout: float | None = None) -> bytes:
        """Ask a name that is here, and wait for its answer.

        Args:
            to: a name.
            payload: text or bytes.
            timeout: seconds until the answer; None is the client's own timeout.

        Returns:
            The answer. By convention it starts with ``error:`` if the other side could not answer.

        Raises:
            Refused: there will be no answer: ``offline``, ``gone`` (it left meanwhile), ``slow`` ...
            TimedOut: it did not answer in time.
            ConnectionLost: the connection was lost meanwhile.
            MessageError: the payload is too long or cannot be encoded; nothing was sent.
            UsageError: `to` is no name; nothing was sent.
        """
        data = commands.as_bytes(payload, self._max_payload)
        commands.ask("0", to, b"")  # is it a name?
        late = f"{to} did not answer in time: ask again or allow more time"
        async with within(self._timeout if timeout is None else timeout, late):
            link = await self._keeper.ready()
            return await link.ask(to, data)

    def on_ask(self, handler: AskHandler) -> AskHandler:
        """Have questions answered by a function; may be used as a decorator.

        Args:
            handler: called with the question (`Asked`: sender, payload, text); gives the answer as text or
                bytes, or an awaitable of that. Up to 64 run at once and 1,000 questions wait. If it fails,
                the failure is logged and the asker gets a sentence that starts with ``error:``.
        """
        self._answerer.handler = handler
        return handler

    # inside

    def _make_link(self, transport: Transport) -> Link:
        return Link(
            transport,
            ClientProtocol(max_payload=self._max_payload, replier=self),
            self._inbox,
            self._mailbox,
            self._posts,
            on_event=self._take,
            on_refused=self._note_refusal,
            heartbeat=self._heartbeat,
        )

    def _end(self, error: HailerError) -> None:
        self._inbox.end(error)
        self._posts.end(error)

    def _take(self, event: Event, link: Link) -> None:
        """Take an event that answers nothing."""
        match event:
            case Asked():
                self._answerer.put(event, link)
            case Gap():
                if self._on_gap is None:
                    log.warning(
                        "%d messages from %s were lost since %s: this client did not receive them in time",
                        event.count,
                        event.source,
                        event.since,
                    )
                tell(self._on_gap, event)
            case Expired():
                if self._on_expired is None:  # asked for by an earlier client of this name
                    log.warning("%d posts to %s expired unread since %s", event.count, event.to, event.since)
                tell(self._on_expired, event)
                self._mailbox.ack(event.number)
            case Joined() | Left():
                if event.name.lower() != self._keeper.name.lower():
                    tell(self._on_presence, event)
            case Online() | Offline():
                tell(self._on_presence, event)

    def _take_back(self, post: RefusedPost) -> bool:
        """Tell of a refused post that nobody waits for."""
        told = self._on_refused is not None
        self._note_refusal(Refused(post.code, "POST", post.explanation), told)
        tell(self._on_refused, post)
        return told

    def _note_refusal(self, refused: Refused, told: bool = False) -> None:
        if self._refused is None:
            self._refused = refused
        if not told and self._refused_count == 0:
            log.warning("a message for whose outcome nobody waits was refused: %s", refused)
        self._refused_count += 1


def _journal(outbox: Path) -> Journal:
    from hailer.relay.client.journal import Journal  # noqa: PLC0415 (SQLite, for those who keep posts)

    return Journal(outbox)
