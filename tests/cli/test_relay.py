"""hailer relay: what it prints, refuses and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from hailer.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Process, Run, Terminal


def dial(endpoint: str) -> socket.socket:
    """Connect to what it printed."""
    parsed = Endpoint.parse(endpoint)
    assert isinstance(parsed.port, int)
    return socket.create_connection((parsed.host, parsed.port), 10)


def first_line(process: Process) -> str:
    """The endpoint that it prints first."""
    line = process.read_until(b"\n").splitlines()[0].decode()
    assert line.startswith("listening on ")
    return line.removeprefix("listening on ")


@pytest.mark.parametrize("model", ["asyncio", "thread"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_says_where_it_listens_and_ends_politely(
    start: Callable[..., Process], model: str, number: int, code: int
) -> None:
    process = start("relay", "--listen", "tcp4://127.0.0.1:0", "--model", model)
    with dial(first_line(process)) as client, client.makefile("rwb") as file:
        assert file.readline().startswith(b"RELAY ")
        file.write(b"HELLO ann\n")
        file.flush()
        assert file.readline().startswith(b"WELCOME ann ")
        process.signal(number)
        assert file.readline() == b"BYE :the relay is shutting down\n"
        assert file.readline() == b""
    ended, out, err = process.end()
    assert (ended, out.count(b"\n"), err) == (code, 1, b"")


def test_every_listener_is_named(start: Callable[..., Process], tmp_path: Path) -> None:
    path = tmp_path / "relay.sock"
    process = start("relay", "--listen", "tcp4://127.0.0.1:0", "--listen", f"unix:{path}")
    out = process.read_until(b"relay.sock\n").decode().splitlines()
    assert out[0].startswith("listening on tcp4://127.0.0.1:")
    assert not out[0].endswith(":0")
    assert out[1] == f"listening on unix:{path}"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.settimeout(10)
        assert client.recv(6) == b"RELAY "


def test_limits_are_options_and_variables(start: Callable[..., Process]) -> None:
    process = start("relay", "--listen", "tcp4://127.0.0.1:0", "--rooms", "1", HAILER_PAYLOAD="5")
    with dial(first_line(process)) as client, client.makefile("rwb") as file:
        file.write(b"HELLO ann\nJOIN #a\nJOIN #b\nSEND #a 6\n")
        file.flush()
        said = [file.readline() for _ in range(5)]
        assert said[3].startswith(b"FAIL too-many JOIN ")
        assert said[4].startswith(b"FAIL too-long ")


def test_hint_for_a_person(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("relay", "--listen", "tcp4://127.0.0.1:0")
    screen.shows("in Python:")
    text = "\n".join(screen.screen.lines)
    assert "telnet 127.0.0.1 " in text
    assert "hailer chat ann --relay tcp4://127.0.0.1:" in text
    assert "token" not in text
    screen.popen.send_signal(signal.SIGTERM)
    assert screen.end() == 0


def test_hint_for_who_has_accounts(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("relay", "--listen", "tcp4://127.0.0.1:0", "--accounts")
    screen.shows("in Python:")
    text = "".join(screen.screen.lines)  # long lines are in two rows
    assert "(then HELLO ann token=..., HELP, QUIT)" in text
    assert "--token-file FILE" in text
    assert ", token=...)" in text


def test_quiet_gives_no_hint(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("relay", "--listen", "tcp4://127.0.0.1:0", "-q")
    screen.shows("listening on")
    screen.popen.send_signal(signal.SIGTERM)
    assert screen.end() == 0
    assert not any("telnet" in line for line in screen.screen.lines)


def test_address_in_use(hailer: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = hailer("relay", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"is in use" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_insecure_allows_other_addresses(start: Callable[..., Process]) -> None:
    process = start("relay", "--listen", "tcp4://*:0", "--insecure")
    assert first_line(process).startswith("tcp4://")


@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_the_log_as_json_with_the_counters_at_a_signal(start: Callable[..., Process], model: str) -> None:
    arguments = ("relay", "--listen", "tcp4://127.0.0.1:0", "--model", model, "-v")
    process = start(*arguments, HAILER_LOG_FORMAT="json")
    endpoint = first_line(process)
    with dial(endpoint) as client, client.makefile("rwb") as file:
        file.write(b"HELLO ann\nQUIT\n")
        file.flush()
        assert b"BYE" in file.read()
    process.read_until(b'"bye"', "err")
    process.signal(signal.SIGUSR1)
    process.read_until(b'"counters"', "err")
    process.signal(signal.SIGTERM)
    code, _, errors = process.end()
    assert code == 0
    read = [json.loads(line) for line in errors.splitlines()]
    told = [each["event"] for each in read]
    assert told == ["store", "listening", "login", "bye", "counters", "stopping", "stopped"]
    assert read[1]["endpoint"] == endpoint
    assert (read[4]["logins"], read[6]["logins"]) == (1, 1)


def test_the_log_as_text(start: Callable[..., Process]) -> None:
    process = start("relay", "--listen", "tcp4://127.0.0.1:0", "-v")
    endpoint = first_line(process)
    process.signal(signal.SIGTERM)
    lines = process.end()[2].decode().splitlines()
    assert re.fullmatch(r"\S+Z info store path=\S+/hailer/relay.db", lines[0])
    assert re.fullmatch(rf"\S+Z info listening endpoint={re.escape(endpoint)}", lines[1])
    assert re.fullmatch(r"\S+Z info stopping peers=0", lines[2])
    assert re.match(r"\S+Z info stopped active=0 ", lines[3])


def make_certificate(folder: Path, authority: trustme.CA) -> None:
    """Put a new certificate into the place that the relay reads."""
    made = authority.issue_cert("localhost", "127.0.0.1")
    (folder / "new.pem").write_bytes(
        made.private_key_pem.bytes() + b"".join(pem.bytes() for pem in made.cert_chain_pems)
    )
    (folder / "new.pem").chmod(0o600)
    (folder / "new.pem").replace(folder / "relay.pem")


@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_sighup_reads_the_certificate_again(
    start: Callable[..., Process], hailer: Run, tmp_path: Path, model: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    make_certificate(tmp_path, authority)
    process = start(
        "relay", "--listen", "tls://127.0.0.1:0", "--model", model, "--cert", "relay.pem", "--store", "memory"
    )
    where = Endpoint.parse(first_line(process))
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")

    def open_tls() -> ssl.SSLSocket:
        return context.wrap_socket(dial(str(where)), server_hostname="localhost")

    with open_tls() as old, old.makefile("rwb") as file:
        assert file.readline().startswith(b"RELAY ")
        before = old.getpeercert()
        make_certificate(tmp_path, authority)
        process.signal(signal.SIGHUP)
        for _ in range(200):
            with open_tls() as new:
                after = new.getpeercert()
            if after != before:
                break
        assert after != before
        (tmp_path / "relay.pem").write_text("no certificate")
        process.signal(signal.SIGHUP)
        told = process.read_until(b"\n", "err")
        assert b"error certificate error=" in told
        assert b"advice=" in told
        with open_tls() as new:
            assert new.getpeercert() == after
        file.write(b"HELLO ann\nQUIT\n")
        file.flush()
        assert [line.split()[0] for line in file] == [b"WELCOME", b"BYE"]
    sent = hailer(
        "send", "ann", "hello", "--relay", str(where), "--ca", "ca.pem", "--server-name", "localhost"
    )
    assert sent.stdout == b"refused: offline ann is not connected\n"
    untrusted = hailer("who", "--relay", str(where))
    assert untrusted.returncode == 35
    assert b"not trusted here: name the certificate of that authority with --ca" in untrusted.stderr
    process.signal(signal.SIGTERM)
    assert process.end()[0] == 0


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--listen", "tls://localhost:0"], b"needs a certificate: give --cert and --key"),
        (["--cert", "x.pem"], b"is not encrypted: write tls:// or wss://"),
        (["--client-certs", "required"], b"name its authority with --client-ca"),
        (["--listen", "ws://localhost:0", "--origin", "example.org"], b"is no origin"),
        (["--listen", "ws://*:0"], b"listen on wss:// with a certificate"),
    ],
)
def test_what_tls_lacks(hailer: Run, args: list[str], sentence: bytes) -> None:
    done = hailer("relay", "--store", "memory", *args)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.fixture
def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _mail_of(endpoint: str, name: str) -> list[str]:
    """What waits for a name."""
    with dial(endpoint) as client, client.makefile("rwb") as file:
        file.write(f"HELLO {name}\n".encode())
        file.flush()
        client.shutdown(socket.SHUT_WR)
        return [line.decode() for line in file if line.startswith(b"MAIL")]


def _post(endpoint: str, to: str) -> bytes:
    """Post one message to a name that has been there; gives the answer."""
    _mail_of(endpoint, to)
    with dial(endpoint) as client, client.makefile("rwb") as file:
        file.write(f"HELLO ann\nPOST 1 {to} :hello\n".encode())
        file.flush()
        return [file.readline() for _ in range(3)][-1]


def test_each_relay_of_a_user_has_a_store_of_its_own(
    start: Callable[..., Process], tmp_path: Path, free_port: int
) -> None:
    """Mail outlives the relay on the same port, kill -9 and all; those on others are in nobody's way."""
    fixed = start("relay", "--listen", f"tcp4://127.0.0.1:{free_port}")
    some = [start("relay", "--listen", "tcp4://127.0.0.1:0") for _ in range(2)]
    endpoint, *others = [first_line(process) for process in (fixed, *some)]
    assert _post(endpoint, "bob") == b"STORED 1\n"
    assert _mail_of(others[0], "bob") == _mail_of(others[1], "bob") == []
    ports = {f"relay-{Endpoint.parse(other).port}.db" for other in others}
    names = {path.name for path in (tmp_path / "state" / "hailer").iterdir() if path.suffix == ".db"}
    assert len(names) == 3
    assert names - ports == {f"relay-{free_port}.db", "relay.db"}
    fixed.signal(signal.SIGKILL)
    fixed.end()
    assert first_line(start("relay", "--listen", f"tcp4://127.0.0.1:{free_port}")) == endpoint
    assert _mail_of(endpoint, "bob") == ["MAIL 1 ann bob :hello\n"]
