from __future__ import annotations

import asyncio
import random
import select
import socket
import sys
import threading
import time
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from hailer.endpoint import Endpoint
from hailer.errors import (
    ConnectionClosed,
    ConnectionLost,
    FramingError,
    MessageError,
    MessageTooLong,
    TimedOut,
)
from hailer.net import datagrams
from hailer.net.datagrams import DatagramListener
from hailer.net.dial import dial
from hailer.net.listen import listen
from hailer.runtime import records
from hailer.runtime.blocking import run_to_end
from hailer.runtime.records import SocketRecords
from hailer.runtime.waiting import AioWaiter, PollWaiter
from hailer.testing.records import check_blocking_record_transport, check_record_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hailer.net.listener import Accepted

    Sockets = tuple[socket.socket, socket.socket]

KINDS = ["unix+seqpacket", "unix+dgram", "udp", "udp6"]


def soon(seconds: float = 5) -> float:
    return time.monotonic() + seconds


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Peers:
    """Makes pairs of connected record sockets of one kind, and conversations."""

    def __init__(self, scheme: str, directory: Path, stack: ExitStack) -> None:
        self.scheme = scheme
        self._directory = directory
        self._stack = stack
        self._made = 0
        self._listener: DatagramListener | None = None
        self._accepted: SimpleQueue[Accepted] = SimpleQueue()

    def _path(self) -> str:
        self._made += 1
        return str(self._directory / str(self._made))

    def pair(self) -> Sockets:
        """Two sockets that are connected with each other."""
        if self.scheme == "unix+seqpacket":
            (listener,) = listen(Endpoint(self.scheme, path=self._path()))
            with listener:
                client = dial(listener.endpoint, timeout=5)
                return client, listener.accept().socket
        family = {"udp": socket.AF_INET, "udp6": socket.AF_INET6}.get(self.scheme, socket.AF_UNIX)
        one, other = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        for sock in (one, other):
            sock.bind(
                self._path()
                if family == socket.AF_UNIX
                else ("127.0.0.1" if family == socket.AF_INET else "::1", 0)
            )
        one.connect(other.getsockname())
        other.connect(one.getsockname())
        return one, other

    def listen(self) -> DatagramListener:
        """The listener of the conversations; from now on a thread lets it work."""
        if self._listener is not None:
            return self._listener
        where = {"udp": "udp://127.0.0.1:0", "udp6": "udp6://[::1]:0"}.get(self.scheme)
        (listener,) = listen(Endpoint.parse(where or f"{self.scheme}:{self._path()}"))
        assert isinstance(listener, DatagramListener)
        self._listener = self._stack.enter_context(listener)
        wake, stop = socket.socketpair()

        def work() -> None:
            while wake.fileno() not in select.select([listener.fileno(), wake.fileno()], [], [])[0]:
                try:
                    self._accepted.put(listener.accept())
                except BlockingIOError:
                    pass

        thread = threading.Thread(target=work)
        thread.start()
        for done in (wake.close, thread.join, stop.close):
            self._stack.callback(done)
        return listener

    def accept(self) -> Accepted:
        """The next conversation."""
        return self._accepted.get(timeout=5)

    def conversation(self) -> tuple[socket.socket, Accepted]:
        """A client's socket, and what its first datagram began; that one is not in it any more."""
        client = dial(self.listen().endpoint, timeout=5)
        client.send(b"begin")
        accepted = self.accept()
        assert accepted.socket.recv(100) == b"\0begin"
        return client, accepted

    def ended(self) -> bool:
        """Whether the listener lets go of its only conversation."""
        assert self._listener is not None
        until = soon()
        while self._listener._table and time.monotonic() < until:
            time.sleep(0.001)
        return not self._listener._table


@pytest.fixture
def peers(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> Peers:
    return Peers(request.param, tmp_path, stack)


every_kind = pytest.mark.parametrize("peers", KINDS, indirect=True)
datagram_kinds = pytest.mark.parametrize("peers", KINDS[1:], indirect=True)
seqpacket = pytest.mark.parametrize("peers", ["unix+seqpacket"], indirect=True)
udp = pytest.mark.parametrize("peers", ["udp"], indirect=True)


def blocking(sock: socket.socket, scheme: str, **options: Any) -> SocketRecords:
    return SocketRecords(sock, scheme, PollWaiter(sock), **options)


def blocking_pair(peers: Peers) -> tuple[SocketRecords, SocketRecords]:
    one, other = peers.pair()
    return blocking(one, peers.scheme), blocking(other, peers.scheme)


def pull(transport: SocketRecords, limit: int = 1 << 20, seconds: float = 5) -> list[bytes | FramingError]:
    return run_to_end(transport.pull_records(limit, soon(seconds)))


def push(transport: SocketRecords, *data: bytes, seconds: float = 5) -> None:
    run_to_end(transport.push_records(data, soon(seconds)))


def promises(peers: Peers, *, conversation: bool = False) -> dict[str, Any]:
    """What the kinds can and cannot do."""
    return {
        "ends": peers.scheme == "unix+seqpacket",
        "reliable": peers.scheme.startswith("unix") and not conversation,
        "largest": 60_000 if peers.scheme.startswith("unix") else 65_507,
    }


# Every promise, under each way to wait.


@every_kind
def test_blocking(peers: Peers) -> None:
    check_blocking_record_transport(lambda: blocking_pair(peers), **promises(peers))


@every_kind
@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_asyncio(peers: Peers, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def make() -> tuple[SocketRecords, SocketRecords]:
        one, other = peers.pair()
        return SocketRecords(one, peers.scheme, AioWaiter(one)), SocketRecords(
            other, peers.scheme, AioWaiter(other)
        )

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(check_record_transport(make, **promises(peers)))


@datagram_kinds
@pytest.mark.parametrize("server_first", [False, True])
def test_blocking_conversations(peers: Peers, server_first: bool) -> None:
    def make() -> tuple[SocketRecords, SocketRecords]:
        client, accepted = peers.conversation()
        pair = blocking(client, peers.scheme), SocketRecords.of(accepted, PollWaiter(accepted.socket))
        return (pair[1], pair[0]) if server_first else pair

    check_blocking_record_transport(make, **promises(peers, conversation=True))


@datagram_kinds
@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_asyncio_conversations(peers: Peers, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def make() -> tuple[SocketRecords, SocketRecords]:
        client, accepted = peers.conversation()
        return SocketRecords(client, peers.scheme, AioWaiter(client)), SocketRecords.of(
            accepted, AioWaiter(accepted.socket)
        )

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(check_record_transport(make, **promises(peers, conversation=True)))


# What the suites do not ask.


@seqpacket
def test_an_abort_in_another_thread_at_the_worst_moment_is_no_end(peers: Peers, stack: ExitStack) -> None:
    class Aborted(SocketRecords):
        """Aborted after it was looked whether it is, and before anything is received."""

        def _take(self, limit: int) -> list[bytes | FramingError]:
            thread = threading.Thread(target=self.abort)
            thread.start()
            thread.join()
            return super()._take(limit)

    one, other = peers.pair()
    stack.callback(other.close)
    transport = Aborted(one, peers.scheme, PollWaiter(one))
    stack.callback(lambda: run_to_end(transport.close()))
    with pytest.raises(ConnectionClosed):
        pull(transport)


@every_kind
def test_one_pull_takes_what_is_there_within_a_bound(peers: Peers, stack: ExitStack) -> None:
    one, other = blocking_pair(peers)
    stack.callback(one.abort)
    stack.callback(other.abort)
    if peers.scheme == "unix+dgram":  # ten wait at most, as Linux has it
        push(one, *[b"%d" % number for number in range(5)])
        assert pull(other) == [b"%d" % number for number in range(5)]
        return
    push(one, *[b"%d" % number for number in range(100)])
    assert pull(other) == [b"%d" % number for number in range(records.BATCH)]
    assert pull(other) == [b"%d" % number for number in range(records.BATCH, 100)]


@udp
def test_nobody_listens_there(peers: Peers, stack: ExitStack) -> None:
    one, other = peers.pair()
    where = other.getsockname()
    other.close()
    transport = blocking(one, "udp")
    stack.callback(transport.abort)
    push(transport, b"x")
    with pytest.raises(ConnectionLost, match=r"^nobody listens on 127\.0\.0\.1:\d+ \(connection refused\)"):
        pull(transport)
    # It is no end: who comes there later is heard.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
        late.bind(where)
        push(transport, b"y")
        assert late.recv(10) == b"y"
        late.sendto(b"z", one.getsockname())
        assert pull(transport) == [b"z"]
    push(transport, b"x")
    with pytest.raises(ConnectionLost, match="nobody listens on"):
        push(transport, b"x")


@udp
def test_what_came_before_a_refusal_is_given_first(peers: Peers, stack: ExitStack) -> None:
    one, other = peers.pair()
    transport = blocking(one, "udp")
    stack.callback(transport.abort)
    other.send(b"before")
    other.close()
    push(transport, b"x")
    assert pull(transport) == [b"before"]  # although Linux tells of the error first
    with pytest.raises(ConnectionLost, match="nobody listens"):
        pull(transport)


@every_kind
def test_a_record_that_no_datagram_can_carry(peers: Peers, stack: ExitStack) -> None:
    one, other = blocking_pair(peers)
    stack.callback(one.abort)
    stack.callback(other.abort)
    size = {"udp": 65_508, "udp6": 65_528}.get(peers.scheme, 100_000_000)
    with pytest.raises(
        MessageError, match=rf"^a message of {size} bytes does not fit .* \(at most \d+\): send less"
    ):
        push(one, b"before", b"x" * size, b"after")
    assert pull(other) == [b"before"]
    if peers.scheme == "udp":
        push(one, b"x" * 65_507)
        assert pull(other) == [b"x" * 65_507]


@datagram_kinds
def test_a_record_that_no_conversation_can_carry(peers: Peers, stack: ExitStack) -> None:
    client, accepted = peers.conversation()
    stack.enter_context(client)
    transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
    stack.callback(transport.abort)
    with pytest.raises(MessageError, match="does not fit into one datagram"):
        push(transport, b"x" * 100_000_000)


@pytest.mark.skipif(sys.platform != "linux", reason="records of Unix sockets are smaller elsewhere")
@seqpacket
def test_large_records_within_a_large_limit(peers: Peers, stack: ExitStack) -> None:
    one, other = blocking_pair(peers)
    stack.callback(one.abort)
    stack.callback(other.abort)
    data = random.Random(1).randbytes(200_000)
    push(one, data)
    assert pull(other, 200_000) == [data]
    start = time.monotonic()
    push(one, data)  # the buffer is full now, which is no reason to wait
    assert time.monotonic() - start < 3
    (error,) = pull(other, 199_999)
    assert isinstance(error, MessageTooLong)
    assert error.limit == 199_999


@pytest.mark.skipif(sys.platform != "linux", reason="records of Unix sockets are smaller elsewhere")
@seqpacket
def test_a_large_record_that_comes_just_after_it_was_asked_what_is_there(
    peers: Peers, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = blocking_pair(peers)
    stack.callback(one.abort)
    stack.callback(other.abort)
    data = random.Random(2).randbytes(100_000)
    ask = SocketRecords._waiting_bytes
    answers: list[int] = []

    def ask_too_early(transport: SocketRecords) -> int:
        there = ask(transport)
        if not answers:
            push(one, data)
        answers.append(there)
        return there

    monkeypatch.setattr(SocketRecords, "_waiting_bytes", ask_too_early)
    assert pull(other, 100_000) == [data]
    assert answers[0] == 0


@datagram_kinds
def test_what_the_listener_could_not_take_is_too_long(
    peers: Peers, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "_UNIX_ROOM", 1000)
    monkeypatch.setattr(datagrams, "_UDP_ROOM", 1000)
    client, accepted = peers.conversation()
    stack.enter_context(client)
    transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
    stack.callback(transport.abort)
    client.send(b"x" * 1001)
    (error,) = pull(transport)
    assert isinstance(error, MessageTooLong)
    assert error.limit == 1000
    client.send(b"x" * 1000)
    assert pull(transport) == [b"x" * 1000]


@seqpacket
def test_where_empty_records_cannot_be_told_from_the_end_they_are_refused(
    peers: Peers, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_PASSCRED", None)
    one, other = blocking_pair(peers)
    stack.callback(one.abort)
    stack.callback(other.abort)
    with pytest.raises(MessageError, match="empty message"):
        push(one, b"")
    push(one, b"x")
    run_to_end(one.finish())
    assert pull(other) == [b"x"]
    assert pull(other) == []


@seqpacket
def test_a_peer_that_breaks_off(peers: Peers, stack: ExitStack) -> None:
    one, other = peers.pair()
    transport = blocking(one, peers.scheme)
    stack.callback(transport.abort)
    push(transport, b"unread")
    other.send(b"last words")
    other.close()  # over what it has not read
    assert pull(transport) == [b"last words"]
    for _ in range(3):
        with pytest.raises(ConnectionLost):
            pull(transport)
    with pytest.raises(ConnectionLost):
        push(transport, b"x")


@every_kind
def test_finished_and_closed(peers: Peers, stack: ExitStack) -> None:
    one, other = blocking_pair(peers)
    stack.callback(other.abort)
    run_to_end(one.finish())
    with pytest.raises(ConnectionClosed, match="finished sending"):
        push(one, b"x")
    push(other, b"y")
    assert pull(one) == [b"y"]
    run_to_end(one.close())
    with pytest.raises(ConnectionClosed):
        run_to_end(one.finish())


@every_kind
def test_abort_in_another_thread(peers: Peers, stack: ExitStack) -> None:
    one, other = blocking_pair(peers)
    stack.callback(other.abort)
    thread = threading.Timer(0.02, one.abort)
    thread.start()
    with pytest.raises(ConnectionClosed):
        pull(one)
    thread.join()
    run_to_end(one.close())
    assert one._socket.fileno() == -1


@pytest.mark.parametrize("peers", ["unix+dgram"], indirect=True)
def test_a_peer_that_does_not_read_makes_answers_wait(peers: Peers, stack: ExitStack) -> None:
    client, accepted = peers.conversation()
    stack.enter_context(client)
    transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
    stack.callback(transport.abort)
    taken = 0
    with pytest.raises(TimedOut, match="does not read"):  # noqa: PT012
        while taken < 100_000:
            push(transport, b"%d" % taken, seconds=0.1)
            taken += 1
    reader = threading.Timer(0.05, lambda: [client.recv(100) for _ in range(taken)])
    reader.start()
    push(transport, b"there is room again")
    reader.join()
    client.settimeout(5)
    assert client.recv(100) == b"there is room again"


@pytest.mark.parametrize("peers", ["unix+dgram"], indirect=True)
def test_peers_that_cannot_be_answered(peers: Peers, stack: ExitStack, tmp_path: Path) -> None:
    client, accepted = peers.conversation()
    transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
    stack.callback(transport.abort)
    client.close()
    with pytest.raises(ConnectionLost, match="has gone"):
        push(transport, b"x")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
        nameless.sendto(b"x", peers.listen().socket.getsockname())
        accepted = peers.accept()
    transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
    stack.callback(transport.abort)
    assert pull(transport) == [b"x"]
    with pytest.raises(ConnectionLost, match="no address to answer to: let it bind"):
        push(transport, b"y")


@udp
def test_where_pairs_have_no_end_closing_is_said(
    peers: Peers, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "_PAIR", socket.SOCK_DGRAM)
    client, accepted = peers.conversation()
    stack.enter_context(client)
    transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
    run_to_end(transport.close())
    assert peers.ended()
    client.send(b"more")
    accepted = peers.accept()
    transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
    stack.callback(transport.abort)
    assert pull(transport) == [b"more"]


@udp
def test_an_answer_in_excess_is_dropped_quietly(
    peers: Peers, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DatagramListener, "_is_loopback", lambda _self, _address: False)
    client, accepted = peers.conversation()
    stack.enter_context(client)
    transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
    stack.callback(transport.abort)
    client.send(b"12345")
    assert pull(transport) == [b"12345"]
    push(transport, b"123456", b"1234", b"12", b"1")
    client.settimeout(5)
    assert [client.recv(100) for _ in range(2)] == [b"1234", b"1"]
    assert peers.listen().drops.excess == 2


@udp
def test_a_flood_leaves_others_their_turn(peers: Peers, stack: ExitStack) -> None:
    async def main() -> None:
        one, other = peers.pair()
        transport = SocketRecords(one, "udp", AioWaiter(one))
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        for _ in range(50):
            for _ in range(records.BATCH):
                other.send(b"x")
            assert len(await transport.pull_records(100, soon())) == records.BATCH
        assert turns >= 40
        turns = 0
        for _ in range(200):
            await transport.push_records([bytes(10_000)], soon())
        assert turns >= 5
        counting.cancel()
        await transport.close()
        other.close()

    asyncio.run(main())


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 60))
def test_any_records_over_a_conversation(sent: list[bytes], limit: int) -> None:
    """What a peer sends arrives as it is, or as an error in its place."""
    with ExitStack() as stack:
        (listener,) = listen(Endpoint("udp", "127.0.0.1", 0))
        stack.enter_context(listener)
        client = stack.enter_context(dial(listener.endpoint, timeout=5))
        transport: SocketRecords | None = None
        for data in sent:
            client.send(data)
            while select.select([listener], [], [], 0 if transport else 5)[0]:
                try:
                    accepted = listener.accept()
                except BlockingIOError:
                    continue
                transport = SocketRecords.of(accepted, PollWaiter(accepted.socket))
                stack.callback(transport.abort)
        came: list[bytes | FramingError] = []
        while transport is not None and len(came) < len(sent):
            came += pull(transport, limit)
        assert len(came) == len(sent)
        for data, item in zip(sent, came, strict=True):
            if len(data) <= limit:
                assert item == data
            else:
                assert isinstance(item, MessageTooLong)
                assert item.limit == limit


@given(st.lists(st.one_of(st.just(b""), st.binary(max_size=20)), max_size=10), st.integers(1, 30))
def test_any_records_over_seqpacket(sent: list[bytes], limit: int) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one:
        transport = blocking(other, "unix+seqpacket")
        for data in sent:
            one.send(data)
        one.shutdown(socket.SHUT_WR)
        came: list[bytes | FramingError] = []
        while batch := pull(transport, limit):
            came += batch
        transport.abort()
    assert [isinstance(item, MessageTooLong) or item for item in came] == [
        len(data) > limit or data for data in sent
    ]
