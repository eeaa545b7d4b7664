from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint
from hailer.net.listen import listen
from hailer.net.stdio import dial_stdio, listen_stdio

if TYPE_CHECKING:
    from collections.abc import Iterator

START = """if True:
    import socket, sys
    from hailer.endpoint import Endpoint
    from hailer.net.dial import dial
    from hailer.net.listen import listen
"""
ECHO = (
    START
    + """
    (listener,) = listen(Endpoint("stdio"))
    accepted = listener.accept()
    sock = accepted.socket
    sock.setblocking(True)
    sys.stderr.write(f"{listener.endpoint} {accepted.scheme} {accepted.kind} {listener.exhausted}")
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.close()
"""
)


class Ends:
    """A connection over two pipes, as if they were standard input and output."""

    def __init__(self) -> None:
        reader, self.input = os.pipe()
        self.output, writer = os.pipe()
        self.reader, self.writer = reader, writer
        self.sock = dial_stdio(reader, writer)
        self.sock.settimeout(5)
        self.open = {self.input, self.output, reader, writer}

    def close(self, *descriptors: int) -> None:
        for descriptor in descriptors or tuple(self.open):
            self.open.discard(descriptor)
            os.close(descriptor)


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.sock.close()
    if ends.input in ends.open:
        ends.close(ends.input)  # ends the thread that reads
    while ends.output in ends.open and os.read(ends.output, 65536):
        pass
    ends.close()


def start(program: str, sock: socket.socket) -> subprocess.Popen[bytes]:
    """Start a program as inetd does."""
    return subprocess.Popen([sys.executable, "-c", program], stdin=sock.fileno(), stdout=sock.fileno())


def run(program: str, given: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", program], input=given, capture_output=True, timeout=20, check=False
    )


def test_a_program_echoes_what_is_piped_into_it() -> None:
    data = os.urandom(3_000_000)
    done = run(ECHO, data)
    assert done.stdout == data
    assert done.stderr == b"stdio: stdio stream True"
    assert done.returncode == 0


def test_what_was_sent_last_is_written_before_the_program_ends() -> None:
    program = (
        START
        + """
    sock = dial(Endpoint("stdio"), timeout=1)
    sock.sendall(b"x" * 100_000 + b"end")
    """
    )
    for _ in range(3):
        assert run(program, b"").stdout == b"x" * 100_000 + b"end"


def test_the_end_comes_and_goes_each_way(ends: Ends) -> None:
    os.write(ends.input, b"in")
    assert ends.sock.recv(10) == b"in"
    ends.close(ends.input)
    assert ends.sock.recv(10) == b""
    ends.sock.sendall(b"out")
    ends.sock.shutdown(socket.SHUT_WR)
    assert os.read(ends.output, 10) == b"out"
    assert os.read(ends.output, 10) == b""


def test_finishing_first(ends: Ends) -> None:
    ends.sock.shutdown(socket.SHUT_WR)
    assert os.read(ends.output, 10) == b""
    os.write(ends.input, b"still read")
    assert ends.sock.recv(100) == b"still read"


def test_a_reader_that_does_not_read_is_waited_for(ends: Ends) -> None:
    ends.sock.setblocking(False)
    sent = 0
    block = bytes(65536)
    while select.select([], [ends.sock], [], 0.2)[1]:
        sent += ends.sock.send(block)
    assert sent < 4 << 20
    ends.sock.shutdown(socket.SHUT_WR)
    came = 0
    while data := os.read(ends.output, 65536):
        came += len(data)
    assert came == sent


def test_a_reader_that_has_gone_is_told_of(ends: Ends) -> None:
    ends.close(ends.output)
    with pytest.raises(BrokenPipeError):  # noqa: PT012
        for _ in range(1000):
            ends.sock.sendall(b"x")
            time.sleep(0.001)


def test_descriptors_that_do_not_block() -> None:
    ends = Ends()
    for descriptor in (ends.reader, ends.writer):
        os.set_blocking(descriptor, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(ends.writer, fcntl.F_SETPIPE_SZ, 4096)
    os.write(ends.input, b"x")
    assert ends.sock.recv(1) == b"x"
    ends.sock.sendall(bytes(100_000))
    ends.sock.shutdown(socket.SHUT_WR)
    came = 0
    while data := os.read(ends.output, 65536):
        came += len(data)
    assert came == 100_000
    ends.close(ends.input)
    assert ends.sock.recv(1) == b""
    ends.sock.close()
    ends.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_inetd_passes_a_socket(kind: socket.SocketKind) -> None:
    program = (
        START
        + """
    (listener,) = listen(Endpoint("stdio"))
    accepted = listener.accept()
    print("what is printed does not go to the peer")
    sock = accepted.socket
    sock.sendall(f"{accepted.scheme} {accepted.kind} {listener.exhausted} ".encode() + sock.recv(100))
    sock.close()
    sys.stdin.read()
    """
    )
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one:
        one.settimeout(10)
        with other:
            process = start(program, other)
        one.sendall(b"question")
        expected = b"unix stream" if kind == socket.SOCK_STREAM else b"unix+seqpacket record"
        assert one.recv(1000) == expected + b" True question"
        assert one.recv(1000) == b""
        assert process.wait(10) == 0


def test_inetd_passes_a_datagram_socket() -> None:
    program = (
        START
        + """
    (listener,) = listen(Endpoint("stdio"))
    accepted = listener.accept()
    accepted.outlet.send(accepted.scheme.encode() + accepted.socket.recv(100)[1:])
    """
    )
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        client.settimeout(10)
        client.sendto(b" question", server.getsockname())
        process = start(program, server)
        assert client.recv(100) == b"udp question"
        assert process.wait(10) == 0


def test_nothing_is_read_before_it_is_accepted() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"precious")
    os.close(writer)
    with listen_stdio(reader, 1, most=1, amplification=1.0) as listener:
        assert listener.endpoint == Endpoint("stdio")
    assert os.read(reader, 100) == b"precious"
    os.close(reader)


def test_it_is_listened_on_like_everything_else() -> None:
    (listener,) = listen(Endpoint("stdio"))
    with listener:
        assert not listener.exhausted
        assert select.select([listener], [], [], 0)[0]
