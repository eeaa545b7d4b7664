from __future__ import annotations

import logging
import os
import random
import select
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint
from hailer.net import datagrams
from hailer.net.datagrams import BARRED_PORTS, DATAGRAM, END, TOO_LONG, DatagramListener
from hailer.net.listen import listen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hailer.net.listener import Accepted

    Open = Callable[..., DatagramListener]
    Client = Callable[..., socket.socket]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def opened(stack: ExitStack) -> Open:
    """Listens on one endpoint, 127.0.0.1 if none is given."""

    def open_(text: str = "udp://127.0.0.1:0", **options: Any) -> DatagramListener:
        (listener,) = listen(Endpoint.parse(text), **options)
        assert isinstance(listener, DatagramListener)
        return stack.enter_context(listener)

    return open_


@pytest.fixture
def client(stack: ExitStack) -> Client:
    """A socket connected to a listener, from a given address or any."""

    def connect(listener: DatagramListener, source: tuple[str, int] | str | None = None) -> socket.socket:
        sock = stack.enter_context(socket.socket(listener.socket.family, socket.SOCK_DGRAM))
        sock.settimeout(5)
        if source is not None:
            sock.bind(source)
        address = listener.socket.getsockname()
        if address[0] == "0.0.0.0":
            address = ("127.0.0.1", address[1])
        sock.connect(address)
        return sock

    return connect


def accept(listener: DatagramListener, stack: ExitStack) -> Accepted:
    """Wait for the next conversation."""
    while True:
        assert select.select([listener], [], [], 5)[0], "nothing came"
        try:
            accepted = listener.accept()
        except BlockingIOError:
            continue
        stack.callback(accepted.close)
        accepted.socket.settimeout(5)
        return accepted


def forward(listener: DatagramListener) -> None:
    """Let it work until nothing is left; nothing new is expected."""
    while select.select([listener], [], [], 0)[0]:
        with pytest.raises(BlockingIOError):
            listener.accept()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))  # noqa: PTH208


def test_each_peer_has_a_conversation(opened: Open, client: Client, stack: ExitStack) -> None:
    listener = opened()
    one, two = client(listener), client(listener)
    one.send(b"1")
    first = accept(listener, stack)
    two.send(b"2")
    second = accept(listener, stack)
    assert (first.address, second.address) == (one.getsockname(), two.getsockname())
    one.send(b"1 again")
    two.send(b"")
    forward(listener)
    assert [first.socket.recv(100) for _ in range(2)] == [b"\x001", b"\x001 again"]
    assert [second.socket.recv(100) for _ in range(2)] == [b"\x002", b"\0"]
    for accepted, sock in ((first, one), (second, two)):
        assert accepted.outlet is not None
        accepted.outlet.send(b"answer")
        assert sock.recv(100) == b"answer"


def test_a_conversation_that_ended_is_released_at_once(
    opened: Open, client: Client, stack: ExitStack
) -> None:
    listener = opened()
    sock = client(listener)
    before = descriptors()
    sock.send(b"x")
    accepted = accept(listener, stack)
    assert descriptors() == before + 2
    accepted.close()
    # Without a further datagram: the listener becomes readable, and lets go.
    forward(listener)
    assert descriptors() == before
    sock.send(b"y")
    assert accept(listener, stack).socket.recv(10) == b"\0y"


def test_what_comes_as_the_handler_ends_begins_another(
    opened: Open, client: Client, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = opened()
    sock = client(listener)
    sock.send(b"x")
    accept(listener, stack).close()
    # The hang-up is seen only after the datagram was read.
    monkeypatch.setattr(listener, "_release_ended", lambda: None)
    sock.send(b"y")
    assert accept(listener, stack).socket.recv(10) == b"\0y"


@pytest.mark.parametrize("family", ["inet", "inet6", "unix"])
def test_the_largest_datagrams_come_whole(
    opened: Open, client: Client, stack: ExitStack, tmp_path: Path, family: str
) -> None:
    source: tuple[str, int] | str
    if family == "unix":
        listener, source, size = opened(f"unix+dgram:{tmp_path}/s"), str(tmp_path / "c"), 150_000
    elif family == "inet":
        listener, source, size = opened(), ("127.0.0.1", 0), 65507
    else:
        listener, source, size = opened("udp://[::1]:0"), ("::1", 0), 65527
    sock = client(listener, source)
    data = random.Random(1).randbytes(size)
    for _ in range(2):  # as the first and as a further one
        sock.send(data)
        if _ == 0:
            accepted = accept(listener, stack)
        else:
            forward(listener)
        assert accepted.socket.recv(1 << 20) == b"\0" + data
    sock.send(b"")
    forward(listener)
    assert accepted.socket.recv(1 << 20) == b"\0"


def test_a_datagram_too_long_is_never_cut(
    opened: Open, client: Client, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "_UNIX_ROOM", 10_000)
    listener = opened(f"unix+dgram:{tmp_path}/s")
    sock = client(listener, str(tmp_path / "c"))
    sock.send(b"x" * 10_000)
    accepted = accept(listener, stack)
    assert accepted.socket.recv(20_000) == b"\0" + b"x" * 10_000
    sock.send(b"x" * 10_001)
    sock.send(b"after")
    forward(listener)
    assert accepted.socket.recv(20_000) == bytes((TOO_LONG,)) + (10_000).to_bytes(8, "big")
    assert accepted.socket.recv(20_000) == b"\0after"


def test_what_does_not_fit_into_a_pair_is_said_to_be_too_long() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, datagrams._PAIR)
    with one, other:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        datagrams._put(one, memoryview(bytes(100_000)))
        assert other.recv(200_000) == bytes((TOO_LONG,)) + (99_998).to_bytes(8, "big")


def test_a_handler_that_does_not_read_holds_up_nobody(
    opened: Open, client: Client, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    listener = opened()
    slow, quick = client(listener), client(listener)
    slow.send(b"0")
    silent = accept(listener, stack)
    for number in range(1, 1000):
        slow.send(b"%d" % number)
        forward(listener)
    quick.send(b"x")
    assert accept(listener, stack).socket.recv(10) == b"\0x"
    assert listener.drops.full > 0
    assert len(caplog.records) == 1, "one line a second"
    assert "for conversations that do not read" in caplog.text
    silent.socket.setblocking(False)
    came = []
    try:
        while True:
            came.append(silent.socket.recv(100))
    except BlockingIOError:
        pass
    assert came == [b"\0%d" % number for number in range(1000 - listener.drops.full)]


def test_barred_ports_are_never_accepted(
    opened: Open, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    listener = opened()
    if os.geteuid() != 0 and sys.platform == "linux":
        pytest.skip("ports under 1024 take root")
    sent = 0
    for port in sorted(BARRED_PORTS - {0}):
        try:
            client(listener, ("127.0.0.77", port)).send(b"x")
        except OSError:
            continue  # in use here
        sent += 1
        forward(listener)
    assert listener.drops.barred == sent > 0
    assert len(caplog.records) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_ourselves_are_never_answered(opened: Open, stack: ExitStack, host: str) -> None:
    listener = opened(f"udp4://{host}:0")
    port = listener.endpoint.port
    assert isinstance(port, int)
    listener.socket.sendto(b"x", ("127.0.0.1", port))
    forward(listener)
    assert listener.drops.barred == 1
    if host != "*":
        # The same port of another address is somebody else, if it is not one of ours as well.
        assert datagrams._is_ours(socket.AF_INET, "127.0.0.2") == (sys.platform == "linux")
        assert not datagrams._is_ours(socket.AF_INET, "192.0.2.1")


def test_a_unix_socket_does_not_answer_itself(opened: Open, tmp_path: Path) -> None:
    listener = opened(f"unix+dgram:{tmp_path}/s")
    listener.socket.sendto(b"x", f"{tmp_path}/s")
    forward(listener)
    assert listener.drops.barred == 1


def test_answers_leave_from_the_address_that_was_asked(
    opened: Open, client: Client, stack: ExitStack
) -> None:
    if datagrams._IP_PKTINFO is None or sys.platform != "linux":
        pytest.skip("this system does not tell, or has but one loopback address")
    listener = opened("udp4://*:0")
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.settimeout(5)
    port = listener.endpoint.port
    for host in ("127.0.0.1", "127.0.0.2"):
        # From the same socket to two addresses of ours: two conversations.
        sock.sendto(b"x", (host, port))
        accepted = accept(listener, stack)
        assert accepted.local == (host, port)
        assert accepted.outlet is not None
        accepted.outlet.send(b"y")
        assert sock.recvfrom(10) == (b"y", (host, port))


def test_answers_leave_from_the_ipv6_address_that_was_asked(
    opened: Open, client: Client, stack: ExitStack
) -> None:
    listener = opened("udp6://*:0")
    sock = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    sock.settimeout(5)
    sock.sendto(b"x", ("::1", listener.endpoint.port))
    accepted = accept(listener, stack)
    assert accepted.local is not None
    assert accepted.local[:2] == ("::1", listener.endpoint.port)
    assert accepted.outlet is not None
    accepted.outlet.send(b"y")
    assert sock.recvfrom(10)[1][:2] == ("::1", listener.endpoint.port)


def test_the_bytes_that_go_to_an_unproved_address_are_bounded(
    opened: Open,
    client: Client,
    stack: ExitStack,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The peer is on loopback, as tests have it; it is taken for one that is not.
    monkeypatch.setattr(DatagramListener, "_is_loopback", lambda _self, _address: False)
    listener = opened(amplification=1.5)
    sock = client(listener)
    sock.send(b"0123456789")
    outlet = accept(listener, stack).outlet
    assert outlet is not None
    outlet.send(b"x")  # nothing is known to have come until it is read
    outlet.heard(10)
    outlet.send(b"x" * 16)
    outlet.send(b"x" * 10)
    outlet.send(b"x" * 6)
    outlet.send(b"x" * 5)
    assert [len(sock.recv(100)) for _ in range(2)] == [10, 5]
    assert listener.drops.excess == 3
    assert len(caplog.records) == 1


def test_on_this_machine_answers_may_be_longer(opened: Open, client: Client, stack: ExitStack) -> None:
    listener = opened()
    sock = client(listener)
    sock.send(b"")
    outlet = accept(listener, stack).outlet
    assert outlet is not None
    outlet.send(b"x" * 1000)
    assert len(sock.recv(2000)) == 1000
    assert listener._is_loopback(("127.9.9.9", 1))
    assert not listener._is_loopback(("192.0.2.1", 1))


def test_the_one_idle_for_longest_makes_way(opened: Open, client: Client, stack: ExitStack) -> None:
    listener = opened(most=2)
    one, two, three = (client(listener) for _ in range(3))
    one.send(b"1")
    first = accept(listener, stack)
    two.send(b"2")
    second = accept(listener, stack)
    one.send(b"1 again")
    forward(listener)
    three.send(b"3")
    accept(listener, stack)
    assert [second.socket.recv(10) for _ in range(2)] == [b"\x002", b""]
    one.send(b"and again")
    forward(listener)
    assert [first.socket.recv(10) for _ in range(3)] == [b"\x001", b"\x001 again", b"\0and again"]
    assert listener.drops.evicted == 1


def test_while_paused_only_those_who_are_there_are_served(
    opened: Open, client: Client, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = opened()
    old, new = client(listener), client(listener)
    old.send(b"x")
    accepted = accept(listener, stack)
    listener.paused = True
    assert listener.forwards
    new.send(b"refused")
    old.send(b"y")
    forward(listener)
    assert [accepted.socket.recv(10) for _ in range(2)] == [b"\0x", b"\0y"]
    assert (listener.drops.refused, listener.drops.evicted) == (1, 0)
    # One that is silent makes way, so that the next datagram of the new one finds room.
    monkeypatch.setattr(datagrams, "_KEEP", -1.0)
    new.send(b"refused")
    forward(listener)
    assert accepted.socket.recv(10) == b""
    accepted.close()
    listener.paused = False
    new.send(b"taken")
    assert accept(listener, stack).socket.recv(10) == b"\0taken"


def test_new_peers_that_wait_to_be_accepted_delay_nobody(
    opened: Open, client: Client, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "_SLOW", 0.0)  # whoever accepts is slow
    listener = opened()
    before = descriptors()
    old = client(listener)
    old.send(b"first")
    accepted = accept(listener, stack)
    crowd = [client(listener) for _ in range(100)]
    for number, sock in enumerate(crowd):
        sock.send(b"%d" % number)
    old.send(b"second")
    crowd[0].send(b"0 again")
    first = listener.accept()
    assert [accepted.socket.recv(10) for _ in range(2)] == [b"\0first", b"\0second"]
    assert listener.drops.refused == 100 - datagrams._AHEAD
    assert [first.socket.recv(10) for _ in range(2)] == [b"\x000", b"\x000 again"]
    first.close()
    # The others are there though nothing more comes from the network, and each is accepted once.
    for number in range(1, datagrams._AHEAD - 10):
        with accept(listener, stack).socket as sock:
            assert sock.recv(10) == b"\0%d" % number
    assert select.select([listener], [], [], 0)[0]
    listener.paused = True
    forward(listener)
    assert listener.drops.refused == 100 - datagrams._AHEAD + 10
    accepted.close()
    forward(listener)
    for sock in (*crowd, old):
        sock.close()
    assert descriptors() == before


def test_a_burst_of_new_peers_loses_nobody(opened: Open, client: Client, stack: ExitStack) -> None:
    listener = opened()
    crowd = [client(listener) for _ in range(200)]
    for sock in crowd:
        sock.send(b"x")
    names = {accept(listener, stack).address for _ in crowd}
    assert names == {sock.getsockname() for sock in crowd}
    assert not select.select([listener], [], [], 0)[0]


def test_those_begun_and_not_accepted_go_with_the_listener(opened: Open, client: Client) -> None:
    before = descriptors()
    listener = opened()
    crowd = [client(listener) for _ in range(5)]
    for sock in crowd:
        sock.send(b"x")
    assert select.select([listener], [], [], 5)[0]
    listener.accept().close()
    listener.close()
    for sock in crowd:
        sock.close()
    assert descriptors() == before


def test_fewer_peers_are_kept_than_connections_are_served(opened: Open) -> None:
    listener = opened(most=100)
    listener.expect(1000)
    assert listener._most == 100
    listener.expect(10)
    assert listener._most == 9
    listener.expect(1)
    assert listener._most == 1


def test_single_datagrams(opened: Open, client: Client, stack: ExitStack) -> None:
    listener = opened()
    listener.single = True
    assert not listener.forwards
    sock = client(listener)
    before = descriptors()
    for data in (b"1", b"", b"3"):
        sock.send(data)
    for data in (b"1", b"", b"3"):
        accepted = accept(listener, stack)
        assert [accepted.socket.recv(10) for _ in range(2)] == [b"\0" + data, b""]
        assert accepted.outlet is not None
        accepted.outlet.send(b"answer")
        assert sock.recv(10) == b"answer"
        accepted.close()
        assert descriptors() == before


def test_without_descriptors_the_datagram_is_lost_and_said_so(
    opened: Open, client: Client, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = opened()
    sock = client(listener)

    def none_left(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socketpair", none_left)
        sock.send(b"x")
        assert select.select([listener], [], [], 5)[0]
        with pytest.raises(OSError, match="Too many"):
            listener.accept()
    assert listener.drops.refused == 1
    sock.send(b"y")
    assert accept(listener, stack).socket.recv(10) == b"\0y"


def test_closing_ends_the_conversations_and_their_answers_still_go(
    opened: Open, client: Client, stack: ExitStack
) -> None:
    before = descriptors()
    listener = opened()
    sock = client(listener)
    sock.send(b"x")
    accepted = accept(listener, stack)
    listener.close()
    listener.close()
    assert listener.fileno() == -1
    with pytest.raises(OSError, match="Bad file"):
        listener.accept()
    assert [accepted.socket.recv(10) for _ in range(2)] == [b"\0x", b""]
    assert accepted.outlet is not None
    accepted.outlet.send(b"answer")
    assert sock.recv(10) == b"answer"
    accepted.close()
    accepted.close()
    sock.close()
    assert descriptors() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_serves_its_conversation_alone(
    opened: Open, client: Client, stack: ExitStack, tmp_path: Path
) -> None:
    listener = opened(f"unix+dgram:{tmp_path}/s")
    one, two = client(listener, str(tmp_path / "1")), client(listener, str(tmp_path / "2"))
    one.send(b"1")
    first = accept(listener, stack)
    two.send(b"2")
    second = accept(listener, stack)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            listener.close()
            second.close()
            assert first.outlet is not None
            while data := first.socket.recv(100):
                first.outlet.send(data[1:].upper())
            status = 0
        finally:
            os._exit(status)
    first.close()
    one.send(b"abc")
    forward(listener)
    assert [one.recv(10) for _ in range(2)] == [b"1", b"ABC"]
    two.send(b"still here")
    forward(listener)
    assert [second.socket.recv(100) for _ in range(2)] == [b"\x002", b"\0still here"]
    assert (tmp_path / "s").exists()
    listener.close()  # its end comes to the child too
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_peer_without_a_name_cannot_be_answered(
    opened: Open, client: Client, tmp_path: Path, stack: ExitStack
) -> None:
    listener = opened(f"unix+dgram:{tmp_path}/s")
    client(listener).send(b"x")
    accepted = accept(listener, stack)
    assert accepted.address == ""
    assert accepted.outlet is not None
    assert accepted.outlet.address == ""


def test_where_pairs_have_no_end_it_is_said(
    opened: Open, client: Client, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datagrams, "_PAIR", socket.SOCK_DGRAM)
    listener = opened()
    sock = client(listener)
    sock.send(b"x")
    accepted = accept(listener, stack)
    assert accepted.socket.recv(10) == bytes((DATAGRAM,)) + b"x"
    accepted.socket.send(bytes((END,)))  # what a transport says when it is closed
    forward(listener)
    assert not listener._table
    sock.send(b"y")
    accepted = accept(listener, stack)
    listener.close()
    assert [accepted.socket.recv(10) for _ in range(2)] == [b"\0y", bytes((END,))]


def test_a_flood_from_many_ports(opened: Open, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    before = descriptors()
    listener = opened(most=50)
    held: dict[object, Accepted] = {}
    port = listener.endpoint.port
    for _ in range(20):
        crowd = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(25)]
        for sock in crowd:
            sock.sendto(b"x", ("127.0.0.1", port))
        while select.select([listener], [], [], 0)[0]:
            try:
                accepted = listener.accept()
            except BlockingIOError:
                continue
            if accepted.address in held:  # a port that another of the crowd had before
                held.pop(accepted.address).close()
            held[accepted.address] = accepted
        for sock in crowd:
            sock.close()
        for address, accepted in list(held.items()):
            accepted.socket.setblocking(False)
            try:
                while accepted.socket.recv(10):
                    pass
            except BlockingIOError:
                continue
            held.pop(address).close()
    assert len(held) == len(listener._table) == 50
    assert listener.drops.evicted >= 400
    assert len(caplog.records) <= 5
    for accepted in held.values():
        accepted.close()
    listener.close()
    assert descriptors() == before
