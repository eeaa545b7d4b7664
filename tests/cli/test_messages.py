"""hailer send, recv, ask and who, against a real relay."""

from __future__ import annotations

import json
import signal
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint
from tests.cli.conftest import running_relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Process, Run
    from tests.conftest import Connect

    Serve = Callable[[Callable[[socket.socket], None]], int]


def receiver(start: Callable[..., Process], relay: str, *args: str) -> Process:
    """Start ``recv -v`` and wait until it is logged in and in its rooms."""
    process = start("recv", "-v", "--relay", relay, *args)
    process.read_until(b"receiving as ", "err")
    return process


class TestSend:
    """What became of each message."""

    def test_sent(self, hailer: Run, connect: Connect, relay: str) -> None:
        bob = connect(Endpoint.parse(relay), "bob")
        done = hailer("send", "bob", "hi there", "--relay", relay, "--name", "ann")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"sent\n", b"")
        assert bob.line() == "MSG ann bob :hi there"

    def test_refused(self, hailer: Run, relay: str) -> None:
        done = hailer("send", "nobody", "x", "--relay", relay)
        assert done.returncode == 1
        assert done.stdout == b"refused: offline nobody is not connected\n"
        assert done.stderr == b"hailer: nobody is not there: --post leaves messages in the mailbox\n"

    def test_lines_of_input_keep_their_order(self, hailer: Run, connect: Connect, relay: str) -> None:
        bob = connect(Endpoint.parse(relay), "bob")
        count = 5000
        lines = [f"{number} {'x' * (number % 100)}" for number in range(count)]
        done: list[object] = []

        def send() -> None:
            done.append(
                hailer("send", "bob", "--relay", relay, "--name", "ann", data="\n".join(lines).encode())
            )

        thread = threading.Thread(target=send)
        thread.start()
        assert [bob.line() for _ in range(count)] == [f"MSG ann bob :{line}" for line in lines]
        thread.join()
        (result,) = done
        assert result.stdout == b"sent\n" * count  # type: ignore[attr-defined]

    def test_json(self, hailer: Run, connect: Connect, relay: str) -> None:
        connect(Endpoint.parse(relay), "bob")
        done = hailer("send", "bob", "--relay", relay, "--json", data=b"one\ntwo\n")
        assert [json.loads(line) for line in done.stdout.splitlines()] == [
            {"n": 1, "to": "bob", "outcome": "sent"},
            {"n": 2, "to": "bob", "outcome": "sent"},
        ]
        done = hailer("send", "nobody", "x", "--relay", relay, "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout) == {
            "n": 1,
            "to": "nobody",
            "outcome": "refused",
            "code": "offline",
            "explanation": "nobody is not connected",
        }

    def test_to_a_room(self, hailer: Run, connect: Connect, relay: str) -> None:
        bob = connect(Endpoint.parse(relay), "bob")
        bob.send("JOIN #ops")
        bob.expect("JOINED #ops bob")
        done = hailer("send", "#ops", "disk full", "--relay", relay, "--name", "ann")
        assert (done.returncode, done.stdout) == (0, b"sent\n")
        assert "MSG ann #ops :disk full" in bob.until("LEFT #ops ann")

    def test_unknown_when_the_relay_vanishes(self, hailer: Run, serve: Serve) -> None:
        def handle(peer: socket.socket) -> None:
            with peer.makefile("rwb") as file:
                file.write(b"RELAY test :hello\n")
                file.flush()
                assert file.readline().startswith(b"HELLO ann ")
                file.write(b"WELCOME ann session=s stored=0 relay=test\n")
                file.flush()
                assert file.readline() == b"SEND bob :x\n"

        done = hailer("send", "bob", "x", "--relay", f"127.0.0.1:{serve(handle)}", "--name", "ann")
        assert done.returncode == 1
        assert done.stdout.startswith(b"unknown: ")
        assert b"it is unknown whether SEND was done" in done.stderr

    def test_text_that_starts_with_a_dash(self, hailer: Run, connect: Connect, relay: str) -> None:
        bob = connect(Endpoint.parse(relay), "bob")
        done = hailer("send", "--relay", relay, "--name", "ann", "--", "bob", "--help")
        assert done.stdout == b"sent\n"
        assert bob.line() == "MSG ann bob :--help"


class TestRecv:
    """Messages as lines."""

    def test_lines(self, start: Callable[..., Process], connect: Connect, relay: str) -> None:
        process = receiver(start, relay, "--name", "inbox", "--count", "4")
        ann = connect(Endpoint.parse(relay), "ann")
        payload = "a\\n\x1b[2J\u202e\n".encode() + b"\xff"
        ann.send(b"SEND inbox :plain  text \nSEND inbox %d\n%sSEND inbox :\n" % (len(payload), payload))
        ann.send("SEND inbox :last")
        code, out, _ = process.end()
        assert code == 0
        assert out.decode().splitlines() == [
            "ann inbox plain  text ",
            "ann inbox a\\\\n\\x1b[2J\\u202e\\n\\udcff",
            "ann inbox ",
            "ann inbox last",
        ]

    def test_each_line_comes_at_once(
        self, start: Callable[..., Process], connect: Connect, relay: str
    ) -> None:
        process = receiver(start, relay, "--name", "inbox")
        ann = connect(Endpoint.parse(relay), "ann")
        for text in ("one", "two"):
            ann.send(f"SEND inbox :{text}")
            process.read_until(f"ann inbox {text}\n".encode())
        process.signal(signal.SIGINT)
        assert process.end()[0] == 130

    def test_json(self, start: Callable[..., Process], connect: Connect, relay: str) -> None:
        process = receiver(start, relay, "--name", "inbox", "--count", "2", "--json")
        connect(Endpoint.parse(relay), "ann").send(b"SEND inbox :h\xc3\xa9\nSEND inbox 1\n\xff\n")
        assert [json.loads(line) for line in process.end()[1].splitlines()] == [
            {"kind": "message", "from": "ann", "to": "inbox", "text": "hé"},
            {"kind": "message", "from": "ann", "to": "inbox", "base64": "/w=="},
        ]

    def test_rooms(self, start: Callable[..., Process], connect: Connect, relay: str) -> None:
        ann = connect(Endpoint.parse(relay), "ann")
        ann.send("JOIN #a\nJOIN #b")
        ann.expect("JOINED #a ann", "JOINED #b ann")
        process = receiver(start, relay, "--name", "inbox", "--count", "2", "--room", "#a", "--room", "b")
        ann.expect("JOINED #a inbox", "JOINED #b inbox")
        ann.send("SEND #a :in a\nSEND #b :in b")
        assert process.end()[1] == b"ann #a in a\nann #b in b\n"

    def test_made_up_name_is_told(self, start: Callable[..., Process], connect: Connect, relay: str) -> None:
        process = start("recv", "--relay", relay, "--count", "1")
        line = process.read_until(b"\n", "err").decode()
        assert line.startswith("hailer: receiving as ")
        name = line.split()[-1]
        connect(Endpoint.parse(relay), "ann").send(f"SEND {name} :x")
        assert process.end()[1] == f"ann {name} x\n".encode()

    def test_silence(self, hailer: Run, relay: str) -> None:
        done = hailer("recv", "--relay", relay, "--name", "inbox", "--count", "1", "--timeout", "0.2")
        assert (done.returncode, done.stdout) == (28, b"")
        assert b"no message came for 0.2 seconds" in done.stderr

    @pytest.mark.parametrize(
        ("verb", "out"),
        [(["recv", "--name", "ann", "--count", "1"], "err"), (["chat", "ann"], "out")],
    )
    def test_losses_are_told(
        self, start: Callable[..., Process], serve: Serve, verb: list[str], out: str
    ) -> None:
        def handle(peer: socket.socket) -> None:
            # The command is interrupted once it has told, perhaps before its login is complete.
            with suppress(ConnectionError), peer.makefile("rwb") as file:
                file.write(b"RELAY test :hello\n")
                file.flush()
                assert file.readline().startswith(b"HELLO ann ")
                file.write(b"WELCOME ann session=s stored=0 relay=test\n")
                file.write(b"GAP 3 #lobby :since 2026-11-21T09:00:00Z\n")
                file.flush()
                for line in file:
                    if line.startswith(b"PING "):
                        file.write(b"PONG " + line[5:])
                        file.flush()
                    elif line.startswith(b"QUIT"):
                        file.write(b"BYE :bye\n")
                        return

        process = start(*verb, "--relay", f"127.0.0.1:{serve(handle)}")
        process.read_until(
            b"3 messages of #lobby were lost since 2026-11-21T09:00:00Z: they came faster", out
        )
        process.signal(signal.SIGINT)
        assert process.end()[0] == 130

    def test_name_taken(self, hailer: Run, connect: Connect, relay: str) -> None:
        connect(Endpoint.parse(relay), "ann")
        done = hailer("recv", "--relay", relay, "--name", "ann")
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"(taken): ann is here already; take another name" in done.stderr

    def test_broken_pipe_is_quiet(self, start: Callable[..., Process], connect: Connect, relay: str) -> None:
        process = receiver(start, relay, "--name", "inbox")
        assert process.popen.stdout is not None
        process.popen.stdout.close()
        connect(Endpoint.parse(relay), "ann").send("SEND inbox :x")
        assert process.popen.wait(10) == 141
        assert process.popen.stderr is not None
        assert (
            process.popen.stderr.read().strip() == b""
        )  # the end of the line that was read before may come late

    def test_full_disk(
        self, start: Callable[..., Process], hailer: Run, relay: str, connect: Connect
    ) -> None:
        connect(Endpoint.parse(relay), "ann")
        with open("/dev/full", "wb") as full:  # noqa: PTH123 (a device)
            import subprocess  # noqa: PLC0415
            import sys  # noqa: PLC0415

            done = subprocess.run(
                [sys.executable, "-m", "hailer", "who", "--relay", relay],
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr == (
            b"hailer: standard output cannot be written (no space left on device): send it elsewhere\n"
        )

    def test_ends_with_the_relay(self, start: Callable[..., Process], tmp_path: Path) -> None:
        with running_relay(tmp_path) as relay:
            process = receiver(start, relay, "--name", "inbox")
        code, out, err = process.end()
        assert (code, out) == (1, b"")
        assert b"the relay closed the session: the relay is shutting down" in err
        assert b"Traceback" not in err

    def test_follow_connects_again(
        self, start: Callable[..., Process], connect: Connect, tmp_path: Path
    ) -> None:
        with running_relay(tmp_path) as relay:
            process = receiver(
                start, relay, "--name", "inbox", "--follow", "--room", "lobby", "--retry-delay", "0.05"
            )
        process.read_until(b"the connection was lost", "err")
        with running_relay(tmp_path, "--listen", relay):
            process.read_until(b"again", "err")
            ann = connect(Endpoint.parse(relay), "ann")
            ann.send("JOIN #lobby\nSEND #lobby :back")
            process.read_until(b"ann #lobby back\n")
            ann.close()
            process.signal(signal.SIGINT)
            assert process.end()[0] == 130


class TestAskAndWho:
    """Questions, and who is here."""

    def test_answer(self, start: Callable[..., Process], connect: Connect, relay: str) -> None:
        bob = connect(Endpoint.parse(relay), "bob")
        process = start("ask", "bob", "how are you?", "--relay", relay, "--name", "ann")
        (line,) = bob.expect("ASKED ")
        number = line.split()[1]
        assert line == f"ASKED {number} ann :how are you?"
        bob.send(f"ANSWER {number} ann :well")
        assert process.end() == (0, b"well\n", b"")

    def test_json_answer(self, start: Callable[..., Process], connect: Connect, relay: str) -> None:
        bob = connect(Endpoint.parse(relay), "bob")
        process = start("ask", "bob", "x", "--relay", relay, "--name", "ann", "--json")
        bob.send(f"ANSWER {bob.expect('ASKED ')[0].split()[1]} ann :well")
        assert json.loads(process.end()[1]) == {"from": "bob", "text": "well"}

    def test_no_answer_in_time(self, hailer: Run, connect: Connect, relay: str) -> None:
        connect(Endpoint.parse(relay), "bob")
        done = hailer("ask", "bob", "x", "--relay", relay, "--timeout", "0.3")
        assert (done.returncode, done.stdout) == (28, b"")
        assert b"bob did not answer in time" in done.stderr

    def test_nobody_to_ask(self, hailer: Run, relay: str) -> None:
        done = hailer("ask", "nobody", "x", "--relay", relay)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr == b"hailer: the relay refused ASK (offline): nobody is not connected\n"

    def test_who(self, hailer: Run, connect: Connect, relay: str) -> None:
        connect(Endpoint.parse(relay), "bob")
        ann = connect(Endpoint.parse(relay), "Ann")
        ann.send("JOIN #tea")
        ann.expect("JOINED")
        done = hailer("who", "--relay", relay)
        assert (done.returncode, sorted(done.stdout.split()), done.stderr) == (0, [b"Ann", b"bob"], b"")
        assert hailer("who", "#tea", "--relay", relay).stdout == b"Ann\n"
        assert hailer("who", "tea", "--json", env={"HAILER_RELAY": relay}).stdout == b'{"name": "Ann"}\n'
        assert hailer("who", "#empty", "--relay", relay).stdout == b""

    def test_relay_from_settings(self, hailer: Run, connect: Connect, relay: str, tmp_path: Path) -> None:
        connect(Endpoint.parse(relay), "bob")
        (tmp_path / "hailer.toml").write_text(f'[client]\nrelay = "{relay}"\nname = "toml"\n')
        assert hailer("who").stdout == b"bob\n"


@pytest.mark.parametrize(
    "verb", [["who"], ["send", "bob", "x"], ["recv"], ["ask", "bob", "x"], ["chat", "ann"]]
)
class TestUnreachable:
    """Each verb says it alike when there is no relay."""

    def test_nobody_listens(self, hailer: Run, verb: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        done = hailer(*verb, "--relay", f"127.0.0.1:{port}")
        assert (done.returncode, done.stdout) == (7, b"")
        assert done.stderr.decode() == (
            f"hailer: nobody listens on 127.0.0.1:{port} (connection refused): start one with hailer relay\n"
        )

    def test_unknown_host(self, hailer: Run, verb: list[str]) -> None:
        done = hailer(*verb, "--relay", "no-such-host.invalid:1")
        assert (done.returncode, done.stdout) == (6, b"")
        assert b"no-such-host.invalid" in done.stderr
        assert done.stderr.count(b"\n") == 1

    def test_silent_relay(self, hailer: Run, verb: list[str], serve: Serve) -> None:
        gone = threading.Event()

        def hold(_: socket.socket) -> None:
            gone.wait(20)

        port = serve(hold)
        done = hailer(*verb, "--relay", f"127.0.0.1:{port}", "--timeout", "0.3")
        gone.set()
        assert (done.returncode, done.stdout) == (28, b"")
        assert done.stderr.count(b"\n") == 1

    def test_no_relay_at_all(self, hailer: Run, verb: list[str], serve: Serve) -> None:
        def handle(peer: socket.socket) -> None:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        done = hailer(*verb, "--relay", f"127.0.0.1:{serve(handle)}")
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.count(b"\n") == 1
        assert b"bug" not in done.stderr


def test_retries_until_the_relay_is_there(start: Callable[..., Process], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = start(
        "who", "-v", "--relay", f"tcp4://127.0.0.1:{port}", "--retries", "1000", "--retry-delay", "0.05"
    )
    process.read_until(b"trying again", "err")
    with running_relay(tmp_path, "--listen", f"tcp4://127.0.0.1:{port}"):
        assert process.end()[0] == 0
