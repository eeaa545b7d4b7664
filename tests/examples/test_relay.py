"""The relay made by hand, and its client."""

from __future__ import annotations

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.examples.conftest import EXAMPLES, all_of, dial, finish, interrupt

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RequireProgram
    from tests.examples.conftest import Start
    from tests.interop.conftest import Program


def relay(start: Start, port: str, *options: str) -> Program:
    server = start("relay_server.py", f"tcp4://127.0.0.1:{port}", *options)
    server.until(f"listening on tcp4://127.0.0.1:{port}\n")
    return server


def client(start: Start, port: str, name: str) -> Program:
    program = start("relay_client.py", name, f"tcp://127.0.0.1:{port}")
    program.until(f"welcome {name}\n")
    return program


def test_clients_talk_while_others_come_and_go(start: Start, port: str) -> None:
    server = relay(start, port)
    ann, ben = client(start, port, "ann"), client(start, port, "ben")
    ann.type("ben: hello, ben: grüße\n")
    assert ben.until("\n") == "ann: hello, ben: grüße\n"
    ben.type("ann: hello, ann\n")
    assert ann.until("\n") == "ben: hello, ann\n"
    ann.type("cleo: are you there?\n")
    assert ann.until("\n") == "nobody is called 'cleo': write NAME: TEXT, or quit\n"
    ben.type("quit\n")
    assert ben.rest() == "goodbye\n"
    assert ben.process.returncode == 0
    ann.type("ben: still there?\n")
    assert ann.until("\n").startswith("nobody is called 'ben'")
    again = client(start, port, "ben")  # the name is free again
    for program in (ann, again):
        program.end_input()
        assert program.rest() == "goodbye\n"
    assert ": quit\n" in interrupt(server)


def test_a_taken_name(start: Start, port: str) -> None:
    relay(start, port)
    client(start, port, "ann")
    second = finish("relay_client.py", "ann", f"tcp://127.0.0.1:{port}")
    assert "ann is taken: connect again with another name\n" in second.stdout


@pytest.mark.parametrize("name", ["", "a:b", "x" * 33])
def test_names_that_are_none(start: Start, port: str, name: str) -> None:
    relay(start, port)
    with dial(port) as sock:
        sock.sendall(name.encode() + b"DONE")
        assert all_of(sock) == b"a name has 1 to 32 characters and no colon: connect againDONE"


def test_a_client_that_vanishes_frees_its_name(start: Start, port: str) -> None:
    relay(start, port)
    ann = client(start, port, "ann")
    with dial(port) as sock:
        sock.sendall(b"benDONE")
        assert sock.recv(100) == b"welcome benDONE"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    for _ in range(100):
        ann.type("ben: there?\n")
        sock = dial(port)
        sock.sendall(b"benDONE")
        answer = sock.recv(100)
        sock.close()
        if answer == b"welcome benDONE":
            break
    else:
        pytest.fail("the name stays taken")


def test_messages_end_with_done_however_they_come(start: Start, port: str) -> None:
    relay(start, port)
    ann = client(start, port, "ann")
    with dial(port) as sock:
        for byte in b"benDO", b"NEann: one", b"DON", b"EDONEann: twoDONEann: ", b"threeDONE":
            sock.sendall(byte)
        assert ann.until("three\n") == "ben: one\nben: two\nben: three\n"
        got = b""
        while got.count(b"DONE") < 2:
            got += sock.recv(1000)
        assert got.startswith(b"welcome benDONEnobody is called ''")


def test_a_line_that_holds_the_mark_is_not_sent(start: Start, port: str) -> None:
    relay(start, port)
    ann, ben = client(start, port, "ann"), client(start, port, "ben")
    ann.type("ben: I am DONE\nben: finished\n")
    ann.until("not sent: the message holds the delimiter that ends it")
    assert ben.until("\n") == "ann: finished\n"


def test_many_senders_do_not_mix_their_bytes(start: Start, port: str, tmp_path: Path) -> None:
    # What it prints goes into a file: more than a pipe holds.
    command = (sys.executable, str(EXAMPLES / "relay_server.py"), f"tcp4://127.0.0.1:{port}")
    start("sh", "-c", 'exec "$@" > "$0"', str(tmp_path / "said"), *command)
    with ExitStack() as stack:
        receiver = stack.enter_context(dial(port))
        receiver.sendall(b"receiverDONE")
        assert receiver.recv(100) == b"welcome receiverDONE"
        senders = [stack.enter_context(dial(port)) for _ in range(8)]
        text = b"x" * 50_000  # so much in all that the relay's sends are short, and wait for room
        pool = stack.enter_context(ThreadPoolExecutor(8))
        for number, sender in enumerate(senders):
            pool.submit(sender.sendall, b"sender%dDONE" % number + b"receiver: %bDONE" % text * 20)
        time.sleep(0.3)  # nobody reads: the buffers between fill up
        got = bytearray()
        while len(got) < len(b"sender0: DONE" + text) * 160:
            data = receiver.recv(65536)
            assert data
            got += data
    messages = bytes(got).split(b"DONE")[:-1]
    for number in range(8):
        assert messages.count(b"sender%d: %b" % (number, text)) == 20


def test_people_with_telnet_by_lines(start: Start, port: str, require_program: RequireProgram) -> None:
    relay(start, port, "--framing", "line")
    ann = start(require_program("ncat"), "127.0.0.1", port)
    ann.type("ann\n")
    ann.until("welcome ann\n")
    ben = start(require_program("telnet"), "127.0.0.1", port, terminal=True)
    ben.until("Escape character is '^]'.")
    ben.type("ben\n")
    ben.until("welcome ben")
    ben.type("ann: hello from telnet\n")
    ann.until("ben: hello from telnet\n")
    ann.type("ben: hello from ncat\n")
    ben.until("ann: hello from ncat")
    ben.type("quit\n")
    ben.until("goodbye")
    assert "closed by foreign host" in ben.rest()


def test_nobody_listens(port: str) -> None:
    done = finish("relay_client.py", "ann", f"tcp4://127.0.0.1:{port}")
    assert done.returncode == 1
    assert done.stderr.startswith("relay_client: nobody listens on 127.0.0.1:")


def test_the_relay_goes_and_the_client_says_so(start: Start, port: str) -> None:
    server = relay(start, port)
    ann = client(start, port, "ann")
    server.process.kill()
    server.process.wait()
    ann.type("ben: hello\n")
    ann.type("ben: hello?\n")
    said = ann.rest()
    assert "Traceback" not in said
    assert ann.process.returncode != 0, said
