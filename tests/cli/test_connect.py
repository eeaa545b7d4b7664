"""hailer connect, against real servers."""

from __future__ import annotations

import json
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Process, Run, Terminal

    Handle = Callable[[socket.socket], None]
    Serve = Callable[[Handle], int]


def echo(peer: socket.socket) -> None:
    """Send back what comes, until the peer has finished."""
    while data := peer.recv(65536):
        peer.sendall(data)


def say(data: bytes) -> Handle:
    """Send this and end."""
    return lambda peer: peer.sendall(data)


def test_lines_there_and_back(hailer: Run, serve: Serve) -> None:
    done = hailer("connect", f"localhost:{serve(echo)}", data=b"one\n\ntwo\xff\x00\nlast without an end")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"one\n\ntwo\xff\x00\nlast without an end\n"


def test_host_and_port_as_two_words(hailer: Run, serve: Serve) -> None:
    done = hailer("connect", "127.0.0.1", str(serve(echo)), data=b"x\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x\n", b"")


def test_many_lines_keep_their_order(hailer: Run, serve: Serve) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(50_000))
    done = hailer("connect", f"localhost:{serve(echo)}", data=lines)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == lines


def test_keeps_reading_after_the_end_of_input(hailer: Run, serve: Serve) -> None:
    def slow(peer: socket.socket) -> None:
        while peer.recv(100):
            pass
        peer.sendall(b"heard you all\n")

    done = hailer("connect", f"localhost:{serve(slow)}", data=b"x\n")
    assert (done.returncode, done.stdout) == (0, b"heard you all\n")


def test_all_of_the_input_is_sent_to_a_server_that_ends_its_side_first(hailer: Run, serve: Serve) -> None:
    data = b"".join(b"%d\n" % number for number in range(200_000))
    came = bytearray()

    def listens(peer: socket.socket) -> None:
        peer.sendall(b"nothing to say\n")
        peer.shutdown(socket.SHUT_WR)
        while more := peer.recv(65536):
            came.extend(more)

    done = hailer("connect", f"localhost:{serve(listens)}", data=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"nothing to say\n", b"")
    assert bytes(came) == data


def test_input_that_is_not_taken_is_told(hailer: Run, serve: Serve) -> None:
    def leaves(peer: socket.socket) -> None:
        peer.sendall(b"enough\n")
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1000)

    done = hailer("connect", f"localhost:{serve(leaves)}", data=b"x\n" * 5_000_000)
    assert (done.returncode, done.stdout) == (1, b"enough\n")
    assert done.stderr.count(b"\n") == 1
    # The reset that what it did not read makes may come before its end has been seen.
    told = (b"took only a part of the input", b"(connection reset)", b"(broken pipe)")
    assert any(text in done.stderr for text in told), done.stderr


def test_ends_when_the_server_ends_though_input_stays_open(
    start: Callable[..., Process], serve: Serve
) -> None:
    process = start("connect", "-v", "localhost", str(serve(say(b"bye\n"))))
    process.read_until(b"bye\n")
    process.read_until(b"ended the connection", "err")
    assert process.popen.wait(10) == 0


def test_send_prints_one_answer(hailer: Run, serve: Serve) -> None:
    done = hailer("connect", f"localhost:{serve(echo)}", "--send", "hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


def test_send_without_an_answer_fails(hailer: Run, serve: Serve) -> None:
    def listen(peer: socket.socket) -> None:
        peer.recv(10)

    done = hailer("connect", f"localhost:{serve(listen)}", "--send", "hello")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"ended the connection without an answer" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("framing", ["crlf", "null", "length", "netstring", "delimiter:END"])
def test_framings(hailer: Run, serve: Serve, framing: str) -> None:
    done = hailer("connect", f"localhost:{serve(echo)}", "--framing", framing, data=b"one\ntwo\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one\ntwo\n", b"")


@pytest.mark.parametrize("framing", ["raw", "eof"])
def test_streams_are_passed_on_unchanged(hailer: Run, serve: Serve, framing: str) -> None:
    data = b"GET / HTTP/1.0\r\n\r\n\0\xff no end"
    done = hailer("connect", f"localhost:{serve(echo)}", "--framing", framing, data=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


def test_eof_framing_finishes_after_send(hailer: Run, serve: Serve) -> None:
    done = hailer("connect", f"localhost:{serve(echo)}", "--framing", "eof", "--send", "whole")
    assert (done.returncode, done.stdout) == (0, b"whole")


def test_json(hailer: Run, serve: Serve) -> None:
    done = hailer("connect", f"localhost:{serve(echo)}", "--json", data=b'say "x"\n\xff\n')
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"text": 'say "x"'},
        {"base64": "/w=="},
    ]


def test_verbose_tells_where(hailer: Run, serve: Serve) -> None:
    port = serve(echo)
    done = hailer("connect", "-v", f"localhost:{port}")
    assert done.returncode == 0
    assert b"connected to tcp://127.0.0.1:%d from 127.0.0.1:" % port in done.stderr


def test_unix_socket(hailer: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("u") / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(10)

        def serve_one() -> None:
            peer, _ = listener.accept()
            with peer:
                echo(peer)

        thread = threading.Thread(target=serve_one)
        thread.start()
        done = hailer("connect", f"unix:{path}", data=b"x\n")
        thread.join()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x\n", b"")


def test_unknown_host(hailer: Run) -> None:
    done = hailer("connect", "no-such-host.invalid:7")
    assert (done.returncode, done.stdout) == (6, b"")
    assert b"no-such-host.invalid" in done.stderr
    assert done.stderr.count(b"\n") == 1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_listens(hailer: Run) -> None:
    port = free_port()
    done = hailer("connect", f"127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (7, b"")
    assert b"nobody listens on 127.0.0.1:%d (connection refused): " % port in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_retries_until_somebody_listens(start: Callable[..., Process]) -> None:
    port = free_port()
    process = start(
        "connect", f"127.0.0.1:{port}", "--retries", "100", "--retry-delay", "0.05", "--send", "x"
    )
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(10)
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(10) == b"x\n"
            peer.sendall(b"y\n")
        assert process.end() == (0, b"y\n", b"")


def hold(gone: threading.Event) -> Handle:
    """Say nothing until the test is over."""

    def handle(_: socket.socket) -> None:
        gone.wait(20)

    return handle


@pytest.mark.parametrize("more", [["--send", "hello"], []])
def test_silent_server(hailer: Run, serve: Serve, more: list[str]) -> None:
    gone = threading.Event()
    done = hailer("connect", f"localhost:{serve(hold(gone))}", "--timeout", "0.3", *more, data=b"x\n")
    gone.set()
    assert (done.returncode, done.stdout) == (28, b"")
    assert b"said nothing for 0.3 seconds" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_reset_by_the_server(hailer: Run, serve: Serve) -> None:
    def reset(peer: socket.socket) -> None:
        peer.sendall(b"first\n")
        peer.recv(10)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    done = hailer("connect", f"localhost:{serve(reset)}", data=b"x\n")
    assert done.returncode == 1
    assert b"connection reset" in done.stderr
    assert done.stdout == b"first\n"
    assert done.stderr.count(b"\n") == 1


def test_cut_last_message_is_shown_and_told(hailer: Run, serve: Serve) -> None:
    done = hailer("connect", "localhost", str(serve(say(b"one\ntw"))))
    assert done.returncode == 1
    assert done.stdout == b"one\ntw\n"
    assert done.stderr.count(b"\n") == 1


def test_too_long_message_is_told_and_the_rest_comes(hailer: Run, serve: Serve) -> None:
    done = hailer("connect", f"localhost:{serve(echo)}", "--max-message", "5", "--framing", "netstring")
    assert done.returncode == 0

    def talk(peer: socket.socket) -> None:
        peer.sendall(b"one\n123456\ntwo\n")

    done = hailer("connect", f"localhost:{serve(talk)}", "--max-message", "5")
    assert (done.returncode, done.stdout) == (1, b"one\ntwo\n")
    assert b"over the limit of 5 bytes" in done.stderr


def test_line_of_input_over_the_limit(hailer: Run, serve: Serve) -> None:
    done = hailer("connect", f"localhost:{serve(echo)}", "--max-message", "5", data=b"one\n123456\n")
    assert done.returncode == 2
    assert b"a line of input is longer than 5 bytes" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_datagrams(start: Callable[..., Process], hailer: Run) -> None:
    server = start("serve", "echo", "udp4://127.0.0.1:0")
    endpoint = server.read_until(b"\n").decode().removeprefix("listening on ").strip()
    done = hailer("connect", endpoint, "--timeout", "0.5", data=b"one\n\ntwo\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"one\n\ntwo\n", b"")
    assert hailer("connect", endpoint, "--send", "three").stdout == b"three\n"


def test_datagrams_that_nobody_takes(hailer: Run) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        endpoint = f"udp4://127.0.0.1:{sock.getsockname()[1]}"
    for done in (hailer("connect", endpoint, "--send", "x"), hailer("connect", endpoint, data=b"x\n")):
        assert (done.returncode, done.stdout) == (7, b"")
        assert b"nobody listens on" in done.stderr


def test_a_framing_where_there_is_none_to_choose(hailer: Run) -> None:
    done = hailer("connect", "udp://localhost:7", "--framing", "line")
    assert done.returncode == 2
    assert b"takes no framing" in done.stderr


def test_a_certificate_where_nothing_is_encrypted(hailer: Run) -> None:
    done = hailer("connect", "tcp://localhost:7", "--insecure")
    assert done.returncode == 2
    assert b"is not encrypted" in done.stderr


def test_interrupt(start: Callable[..., Process], serve: Serve) -> None:
    process = start("connect", "-v", f"localhost:{serve(echo)}")
    process.read_until(b"connected", "err")
    process.signal(signal.SIGINT)
    code, out, err = process.end()
    assert (code, out) == (130, b"")
    assert err.count(b"\n") == 1


def test_interrupt_while_nobody_reads_the_output(start: Callable[..., Process], serve: Serve) -> None:
    flooded = threading.Event()

    def flood(peer: socket.socket) -> None:
        peer.settimeout(1)
        try:
            while True:
                peer.sendall(b"x" * 1000 + b"\n")
        except TimeoutError:
            flooded.set()
        peer.settimeout(20)
        try:
            while peer.recv(100):
                pass
        except ConnectionError:
            pass

    process = start("connect", f"localhost:{serve(flood)}")
    assert flooded.wait(20)
    process.signal(signal.SIGINT)
    assert process.popen.wait(10) == 130


def test_broken_pipe_is_quiet(start: Callable[..., Process], serve: Serve) -> None:
    go = threading.Event()

    def talk(peer: socket.socket) -> None:
        go.wait(20)
        peer.sendall(b"x\n")
        peer.recv(10)

    process = start("connect", f"localhost:{serve(talk)}")
    assert process.popen.stdout is not None
    process.popen.stdout.close()
    go.set()
    assert process.popen.wait(10) == 141
    assert process.popen.stderr is not None
    assert process.popen.stderr.read() == b""


class Peer:
    """A server that is told what to say, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self._socket: socket.socket | None = None
        self._here = threading.Event()
        self._said = threading.Condition()

    def __call__(self, peer: socket.socket) -> None:
        self._socket = peer
        self._here.set()
        while data := peer.recv(65536):
            with self._said:
                self.heard += data
                self._said.notify_all()

    def say(self, data: bytes) -> None:
        """Send."""
        assert self._here.wait(20)
        assert self._socket is not None
        self._socket.sendall(data)

    def hears(self, text: bytes) -> None:
        """Wait until this has come."""
        with self._said:
            assert self._said.wait_for(lambda: text in self.heard, 20), self.heard


def test_what_arrives_leaves_the_typed_line_alone(terminal: Callable[..., Terminal], serve: Serve) -> None:
    peer = Peer()
    screen = terminal("connect", f"localhost:{serve(peer)}")
    screen.wait_for(lambda screen: screen.current == ">")
    screen.type("half a th")
    screen.wait_for(lambda screen: screen.current == "> half a th")
    peer.say(b"news from afar\n")
    screen.shows("news from afar")
    screen.wait_for(lambda screen: screen.current == "> half a th")
    screen.type("ought\r")
    peer.hears(b"half a thought\n")
    assert peer.heard == b"half a thought\n"
    screen.type("\x1b[A")  # the arrow up brings it back
    screen.wait_for(lambda screen: screen.current == "> half a thought")
    screen.type("\x15\x04")
    assert screen.end() == 0


def test_peer_cannot_move_the_cursor(terminal: Callable[..., Terminal], serve: Serve) -> None:
    peer = Peer()
    screen = terminal("connect", f"localhost:{serve(peer)}")
    screen.wait_for(lambda screen: screen.current == ">")
    peer.say("\x1b[2Jevil\x9b1m\u202egnp\ttab\n".encode())
    screen.shows("\\x1b[2Jevil\\x9b1m\\u202egnp")
    assert b"\x1b[2Jevil" not in screen.screen.raw
    assert "\u202e".encode() not in screen.screen.raw
    screen.type("\x04")
    assert screen.end() == 0


def test_interrupt_at_the_prompt(terminal: Callable[..., Terminal], serve: Serve) -> None:
    screen = terminal("connect", f"localhost:{serve(Peer())}")
    screen.wait_for(lambda screen: screen.current == ">")
    screen.type("not sent\x03")
    assert screen.end() == 130
    assert not any("Traceback" in line for line in screen.screen.lines)


def test_server_ends_while_a_line_is_typed(terminal: Callable[..., Terminal], serve: Serve) -> None:
    go = threading.Event()
    screen = terminal("connect", f"localhost:{serve(hold(go))}")
    screen.wait_for(lambda screen: screen.current == ">")
    screen.type("not sent")
    screen.wait_for(lambda screen: screen.current == "> not sent")
    go.set()
    assert screen.end() == 0
    assert any("ended the connection" in line for line in screen.screen.lines)
