"""Durable mail of both clients, against a real relay, over connections that break."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import ConnectionLost, MessageError, Refused, StoreError, TimedOut, UsageError
from hailer.relay import app
from hailer.relay.app import RelayServer, Settings
from hailer.relay.core.limits import Limits
from hailer.relay.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hailer.relay.client.events import Expired, Gap, RefusedPost
    from hailer.relay.core.batch import Batch, Loaded
    from tests.relay.client.conftest import Client, Clients


async def met(clients: Clients, where: Endpoint, *names: str) -> None:
    """Have these names known to the relay."""
    for name in names:
        client = await clients(name, where)
        await client.close()


async def test_mail_waits_for_who_is_away(tcp_relay: RelayServer, clients: Clients) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        await met(clients, where, "bob")
        ann = await clients("ann", where)
        await ann.post("bob", "one")
        await ann.post("bob", b"\xff\n\x00")
        bob = await clients("bob", where)
        messages = [await bob.receive(30) for _ in range(2)]
        await ann.send("bob", "live")
        messages.append(await bob.receive(30))
        assert [(m.sender, m.to, m.payload) for m in messages] == [
            ("ann", "bob", b"one"),
            ("ann", "bob", b"\xff\n\x00"),
            ("ann", "bob", b"live"),
        ]
        first, second, live = (message.number for message in messages)
        assert first is not None
        assert (second, live) == (first + 1, None)
        await bob.acknowledge(messages[0])
        await bob.acknowledge(messages[2])  # nothing, for a live one
        await bob.close()
        again = await clients("bob", where)
        assert (await again.receive(30)).number == second
        await again.ack(second or 0)
        await again.close()
        last = await clients("bob", where)
        await ann.send("bob", "that is all")
        assert (await last.receive(30)).text == "that is all"


async def test_many_posts_at_once_keep_their_order(tcp_relay: RelayServer, clients: Clients) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        ann = await clients("ann", where, post_limit=20)
        for number in range(300):
            await ann.post("ann", str(number), confirm=False)
        await ann.drain()
        assert ann.posts_waiting == 0
        got: list[str] = []
        while len(got) < 300:
            got += [message.text for message in await ann.receive_many(5)]
        assert got == [str(number) for number in range(300)]


async def test_mail_to_a_room(tcp_relay: RelayServer, clients: Clients) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        ann, bob = await clients("ann", where), await clients("bob", where)
        await bob.join("#tea")
        with pytest.raises(Refused) as refused:
            await ann.post("#tea", "hello")
        assert (refused.value.code, refused.value.command) == ("not-joined", "POST")
        await ann.join("#tea")
        await bob.close()
        await ann.post("#tea", "hello")
        bob = await clients("bob", where)
        message = await bob.receive(30)
        assert (message.to, message.text) == ("#tea", "hello")
        assert message.number


async def test_what_cannot_be_posted(tcp_relay: RelayServer, clients: Clients) -> None:
    where = tcp_relay.endpoints[0]
    refused: list[RefusedPost] = []
    async with clients:
        ann = await clients("ann", where, on_refused=refused.append)
        with pytest.raises(Refused, match="nobody") as error:
            await ann.post("nobody", "x")
        assert error.value.code == "unknown"
        with pytest.raises(UsageError):
            await ann.post("two words", "x")
        with pytest.raises(MessageError):
            await ann.post("ann", "\ud800")
        with pytest.raises(UsageError, match="has not come"):
            await ann.ack(10**15)
        await ann.post("nobody", "x", confirm=False)
        await ann.post("ann", "y", confirm=False)
        with pytest.raises(Refused, match="nobody"):
            await ann.drain()
        assert [(post.to, post.payload, post.code) for post in refused] == [("nobody", b"x", "unknown")]
        assert (await ann.receive(30)).text == "y"
        await ann.drain()
        unconnected = clients.make("bob", where)
        with pytest.raises(UsageError):
            await unconnected.post("ann", "x")
        with pytest.raises(UsageError):
            await unconnected.ack(1)


async def test_a_full_mailbox_refuses_and_takes_again(clients: Clients) -> None:
    settings = Settings(
        listen=(Endpoint.parse("tcp4://127.0.0.1:0"),), limits=Limits(mail_entries=5), drain=0.5
    )
    with RelayServer(settings) as relay:
        where = relay.endpoints[0]
        async with clients:
            await met(clients, where, "bob")
            ann = await clients("ann", where)
            outcomes = await asyncio.gather(
                *(ann.post("bob", str(number)) for number in range(12)), return_exceptions=True
            )
            codes = [getattr(outcome, "code", None) for outcome in outcomes]
            assert sorted(codes, key=str) == [None] * 5 + ["quota"] * 7
            bob = await clients("bob", where)
            for _ in range(5):
                message = await bob.receive(30)
                await bob.ack(message.number or 0)
            await bob.drain()  # the relay has heard of it
            await ann.post("bob", "there is room")
            assert (await bob.receive(30)).text == "there is room"


async def test_acks_out_of_order_leave_earlier_mail_alone(tcp_relay: RelayServer, clients: Clients) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        await met(clients, where, "bob")
        ann = await clients("ann", where)
        for number in range(5):
            await ann.post("bob", str(number))
        bob = await clients("bob", where)
        numbers = [(await bob.receive(30)).number or 0 for _ in range(5)]
        for index in (1, 0, 4, 3):
            await bob.ack(numbers[index])
        await bob.close()
        bob = await clients("bob", where)
        assert [(await bob.receive(30)).text for _ in range(3)] == ["2", "3", "4"]


async def test_mail_does_not_come_twice_to_one_client(
    tcp_relay: RelayServer, clients: Clients, wired: Callable[[Endpoint], Any], eventually: Callable[..., Any]
) -> None:
    where = tcp_relay.endpoints[0]
    async with clients, wired(where) as wire:
        ann = await clients("ann", where)
        bob = await clients("bob", wire.endpoint)
        for number in range(3):
            await ann.post("bob", str(number))
        got = [await bob.receive(30) for _ in range(2)]
        wire.abort()
        await eventually(lambda: wire.connections == 2 and bob.connected)
        await ann.post("bob", "3")
        got += [await bob.receive(30) for _ in range(2)]
        assert [message.text for message in got] == ["0", "1", "2", "3"]
        # acknowledged on a connection on which it did not come
        for message in got:
            await bob.ack(message.number or 0)
        await bob.close()
        bob = await clients("bob", where)
        await ann.send("bob", "nothing is left")
        assert (await bob.receive(30)).text == "nothing is left"


async def test_a_cursor_hides_what_was_dealt_with_and_acknowledges_it(
    tcp_relay: RelayServer, clients: Clients
) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        await met(clients, where, "bob")
        ann = await clients("ann", where)
        for number in range(4):
            await ann.post("bob", str(number))
        bob = await clients("bob", where)
        second = [await bob.receive(30) for _ in range(2)][1].number or 0
        await bob.close()  # it dealt with two and died before it could say so
        bob = await clients("bob", where, cursor=second)
        assert (await bob.receive(30)).text == "2"
        await bob.close()
        bob = await clients("bob", where)
        assert (await bob.receive(30)).text == "2"  # so the relay knows


async def test_a_receiver_that_is_slow_loses_no_mail(tcp_relay: RelayServer, clients: Clients) -> None:
    where = tcp_relay.endpoints[0]
    gaps: list[Gap] = []
    async with clients:
        ann = await clients("ann", where)
        bob = await clients("bob", where, queue_limit=10, on_gap=gaps.append)
        for number in range(2000):
            await ann.post("bob", f"{number} " + "x" * 1000, confirm=False)
        await ann.drain()
        got: list[int] = []
        while len(got) < 2000:
            got += [int(message.text.split()[0]) for message in await bob.receive_many(5)]
            await asyncio.sleep(0)
        assert got == list(range(2000))
        assert not gaps


async def test_posting_while_messages_wait_to_be_received(tcp_relay: RelayServer, clients: Clients) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        ann = await clients("ann", where, queue_limit=10)
        for number in range(30):
            await ann.post("ann", str(number))  # STORED stands behind the mail that nobody receives
        got = [await ann.receive(30) for _ in range(30)]
        assert [message.text for message in got] == [str(number) for number in range(30)]

        async def post_on() -> None:
            for number in range(1000):
                await ann.post("ann", str(number))

        with pytest.raises(UsageError, match="behind too many messages"):
            await post_on()


async def test_lines_cut_anywhere_are_stored_once_and_come_once(
    tcp_relay: RelayServer, clients: Clients
) -> None:
    """Both ends lose their connections at any byte, again and again; a ledger outside says what came."""
    chance = random.Random(7)
    where = tcp_relay.endpoints[0]
    count = 600
    async with clients, Cutting(where, chance) as cutting:
        bob = await clients("bob", cutting.endpoint, reconnect=True)
        ann = await clients("ann", cutting.endpoint, reconnect=True, on_refused=lambda _: None)
        cutting.cuts = 40

        async def post() -> None:
            for number in range(count):
                await ann.post("bob", f"{number} {'x' * 50}", confirm=number % 20 == 0)
            await ann.drain()

        posting = asyncio.ensure_future(post())
        came: list[int] = []
        while len(came) < count:
            for message in await bob.receive_many(15):
                came.append(int(message.text.split()[0]))
                await bob.ack(message.number or 0)
        await posting
        assert came == list(range(count))
        assert cutting.done >= 20
        await bob.drain()
        await bob.close()
        last = await clients("bob", where)
        await last.send("bob", "end")
        assert (await last.receive(30)).text == "end"


class Cutting:
    """Between clients and a relay: carries a random number of bytes of each connection, then resets it."""

    def __init__(self, target: Endpoint, chance: random.Random) -> None:
        self._target = target
        self._chance = chance
        self.cuts = 0  # that are still to be made
        self.done = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.endpoint: Endpoint

    async def __aenter__(self) -> Cutting:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.endpoint = Endpoint("tcp", "127.0.0.1", self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        near = None
        try:
            assert isinstance(self._target.port, int)
            far, near = await asyncio.open_connection(self._target.host, self._target.port)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, near))
                both.create_task(self._carry(far, writer))
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, near):
                if each is not None:
                    each.transport.abort()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        carried, most = 0, self._chance.randrange(200, 6000)
        while data := await reader.read(self._chance.choice((1, 7, 1000))):
            carried += len(data)
            if carried >= most and self.cuts > 0:
                self.cuts -= 1
                self.done += 1
                raise ConnectionError
            writer.write(data)
            await writer.drain()
        raise ConnectionError


async def test_a_post_that_is_not_stored_in_time(
    tcp_relay: RelayServer, clients: Clients, wired: Callable[[Endpoint], Any], eventually: Callable[..., Any]
) -> None:
    where = tcp_relay.endpoints[0]
    async with clients, wired(where) as wire:
        ann = await clients("ann", wire.endpoint, timeout=0.3, heartbeat=None)
        wire.stall()
        with pytest.raises(TimedOut, match="goes on being tried"):
            await ann.post("ann", "late")
        wire.flow()
        assert (await ann.receive(30)).text == "late"
        wire.refusing = True
        wire.abort()
        await eventually(lambda: not ann.connected)
        with pytest.raises(TimedOut, match="was not sent in time"):
            await ann.post("ann", "never")
        assert ann.posts_waiting == 0


async def test_a_client_that_does_not_connect_again_says_what_is_known(
    tcp_relay: RelayServer, clients: Clients, wired: Callable[[Endpoint], Any]
) -> None:
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        ann = await clients("ann", wire.endpoint, reconnect=False, heartbeat=None)
        wire.stall()
        posting = asyncio.ensure_future(ann.post("ann", "x"))
        await asyncio.sleep(0.1)
        wire.abort()
        with pytest.raises(ConnectionLost, match="unknown whether the post was stored"):
            await posting
        with pytest.raises(ConnectionLost):
            await ann.post("ann", "y")


async def test_a_payload_that_the_relay_does_not_take_is_refused_alone(clients: Clients) -> None:
    settings = Settings(
        listen=(Endpoint.parse("tcp4://127.0.0.1:0"),), limits=Limits(payload=1000), drain=0.5
    )
    with RelayServer(settings) as relay:
        async with clients:
            ann = await clients("ann", relay.endpoints[0])
            outcomes = await asyncio.gather(
                *(ann.post("ann", bytes(size)) for size in (10, 1000, 1001, 20, 5000, 30)),
                return_exceptions=True,
            )
            assert [getattr(outcome, "code", None) for outcome in outcomes] == [
                None, None, "too-long", None, "too-long", None,
            ]  # fmt: skip
            got = [len((await ann.receive(30)).payload) for _ in range(4)]
            assert got == [10, 1000, 20, 30]


async def test_the_relay_restarts(tmp_path: Path, clients: Clients) -> None:
    listen = Endpoint.parse(f"unix:{tmp_path}/relay.sock")
    settings = Settings(listen=(listen,), store=str(tmp_path / "mail.db"), drain=0.5)
    async with clients:
        with RelayServer(settings):
            ann, bob = await clients("ann", listen), await clients("bob", listen)
            await ann.post("bob", "before")
            assert (await bob.receive(30)).text == "before"
        meanwhile = asyncio.ensure_future(ann.post("bob", "meanwhile"))
        with RelayServer(settings):
            await meanwhile
            message = await bob.receive(10)
            assert message.text == "meanwhile"
            await bob.ack(message.number or 0)  # "before" was never acknowledged
            await bob.drain()
            await bob.close()
            again = await clients("bob", listen)
            assert [(await again.receive(30)).text for _ in range(2)] == ["before", "meanwhile"]


async def test_an_outbox_is_emptied_by_the_next_client(
    tmp_path: Path, clients: Clients, eventually: Callable[..., Any]
) -> None:
    listen, box = Endpoint.parse(f"unix:{tmp_path}/relay.sock"), tmp_path / "box"
    settings = Settings(listen=(listen,), store=str(tmp_path / "mail.db"), drain=0.5)
    async with clients:
        with RelayServer(settings):
            await met(clients, listen, "bob")
            ann = await clients("ann", listen, outbox=box)
            await ann.post("bob", "stored")
        await eventually(lambda: not ann.connected)
        await ann.post("bob", "kept", confirm=False)
        waiting = asyncio.ensure_future(ann.post("bob", "kept too"))
        await eventually(lambda: ann.posts_waiting == 2)
        await ann.close()
        with pytest.raises(ConnectionLost, match="stays in the outbox"):
            await waiting
        with RelayServer(settings):
            ann = await clients("ann", listen, outbox=str(box))
            await ann.drain()
            bob = await clients("bob", listen)
            assert [(await bob.receive(30)).text for _ in range(3)] == ["stored", "kept", "kept too"]


async def who(client: Client) -> list[str]:
    """Who is here; a listing that was lost with its connection is asked for again."""
    while True:
        try:
            return await client.who()
        except ConnectionLost:
            pass


async def test_new_mail_comes_though_the_relay_has_lost_its_store(tmp_path: Path, clients: Clients) -> None:
    listen = Endpoint.parse(f"unix:{tmp_path}/relay.sock")
    settings = Settings(listen=(listen,), store="memory", drain=0.5)
    async with clients:
        with RelayServer(settings):
            ann, bob = await clients("ann", listen), await clients("bob", listen)
            for number in range(5):
                await ann.post("bob", f"early {number}")
            messages = [await bob.receive(30) for _ in range(5)]
            cursor = messages[-1].cursor or ""
            await bob.ack(messages[-1].number or 0)
        with RelayServer(settings):
            while "bob" not in await who(ann):
                pass
            await ann.post("bob", "late")
            assert (await bob.receive(30)).text == "late"
            await bob.close()
            again = await clients("bob", listen, cursor=cursor)
            assert (await again.receive(30)).text == "late"


class FailingStore(MemoryStore):
    """Fails as a disk does: while it is full, once after it has stored all the same."""

    full = False

    def commit(self, batch: Batch) -> dict[int, int]:
        if not self.full:
            return super().commit(batch)
        if batch.segments:
            super().commit(batch)
        raise StoreError("the disk is full")

    def recover(self) -> Loaded:
        if self.full:
            raise StoreError("the disk is still full")
        return super().recover()


async def test_a_relay_whose_disk_is_full_stores_it_later(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = FailingStore()
    monkeypatch.setattr(app, "MemoryStore", lambda: store)
    with RelayServer(Settings(listen=(Endpoint.parse("tcp4://127.0.0.1:0"),), drain=0.5)) as relay:
        async with clients:
            where = relay.endpoints[0]
            ann = await clients("ann", where, timeout=0.3)
            await ann.post("ann", "0")
            store.full = True
            with pytest.raises(TimedOut, match="cannot store mail at the moment"):
                await ann.post("ann", "1")
            await ann.post("ann", "2", confirm=False)
            await ann.send("ann", "live")  # this goes on
            store.full = False
            bob = await clients("bob", where, timeout=10)
            await bob.post("ann", "of bob")  # and others' posts are stored when it works again
            got: list[str] = []
            while "2" not in got:
                got.append((await ann.receive(10)).text)
            assert [text for text in got if text.isdigit()] == ["0", "1", "2"]
            await ann.drain()
    assert "posts are tried again each second: the relay cannot store mail" in caplog.text


async def test_notices_of_what_expired(clients: Clients, scripted: Callable[[bytes], Any]) -> None:
    said = (
        b"RELAY test :hello\nWELCOME ann session=s stored=0 mail=2 relay=test\n"
        b"EXPIRED 5 bob 3 :since 2026-11-21T09:00:00Z\nMAIL 6 eve ann :hi\n"
    )
    expired: list[Expired] = []
    async with clients, scripted(said) as where:
        ann = clients.make("ann", where, on_expired=expired.append, timeout=0.2)
        await ann.connect()
        assert (await ann.receive(30)).number == 6
        assert [(e.number, e.to, e.count, e.since) for e in expired] == [
            (5, "bob", 3, "2026-11-21T09:00:00Z")
        ]
