"""The loop edge's events one look at a time: who gets a turn, and whom a fault costs the connection."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from hailer.relay.core.limits import Limits
from hailer.relay.edge.loop import LoopEdge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hailer.relay.edge.link import Link


class Hall:
    """An edge whose looks are taken by hand, and its clients."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.edge = LoopEdge(Limits(), "9")
        self._stack = stack
        stack.callback(self.edge._poller.close)

    def login(self, name: str, *more: str) -> tuple[socket.socket, Link]:
        """A client that is logged in and has read what it was told so far."""
        ours, theirs = socket.socketpair()
        self._stack.enter_context(ours)
        self._stack.enter_context(theirs)
        theirs.setblocking(False)
        ours.settimeout(5)
        link = self.edge._adopt(theirs, "unix", "")
        assert link is not None
        self.edge._update(link)
        ours.sendall("".join(f"{line}\n" for line in (f"HELLO {name}", *more)).encode())
        self.edge._events()
        assert link.online
        ours.recv(65536)
        return ours, link


@pytest.fixture
def hall() -> Iterator[Hall]:
    with contextlib.ExitStack() as stack:
        yield Hall(stack)


@pytest.mark.parametrize("line", [b"\n", b"SEND #r :x\n", b"SEND bob :x\n", b"PONG\n"])
@pytest.mark.parametrize("senders", [1, 3])
def test_the_event_loop_gets_its_turn_whatever_is_sent(
    hall: Hall, monkeypatch: pytest.MonkeyPatch, line: bytes, senders: int
) -> None:
    """Peers that always have more, with output and without: time, new peers and signals are to be minded."""
    floods = [hall.login(f"sender{n}", f"JOIN #r{n}") for n in range(senders)]
    bob, _ = hall.login("bob")
    bob.setblocking(False)
    poll, looks = hall.edge._poller.poll, []
    data = memoryview(line * (100_000 // len(line)))
    sent = [0] * senders

    def poll_with_more() -> list[tuple[int, int]]:
        looks.append(1)
        assert len(looks) < 500, "it goes on and on"
        for number, (sock, _) in enumerate(floods):
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent[number] += sock.send(data[sent[number] % len(line) :])
        with contextlib.suppress(BlockingIOError):
            while bob.recv(1 << 20):
                pass
        return poll()

    monkeypatch.setattr(hall.edge, "_poller", _Poller(poll_with_more, hall.edge._poller.set))
    hall.edge._events()
    assert looks


class _Poller:
    """The edge's own, with other looks."""

    def __init__(self, poll: object, change: object) -> None:
        self.poll = poll
        self.set = change


def _clear_of_one_fault(caplog: pytest.LogCaptureFixture) -> None:
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith("fault ")
    caplog.clear()


def _fails(*_: object) -> None:
    raise RuntimeError("a fault")


@pytest.mark.parametrize("receiver", ["bob", "#r"])
def test_a_fault_in_writing_costs_its_receiver_the_connection_and_nobody_else(
    hall: Hall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, receiver: str
) -> None:
    """What was read before it was for others, and those who were to be written after it get theirs."""
    links = {}
    socks = {}
    for name in ("ann", "bob", "cy"):
        socks[name], links[name] = hall.login(name, "JOIN #r")
    for name in ("ann", "bob"):
        socks[name].recv(65536)  # of who joined after it
    write = hall.edge._write
    monkeypatch.setattr(hall.edge, "_write", lambda link: _fails() if link is links["bob"] else write(link))
    dropped: list[Link] = []
    monkeypatch.setattr(hall.edge, "_discard", dropped.append)
    socks["ann"].sendall(f"SEND {receiver} :x\nSEND cy :y\n".encode())
    hall.edge._events()
    assert dropped == [links["bob"]]
    assert links["ann"].online
    got = socks["cy"].recv(65536)
    assert b"MSG ann cy :y\n" in got
    assert got.endswith(b"LEFT #r bob\n")
    assert not hall.edge.relay.dirty
    _clear_of_one_fault(caplog)


def test_a_fault_in_going_on_with_one_who_was_held_keeps_nobody_else_from_it(
    hall: Hall, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    links = [hall.login(name)[1] for name in ("ann", "bob", "cy")]
    release, released = hall.edge._release, []
    monkeypatch.setattr(hall.edge, "_discard", lambda link: None)

    def going_on(link: Link) -> None:
        released.append(link)
        if link is links[1]:
            _fails()
        release(link)

    monkeypatch.setattr(hall.edge, "_release", going_on)
    hall.edge.relay.released += links
    hall.edge._settle()
    assert released == links
    assert [link.online for link in links] == [True, False, True]
    _clear_of_one_fault(caplog)
