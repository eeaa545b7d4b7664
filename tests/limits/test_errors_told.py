"""What a person is told when it does not work: one sentence that says what to do next, and an exit code."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import hailer
from hailer.net.certificates import server_context
from hailer.services.echo import echo
from tests.limits.served import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND = [sys.executable, "-m", "hailer"]
DAY = dt.timedelta(days=1)


def run(
    *words: str, data: bytes = b"x\n", before: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run the command, perhaps by another command."""
    return subprocess.run(
        [*before, *COMMAND, *words],
        input=data,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("HAILER_")},
    )


def assert_told(done: subprocess.CompletedProcess[bytes], code: int, *says: str) -> None:
    """One sentence, with the advice after a colon."""
    text = done.stderr.decode()
    assert done.returncode == code, text
    assert text.count("\n") == 1, text
    assert text.startswith("hailer: ")
    assert ": " in text.removeprefix("hailer: "), f"no advice: {text}"
    for each in says:
        assert each in text
    assert "Traceback" not in text
    assert "bug" not in text


# Reaching a server.


@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "wss", "udp"])
def test_a_name_that_does_not_resolve(scheme: str) -> None:
    assert_told(run("connect", f"{scheme}://nowhere.invalid:7000"), 6, "nowhere.invalid")


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that is taken, and on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "wss"])
def test_nobody_listens(scheme: str) -> None:
    with closed_port() as port:
        done = run("connect", f"{scheme}://127.0.0.1:{port}")
    assert_told(done, 7, f"nobody listens on 127.0.0.1:{port}", "start the server")


@pytest.mark.parametrize("scheme", ["unix", "unix+seqpacket", "unix+dgram"])
def test_no_such_path(scheme: str, tmp_path: Path) -> None:
    assert_told(run("connect", f"{scheme}:{tmp_path}/none"), 7, f"{tmp_path}/none", "start the server")


def test_a_machine_that_does_not_answer() -> None:
    """Its backlog is full, so that the system drops what comes."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        done = run("connect", f"127.0.0.1:{port}", "--timeout", "0.5")
    assert_told(done, 28, f"127.0.0.1:{port}", "0.5")


@pytest.mark.parametrize("scheme", ["tls", "ws", "wss"])
def test_a_server_that_never_agrees(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run("connect", f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5")
    assert_told(done, 28, "in time")


def test_no_route() -> None:
    probe = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this system makes no network of one's own: unshare -rn fails")
    done = run("connect", "127.0.0.1:7000", before=("unshare", "-rn"))
    assert_told(done, 7, "127.0.0.1:7000")


def without_powers() -> tuple[str, ...]:
    """What runs a command without what makes root an exception; nothing for everybody else."""
    if os.geteuid() != 0:
        return ()
    drop = "-dac_override,-dac_read_search,-net_bind_service"
    command = ("setpriv", "--inh-caps", "-all", "--bounding-set", drop)
    if shutil.which("setpriv") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("root keeps its powers here: setpriv fails")
    return command


def test_no_permission_to_connect(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with hailer.Server(f"unix:{path}", echo, unix_mode=0o000):
        done = run("connect", f"unix:{path}", before=without_powers())
    assert_told(done, 7, "no permission", str(path))


def test_no_permission_to_make_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    done = run("serve", "echo", f"unix:{folder}/s", before=without_powers())
    folder.chmod(0o700)
    assert_told(done, 1, "permission", f"{folder}")


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_no_permission_for_a_low_port(scheme: str) -> None:
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not lowest.exists() or int(lowest.read_text()) < 2:
        pytest.skip("every port is everybody's here")
    done = run("serve", "echo", f"{scheme}://127.0.0.1:1", before=without_powers())
    assert_told(done, 1, "permission", "127.0.0.1:1")


# Listening.


@pytest.mark.parametrize("scheme", ["tcp", "ws", "udp"])
def test_a_port_in_use_and_by_whom(scheme: str) -> None:
    with hailer.Server(f"{scheme}://127.0.0.1:0", echo) as server:
        endpoint = str(server.endpoints[0])
        done = run("serve", "echo", endpoint)
    assert_told(done, 1, "in use", f"process {os.getpid()}" if sys.platform == "linux" else "")


@pytest.mark.parametrize("scheme", ["unix", "unix+seqpacket", "unix+dgram"])
def test_a_path_in_use(scheme: str, tmp_path: Path) -> None:
    with hailer.Server(f"{scheme}:{tmp_path}/s", echo):
        done = run("serve", "echo", f"{scheme}:{tmp_path}/s")
    assert_told(done, 1, f"{tmp_path}/s")


@pytest.mark.parametrize("scheme", ["tcp", "udp", "ws"])
def test_an_address_that_is_not_ours(scheme: str) -> None:
    assert_told(run("serve", "echo", f"{scheme}://203.0.113.1:0"), 1, "203.0.113.1", "no address of this")


def test_a_path_that_is_no_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    assert_told(run("serve", "echo", f"unix:{path}"), 1, str(path))
    assert path.read_text() == "data"


# TLS and WebSocket.


@contextmanager
def tls_server(folder: Path, authority: trustme.CA, **issue: Any) -> Iterator[int]:
    """A TLS server whose certificate is for localhost."""
    path = folder / "server.pem"
    authority.issue_cert("localhost", **issue).private_key_and_cert_chain_pem.write_to_path(str(path))
    path.chmod(0o600)
    with hailer.Server("tls://127.0.0.1:0", echo, "thread", tls=server_context(path)) as server:
        yield int(server.endpoints[0].port or 0)


def ca_file(folder: Path, authority: trustme.CA) -> str:
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def test_a_certificate_for_another_host(tmp_path: Path, authority: trustme.CA) -> None:
    with tls_server(tmp_path, authority) as port:
        done = run("connect", f"tls://127.0.0.1:{port}", "--ca", ca_file(tmp_path, authority))
    assert_told(done, 35, "is not for 127.0.0.1")


def test_a_certificate_that_is_trusted(tmp_path: Path, authority: trustme.CA) -> None:
    """The control of those about it."""
    with tls_server(tmp_path, authority) as port:
        done = run("connect", f"tls://localhost:{port}", "--ca", ca_file(tmp_path, authority))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"x\n", b"")


def test_a_certificate_that_has_expired(tmp_path: Path, authority: trustme.CA) -> None:
    now = dt.datetime.now(dt.UTC)
    with tls_server(tmp_path, authority, not_before=now - 2 * DAY, not_after=now - DAY) as port:
        done = run("connect", f"tls://localhost:{port}", "--ca", ca_file(tmp_path, authority))
    assert_told(done, 35, "expired")


@pytest.mark.parametrize("other_ca", [False, True])
def test_an_authority_that_nobody_knows(tmp_path: Path, authority: trustme.CA, other_ca: bool) -> None:
    more = ("--ca", ca_file(tmp_path, trustme.CA())) if other_ca else ()
    with tls_server(tmp_path, authority) as port:
        done = run("connect", f"tls://localhost:{port}", *more)
    assert_told(done, 35, "not trusted", "--ca")


def test_a_certificate_that_signs_itself(tmp_path: Path) -> None:
    authority = trustme.CA()
    path = tmp_path / "self.pem"
    path.write_bytes(authority.private_key_pem.bytes() + authority.cert_pem.bytes())
    path.chmod(0o600)
    with hailer.Server("tls://127.0.0.1:0", echo, "thread", tls=server_context(path)) as server:
        done = run("connect", f"tls://localhost:{server.endpoints[0].port}")
    assert_told(done, 35, "--ca")


@pytest.mark.parametrize(
    ("listening", "dialling", "code"),
    [
        ("tcp", "tls", 35),
        ("tcp", "wss", 35),
        ("ws", "wss", 35),
        ("ws", "tls", 35),
        ("tcp", "ws", 1),
    ],
)
def test_a_server_that_speaks_something_else(listening: str, dialling: str, code: int) -> None:
    with hailer.Server(f"{listening}://127.0.0.1:0", echo, idle_timeout=1, handshake_timeout=1) as server:
        port = server.endpoints[0].port
        done = run("connect", f"{dialling}://127.0.0.1:{port}", "--timeout", "10")
    assert_told(done, code, f"127.0.0.1:{port}")


# Ends that are no errors.


@contextmanager
def running(*words: str, ready: Callable[[], object]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [*COMMAND, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        try:
            ready()
            yield child
        finally:
            child.kill()


def test_ctrl_c_is_quiet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        peers = []
        with running(
            "connect", f"127.0.0.1:{listener.getsockname()[1]}", ready=lambda: peers.append(listener.accept())
        ) as child:
            child.send_signal(signal.SIGINT)
            _, errors = child.communicate(timeout=PATIENCE)
        peers[0][0].close()
    assert (child.returncode, errors) == (130, b"")


def test_a_broken_pipe_is_quiet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        peers: list[socket.socket] = []
        with running(
            "connect",
            f"127.0.0.1:{listener.getsockname()[1]}",
            ready=lambda: peers.append(listener.accept()[0]),
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            child.stdout.close()
            end = time.monotonic() + PATIENCE
            try:
                while child.poll() is None and time.monotonic() < end:
                    peers[0].sendall(b"more\n" * 100)
            except ConnectionError:
                pass
            child.wait(PATIENCE)
            errors = child.stderr.read()
        peers[0].close()
    assert (child.returncode, errors) == (141, b"")
