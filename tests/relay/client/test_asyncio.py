"""What only the asyncio client has, and the fences as they stand on the wire."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from hailer import Message, RelayClient
from hailer.errors import ConnectionLost, Refused, RelayClosed, UsageError
from hailer.relay.client.events import Bye, Event, Fail, Here, Ping, Pong
from hailer.relay.client.inbox import Inbox
from hailer.relay.client.link import WRITE_HIGH, Link
from hailer.relay.client.mailbox import Mailbox
from hailer.relay.client.posts import Poster
from hailer.relay.client.protocol import ClientProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from hailer.endpoint import Endpoint
    from hailer.relay.app import RelayServer
    from hailer.relay.client.events import Asked


async def test_asking_from_within_the_iteration(tcp_relay: RelayServer) -> None:
    where = tcp_relay.endpoints[0]
    async with RelayClient("alice", where) as alice, RelayClient("bob", where, queue_limit=10) as bob:

        @alice.on_ask
        async def answer(question: Asked) -> str:
            await alice.send("bob", "meanwhile")  # which comes before the answer
            return question.text + "!"

        for number in range(20):
            await alice.send("bob", str(number))
        answers = []
        async for message in bob:
            if message.text.isdigit():
                answers.append(await bob.ask(message.sender, message.text))
                await message.reply("done")
            if len(answers) == 20:
                break
        assert answers == [f"{number}!".encode() for number in range(20)]


async def test_a_callback_may_start_a_task(tcp_relay: RelayServer) -> None:
    where = tcp_relay.endpoints[0]
    tasks: list[asyncio.Task[None]] = []

    def connected() -> None:
        tasks.append(asyncio.get_running_loop().create_task(alice.send("alice", "from the callback")))

    alice = RelayClient("alice", where, on_connected=connected)
    async with alice:
        assert (await alice.receive(30)).text == "from the callback"
        await asyncio.gather(*tasks)


async def test_closing_from_within_an_answer(tcp_relay: RelayServer) -> None:
    where = tcp_relay.endpoints[0]
    async with RelayClient("alice", where) as alice, RelayClient("bob", where) as bob:

        @bob.on_ask
        async def answer(_: Asked) -> str:
            await bob.close()
            return "too late"

        with pytest.raises(Refused, match="left before it answered"):
            await alice.ask("bob", "?")
        assert [message async for message in bob] == []


async def test_an_iteration_lets_others_run(tcp_relay: RelayServer) -> None:
    where = tcp_relay.endpoints[0]
    async with RelayClient("alice", where) as alice:
        for _ in range(500):
            await alice.send("alice", "x")
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.ensure_future(others())
        count = 0
        async for _ in alice:
            count += 1
            if count == 500:
                break
        other.cancel()
        assert turns >= 5


async def test_a_message_of_no_client_cannot_be_replied_to() -> None:
    with pytest.raises(UsageError):
        await Message("bob", "alice", b"hi").reply("x")


class Memory:
    """A transport whose other end the test holds; it takes as much as the test allows."""

    local = peer = None

    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()  # join() waits until all has been taken
        self.sent = b""
        self.open = asyncio.Event()
        self.open.set()
        self.aborted = False

    async def pull(self, limit: int, deadline: float | None = None) -> bytes:
        data = await self.came.get()
        self.came.task_done()
        return data

    async def push(self, data: bytes, deadline: float | None = None) -> None:
        await self.open.wait()
        self.sent += data

    async def finish(self) -> None: ...

    async def close(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True


class Pair:
    """A link and its other end."""

    def __init__(self) -> None:
        self.wire = Memory()
        self.events: list[Event] = []
        self.refused: list[Refused] = []
        self.link = Link(
            self.wire,  # type: ignore[arg-type]  # it has no endpoints
            ClientProtocol(),
            Inbox(100),
            Mailbox(),
            Poster(limit=100, on_refused=lambda _: False),
            on_event=lambda event, _: self.events.append(event),
            on_refused=self.refused.append,
            heartbeat=None,
        )
        self.wire.came.put_nowait(b"RELAY x :hello\n")

    async def says(self, line: bytes) -> None:
        """The relay says something; returns once the link has taken it."""
        self.wire.came.put_nowait(line)
        await self.wire.came.join()
        await settle()


async def settle() -> None:
    """Let everything that can run, run."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def pairs() -> Callable[[], Any]:
    """``async with pairs() as pair``."""

    @asynccontextmanager
    async def pairs() -> AsyncIterator[Pair]:
        pair = Pair()
        try:
            yield pair
        finally:
            await pair.link.close()

    return pairs


async def test_fences_travel_with_their_commands_in_one_write(pairs: Callable[[], Any]) -> None:
    async with pairs() as pair:
        link = pair.link
        link.send(b"SEND bob :a\n")
        link.send(b"SEND bob :b\n")
        first = asyncio.ensure_future(link.call(b"SEND bob :c\n", "SEND"))
        second = asyncio.ensure_future(link.call(b"WHO\n", "WHO"))
        await settle()
        assert pair.wire.sent == (b"SEND bob :a\nSEND bob :b\nPING 1\nSEND bob :c\nPING 2\nWHO\nPING 3\n")
        await pair.says(b"FAIL offline SEND :one\nFAIL offline SEND :two\nPONG 1\n")
        assert [str(refused) for refused in pair.refused] == ["one", "two"]
        assert not link.unconfirmed
        await pair.says(b"FAIL slow SEND :three\nMSG a b :between\nPONG 2\n")
        with pytest.raises(Refused, match="three"):
            await first
        await pair.says(b"HERE a b\nHERE c\nEND WHO\n")
        assert not second.done()
        await pair.says(b"PONG 3\n")
        assert await second == ["a", "b", "c"]


async def test_what_does_not_fit_is_left_aside(pairs: Callable[[], Any]) -> None:
    async with pairs() as pair:
        call = asyncio.ensure_future(pair.link.call(b"JOIN #r\n", "JOIN"))
        await settle()
        for line in (
            b"PONG\n",
            b"PONG 99\n",
            b"HERE x\n",
            b"FAIL not-asked ANSWER :9: nobody waits\n",
            b"FAIL gone ASK :9: left\n",
            b"FAIL offline SEND :not this one\n",
            b"ANSWERED 9 bob :late\n",
            b"WELCOME bob session=x\n",
            b"NOVELTY\n",
        ):
            await pair.says(line)
        assert not call.done()
        await pair.says(b"PONG 1\n")
        assert await call == []
        assert not pair.refused


async def test_a_command_that_was_too_long_for_the_relay_is_refused(pairs: Callable[[], Any]) -> None:
    async with pairs() as pair:
        call = asyncio.ensure_future(pair.link.call(b"SEND bob 1\nx", "SEND"))
        await settle()
        await pair.says(b"FAIL too-long PAYLOAD :a payload may have 0 bytes\nBYE :too long\n")
        with pytest.raises(ConnectionLost):
            await call
        assert isinstance(pair.link.ended.result(), RelayClosed)


async def test_a_flood_of_pings_does_not_fill_the_memory_when_nothing_is_read(
    pairs: Callable[[], Any],
) -> None:
    async with pairs() as pair:
        pair.wire.open.clear()
        for _ in range(100):
            await pair.says(b"PING 0123456789012345678901234567890123456789\n" * 1000)
        assert pair.link._out_size < WRITE_HIGH + 100
        pair.wire.open.set()
        await settle()
        await pair.says(b"PING x\n")
        assert pair.wire.sent.endswith(b"PONG x\n")


async def test_senders_wait_when_nothing_is_read_and_end_with_the_connection(
    pairs: Callable[[], Any],
) -> None:
    async with pairs() as pair:
        link = pair.link
        pair.wire.open.clear()
        link.send(b"SEND bob :first\n")
        await settle()
        while link.has_room:
            link.send(b"SEND bob :" + b"x" * 1000 + b"\n")
        waiting = [asyncio.ensure_future(link.room()) for _ in range(3)]
        await settle()
        assert not any(task.done() for task in waiting)
        pair.wire.open.set()
        await asyncio.gather(*waiting)
        assert link.unconfirmed
        pair.wire.open.clear()
        link.send(b"SEND bob :again\n")
        await settle()
        while link.has_room:
            link.send(b"SEND bob :" + b"x" * 1000 + b"\n")
        late = asyncio.ensure_future(link.room())
        await settle()
        assert not late.done()
        await pair.says(b"BYE :enough\n")
        await late
        assert not link.has_room


async def test_events_reach_the_client(pairs: Callable[[], Any]) -> None:
    async with pairs() as pair:
        await pair.says(b"ASKED 1 bob :?\nONLINE bob\nGAP 1 bob :since x\nJOINED #r bob\n")
        assert [type(event).__name__ for event in pair.events] == ["Asked", "Online", "Gap", "Joined"]
        await pair.says(b"")  # the end of the stream
        assert isinstance(pair.link.ended.result(), ConnectionLost)


def test_events_are_values() -> None:
    assert Pong("1") == Pong("1")
    assert len({Ping("1"), Ping("1"), Bye("x"), Fail("a", "b", "c"), Here(None, ())}) == 4
    with pytest.raises(AttributeError):
        Pong("1").token = "2"  # type: ignore[misc]


def test_the_default_relay_is_the_one_that_hailer_relay_starts() -> None:
    from hailer.relay.app import DEFAULT_ENDPOINT  # noqa: PLC0415
    from hailer.relay.client.client import DEFAULT_RELAY  # noqa: PLC0415

    default: Endpoint = DEFAULT_ENDPOINT
    assert str(default) == DEFAULT_RELAY
