"""What clients say to each other, over real sockets, under every model."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hailer.relay.app import RelayServer
    from tests.conftest import Connect
    from tests.relay.edge.conftest import Start


def test_a_room(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob, carol = (connect(where, name) for name in ("alice", "bob", "carol"))
    alice.send("JOIN #Lobby")
    alice.expect("JOINED #Lobby alice")
    bob.send("JOIN #lobby")
    bob.expect("JOINED #Lobby bob")
    alice.expect("JOINED #Lobby bob")
    bob.send("SEND #LOBBY :hello, all: of you")
    assert alice.expect("MSG") == ["MSG bob #Lobby :hello, all: of you"]
    assert bob.sync() == []
    bob.send("LEAVE #lobby")
    assert bob.expect("LEFT") == alice.expect("LEFT") == ["LEFT #Lobby bob"]
    alice.send("SEND #lobby :anybody here?")
    assert alice.sync() == []
    assert bob.sync() == []
    assert carol.sync() == []


def test_direct_messages_in_order_and_both_ways(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "Bob")
    for number in range(200):
        alice.send(f"SEND bob :{number}")
    assert [bob.line() for _ in range(200)] == [f"MSG alice Bob :{n}" for n in range(200)]
    bob.send("SEND ALICE :thanks")
    assert alice.line() == "MSG Bob alice :thanks"
    alice.send("SEND alice :to myself")
    assert alice.line() == "MSG alice alice :to myself"


def test_any_bytes_by_count(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    payload = bytes(range(256)) * 1000
    alice.send(b"SEND bob %d\n" % len(payload) + payload + b"SEND bob :after\n")
    assert bob.line() == f"MSG alice bob {len(payload)}"
    assert bob.raw(len(payload)) == payload
    assert bob.line() == "MSG alice bob :after"


def test_who_and_watch(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice = connect(where, "alice")
    alice.send("WATCH")
    assert alice.sync() == []
    bob = connect(where, "bob")
    assert alice.line() == "ONLINE bob"
    bob.send("JOIN #den\nWHO #den\nWHO")
    assert [bob.line() for _ in range(5)] == [
        "JOINED #den bob",
        "HERE #den bob",
        "END WHO",
        "HERE alice bob",
        "END WHO",
    ]
    bob.send("QUIT :good night")
    assert bob.rest() == b"BYE :good night\n"
    assert alice.line() == "OFFLINE bob"
    alice.send("WHO #den\nUNWATCH")
    alice.expect("END WHO")
    connect(where, "carol")
    assert alice.sync() == []


def test_ask_and_answer(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    alice.send("ASK q1 bob :how are you?")
    assert bob.line() == "ASKED q1 alice :how are you?"
    bob.send("ANSWER q1 alice :fine")
    assert alice.line() == "ANSWERED q1 bob :fine"
    alice.send("ASK q2 bob :and now?")
    bob.expect("ASKED q2")
    bob.close()
    assert alice.line() == "FAIL gone ASK :q2: bob left before it answered"


@pytest.mark.parametrize("how", ["close", "reset", "quit", "unread"])
def test_others_see_a_peer_go(start: Start, connect: Connect, how: str) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    alice.send("JOIN #den\nWATCH bob")
    alice.expect("JOINED")
    bob.send("JOIN #den")
    bob.expect("JOINED #den bob")
    alice.expect("JOINED #den bob")
    match how:
        case "reset":
            bob.reset()
        case "quit":
            bob.send("QUIT")
        case "unread":  # closed over bytes that were not read, which is a reset too
            alice.send("SEND bob :unread")
            bob.sock.recv(1, socket.MSG_PEEK)
            bob.close()
        case _:
            bob.close()
    assert sorted([alice.line(), alice.line()]) == ["LEFT #den bob", "OFFLINE bob"]
    again = connect(where, "bob")  # the name is free at once
    assert alice.line() == "ONLINE bob"
    assert again.sync() == []


def test_a_sender_that_is_reset_in_mid_message(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    alice.send(b"WATCH bob\nPING 1\n")
    alice.expect("PONG")
    bob.send(b"SEND alice :whole\nSEND alice :ha")
    assert alice.line() == "MSG bob alice :whole"
    bob.reset()
    assert alice.line() == "OFFLINE bob"
    assert alice.sync() == []


def test_taking_over_a_session(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    old = connect(where)
    session = old.login("bob").split("session=")[1].split()[0]
    old.send("JOIN #den")
    old.expect("JOINED")
    new = connect(where)
    new.login("bob", f" session={session}")
    assert old.rest() == b"BYE :replaced\n"
    alice = connect(where, "alice")
    alice.send("JOIN #den\nSEND #den :still there?\nSEND bob :you?")
    assert new.until("MSG")[-1] == "MSG alice #den :still there?"
    assert new.line() == "MSG alice bob :you?"


def test_a_line_that_comes_byte_by_byte(start: Start, connect: Connect) -> None:
    where = start().endpoints[0]
    alice, bob = connect(where, "alice"), connect(where, "bob")
    for byte in b"SEND alice :a\nSEND alice 3\na\nb":
        bob.send(bytes([byte]))
    assert alice.line() == "MSG bob alice :a"
    assert alice.line() == "MSG bob alice 3"
    assert alice.raw(3) == b"a\nb"


def test_peers_named_strangely(
    start_on: Callable[..., RelayServer], connect: Connect, tmp_path: Path
) -> None:
    relay = start_on(Endpoint.parse(f"unix:{tmp_path}/relay.sock"))
    names = [b"\0\xff\xfe\n\x1b[2J", f"{tmp_path}/\udcff\x1b".encode("utf-8", "surrogateescape")]
    for name in names:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(name)
            sock.settimeout(5)
            sock.connect(f"{tmp_path}/relay.sock")
            sock.sendall(b"QUIT\n")
            assert sock.recv(100).startswith(b"RELAY ")
    connect(relay.endpoints[0], "alice").sync()
