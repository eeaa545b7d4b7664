"""The worker's process, in this one: what it does by its own clocks, and with what can hardly happen."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from hailer.net.options import Unanswered
from hailer.relay.edge import channel as c
from hailer.relay.edge import worker as module
from hailer.relay.edge.worker import SCHEME, Worker
from tests.relay.edge.test_channel import take_all

if TYPE_CHECKING:
    from collections.abc import Iterator


class Party:
    """A worker, the relay's side of it, and one client."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        def pair() -> tuple[socket.socket, socket.socket]:
            one, other = socket.socketpair()
            return stack.enter_context(one), stack.enter_context(other)

        ours, theirs = pair()
        self.handover, other = pair()
        self.client, sock = pair()
        self.client.settimeout(10)
        self.channel = c.Channel(ours, 1 << 16)
        self.worker = Worker(theirs, other, 1000)
        stack.callback(self.worker._poller.close)
        socket.send_fds(self.handover, [b"tcp".ljust(SCHEME)], [sock.fileno()])
        sock.close()
        self.channel.put(7, c.ADOPT)
        self.channel.put(7, c.READ)
        self.turn()
        stack.callback(self._end)

    def _end(self) -> None:
        for one in self.worker._clients.values():
            one.sock.close()

    def turn(self) -> list[tuple[int, int | bytes]]:
        """Send what there is, have one round, give the news."""
        self.channel.flush()
        self.worker._round()
        return take_all(self.channel)


@pytest.fixture
def party() -> Iterator[Party]:
    with contextlib.ExitStack() as stack:
        yield Party(stack)


def test_there_and_back(party: Party) -> None:
    party.client.sendall(b"HELLO ann\n")
    assert party.turn() == [(7, b"HELLO ann\n")]
    party.channel.put_bytes(7, b"one ")
    party.channel.put(7, c.SAME)
    party.channel.put_bytes(7, b"two")
    party.channel.put(7, c.FINISH)
    assert party.turn() == []
    assert party.client.recv(100) + party.client.recv(100) == b"one one two"
    party.client.shutdown(socket.SHUT_WR)
    assert party.turn() == [(7, c.ENDED), (0, b"")]
    party.channel.put(7, c.CLOSE)
    party.turn()
    assert not party.worker._clients


def test_what_is_taken_is_told_now_and_then_and_what_is_not_at_once(party: Party) -> None:
    party.channel.put_bytes(7, b"x" * 999)
    assert party.turn() == []
    party.channel.put_bytes(7, b"x")
    assert party.turn() == [(7, c.TOOK), (1000, b"")]
    party.channel.put_bytes(7, b"y" * 5_000_000)
    news: list[tuple[int, int | bytes]] = []
    while not news:
        news = party.turn()
    assert news[0] == (7, c.BLOCKED)
    place = news[1][0]
    assert 1000 < place < 5_001_000
    party.channel.put_bytes(7, b"z")  # it was on its way when the socket was full
    got = 0
    last = place
    while (7, c.DRAINED) not in news:
        got += len(party.client.recv(1 << 20))
        news = party.turn()
        for (_, what), (number, _) in zip(news[::2], news[1::2], strict=True):
            assert what in (c.TOOK, c.DRAINED)
            assert number > last
            last = number
    assert last == 5_001_001
    while got < 5_001_001:
        data = party.client.recv(1 << 20)
        got += len(data)
    assert data.endswith(b"yz")


def test_a_peer_that_does_not_acknowledge(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(module, "unanswered", lambda _: Unanswered(1, 70.0))
    monkeypatch.setattr(time, "monotonic", lambda: now)
    party.client.sendall(b"x")
    party.turn()
    party.worker._look_round()  # it was heard since the last look
    party.worker._look_round()
    assert take_news(party) == []
    now += 61
    party.worker._look_round()
    news = take_news(party)
    assert news[0] == (7, c.LOST)
    assert news[1][0] == c.MUTE
    assert not party.worker._clients


def take_news(party: Party) -> list[tuple[int, int | bytes]]:
    """What the worker has to say without another round, which could wait."""
    party.worker._channel.flush()
    return take_all(party.channel)


def test_a_fault_costs_one_connection(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(party.worker, "_pass_on", fail)
    party.client.sendall(b"x")
    assert party.turn() == [(7, c.LOST), (c.FAULT, b"ZeroDivisionError()")]
    assert party.client.recv(1) == b""


def test_layers_without_a_certificate_cost_one_connection(party: Party) -> None:
    """What should not be: the relay's process has one that this process could not use."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as dialled,
        server.accept()[0] as accepted,
    ):
        socket.send_fds(party.handover, [b"tls".ljust(SCHEME)], [accepted.fileno()])
        accepted.close()
        party.channel.put(8, c.ADOPT)
        party.channel.put(8, c.READ)
        news = party.turn()
        if not news:
            dialled.sendall(b"x")
            news = party.turn()
        assert news[0] == (8, c.LOST)
        assert news[1][0] == c.FAULT
        dialled.settimeout(10)
        assert dialled.recv(1) == b""
    party.client.sendall(b"still here")
    assert party.turn() == [(7, b"still here")]


def test_words_for_who_is_gone_are_for_nobody(party: Party) -> None:
    party.channel.put(7, c.CLOSE)
    party.channel.put_bytes(7, b"late")
    party.channel.put(7, c.SAME)
    party.channel.put(7, c.FINISH)
    party.channel.put_with(7, c.ROUTES, 0, b"SEND bob \nMSG ann bob :")
    party.channel.put(0, c.ASK)
    assert party.turn() == [(0, c.UP), (0, b"")]
    assert party.client.recv(1) == b""


def test_last_words_when_the_relays_process_ends(party: Party) -> None:
    party.channel.put_bytes(7, b"y" * 5_000_000)
    party.channel.put(7, c.END)
    while not party.turn():
        pass
    party.channel.sock.close()
    with pytest.raises(EOFError):
        party.worker._round()
    got = 0
    party.client.setblocking(False)

    def read_some(*_: object) -> None:
        nonlocal got
        with contextlib.suppress(BlockingIOError):
            got += len(party.client.recv(1 << 20))

    poll = party.worker._poller.poll
    party.worker._poller.poll = lambda seconds=0: (read_some(), poll(0))[1]  # type: ignore[method-assign,func-returns-value]
    party.worker._last_words()
    read_some()
    read_some()
    assert got == 5_000_000
    assert not party.worker._clients
