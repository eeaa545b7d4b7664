"""What a client is told is so: one suite over the asyncio and the blocking client."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import (
    ConnectionClosed,
    ConnectionLost,
    DialError,
    EndpointError,
    FramingError,
    MessageError,
    Refused,
    RelayClosed,
    TimedOut,
    UsageError,
)
from hailer.relay.app import RelayServer, Settings
from hailer.relay.client.events import Gap, Joined, Left, Offline, Online
from hailer.relay.core.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.client.events import Asked
    from tests.relay.client.conftest import Client, Clients


async def test_messages_both_ways(clients: Clients, relay: RelayServer) -> None:
    where = relay.endpoints[0]
    async with clients:
        alice, bob = await clients("Alice", where), await clients("bob", where)
        await alice.send("BOB", "hello, all: of you")
        message = await bob.receive(30)
        assert (message.sender, message.to, message.payload) == ("Alice", "bob", b"hello, all: of you")
        await bob.reply(message, "grüß dich")
        assert (await alice.receive(30)).text == "grüß dich"
        payload = bytes(range(256)) * 4096  # exactly the most that a relay takes by default
        await alice.send("bob", payload)
        assert (await bob.receive(30)).payload == payload
        await alice.send("alice", "")
        assert (await alice.receive(30)).payload == b""
        assert alice.name == "Alice"
        assert alice.connected
        assert await alice.ping() < 5
        assert await alice.who() == ["Alice", "bob"]


async def test_a_room(clients: Clients, relay: RelayServer) -> None:
    where = relay.endpoints[0]
    seen: list[object] = []
    async with clients:
        alice = await clients("alice", where, on_presence=seen.append)
        bob = await clients("bob", where)
        await alice.join("#Lobby")
        await bob.join("#lobby")
        assert alice.rooms == {"#Lobby"}
        assert await bob.who("#lobby") == ["alice", "bob"]
        await bob.send("#lobby", "hi")
        message = await alice.receive(30)
        assert (message.sender, message.to, message.text) == ("bob", "#Lobby", "hi")
        await alice.reply(message, "hi bob")
        assert (await bob.receive(30)).to == "#Lobby"
        await bob.leave("#lobby")
        assert bob.rooms == set()
        with pytest.raises(Refused) as refused:
            await bob.send("#lobby", "still there?")
        assert (refused.value.code, refused.value.command) == ("not-joined", "SEND")
        with pytest.raises(Refused, match="not in that room"):
            await bob.leave("#lobby")
        assert await bob.who("#nobody") == []
        await alice.ping()
    assert seen == [Joined("#Lobby", "bob"), Left("#Lobby", "bob")]


async def test_presence(clients: Clients, relay: RelayServer, eventually: Callable[..., Any]) -> None:
    where = relay.endpoints[0]
    seen: list[object] = []
    async with clients:
        alice = await clients("alice", where, on_presence=seen.append)
        await alice.watch("bob")
        bob = await clients("bob", where)
        await clients("carl", where)
        await bob.close()
        await eventually(lambda: len(seen) == 2)
        assert seen == [Online("bob"), Offline("bob")]
        await alice.unwatch()
        await clients("bob", where)
        await alice.ping()
        assert len(seen) == 2
        with pytest.raises(Refused) as refused:
            await alice.watch(*(f"n{number}" for number in range(1001)))
        assert refused.value.code == "too-many"


async def test_refusals_fall_on_exactly_those_who_are_refused(clients: Clients, relay: RelayServer) -> None:
    where = relay.endpoints[0]
    async with clients:
        alice, bob = await clients("alice", where), await clients("bob", where)

        async def send(number: int) -> str:
            if number % 5 == 4:  # whose refusal nobody waits for: it must not fall on a neighbour
                await alice.send("nobody", "lost", confirm=False)
            try:
                await alice.send("nobody" if number % 3 == 0 else "bob", str(number))
            except Refused as refused:
                return refused.explanation
            return "taken"

        outcomes = await asyncio.gather(*(send(number) for number in range(1000)))
        assert outcomes == ["taken" if number % 3 else "nobody is not connected" for number in range(1000)]
        texts = await _collect(bob, outcomes.count("taken"))
        assert sorted(texts, key=int) == [str(number) for number in range(1000) if number % 3]
        with pytest.raises(Refused, match="200 refusals in all"):
            await alice.drain()
        await alice.drain()  # told once


async def test_order_and_drain_without_confirmation(clients: Clients, relay: RelayServer) -> None:
    where = relay.endpoints[0]
    async with clients:
        alice, bob = await clients("alice", where), await clients("bob", where)
        for number in range(500):
            await alice.send("bob", str(number), confirm=False)
        await alice.drain()
        texts = await _collect(bob, 500)
        assert texts == [str(number) for number in range(500)]


async def test_wrong_arguments_send_nothing(clients: Clients, tcp_relay: RelayServer) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        alice = await clients("alice", where, max_payload=10)
        received = tcp_relay.counters.received
        for to in ("", "b b", "#", "bob\nQUIT"):
            with pytest.raises(UsageError):
                await alice.send(to, "x")
        with pytest.raises(UsageError):
            await alice.join("lobby")
        with pytest.raises(UsageError):
            await alice.ask("#room", "x")
        with pytest.raises(MessageError):
            await alice.send("alice", b"x" * 11)
        with pytest.raises(MessageError):
            await alice.send("alice", "\ud800", confirm=False)
        await alice.ping()
        assert tcp_relay.counters.received == received
        with pytest.raises(UsageError, match="connects once"):
            await alice.connect()
        with pytest.raises(UsageError, match="not connected"):
            await clients.make("bob", where).ping()
        with pytest.raises(UsageError):
            clients.make("b b", where)
        with pytest.raises(UsageError):
            clients.make("bob", where, token="a b")
        with pytest.raises(UsageError):
            clients.make("bob", where, queue_limit=0)
        with pytest.raises(UsageError, match="plain function"):
            clients.make("bob", where, on_gap=asyncio.sleep)
        with pytest.raises(EndpointError, match="no relay can be reached at udp"):
            clients.make("bob", Endpoint.parse("udp://localhost:16273"))
        with pytest.raises(UsageError, match="is not encrypted"):
            clients.make("bob", Endpoint.parse("tcp://localhost:16273"), server_name="localhost")


async def test_receive_with_a_timeout(clients: Clients, relay: RelayServer) -> None:
    where = relay.endpoints[0]
    async with clients:
        alice = await clients("alice", where)
        with pytest.raises(TimedOut):
            await alice.receive(0.01)
        with pytest.raises(TimeoutError):
            await alice.receive_many(0.01)
        waiting = asyncio.ensure_future(alice.receive())
        await alice.send("alice", "to myself")
        assert (await waiting).text == "to myself"


async def test_logging_in_fails(clients: Clients, tcp_relay: RelayServer, scripted: Any) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        await clients("alice", where)
        with pytest.raises(Refused) as refused:
            await clients("Alice", where)
        assert refused.value.code == "taken"
        with pytest.raises(DialError, match="hailer relay"):
            await clients("bob", Endpoint("tcp", "127.0.0.1", 1))
        async with scripted(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
            with pytest.raises(FramingError, match="no hailer relay"):
                await clients("bob", server)
        async with scripted(b"BYE :full up\n") as server:
            with pytest.raises(RelayClosed, match="full up"):
                await clients("bob", server)
        async with scripted(b"") as server:
            with pytest.raises(TimedOut, match="did not let bob in"):
                await clients("bob", server, timeout=0.05)


async def test_questions_both_ways(clients: Clients, relay: RelayServer) -> None:
    where = relay.endpoints[0]

    def shout(question: Asked) -> str:
        return f"{question.sender}: {question.text.upper()}"

    async with clients:
        alice = await clients("alice", where, on_ask=lambda question: question.payload[::-1])
        bob = await clients("bob", where, on_ask=shout)
        assert await alice.ask("bob", "how?") == b"alice: HOW?"
        assert await bob.ask("alice", bytes(range(256))) == bytes(range(256))[::-1]
        answers = await asyncio.gather(*(alice.ask("bob", str(number)) for number in range(300)))
        assert answers == [f"alice: {number}".encode() for number in range(300)]
        with pytest.raises(Refused) as refused:
            await alice.ask("nobody", "are you there?")
        assert (refused.value.code, refused.value.explanation) == ("offline", "nobody is not connected")


async def test_questions_that_are_not_answered(
    clients: Clients, relay: RelayServer, caplog: pytest.LogCaptureFixture
) -> None:
    where = relay.endpoints[0]
    release = threading.Event()

    def answer(question: Asked) -> Any:
        if question.text == "raise":
            raise ValueError("a secret of mine")
        if question.text == "exit":
            raise RuntimeError
        return None if question.text == "none" else b"x" * 11

    async with clients:
        alice = await clients("alice", where)
        await clients("bob", where, on_ask=answer, max_payload=10)
        with caplog.at_level(logging.ERROR):
            reply = await alice.ask("bob", "raise")
            assert reply == b"error: the handler of this question failed (ValueError)"
            assert "a secret of mine" in caplog.text
            assert (await alice.ask("bob", "none")).startswith(b"error:")
            assert (await alice.ask("bob", "too long")).startswith(b"error:")
        assert await alice.ask("alice", "me?") == b"error: nobody answers questions here"
        try:
            if "Asyncio" in clients.kind.__name__:
                silent: Any = lambda _: asyncio.sleep(30, "late")  # noqa: E731
            else:
                silent = lambda _: str(release.wait(30))  # noqa: E731
            carl = await clients("carl", where, on_ask=silent)
            with pytest.raises(TimedOut, match="did not answer"):
                await alice.ask("carl", "hello?", timeout=0.05)
            waiting = asyncio.ensure_future(alice.ask("carl", "hello?"))
            await asyncio.sleep(0)
            await alice.ping()
            await carl.close()
            with pytest.raises(Refused) as refused:
                await waiting
            assert refused.value.code == "gone"
        finally:
            release.set()


async def test_many_questions_at_once_are_answered_in_turn_or_refused(
    clients: Clients, tcp_relay: RelayServer, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr("hailer.relay.client.answers.AT_ONCE", 2)
    monkeypatch.setattr("hailer.relay.client.answers.WAITING", 5)
    where = tcp_relay.endpoints[0]
    running = most = 0
    release = threading.Event()
    lock = threading.Lock()

    def slow(question: Asked) -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        release.wait(10)
        with lock:
            running -= 1
        return question.text

    async def slow_async(question: Asked) -> str:
        return await asyncio.to_thread(slow, question)

    async with clients:
        is_async = "Asyncio" in clients.kind.__name__
        alice = await clients("alice", where)
        await clients("bob", where, on_ask=slow_async if is_async else slow)
        asks = [asyncio.ensure_future(alice.ask("bob", str(number))) for number in range(10)]
        await eventually(lambda: sum(ask.done() for ask in asks) == 3)
        release.set()
        answers = await asyncio.gather(*asks)
        assert sum(answer.startswith(b"error: too many") for answer in answers) == 3
        assert sum(answer.isdigit() for answer in answers) == 7
        assert most == 2


async def test_it_comes_back_after_a_reset(
    clients: Clients, tcp_relay: RelayServer, wired: Any, eventually: Callable[..., Any]
) -> None:
    told: list[str] = []
    seen: list[object] = []
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        alice = await clients(
            "alice",
            wire.endpoint,
            on_connected=lambda: told.append("up"),
            on_disconnected=lambda error: told.append(type(error).__name__),
            on_presence=seen.append,
        )
        bob = await clients("bob", tcp_relay.endpoints[0])
        await alice.join("#lobby")
        await alice.join("#attic")
        await alice.leave("#attic")
        await bob.join("#lobby")
        await alice.watch("carl", "dora")
        assert told == ["up"]
        wire.abort()
        await eventually(lambda: len(told) == 3)
        assert told == ["up", "ConnectionLost", "up"]
        assert await alice.who("#lobby") == ["alice", "bob"]
        assert await alice.who("#attic") == []
        await bob.send("#lobby", "again")
        assert (await alice.receive(30)).text == "again"
        seen.clear()
        await clients("carl", tcp_relay.endpoints[0])
        await eventually(lambda: seen)
        assert seen == [Online("carl")]
        await alice.unwatch()
        wire.abort()
        await eventually(lambda: len(told) == 5)
        await clients("dora", tcp_relay.endpoints[0])
        await alice.ping()
        assert seen == [Online("carl")]


async def test_it_takes_its_half_open_session_over(
    clients: Clients, tcp_relay: RelayServer, wired: Any, eventually: Callable[..., Any]
) -> None:
    """The relay still has the dead connection when the client is back: the session id replaces it."""
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        lost: list[BaseException] = []
        alice = await clients("alice", wire.endpoint, heartbeat=0.1, on_disconnected=lost.append)
        wire.stall()
        await eventually(lambda: lost)
        assert "nothing was heard of the relay for 0.2 seconds" in str(lost[0])
        assert wire.connections == 1
        logins = tcp_relay.counters.logins
        await eventually(lambda: wire.connections > 1)
        wire.flow()
        await alice.send("alice", "I am here")
        assert (await alice.receive(30)).text == "I am here"
        assert tcp_relay.counters.logins > logins


async def test_what_was_in_flight_is_unknown_and_not_sent_again(
    clients: Clients, tcp_relay: RelayServer, wired: Any, eventually: Callable[..., Any]
) -> None:
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        alice = await clients("alice", wire.endpoint)
        bob = await clients("bob", tcp_relay.endpoints[0])
        await alice.send("bob", "before")
        wire.stall()
        sent = asyncio.ensure_future(alice.send("bob", "in flight"))
        asked = asyncio.ensure_future(alice.ask("bob", "in flight"))
        await alice.send("bob", "without word", confirm=False)
        await asyncio.sleep(0.05)
        assert not sent.done()
        wire.abort()
        wire.flow()
        with pytest.raises(ConnectionLost, match="unknown whether SEND was done"):
            await sent
        with pytest.raises(ConnectionLost):
            await asked
        await alice.send("bob", "after")
        assert (await bob.receive(30)).text == "before"
        assert (await bob.receive(30)).text == "after"
        with pytest.raises(ConnectionLost, match="without confirmation"):
            await alice.drain()
        await alice.drain()


async def test_a_storm_of_resets_doubles_nothing_and_loses_nothing_that_was_confirmed(
    clients: Clients, tcp_relay: RelayServer, wired: Any, eventually: Callable[..., Any]
) -> None:
    senders, each, resets = 10, 60, 5
    taken: set[str] = set()
    unknown: set[str] = set()
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        alice = await clients("alice", wire.endpoint, retry_delay=0.001)
        bob = await clients("bob", tcp_relay.endpoints[0])

        async def collect() -> list[str]:
            texts = []
            while (text := (await bob.receive(10)).text) != "end":
                texts.append(text)
            return texts

        async def send(sender: int) -> None:
            for number in range(each):
                text = f"{sender}.{number}"
                try:
                    await alice.send("bob", text)
                    taken.add(text)
                except ConnectionLost:
                    unknown.add(text)

        async def break_it() -> None:
            for turn in range(1, resets + 1):
                await eventually(lambda: len(taken) >= turn * senders * each // (resets + 2))  # noqa: B023
                wire.abort()

        collecting = asyncio.ensure_future(collect())
        await asyncio.gather(break_it(), *map(send, range(senders)))
        await alice.send("bob", "end")
        texts = await collecting
    assert len(taken) + len(unknown) == senders * each
    assert len(texts) == len(set(texts))
    assert taken <= set(texts) <= taken | unknown
    assert len(unknown) <= resets * senders  # those in flight, no more


async def test_methods_wait_for_the_connection_to_come_back(
    clients: Clients, tcp_relay: RelayServer, wired: Any, eventually: Callable[..., Any]
) -> None:
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        alice = await clients("alice", wire.endpoint)
        hasty = await clients("hasty", wire.endpoint, timeout=0.05)
        wire.refusing = True
        wire.abort()
        await eventually(lambda: not (alice.connected or hasty.connected))
        waiting = asyncio.ensure_future(alice.send("alice", "in time", confirm=False))
        with pytest.raises(TimedOut, match="was not there in time"):
            await hasty.send("alice", "too early")
        assert not waiting.done()
        wire.refusing = False
        await waiting
        assert (await alice.receive(30)).text == "in time"


async def test_a_name_that_somebody_else_has_taken_ends_it(
    clients: Clients, tcp_relay: RelayServer, wired: Any, eventually: Callable[..., Any]
) -> None:
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        alice = await clients("alice", wire.endpoint)
        await alice.send("alice", "still to be had")
        wire.refusing = True
        wire.abort()
        other = None
        while other is None:  # until the relay has noticed that alice is gone
            try:
                other = await clients("alice", tcp_relay.endpoints[0])
            except Refused:
                await asyncio.sleep(0.01)
        wire.refusing = False
        assert (await alice.receive(30)).text == "still to be had"
        with pytest.raises(Refused) as refused:
            await alice.receive(30)
        assert refused.value.code == "taken"
        with pytest.raises(Refused):
            await alice.send("alice", "x")
        assert await other.who() == ["alice"]


async def test_without_reconnect_the_loss_is_an_error(
    clients: Clients, tcp_relay: RelayServer, wired: Any
) -> None:
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        alice = await clients("alice", wire.endpoint, reconnect=False)
        collecting = asyncio.ensure_future(alice.collect())
        await alice.ping()
        wire.abort()
        with pytest.raises(ConnectionLost):
            await collecting
        with pytest.raises(ConnectionLost):
            await alice.ping()
        assert wire.connections == 1


async def test_bye_ends_the_iteration_after_the_messages_before_it(
    clients: Clients, tcp_relay: RelayServer
) -> None:
    async with clients:
        alice = await clients("alice", tcp_relay.endpoints[0], reconnect=False)
        for number in range(200):
            await alice.send("alice", str(number))
        tcp_relay.stop()
        assert await alice.collect() == [str(number) for number in range(200)]
        with pytest.raises(RelayClosed, match="shutting down"):
            await alice.receive(1)


async def test_a_relay_that_starts_again(
    clients: Clients, tmp_path: Any, eventually: Callable[..., Any]
) -> None:
    settings = Settings(listen=(Endpoint.parse(f"unix:{tmp_path}/r.sock"),), drain=0.5)
    told: list[object] = []
    async with clients:
        with RelayServer(settings) as first:
            alice = await clients("alice", first.endpoints[0], on_disconnected=told.append)
            await alice.join("#lobby")
        await eventually(lambda: told)
        assert isinstance(told[0], RelayClosed)
        with RelayServer(settings):
            assert await alice.who("#lobby") == ["alice"]
            await alice.close()


async def test_close_ends_everything_that_waits(clients: Clients, relay: RelayServer) -> None:
    where = relay.endpoints[0]
    async with clients:
        alice = await clients("alice", where)
        collecting = asyncio.ensure_future(alice.collect())
        receiving = asyncio.ensure_future(alice.receive())
        await alice.ping()
        await asyncio.gather(alice.close(), alice.close())
        assert await collecting == []
        with pytest.raises(ConnectionClosed):
            await receiving
        assert not alice.connected
        with pytest.raises(UsageError):
            await alice.connect()
        # The name is free at once, for close waits for the relay's word.
        await clients("alice", where)


async def test_what_was_not_received_is_forgotten_by_close(clients: Clients, relay: RelayServer) -> None:
    async with clients:
        alice = await clients("alice", relay.endpoints[0])
        for number in range(3):
            await alice.send("alice", str(number))
        assert (await alice.receive(30)).text == "0"
        await alice.close()
        with pytest.raises(ConnectionClosed):
            await alice.receive(1)
        assert await alice.collect() == []


async def test_close_while_it_connects(
    clients: Clients, tcp_relay: RelayServer, wired: Any, eventually: Callable[..., Any]
) -> None:
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        wire.stall()
        alice = clients.make("alice", wire.endpoint)
        connecting = asyncio.ensure_future(alice.connect())
        await eventually(lambda: wire.connections)
        await alice.close()
        wire.flow()
        with pytest.raises(ConnectionClosed):
            await connecting
        assert not alice.connected


async def test_close_before_connect(clients: Clients) -> None:
    async with clients:
        client = clients.make("alice", Endpoint("tcp", "127.0.0.1", 1))
        await client.close()


async def test_what_was_sent_before_close_arrives(clients: Clients, relay: RelayServer) -> None:
    where = relay.endpoints[0]
    async with clients:
        alice, bob = await clients("alice", where), await clients("bob", where)
        collecting = asyncio.ensure_future(_collect(bob, 150))
        for number in range(150):  # more than any buffer on the way holds
            await alice.send("bob", f"{number:010000}", confirm=False)
        await alice.close()
        assert [int(text[-9:]) for text in await collecting] == list(range(150))


async def test_close_when_the_relay_does_not_answer(
    clients: Clients, tcp_relay: RelayServer, wired: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hailer.relay.client.client._PARTING", 0.05)
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        alice = await clients("alice", wire.endpoint)
        wire.stall()
        pinging = asyncio.ensure_future(alice.ping())
        await asyncio.sleep(0.01)
        await alice.close()
        with pytest.raises((ConnectionLost, ConnectionClosed)):
            await pinging


async def test_close_while_it_connects_again(
    clients: Clients, tcp_relay: RelayServer, wired: Any, eventually: Callable[..., Any]
) -> None:
    async with clients, wired(tcp_relay.endpoints[0]) as wire:
        alice = await clients("alice", wire.endpoint)
        wire.stall()
        wire.abort()
        await eventually(lambda: wire.connections == 2)  # it waits for WELCOME
        sending = asyncio.ensure_future(alice.send("alice", "x"))
        await asyncio.sleep(0.01)
        await alice.close()
        with pytest.raises(ConnectionClosed):
            await sending


async def test_a_slow_application_is_a_slow_receiver_and_is_told_of_gaps(
    clients: Clients, tcp_relay: RelayServer, eventually: Callable[..., Any]
) -> None:
    where = tcp_relay.endpoints[0]
    gaps: list[Gap] = []
    payload = b"x" * 1000
    async with clients:
        alice = await clients("alice", where)
        bob = await clients("bob", where, queue_limit=10, on_gap=gaps.append)
        sent = 0
        refused: list[str] = []
        while not tcp_relay.counters.dropped:  # until the relay has no room for bob any more
            try:
                await alice.send("bob", payload)
                sent += 1
            except Refused as error:
                refused.append(error.code)
        taken = 0
        while taken < sent or not gaps:
            if taken < sent:
                taken += len(await bob.receive_many(5))
            else:
                await bob.ping()
        assert taken == sent
        assert sum(gap.count for gap in gaps) == len(refused)
        assert set(refused) == {"slow"}
        assert gaps[0].source == "alice"
        with pytest.raises(TimedOut):
            await bob.receive(0.05)


async def test_asking_while_messages_wait_unread(clients: Clients, tcp_relay: RelayServer) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        alice = await clients("alice", where, on_ask=lambda _: "yes")
        bob = await clients("bob", where, queue_limit=100)
        for number in range(250):
            await alice.send("bob", str(number))
        # the answer stands behind more messages than the queue holds
        assert await bob.ask("alice", "may I?") == b"yes"
        assert await bob.who() == ["alice", "bob"]
        texts = await _collect(bob, 250)
        assert texts == [str(number) for number in range(250)]


async def test_waiting_behind_too_many_unread_messages_is_an_error_and_not_for_ever(
    clients: Clients, relay: RelayServer
) -> None:
    where = relay.endpoints[0]
    async with clients:
        alice = await clients("alice", where)
        bob = await clients("bob", where, queue_limit=10)
        total = 200  # more bytes than one read gives, so that the answer cannot come with the first
        for number in range(total):
            await alice.send("bob", f"{number:01000}")
        with pytest.raises(UsageError, match="receive them"):
            await bob.ping()
        texts = await _collect(bob, total)
        assert [int(text) for text in texts] == list(range(total))
        assert await bob.ping() < 5


async def test_a_client_that_does_not_read_is_not_taken_for_dead(
    clients: Clients, tcp_relay: RelayServer, eventually: Callable[..., Any]
) -> None:
    where = tcp_relay.endpoints[0]
    async with clients:
        alice = await clients("alice", where)
        bob = await clients("bob", where, queue_limit=1, heartbeat=0.02)
        for _ in range(50):
            await alice.send("bob", "x")
        [session] = [session for session in _sessions(tcp_relay) if session.name == b"bob"]
        first = session.heard
        await eventually(lambda: session.heard > first + 0.1)
        assert bob.connected


async def _collect(client: Client, count: int) -> list[str]:
    texts: list[str] = []
    while len(texts) < count:
        texts += [message.text for message in await client.receive_many(5)]
    return texts


def _sessions(relay: RelayServer) -> list[Any]:
    return list(relay._edge.relay.directory.sessions.values())


async def test_heartbeats_keep_a_silent_connection(
    clients: Clients, tcp_relay: RelayServer, eventually: Callable[..., Any]
) -> None:
    lost: list[object] = []
    async with clients:
        alice = await clients("alice", tcp_relay.endpoints[0], heartbeat=0.02, on_disconnected=lost.append)
        [session] = _sessions(tcp_relay)
        first = session.heard
        await eventually(lambda: session.heard > first + 0.1)
        assert not lost
        assert alice.connected


async def test_it_answers_pings(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., Any]
) -> None:
    monkeypatch.setattr("hailer.relay.core.relay._SCAN", 0.02)
    settings = Settings(listen=(Endpoint.parse("tcp4://127.0.0.1:0"),), limits=Limits(idle_seconds=0.1))
    with RelayServer(settings) as relay:
        async with clients:
            alice = await clients("alice", relay.endpoints[0], heartbeat=None)
            [session] = _sessions(relay)
            first = session.heard
            await eventually(lambda: session.heard > first + 0.3)  # more than the relay endures
            assert alice.connected


async def test_errors_in_callbacks_are_logged_and_change_nothing(
    clients: Clients, relay: RelayServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("in the callback")

    async with clients:
        with caplog.at_level(logging.ERROR):
            alice = await clients("alice", relay.endpoints[0], on_connected=fail)
        assert "in the callback" in caplog.text
        await alice.ping()


async def test_a_cancelled_receive_loses_nothing(clients: Clients, relay: RelayServer) -> None:
    async with clients:
        alice = await clients("alice", relay.endpoints[0])
        texts: list[str] = []

        async def receive() -> None:
            while len(texts) < 100:
                try:
                    texts.append((await alice.receive(0.001)).text)
                except TimedOut:
                    pass

        receiving = asyncio.ensure_future(receive())
        for number in range(100):
            await alice.send("alice", str(number))
        await receiving
        assert texts == [str(number) for number in range(100)]


async def test_garbage_after_the_login_ends_it(clients: Clients, scripted: Any) -> None:
    said = b"RELAY x :hi\nWELCOME alice session=s\nMSG bob alice :one\n\xff\xfe\nMSG bob alice :two\n"
    async with clients, scripted(said) as server:
        alice = await clients("alice", server)
        assert (await alice.receive(30)).text == "one"
        with pytest.raises(FramingError):
            await alice.receive(30)
        with pytest.raises(FramingError):
            await alice.ping()


async def test_a_replaced_client_does_not_come_back(clients: Clients, scripted: Any) -> None:
    said = b"RELAY x :hi\nWELCOME alice session=s\nMSG bob alice :last\nBYE :replaced\n"
    lost: list[object] = []
    async with clients, scripted(said) as server:
        alice = await clients("alice", server, on_disconnected=lost.append)
        assert await alice.collect() == ["last"]
        with pytest.raises(RelayClosed, match="replaced"):
            await alice.receive(1)
        assert len(lost) == 1
