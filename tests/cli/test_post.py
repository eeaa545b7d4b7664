"""hailer send --post, recv --ack and chat with mail, against a real relay that is killed now and then."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.endpoint import Endpoint
from tests.cli.conftest import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Run
    from tests.conftest import Connect, Wire


def known(connect: Connect, relay: str, *names: str) -> None:
    """Have these names known to the relay, and gone."""
    for name in names:
        wire = connect(Endpoint.parse(relay), name)
        wire.send("QUIT")
        wire.until("BYE :you quit")


def until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def until_text(wire: Wire, text: str) -> list[str]:
    """The next lines up to the one with this text, with it."""
    lines = [wire.line()]
    while not lines[-1].endswith(f" :{text}"):
        lines.append(wire.line())
    return lines


class TestPostAndAck:
    """Mail by the verbs."""

    def test_stored_and_fetched(self, hailer: Run, connect: Connect, relay: str) -> None:
        known(connect, relay, "box")
        done = hailer("send", "box", "--post", "--relay", relay, "--name", "ann", data=b"one\ntwo\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"stored\nstored\n", b"")
        arguments = ("--relay", relay, "--name", "box", "--timeout", "5")
        done = hailer("recv", "--count", "1", *arguments)
        assert (done.returncode, done.stdout) == (0, b"ann box one\n")
        assert done.stderr == b"hailer: mail stays in the mailbox until it is received with --ack\n"
        done = hailer("recv", "--count", "1", "--ack", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"ann box one\n", b"")
        done = hailer("recv", "--count", "1", "--ack", "--json", *arguments)
        fields = json.loads(done.stdout)
        assert isinstance(fields.pop("number"), int)
        assert fields == {"kind": "mail", "from": "ann", "to": "box", "text": "two"}
        done = hailer("recv", "--count", "1", "--ack", "--relay", relay, "--name", "box", "--timeout", "0.3")
        assert (done.returncode, done.stdout) == (28, b"")

    def test_refused(self, hailer: Run, connect: Connect, relay: str) -> None:
        done = hailer("send", "nemo", "x", "--post", "--relay", relay, "--name", "ann")
        assert (done.returncode, done.stderr) == (1, b"")
        assert done.stdout == b"refused: unknown nobody of the name nemo was ever here\n"

    def test_a_room(self, hailer: Run, connect: Connect, relay: str) -> None:
        member = connect(Endpoint.parse(relay), "member")
        member.send("JOIN #news\nQUIT")
        member.until("BYE :you quit")
        watcher = connect(Endpoint.parse(relay), "watcher")
        watcher.send("JOIN #news")
        watcher.expect("JOINED #news watcher")
        done = hailer("send", "#news", "x", "--post", "--relay", relay)
        guest = watcher.expect("JOINED #news ", "MAIL ", "LEFT #news ")[0].split()[2]
        watcher.send("POST 1 #news :nobody will fetch this for a guest")
        watcher.expect("STORED 1")
        assert "mail=0" in connect(Endpoint.parse(relay)).login(guest)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"stored\n", b"")
        arguments = ("--relay", relay, "--name", "member", "--timeout", "5")
        done = hailer("recv", "--count", "1", "--ack", "--json", *arguments)
        assert json.loads(done.stdout)["text"] == "x"

    def test_an_outbox_needs_a_name(self, hailer: Run, relay: str, tmp_path: Path) -> None:
        for more in ([], ["--post"], ["--name", "ann"]):
            done = hailer("send", "bob", "x", "--outbox", str(tmp_path / "o"), "--relay", relay, *more)
            assert (done.returncode, done.stdout) == (2, b"")
            assert b"give --post and --name" in done.stderr

    def test_chat(self, start: Callable[..., Process], hailer: Run, connect: Connect, relay: str) -> None:
        known(connect, relay, "dan", "eve")
        hailer("send", "dan", "are you there?", "--post", "--relay", relay, "--name", "ann")
        dan = start("chat", "dan", "--relay", relay)
        dan.read_until(b"[mail] ann (to you): are you there?\n")
        dan.write(b"/msg eve later\n/post eve and this\n/post nemo x\n/post eve\n")
        dan.read_until(b"* eve is away: it waits in the mailbox\n")
        dan.read_until(b"* it waits in the mailbox of eve\n")
        dan.read_until(b"* refused (unknown): nobody of the name nemo was ever here\n")
        dan.read_until(b"say something: /post bob hello\n")
        assert dan.end()[0] == 0
        eve = connect(Endpoint.parse(relay))
        assert "mail=2" in eve.login("eve")
        dan_again = connect(Endpoint.parse(relay))
        assert "mail=0" in dan_again.login("dan")  # it was shown


@contextmanager
def mortal_relay(tmp_path: Path, listen: str) -> Iterator[Process]:
    """A relay with a store, to be killed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HAILER_")}
    relay = Process(
        ("relay", "--listen", listen, "--store", str(tmp_path / "mail.db")),
        tmp_path,
        {**clean, "XDG_CONFIG_HOME": str(tmp_path)},
    )
    try:
        relay.read_until(b"listening on ")
        yield relay
    finally:
        relay.close()


class TestOutbox:
    """What survives kill -9."""

    def test_lines_go_out_once_and_in_order_over_all_kills(
        self, start: Callable[..., Process], hailer: Run, connect: Connect, tmp_path: Path
    ) -> None:
        listen = f"unix:{tmp_path}/r.sock"
        box = tmp_path / "out" / "box"
        box.parent.mkdir()
        post = ("send", "bob", "--post", "--relay", listen, "--name", "ann", "--outbox", str(box))
        more = ("--retry-delay", "0.05", "--retries", "50")
        stored = 0
        for turn in range(4):
            with mortal_relay(tmp_path, listen) as relay:
                if turn == 0:
                    known(connect, listen, "bob")
                ann = start(*post, *more)
                ann.write(b"".join(b"%d-%d\n" % (turn, number) for number in range(3000)))
                ann.read_until(b"stored\n")
                (relay if turn % 2 else ann).signal(signal.SIGKILL)
            if turn % 2:
                ann.signal(signal.SIGKILL)
            stored += ann.end()[1].count(b"stored\n")
        with mortal_relay(tmp_path, listen):
            assert stat.S_IMODE(box.stat().st_mode) == 0o600
            done = hailer(*post, data=b"")
            assert (done.returncode, done.stdout) == (0, b"")
            done = hailer(*post, data=b"the end\n")
            assert (done.returncode, done.stdout, done.stderr) == (0, b"stored\n", b"")
            bob = connect(Endpoint.parse(listen), "bob")
            got = [line.split(":", 1)[1] for line in until_text(bob, "the end")]
        assert len(got) == len(set(got)), "a line came twice"
        assert len(got) >= stored + 1
        for turn in range(4):
            lines = [line for line in got if line.startswith(f"{turn}-")]
            assert lines == [f"{turn}-{number}" for number in range(len(lines))], "one is missing"
        assert [line[0] for line in got] == sorted(line[0] for line in got), "the order changed"

    def test_one_owner_at_a_time(
        self, start: Callable[..., Process], hailer: Run, connect: Connect, relay: str, tmp_path: Path
    ) -> None:
        known(connect, relay, "bob")
        post = ("send", "bob", "--post", "--relay", relay, "--outbox", str(tmp_path / "box"))
        ann = start(*post, "--name", "ann")
        ann.write(b"x\n")
        ann.read_until(b"stored\n")
        done = hailer(*post, "--name", "ann", data=b"y\n")
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"is used by another client: wait for its end" in done.stderr
        assert ann.end()[0] == 0
        done = hailer(*post, "--name", "carl", data=b"y\n")
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"is ann's: log in as ann, or name another file" in done.stderr

    def test_what_is_refused_later_is_told(
        self, start: Callable[..., Process], hailer: Run, tmp_path: Path, connect: Connect
    ) -> None:
        listen = f"unix:{tmp_path}/r.sock"
        box = str(tmp_path / "box")
        post = ("send", "bob", "--post", "--relay", listen, "--name", "ann", "--outbox", box)
        with mortal_relay(tmp_path, listen) as relay:
            known(connect, listen, "bob")
            ann = start(*post)
            ann.write(b"first\n")
            ann.read_until(b"stored\n")
            relay.signal(signal.SIGKILL)
            relay.popen.wait(10)
            ann.write(b"second\n")
            until(lambda: b"second" in Path(f"{box}-wal").read_bytes())
            ann.signal(signal.SIGKILL)
            ann.end()
        (tmp_path / "mail.db").unlink()
        for rest in tmp_path.glob("mail.db-*"):
            rest.unlink()
        with mortal_relay(tmp_path, listen):  # which has never heard of bob
            done = hailer(*post, data=b"")
            assert done.returncode == 1
            assert b"hailer: 1 message from before is in " in done.stderr
            assert (
                b"hailer: refused: unknown nobody of the name bob was ever here: bob second\n" in done.stderr
            )
            done = hailer(*post, data=b"")
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    def test_what_happens_meanwhile_is_told(
        self, start: Callable[..., Process], tmp_path: Path, connect: Connect
    ) -> None:
        listen = f"unix:{tmp_path}/r.sock"
        box = str(tmp_path / "box")
        with mortal_relay(tmp_path, listen) as relay:
            known(connect, listen, "bob")
            ann = start("send", "bob", "--post", "--relay", listen, "--name", "ann", "--outbox", box)
            ann.write(b"first\n")
            ann.read_until(b"stored\n")
            relay.signal(signal.SIGKILL)
            ann.read_until(b"hailer: the connection was lost: ", "err")
        for rest in tmp_path.glob("mail.db*"):
            rest.unlink()
        with mortal_relay(tmp_path, listen):
            ann.read_until(b" again\n", "err")
            code, _, told = ann.end()
        assert code == 0
        lines = told.splitlines()
        assert all(line.startswith(b"hailer: ") for line in lines), lines
        assert any(b"the relay has another store than before" in line for line in lines)

    def test_the_end_of_the_relay_is_told_once(
        self, start: Callable[..., Process], tmp_path: Path, connect: Connect
    ) -> None:
        listen = f"unix:{tmp_path}/r.sock"
        with mortal_relay(tmp_path, listen) as relay:
            bob = start("recv", "--relay", listen, "--name", "bob", "-v")
            bob.read_until(b"receiving as bob\n", "err")
            relay.signal(signal.SIGKILL)
            code, _, told = bob.end()
        assert code != 0
        [told_last] = told.split(b"receiving as bob\n")[1].splitlines()
        assert told_last.startswith(b"hailer: the relay ended the connection")

    def test_a_time_limit(
        self, start: Callable[..., Process], hailer: Run, connect: Connect, tmp_path: Path
    ) -> None:
        listen = f"unix:{tmp_path}/r.sock"
        post = (
            "send",
            "bob",
            "--post",
            "--relay",
            listen,
            "--name",
            "ann",
            "--outbox",
            str(tmp_path / "box"),
        )
        with mortal_relay(tmp_path, listen) as relay:
            known(connect, listen, "bob")
            ann = start(*post, "--timeout", "0.5")
            ann.write(b"first\n")
            ann.read_until(b"stored\n")
            relay.signal(signal.SIGSTOP)
            ann.write(b"second\n")
            code, out, _ = ann.end()
            assert code == 28
            assert out.splitlines()[1].startswith(b"kept: the post was not stored in time")
            relay.signal(signal.SIGCONT)
            done = hailer(*post, data=b"")
            assert done.returncode == 0
            bob = connect(Endpoint.parse(listen), "bob")
            assert [line.split(":")[1] for line in until_text(bob, "second")] == ["first", "second"]
