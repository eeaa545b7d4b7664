"""The relay client for programs without an event loop: the same names, as plain functions.

    with RelayClient("alice") as client:
        client.send("bob", "hello")
        for message in client:
            print(message.sender, message.text)

It is the asyncio client, run on an event loop in a daemon thread of its own, so it behaves the same:
PINGs are answered and the connection is kept while the program thinks.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

from hailer.background import Background
from hailer.errors import ConnectionClosed, HailerError, RelayClosed, UsageError
from hailer.relay.client import answers as aio_answers
from hailer.relay.client import client as aio
from hailer.relay.client.events import Asked, Expired, Gap, Presence, RefusedPost
from hailer.relay.client.protocol import MAX_PAYLOAD

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterator
    from pathlib import Path
    from types import TracebackType

    from hailer.endpoint import Endpoint

__all__ = ["AskHandler", "Message", "RelayClient"]

_T = TypeVar("_T")

AskHandler = Callable[[Asked], str | bytes]
"""What answers a question: a plain function."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message for this client or for a room: a live one, or an entry of its mailbox.

    Attributes:
        sender: the name that sent it.
        to: this client's name, or the room.
        payload: the bytes as they were sent.
        number: of the entry in the mailbox, counting up; None for a live message.
    """

    sender: str
    to: str
    payload: bytes
    _client: RelayClient | None = field(default=None, repr=False, compare=False)
    number: int | None = None
    cursor: str | None = None

    @property
    def text(self) -> str:
        """The payload as text; bytes that are no UTF-8 become U+FFFD. Peer text: escape it for a terminal."""
        return self.payload.decode("utf-8", "replace")

    def reply(self, payload: str | bytes, *, confirm: bool = True) -> None:
        """Send to where this came from: the room if it was sent to one, else its sender.

        Args and errors are those of `RelayClient.send`.
        """
        if self._client is None:
            raise UsageError("this message came from no client: send a new one with RelayClient.send")
        self._client.send(self.to if self.to.startswith("#") else self.sender, payload, confirm=confirm)

    def ack(self) -> None:
        """Acknowledge it: it is dealt with, and the mailbox need not keep it. Nothing for a live message.

        Errors are those of `RelayClient.ack`.
        """
        if self.number is not None:
            if self._client is None:
                raise UsageError("this message came from no client: acknowledge one that was received")
            self._client.ack(self.number)


class RelayClient:
    """One name at a relay: ``with RelayClient("alice") as client: ...``.

    All that is said of `hailer.RelayClient` holds here: its arguments, errors and promises. Several
    threads may use one client. The callbacks are called in the client's own thread: they must not block, and
    must not use the client. A handler of questions runs in a thread of its own and may do both.
    """

    def __init__(
        self,
        name: str,
        relay: Endpoint | str = aio.DEFAULT_RELAY,
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
        self._client = aio.RelayClient(
            name,
            relay,
            token=token,
            tls=tls,
            server_name=server_name,
            timeout=timeout,
            reconnect=reconnect,
            on_connected=on_connected,
            on_disconnected=on_disconnected,
            on_gap=on_gap,
            on_expired=on_expired,
            on_refused=on_refused,
            on_presence=on_presence,
            on_ask=None if on_ask is None else _in_thread(on_ask),
            outbox=outbox,
            post_limit=post_limit,
            cursor=cursor,
            queue_limit=queue_limit,
            heartbeat=heartbeat,
            retry_delay=retry_delay,
            max_payload=max_payload,
        )
        self._background: Background | None = None
        self._closed = False
        self._taken: deque[Message] = deque()

    # coming and going

    def connect(self) -> None:
        """Connect and log in; ``with`` does it. See `hailer.RelayClient.connect`."""
        if self._background is not None or self._closed:
            raise UsageError("a client connects once: make another RelayClient")
        self._background = background = Background(self._client.close)
        # When the program drops the client without closing it, its thread must not live on.
        weakref.finalize(self, background.stop).atexit = False
        try:
            self._run(self._client.connect())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Log out and release everything; messages that were not received are forgotten, but mail is not.

        What was posted and is not stored stays in the outbox, if there is one. Waits a short time for the
        relay to have read all that was sent. May be called twice.
        """
        self._closed = True
        if self._background is not None:
            self._background.stop()
            self._background.join(None)
        self._taken.clear()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The name, as the relay has registered it."""
        return self._client.name

    @property
    def connected(self) -> bool:
        """Whether the client is logged in at this moment, as far as it knows."""
        return self._client.connected

    @property
    def rooms(self) -> frozenset[str]:
        """The rooms that this client is in."""
        return self._client.rooms

    # receiving

    def __iter__(self) -> Iterator[Message]:
        """Give the messages as they come. See `hailer.RelayClient.__aiter__`."""
        return self

    def __next__(self) -> Message:
        try:
            return self.receive()
        except (RelayClosed, ConnectionClosed):
            raise StopIteration from None

    def receive(self, timeout: float | None = None) -> Message:
        """Wait for the next message. See `hailer.RelayClient.receive`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._taken.popleft()  # several threads may come here
            except IndexError:
                self._run(self._fill(None if deadline is None else max(0.0, deadline - time.monotonic())))

    def receive_many(self, timeout: float | None = None) -> list[Message]:
        """Wait for messages and take all that have come. See `hailer.RelayClient.receive_many`."""
        messages = [self.receive(timeout)]
        while self._taken:
            try:
                messages.append(self._taken.popleft())
            except IndexError:
                break
        return messages

    def ack(self, number: int) -> None:
        """Say that one entry of the mailbox is dealt with. See `hailer.RelayClient.ack`."""
        self._run(self._client.ack(number))

    # sending

    def send(self, to: str, payload: str | bytes, *, confirm: bool = True) -> None:
        """Send a message to a name or a room. See `hailer.RelayClient.send`."""
        self._run(self._client.send(to, payload, confirm=confirm))

    def post(self, to: str, payload: str | bytes, *, confirm: bool = True) -> None:
        """Post a message for a name, which may be away, or a room. See `hailer.RelayClient.post`.

        To have many under way: ``confirm=False`` and `drain`, or several threads.
        """
        self._run(self._client.post(to, payload, confirm=confirm))

    @property
    def posts_waiting(self) -> int:
        """How many posts are not known to be stored or refused, those from an outbox among them."""
        return self._client.posts_waiting

    def drain(self) -> None:
        """Wait until the relay has dealt with all that was sent. See `hailer.RelayClient.drain`."""
        self._run(self._client.drain())

    def ask(self, to: str, payload: str | bytes, *, timeout: float | None = None) -> bytes:
        """Ask a name and wait for its answer. See `hailer.RelayClient.ask`."""
        return self._run(self._client.ask(to, payload, timeout=timeout))

    def on_ask(self, handler: AskHandler) -> AskHandler:
        """Have questions answered by a function, in threads. See `hailer.RelayClient.on_ask`."""
        self._client.on_ask(_in_thread(handler))
        return handler

    # rooms and presence

    def join(self, room: str) -> None:
        """Enter a room. See `hailer.RelayClient.join`."""
        self._run(self._client.join(room))

    def leave(self, room: str) -> None:
        """Leave a room. See `hailer.RelayClient.leave`."""
        self._run(self._client.leave(room))

    def who(self, room: str | None = None) -> list[str]:
        """List who is logged in, or who is in a room. See `hailer.RelayClient.who`."""
        return self._run(self._client.who(room))

    def watch(self, *names: str) -> None:
        """Be told who comes and goes. See `hailer.RelayClient.watch`."""
        self._run(self._client.watch(*names))

    def unwatch(self) -> None:
        """Be told no more who comes and goes. See `hailer.RelayClient.unwatch`."""
        self._run(self._client.unwatch())

    def ping(self) -> float:
        """Ask the relay for a sign of life; gives seconds. See `hailer.RelayClient.ping`."""
        return self._run(self._client.ping())

    # inside

    async def _fill(self, timeout: float | None) -> None:
        # What was taken goes into the queue in the same step: nothing is lost if the caller is interrupted.
        for message in await self._client.receive_many(timeout):
            taken = Message(message.sender, message.to, message.payload, self, message.number, message.cursor)
            self._taken.append(taken)

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._background is None:
            work.close()
            raise UsageError("this client is not connected: use it with a with statement, or connect() it")
        return self._background.run(work)


def _in_thread(handler: AskHandler) -> aio_answers.AskHandler:
    """Make of a blocking handler one that runs in a daemon thread for each question."""
    if inspect.iscoroutinefunction(handler):
        raise UsageError(
            "the handler of questions is async: give a plain function, or use hailer.RelayClient"
        )

    async def answer(question: Asked) -> str | bytes:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[tuple[str | bytes, BaseException | None]] = loop.create_future()

        def work() -> None:
            result: str | bytes = b""
            failure: BaseException | None = None
            try:
                result = handler(question)
            except BaseException as error:  # also SystemExit: it is the thread's, not the loop's
                failure = error
            try:
                loop.call_soon_threadsafe(finish, result, failure)
            except RuntimeError:
                pass  # the client was closed meanwhile

        def finish(result: str | bytes, failure: BaseException | None) -> None:
            if not done.done():
                done.set_result((result, failure))

        threading.Thread(target=work, name="hailer-relay-answer", daemon=True).start()
        result, failure = await done
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            raise RuntimeError(f"the handler raised {type(failure).__name__}") from failure
        return result

    return answer
