"""hailer account, and a real relay that asks for what it makes."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hailer.blocking import RelayClient
from hailer.endpoint import Endpoint
from hailer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Process, Run

TOKEN = re.compile(rb"[A-Za-z0-9_-]{43}\n")


class Relay:
    """``hailer relay -vv`` with the accounts of the test, and raw connections to it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        line = process.read_until(b"\n").splitlines()[0].decode()
        self.endpoint = line.removeprefix("listening on ")
        parsed = Endpoint.parse(self.endpoint)
        assert isinstance(parsed.port, int)
        self.address = (parsed.host, parsed.port)
        self._reloads = 0

    def dial(self) -> Wire:
        return Wire(self.address)

    def reload(self) -> None:
        """SIGHUP, and wait until it is done."""
        self._reloads += 1
        self.process.signal(signal.SIGHUP)
        said = b""
        while said.count(b"what=accounts") + said.count(b"error accounts") < self._reloads:
            said = self.process.read_more("err")


class Wire:
    """A connection by hand."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, 20)
        self._file = self._socket.makefile("rwb")
        assert self.line().startswith("RELAY ")

    def say(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def line(self) -> str:
        return self._file.readline().decode().rstrip("\n")

    def ask(self, line: str) -> str:
        self.say(line)
        return self.line()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(params=["asyncio", "thread"])
def relay_with(start: Callable[..., Process], request: pytest.FixtureRequest) -> Callable[..., Relay]:
    """Starts a relay under each model."""

    def begin(*args: str) -> Relay:
        return Relay(start("relay", "-vv", "--listen", "tcp4://127.0.0.1:0", "--model", request.param, *args))

    return begin


@pytest.fixture
def relay_of_loop(start: Callable[..., Process]) -> Callable[..., Relay]:
    """Starts a relay under one model, where the model makes no difference."""
    return lambda *args: Relay(start("relay", "-vv", "--listen", "tcp4://127.0.0.1:0", *args))


@pytest.fixture
def add(hailer: Run) -> Callable[..., str]:
    """Makes an account; gives its token."""

    def make(name: str, action: str = "add") -> str:
        run = hailer("account", action, name)
        assert run.returncode == 0, run.stderr
        return run.stdout.decode().strip()

    return make


@pytest.fixture
def accounts(tmp_path: Path) -> Path:
    """Where the accounts of the tests' relays are."""
    return tmp_path / "state" / "hailer" / "relay.db.accounts"


# the verb


def test_add_shows_the_token_alone_and_once(hailer: Run, accounts: Path) -> None:
    run = hailer("account", "add", "Ann")
    assert run.returncode == 0
    assert TOKEN.fullmatch(run.stdout)
    token = run.stdout.strip()
    assert token not in run.stderr
    assert b"--token-file" in run.stderr
    assert b"SIGHUP" in run.stderr
    assert token not in accounts.read_bytes()
    quiet = hailer("account", "add", "bob", "-q")
    assert (quiet.stderr, bool(TOKEN.fullmatch(quiet.stdout))) == (b"", True)
    again = hailer("account", "list")
    assert again.stdout.splitlines()[0].startswith(b"Ann  20")
    assert token not in again.stdout + again.stderr
    digests = [line.split()[1] for line in accounts.read_bytes().splitlines() if not line.startswith(b"#")]
    assert len(digests) == 2
    assert not any(digest in again.stdout + again.stderr for digest in digests)


def test_json(hailer: Run) -> None:
    added = json.loads(hailer("account", "add", "ann", "--json").stdout)
    assert set(added) == {"name", "token"}
    rotated = json.loads(hailer("account", "rotate", "ann", "--json").stdout)
    assert rotated["token"] != added["token"]
    (line,) = hailer("account", "list", "--json").stdout.splitlines()
    listed = json.loads(line)
    assert set(listed) == {"name", "made", "rotated"}
    assert listed["made"] < listed["rotated"]
    assert hailer("account", "remove", "ANN").returncode == 0
    empty = hailer("account", "list", "--json")
    assert (empty.returncode, empty.stdout) == (0, b"")
    assert b"make one with hailer account add" in empty.stderr


def test_another_store(hailer: Run, tmp_path: Path, accounts: Path) -> None:
    assert hailer("account", "add", "ann", "--store", "mine.db").returncode == 0
    assert hailer("account", "add", "bob", env={"HAILER_STORE": "mine.db"}).returncode == 0
    assert (tmp_path / "mine.db.accounts").read_text().count("\n") == 3
    assert not accounts.exists()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, b"add, list, rotate, remove"),
        (("make", "ann"), 2, b"add"),
        (("add",), 2, b"hailer account add NAME"),
        (("remove",), 2, b"hailer account remove NAME"),
        (("list", "ann"), 2, b"list takes no name"),
        (("remove", "ann", "--token-file", "f"), 2, b"remove makes no token"),
        (("add", "a b"), 2, b"is no name"),
        (("add", "#room"), 2, b"is no name"),
        (("add", "ann", "--store", "/"), 2, b"is no file"),
        (("add", "ann", "--store", "/dev/null/x"), 1, b"cannot be"),
        (("rotate", "nobody"), 1, b"there is no account 'nobody'"),
        (("remove", "nobody"), 1, b"there is no account 'nobody'"),
    ],
)
def test_what_is_refused(hailer: Run, args: tuple[str, ...], code: int, said: bytes) -> None:
    run = hailer("account", *args)
    assert run.returncode == code
    assert said in run.stderr
    assert (run.stdout, run.stderr.count(b"\n")) == (b"", 1)


def test_a_name_twice(hailer: Run, accounts: Path) -> None:
    hailer("account", "add", "ann")
    before = accounts.read_bytes()
    run = hailer("account", "add", "ANN")
    assert (run.returncode, run.stdout) == (1, b"")
    assert b"ann has an account already" in run.stderr
    assert accounts.read_bytes() == before


def test_token_file(hailer: Run, tmp_path: Path, accounts: Path) -> None:
    made = hailer("account", "add", "ann", "--token-file", "ann.token")
    path = tmp_path / "ann.token"
    first = path.read_bytes()
    assert (made.returncode, made.stdout) == (0, b"")
    assert TOKEN.fullmatch(first)
    assert first.strip() not in made.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # what is there is not written over by a new account, and no account is made
    again = hailer("account", "add", "bob", "--token-file", "ann.token")
    assert (again.returncode, path.read_bytes()) == (1, first)
    assert b"is there already" in again.stderr
    nowhere = hailer("account", "add", "bob", "--token-file", "no/where")
    assert (nowhere.returncode, nowhere.stderr.count(b"\n")) == (1, 1)
    twice = hailer("account", "add", "ann", "--token-file", "new")
    assert twice.returncode == 1
    assert b"bob" not in accounts.read_bytes()
    renewed = hailer("account", "rotate", "ann", "--token-file", "ann.token")
    assert renewed.returncode == 0
    assert TOKEN.fullmatch(path.read_bytes())
    assert path.read_bytes() != first
    assert sorted(item.name for item in tmp_path.iterdir() if item.is_file()) == ["ann.token"]


def test_the_variable_for_logging_in_is_not_written_to(hailer: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    run = hailer("account", "add", "ann", env={"HAILER_TOKEN_FILE": str(tmp_path / "mine")})
    assert TOKEN.fullmatch(run.stdout)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_token_that_nobody_saw(env: dict[str, str], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "hailer", "account", "add", "ann"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=env,
            cwd=tmp_path,
            check=False,
            timeout=30,
        )
    assert run.returncode == 1
    assert b"hailer account rotate ann" in run.stderr


def test_twenty_at_once(start: Callable[..., Process], hailer: Run) -> None:
    processes = [start("account", "add", f"n{number}", "-q") for number in range(20)]
    tokens = set()
    for process in processes:
        code, out, err = process.end()
        assert (code, err) == (0, b"")
        tokens.add(out)
    assert len(tokens) == 20
    listed = {line.split()[0].decode() for line in hailer("account", "list").stdout.splitlines()}
    assert listed == {f"n{number}" for number in range(20)}


@pytest.mark.parametrize("action", ["add", "list", "rotate", "remove"])
def test_what_others_can_read_is_refused(hailer: Run, accounts: Path, action: str) -> None:
    hailer("account", "add", "ann")
    accounts.chmod(0o644)
    run = hailer("account", action, *(["ann"] if action != "list" else []))
    assert (run.returncode, run.stdout) == (1, b"")
    assert b"chmod 600" in run.stderr
    assert run.stderr.count(b"\n") == 1
    served = hailer("relay", "--listen", "tcp4://127.0.0.1:0")
    assert (served.returncode, served.stdout) == (1, b"")
    assert b"chmod 600" in served.stderr


def test_a_relay_does_not_start_on_a_bad_line(hailer: Run, accounts: Path) -> None:
    hailer("account", "add", "ann")
    with accounts.open("a") as file:
        file.write("bob my-secret-token\n")
    run = hailer("relay", "--listen", "tcp4://127.0.0.1:0", "-vv")
    assert (run.returncode, run.stdout) == (1, b"")
    assert b"line 3 of " in run.stderr
    assert b"my-secret-token" not in run.stderr


# a relay


def test_who_gets_in(relay_with: Callable[..., Relay], add: Callable[..., str]) -> None:
    ann, bob = add("Ann"), add("bob")
    relay = relay_with()  # there are accounts, so they are asked for
    with relay.dial() as first, relay.dial() as other, relay.dial() as second:
        assert first.ask(f"HELLO ann token={ann}").startswith("WELCOME Ann ")
        begun = time.monotonic()
        wrong = other.ask(f"HELLO ann token={bob}")
        assert time.monotonic() - begun >= 0.5
        assert wrong.startswith("FAIL denied HELLO :")
        assert other.ask("HELLO nobody") == wrong
        assert first.ask("PING still") == "PONG still"
        assert second.ask(f"HELLO ANN token={ann}").startswith("WELCOME Ann ")
        assert first.line() == "BYE :replaced"
        assert first.line() == ""
        assert other.ask("HELLO bob") == wrong
        assert other.line() == "BYE :too many failed log-ins"
        assert other.line() == ""
        assert second.ask("PING still") == "PONG still"


def test_failures_wait_and_the_honest_do_not(
    relay_with: Callable[..., Relay], add: Callable[..., str]
) -> None:
    ann = add("ann")
    relay = relay_with()
    waits = []
    for number in range(3):
        with relay.dial() as guesser:
            begun = time.monotonic()
            guesser.say(f"HELLO ann token=guess-{number}")
            with relay.dial() as honest:
                assert honest.ask(f"HELLO ann token={ann}").startswith("WELCOME ann")
                between = time.monotonic() - begun
            assert guesser.line().startswith("FAIL denied")
            waits.append(time.monotonic() - begun)
            assert between < waits[-1]
    assert all(least <= wait for least, wait in zip((0.5, 0.97, 1.9), waits, strict=True))


def test_guests(relay_of_loop: Callable[..., Relay], add: Callable[..., str]) -> None:
    ann = add("ann")
    relay = relay_of_loop("--open")
    with relay.dial() as guest, relay.dial() as owner:
        assert guest.ask("HELLO ann").startswith("FAIL denied")
        assert guest.ask("HELLO carl").startswith("WELCOME carl ")
        assert owner.ask(f"HELLO ann token={ann}").startswith("WELCOME ann ")


def test_reload(
    relay_with: Callable[..., Relay], add: Callable[..., str], hailer: Run, accounts: Path
) -> None:
    old, bob = add("ann"), add("bob")
    relay = relay_with()
    with relay.dial() as first, relay.dial() as other, relay.dial() as late:
        assert first.ask(f"HELLO ann token={old}").startswith("WELCOME")
        assert other.ask(f"HELLO bob token={bob}").startswith("WELCOME")
        new, carl = add("ann", "rotate"), add("carl")
        assert hailer("account", "remove", "bob").returncode == 0
        # nothing has changed yet
        assert other.ask("PING") == "PONG"
        relay.reload()
        assert other.line() == "BYE :your account was removed"
        assert first.ask("PING") == "PONG"  # a new token alone ends nothing
        assert late.ask(f"HELLO ann token={old}").startswith("FAIL denied")
        assert late.ask(f"HELLO bob token={bob}").startswith("FAIL denied")
        assert late.ask(f"HELLO ann token={new}").startswith("WELCOME ann")
        assert first.line() == "BYE :replaced"
        with relay.dial() as another:
            assert another.ask(f"HELLO carl token={carl}").startswith("WELCOME carl")
            # what cannot be read changes nothing
            accounts.chmod(0o666)
            relay.reload()
            accounts.chmod(0o600)
            accounts.rename(accounts.with_name("away"))
            relay.reload()
            accounts.with_name("away").rename(accounts)
            assert another.ask("PING") == "PONG"
        with relay.dial() as again:
            assert again.ask(f"HELLO carl token={carl}").startswith("WELCOME carl")


def test_reload_closes_an_open_relay_and_never_opens_one(
    relay_of_loop: Callable[..., Relay], add: Callable[..., str], hailer: Run
) -> None:
    relay = relay_of_loop()
    with relay.dial() as guest, relay.dial() as late:
        assert guest.ask("HELLO guest").startswith("WELCOME")
        ann = add("ann")
        relay.reload()
        assert guest.line() == "BYE :this relay lets in accounts only now"
        hailer("account", "remove", "ann")
        relay.reload()
        assert late.ask(f"HELLO ann token={ann}").startswith("FAIL denied")
        assert late.ask("HELLO guest").startswith("FAIL denied")


def test_many_reloads_at_once(relay_with: Callable[..., Relay], add: Callable[..., str]) -> None:
    ann = add("ann")
    relay = relay_with()
    for _ in range(20):
        relay.process.signal(signal.SIGHUP)
    with relay.dial() as wire:
        assert wire.ask(f"HELLO ann token={ann}").startswith("WELCOME")
        relay.process.signal(signal.SIGTERM)
        assert wire.line() == "BYE :the relay is shutting down"
    assert relay.process.end()[0] == 0


def test_a_certificate_in_place_of_a_token(
    start: Callable[..., Process], add: Callable[..., str], hailer: Run
) -> None:
    for args in (("127.0.0.1",), ("ann", "--client"), ("carl", "--client")):
        assert hailer("cert", *args).returncode == 0
    add("Ann")
    bob = add("bob")
    ca = ("--ca", "certs/ca.pem")
    server = ("--cert", "certs/127.0.0.1.pem", "--key", "certs/127.0.0.1.key", "--client-ca", "certs/ca.pem")
    process = start("relay", "--listen", "tls://127.0.0.1:0", *server)
    endpoint = process.read_until(b"\n").decode().split()[-1]

    def who(name: str, certificate: str, token: str = "") -> tuple[int, bytes]:
        shown = (
            ("--cert", f"certs/{certificate}-client.pem", "--key", f"certs/{certificate}-client.key")
            if certificate
            else ()
        )
        run = hailer("who", "--name", name, "--relay", endpoint, *ca, *shown, env={"HAILER_TOKEN": token})
        return run.returncode, run.stderr

    assert who("ann", "ann") == (0, b"")
    assert who("bob", "", bob) == (0, b"")
    for name, certificate, token in (("bob", "ann", bob), ("carl", "carl", "")):
        code, said = who(name, certificate, token)
        assert code == 1
        assert b"(denied)" in said


def test_only_accounts_and_tls_open_a_relay_to_the_network(
    start: Callable[..., Process], add: Callable[..., str], hailer: Run
) -> None:
    assert hailer("cert", "localhost").returncode == 0
    certificate = ("--cert", "certs/localhost.pem", "--key", "certs/localhost.key")
    tls = ("relay", "--listen", "tls://0.0.0.0:0", *certificate)
    plain = ("relay", "--listen", "tcp4://0.0.0.0:0")
    refused = [hailer(*tls), hailer(*plain), hailer(*plain, "--accounts")]
    add("ann")
    refused += [hailer(*tls, "--open"), hailer(*plain)]
    for run in refused:
        assert (run.returncode, run.stdout) == (2, b"")
        assert b"can be reached from other machines" in run.stderr
        assert b"--insecure" in run.stderr
        assert run.stderr.count(b"\n") <= 2  # one may be the warning that nobody can log in
    for args in (tls, (*tls, "--accounts"), (*plain, "--insecure"), (*tls, "--open", "--insecure")):
        process = start(*args)
        process.read_until(b"listening on ")
        process.signal(signal.SIGTERM)
        assert process.end()[0] == 0


# mail


def test_every_account_has_a_mailbox_that_outlives_relays_and_rotation(
    relay_of_loop: Callable[..., Relay], hailer: Run
) -> None:
    def account(action: str, name: str) -> str:
        return hailer("account", action, name, "--store", "r.db").stdout.decode().strip()

    tokens = {name: account("add", name) for name in ("ann", "bob", "carl")}
    for number in (1, 2):
        for _ in range(2):  # one that only looks at its accounts and ends changes nothing
            relay = relay_of_loop("--store", "r.db")
            relay.process.signal(signal.SIGTERM)
            assert relay.process.end()[0] == 0
        relay = relay_of_loop("--store", "r.db")
        with relay.dial() as ann, relay.dial() as bob, relay.dial() as late:
            assert ann.ask(f"HELLO ann token={tokens['ann']} session=s").startswith(
                f"WELCOME ann session=s stored={number - 1} relay="
            )
            assert ann.ask(f"POST {number} bob :number {number}") == f"STORED {number}"
            assert bob.ask(f"HELLO bob token={tokens['bob']}").split()[5] == "mail=1"
            entry = bob.line()
            assert entry.endswith(f" ann bob :number {number}")
            bob.say(f"ACK {entry.split()[1]}")
            assert bob.ask("PING") == "PONG"
            assert ann.ask(f"POST {number + 1} dora :x").startswith("FAIL unknown POST")
            # one that is made while the relay runs has a mailbox at once, and one that is gone has none
            if number == 2:
                tokens["dora"] = account("add", "dora")
                account("remove", "carl")
                tokens["bob"] = account("rotate", "bob")
                relay.reload()
                assert ann.ask("POST 3 carl :x") == "FAIL unknown POST :3: carl has no account"
                assert ann.ask("POST 3 dora :early") == "STORED 3"
                assert late.ask(f"HELLO dora token={tokens['dora']}").split()[5] == "mail=1"
                assert late.line().endswith(" ann dora :early")
            relay.process.signal(signal.SIGTERM)
        assert relay.process.end()[0] == 0


# the client, and where its token goes


@pytest.fixture
def token_file(hailer: Run, tmp_path: Path) -> Callable[[str], Path]:
    """Makes an account with its token in a file."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.token"
        assert hailer("account", "add", name, "--token-file", str(path)).returncode == 0
        return path

    return make


def test_verbs_log_in(
    relay_of_loop: Callable[..., Relay], token_file: Callable[[str], Path], hailer: Run
) -> None:
    ann, bob = token_file("ann"), token_file("bob")
    relay = relay_of_loop()
    to = ("--relay", relay.endpoint)
    who = hailer("who", "--name", "ann", "--token-file", str(ann), *to)
    assert who.returncode == 0, who.stderr
    by_variable = hailer("who", "--name", "ann", *to, env={"HAILER_TOKEN": ann.read_text()})
    assert by_variable.returncode == 0, by_variable.stderr
    for args in (("--name", "ann", "--token-file", str(bob)), ()):
        run = hailer("who", *args, *to)
        assert (run.returncode, run.stdout) == (1, b"")
        assert run.stderr.startswith(b"hailer: the relay refused HELLO (denied): ")
        assert run.stderr.count(b"\n") == 1


def test_no_token_is_written_anywhere(
    relay_of_loop: Callable[..., Relay],
    token_file: Callable[[str], Path],
    hailer: Run,
    tmp_path: Path,
    accounts: Path,
    start: Callable[..., Process],
) -> None:
    """All that is written at -vv, and what other processes can see of these, is searched for tokens."""
    ann, bob = token_file("ann"), token_file("bob")
    secrets = [path.read_bytes().strip() for path in (ann, bob)]
    relay = relay_of_loop()
    to = ("--relay", relay.endpoint, "-vv")
    seen = []
    debug = {"HAILER_DEBUG": "1"}
    receiver = start("recv", "--name", "bob", "--token-file", str(bob), "--count", "1", *to, **debug)
    receiver.read_until(b"logged in", "err")
    for process in (receiver, relay.process):
        shown = Path(f"/proc/{process.popen.pid}")
        seen += [(shown / item).read_bytes() for item in ("cmdline", "environ") if shown.exists()]
    sent = hailer("send", "bob", "hello", "--name", "ann", "--token-file", str(ann), *to, env=debug)
    refused = hailer("send", "bob", "x", "--name", "ann", "--token-file", str(bob), *to, env=debug)
    gone = hailer(
        "send", "bob", "x", "--name", "ann", "--token-file", str(ann), "--relay", "localhost:1", env=debug
    )
    assert (sent.returncode, refused.returncode, gone.returncode) == (0, 1, 7)
    seen += [part for run in (sent, refused, gone) for part in (run.stdout, run.stderr)]
    seen += receiver.end()[1:]
    with relay.dial() as wire:
        for secret in secrets:  # also where it does not belong
            token = secret.decode()
            for line in (f"HELLO ann token={token}x", f"HELLO ann tokens={token}", f"HELO ann {token}"):
                seen.append(wire.ask(line).encode())
            seen.append(wire.ask(f"HELLO ann token={token}\x1b").encode())
            wire.say("PING done")
            while (line := wire.line()) != "PONG done":
                seen.append(line.encode())
    for action in (("list",), ("list", "--json"), ("add", "ann"), ("remove", "bob")):
        run = hailer("account", *action, "-vv", env=debug)
        seen += [run.stdout, run.stderr]
    relay.reload()
    relay.process.signal(signal.SIGTERM)
    seen += relay.process.end()[1:]
    seen += [path.read_bytes() for path in accounts.parent.iterdir()]
    written = b"\n".join(seen)
    assert b"denied" in written
    assert b"reloaded" in written
    for secret in secrets:
        assert secret not in written
        assert secret[:16] not in written


def test_the_library_shows_no_token(relay_of_loop: Callable[..., Relay], add: Callable[..., str]) -> None:
    token = add("ann")
    relay = relay_of_loop()
    client = RelayClient("ann", relay.endpoint, token=token)
    with client:
        assert client.name == "ann"
        assert token not in repr(client) + repr(vars(client))
    wrong = RelayClient("ann", relay.endpoint, token=token[::-1])
    with pytest.raises(Refused) as caught, wrong:
        pass
    assert caught.value.code == "denied"
    assert token[::-1] not in repr(caught.value) + str(caught.value) + repr(caught.value.__context__)
