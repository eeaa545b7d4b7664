"""Peers that vanish without a word, as behind a cable that is pulled: noticed, told of once, mail kept.

The relay runs in a network namespace of its own, and who vanishes in another; a pair of virtual links is
between them, and one end is taken down: no FIN and no RST comes through. The others reach the relay by its
Unix socket, which is not in any network.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from hailer.endpoint import Endpoint
from tests.relay.edge.conftest import MODELS, SLACK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Connect, Wire

# An hour: the way to notice that is not tried in a test.
NEVER = "3600, 3600, 5"

_RELAY = """
    import os, subprocess, sys, time
    from hailer.endpoint import Endpoint
    from hailer.relay.app import RelayServer, Settings
    from hailer.relay.core import relay as core
    from hailer.relay.core.limits import Limits
    from hailer.relay.edge import base
    from hailer.runtime import sockets

    model, loop, path, keepalive, unanswered, idle, client = sys.argv[1:]
    sockets.KEEPALIVE = eval(keepalive)
    base._UNANSWERED = float(unanswered)
    base._ASKED_AFTER = 0.2
    core._SCAN = 0.05
    ip = lambda *words: subprocess.run(["ip", *words], check=True)
    far = subprocess.Popen(
        ["unshare", "-n", sys.executable, "-c", client], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert far.stdout.readline() == b"there\\n"
    in_far = lambda *words: subprocess.run(["nsenter", "-t", str(far.pid), "-n", "ip", *words], check=True)
    ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(far.pid))
    ip("addr", "add", "10.77.0.1/24", "dev", "near")
    ip("link", "set", "near", "up")
    in_far("addr", "add", "10.77.0.2/24", "dev", "far")
    in_far("link", "set", "far", "up")
    where = (Endpoint.parse("tcp4://10.77.0.1:7000"), Endpoint.parse(f"unix:{path}"))
    def all_acknowledged():
        # The system asks no peer that owes it an acknowledgement: it sends again, for as long as it may.
        with open("/proc/self/net/tcp") as table:
            return all(row.split()[4].startswith("00000000:") for row in table if row.split()[3] == "01")

    limits = Limits(idle_seconds=float(idle))
    settings = Settings(listen=where, model=model, loop=loop, limits=limits, insecure=True, drain=0.2)
    with RelayServer(settings) as relay:
        far.stdin.write(b"connect\\n")
        far.stdin.flush()
        print(far.stdout.readline().decode().strip(), flush=True)
        for line in sys.stdin:
            if line == "down\\n":
                give_up = time.monotonic() + 20
                while not all_acknowledged() and time.monotonic() < give_up:
                    time.sleep(0.01)
                in_far("link", "set", "far", "down")
            elif line == "up\\n":
                in_far("link", "set", "far", "up")
            print("done", flush=True)
    far.kill()
    far.wait()
"""

_CLIENT = """
    import socket, sys
    print("there", flush=True)
    sys.stdin.readline()
    sock = socket.create_connection(("10.77.0.1", 7000), 5)
    file = sock.makefile("rw")
    file.write("HELLO ann\\nJOIN #one\\nJOIN #two\\nPING done\\n")
    file.flush()
    for line in file:
        if line.startswith("WELCOME "):
            session = line.split("session=")[1].split()[0]
        if line == "PONG done\\n":
            break
    print(session, flush=True)
    sys.stdin.read()
"""


class Island:
    """The relay's process, and the one who vanishes, who is logged in as ann, in #one and #two."""

    def __init__(self, process: subprocess.Popen[str], where: Endpoint, session: str) -> None:
        self.where = where
        self.session = session
        self._process = process

    def cable(self, state: str) -> None:
        """Take the link to ann up or down."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(state + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"


class MakeIsland(Protocol):
    """The type of the fixture `island`."""

    def __call__(self, *, keepalive: str = NEVER, unanswered: float = 3600, idle: float = 3600) -> Island: ...


def namespace_command() -> list[str]:
    """What runs a program in a network namespace of its own; skips where the system denies that.

    Also in CI, whose run names each test that was skipped and why: no program can be installed against it.
    """
    reasons = []
    for command in (["unshare", "-n"], ["unshare", "-Urn"]):
        if shutil.which("unshare") is None or shutil.which("ip") is None:
            reasons.append("unshare (util-linux) and ip (iproute2) are needed")
            break
        test = "ip link add v0 type veth peer name v1 && ip link set lo up"
        done = subprocess.run([*command, "sh", "-c", test], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return command
        reasons.append(done.stderr.strip())
    pytest.skip(f"no network namespace can be made here ({'; '.join(reasons)}): run this as root")


@pytest.fixture
def island(model: str, tmp_path: Path) -> Iterator[MakeIsland]:
    """Starts a relay in a namespace under each model, with a client that can vanish."""
    command = namespace_command()
    processes: list[subprocess.Popen[str]] = []

    def make(*, keepalive: str = NEVER, unanswered: float = 3600, idle: float = 3600) -> Island:
        kind, loop, workers = MODELS[model]
        if workers > 1:
            pytest.skip("the clocks of a worker's process are its own: see test_worker")
        path = tmp_path / "relay.sock"
        settings = (kind, loop, str(path), keepalive, str(unanswered), str(idle), textwrap.dedent(_CLIENT))
        process = subprocess.Popen(
            [*command, sys.executable, "-c", textwrap.dedent(_RELAY), *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        session = process.stdout.readline().strip()
        assert session, "the relay or its client did not start"
        return Island(process, Endpoint.parse(f"unix:{path}"), session)

    yield make
    for process in processes:
        process.communicate(timeout=50)
        assert process.returncode == 0


def witness(island: Island, connect: Connect) -> Wire:
    """Somebody who is told of all that becomes of ann."""
    bob = connect(island.where, "bob")
    bob.send("WATCH ann\nJOIN #one\nJOIN #two")
    assert bob.sync() == ["JOINED #one bob", "JOINED #two bob"]
    return bob


GONE = ["LEFT #one ann", "LEFT #two ann", "OFFLINE ann"]


@pytest.mark.heavy
def test_a_silent_peer_is_asked_by_the_system(island: MakeIsland, connect: Connect) -> None:
    here = island(keepalive="1, 1, 2")
    bob = witness(here, connect)
    here.cable("down")
    began = time.monotonic()
    assert [bob.line() for _ in GONE] == GONE
    assert 1 < time.monotonic() - began < 5 * SLACK
    bob.send("SEND ann :there?")
    bob.expect("FAIL offline ")
    assert bob.sync() == []


@pytest.mark.heavy
def test_a_peer_that_acknowledges_nothing(island: MakeIsland, connect: Connect) -> None:
    here = island(unanswered=1.5)
    bob = witness(here, connect)
    here.cable("down")
    began = time.monotonic()
    bob.send("SEND ann :there?")
    assert [bob.line() for _ in GONE] == GONE
    assert 1.5 < time.monotonic() - began < 4 * SLACK
    assert bob.sync() == []


@pytest.mark.heavy
def test_a_peer_that_answers_no_ping(island: MakeIsland, connect: Connect) -> None:
    here = island(idle=0.7)
    bob = witness(here, connect)
    here.cable("down")
    began = time.monotonic()
    told: list[str] = []
    while len(told) < 3:
        line = bob.line()
        if line == "PING relay":
            bob.send("PONG relay")
        else:
            told.append(line)
    assert told == GONE
    assert 0.5 < time.monotonic() - began < 3 * SLACK


@pytest.mark.heavy
def test_who_comes_back_first_was_never_away(island: MakeIsland, connect: Connect) -> None:
    """The session is taken over before anybody noticed: nothing is told, not even when the old one ends."""
    here = island(unanswered=1.0)
    bob = witness(here, connect)
    here.cable("down")
    bob.send("SEND ann :lost")
    ann = connect(here.where)
    ann.login("ann", f" session={here.session}")
    bob.send("SEND ann :found\nSEND #two :both")
    ann.expect("MSG bob ann :found", "MSG bob #two :both")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        assert bob.sync() == []
        time.sleep(0.1)
    ann.close()
    assert [bob.line() for _ in GONE] == GONE


@pytest.mark.heavy
def test_mail_to_who_has_vanished_is_kept(island: MakeIsland, connect: Connect) -> None:
    """What was sent into the void before anybody noticed, and what was posted after it, comes once."""
    here = island(unanswered=1.0)
    bob = witness(here, connect)
    here.cable("down")
    bob.send("POST 1 ann :one\nPOST 2 #two :two")
    bob.expect("STORED ")
    told = [bob.line()]
    while told[-1] != GONE[-1]:
        told.append(bob.line())
    assert [line for line in told if not line.startswith("STORED ")] == GONE
    bob.send("POST 3 ann :three\nPOST 4 #one :four")
    bob.until("STORED 4")
    ann = connect(here.where)
    assert " mail=4 " in ann.login("ann")
    mail = [line.split(" ", 2) for line in ann.expect("MAIL", "MAIL", "MAIL", "MAIL")]
    assert [text for _, _, text in mail] == [
        "bob ann :one",
        "bob #two :two",
        "bob ann :three",
        "bob #one :four",
    ]
    assert [int(number) - int(mail[0][1]) for _, number, _ in mail] == [0, 1, 2, 3]
    ann.send(f"ACK {mail[3][1]}")
    assert ann.sync() == []
    ann.send("QUIT")
    ann.rest()
    again = connect(here.where)
    assert " mail=0 " in again.login("ann")
    assert again.sync() == []


@pytest.mark.heavy
def test_a_short_break_is_no_end(island: MakeIsland, connect: Connect) -> None:
    """The control: who acknowledges again in time stays."""
    here = island(unanswered=3.0)
    bob = witness(here, connect)
    here.cable("down")
    bob.send("SEND ann :there?")
    bob.sync()
    time.sleep(1.0)
    here.cable("up")
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        assert bob.sync() == []
        time.sleep(0.1)


@pytest.mark.heavy
def test_who_only_does_not_read_stays(island: MakeIsland, connect: Connect) -> None:
    """Its system says that it takes nothing more, which is an answer."""
    here = island(unanswered=1.0)
    bob = witness(here, connect)
    for _ in range(8):
        bob.send(b"SEND ann 100000\n" + b"x" * 100_000)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        assert bob.sync() == []
        time.sleep(0.1)
