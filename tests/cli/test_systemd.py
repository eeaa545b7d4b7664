"""The command under systemd: its units, sockets that it passes on, READY and STOPPING."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import COMMAND, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Process
    from tests.conftest import RequireProgram

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"

# What systemd does between fork and exec: the socket at 3, the variables, then the program.
PASS_ON = """
import os, sys
descriptor = int(sys.argv[1])
if descriptor == 3:
    os.set_inheritable(3, True)
else:
    os.dup2(descriptor, 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    """Where the command tells systemd how it gets on; its path is in NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(f"{tmp_path}/notify")
        yield sock


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """The socket of a .socket unit."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def pass_on(env: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the command as systemd does, with one socket."""
    processes: list[subprocess.Popen[bytes]] = []

    def begin(sock: socket.socket, *args: str, **more: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", PASS_ON, str(sock.fileno()), *COMMAND, *args],
            pass_fds=[sock.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**env, **more},
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def banner(sock: socket.socket) -> bytes:
    """Connect to a listening socket; give the relay's first word."""
    with socket.create_connection(sock.getsockname(), PATIENCE) as client:
        return client.recv(6)


@pytest.mark.parametrize("model", ["asyncio", "thread"])
def test_a_relay_tells_that_it_is_ready_and_that_it_stops(
    start: Callable[..., Process], told: socket.socket, model: str
) -> None:
    where = told.getsockname()
    process = start("relay", "--listen", "tcp4://127.0.0.1:0", "--model", model, NOTIFY_SOCKET=where)
    assert told.recv(100) == b"READY=1"
    port = int(process.read_until(b"\n").rpartition(b":")[2])
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        assert client.recv(6) == b"RELAY "
    process.signal(signal.SIGHUP)
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", told.recv(100))
    assert told.recv(100) == b"READY=1"
    process.signal(signal.SIGTERM)
    assert told.recv(100) == b"STOPPING=1"
    assert process.end()[0] == 0


def test_a_server_tells_that_it_is_ready(start: Callable[..., Process], told: socket.socket) -> None:
    process = start("serve", "echo", "tcp4://127.0.0.1:0", NOTIFY_SOCKET=told.getsockname())
    assert told.recv(100) == b"READY=1"
    process.signal(signal.SIGTERM)
    assert process.end()[0] == 0


def test_nothing_is_told_before_it_listens(
    start: Callable[..., Process], told: socket.socket, listener: socket.socket
) -> None:
    taken = f"tcp4://127.0.0.1:{listener.getsockname()[1]}"
    process = start("relay", "--listen", taken, NOTIFY_SOCKET=told.getsockname())
    assert process.end()[0] == 1
    told.setblocking(False)
    with pytest.raises(BlockingIOError):
        told.recv(100)


def test_who_connects_while_a_relay_restarts_waits(
    pass_on: Callable[..., subprocess.Popen[bytes]], told: socket.socket, listener: socket.socket
) -> None:
    arguments = ("relay", "--listen", "fd://systemd")
    first = pass_on(listener, *arguments, NOTIFY_SOCKET=told.getsockname())
    assert told.recv(100) == b"READY=1"
    assert banner(listener) == b"RELAY "
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE) == 0
    with socket.create_connection(listener.getsockname(), PATIENCE) as early:
        pass_on(listener, *arguments)
        assert early.recv(6) == b"RELAY "


def test_systemds_own_tool_starts_a_relay(
    env: dict[str, str], tmp_path: Path, require_program: RequireProgram
) -> None:
    path = f"{tmp_path}/relay.sock"
    keep = {"PYTHONPATH", "HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"}
    variables = [f"--setenv={name}" for name in env if name in keep]
    tool = require_program("systemd-socket-activate")
    command = [tool, f"--listen={path}", *variables, *COMMAND, "relay", "--listen", "fd://systemd"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        try:
            assert process.stderr is not None
            assert b"Listening on" in process.stderr.readline()
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE)
                client.connect(path)
                assert client.recv(6) == b"RELAY "
                process.send_signal(signal.SIGTERM)  # it has become the relay
                assert client.makefile("rb").read().endswith(b"BYE :the relay is shutting down\n")
            assert process.wait(PATIENCE) == 0
            assert process.stdout is not None
            assert process.stdout.read() == f"listening on unix:{path}\n".encode()
            assert Path(path).exists(), "the path is systemd's"
        finally:
            process.kill()


def test_a_passed_socket_for_everybody_needs_accounts_or_insecure(
    pass_on: Callable[..., subprocess.Popen[bytes]],
) -> None:
    with socket.create_server(("", 0)) as everywhere:
        process = pass_on(everywhere, "relay", "--listen", "fd://systemd")
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert b"can be reached from other machines" in errors
        process = pass_on(everywhere, "relay", "--listen", "fd://systemd", "--insecure")
        with socket.create_connection(("127.0.0.1", everywhere.getsockname()[1]), PATIENCE) as client:
            assert client.recv(6) == b"RELAY "


def test_a_passed_socket_of_another_kind_is_refused(
    pass_on: Callable[..., subprocess.Popen[bytes]],
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        process = pass_on(datagrams, "relay", "--listen", "fd://systemd")
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert b"pass one that listens for streams" in errors


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a command that is here."""
    hailer = shutil.which("hailer") or shutil.which("hailer", path=str(Path(sys.executable).parent))
    assert hailer is not None
    for unit in UNITS.iterdir():
        text = unit.read_text(encoding="utf-8")
        (tmp_path / unit.name).write_text(text.replace("/opt/hailer/bin/hailer", hailer), encoding="utf-8")
    return tmp_path


def test_the_units_are_right(units: Path, require_program: RequireProgram) -> None:
    command = [require_program("systemd-analyze"), "verify"]
    paths = [str(path) for path in sorted(units.glob("hailer-relay.*"))]
    assert len(paths) == 2
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    service = units / "hailer-relay.service"
    service.write_text(
        service.read_text(encoding="utf-8") + "\n[Service]\nNoSuchSetting=yes\n", encoding="utf-8"
    )
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert "NoSuchSetting" in done.stderr, "the check finds nothing"


def test_the_service_may_do_little(units: Path, require_program: RequireProgram) -> None:
    command = [require_program("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*command, str(units / "hailer-relay.service")],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    level = re.search(r"Overall exposure level for hailer-relay\.service: ([0-9.]+)", done.stdout)
    assert level is not None, done.stderr
    assert float(level[1]) <= 1.5, done.stdout


def test_the_command_of_the_service_is_understood(env: dict[str, str], tmp_path: Path) -> None:
    """All its options are there; only the sockets of systemd are missing here."""
    text = (UNITS / "hailer-relay.service").read_text(encoding="utf-8")
    found = re.search(r"^ExecStart=/opt/hailer/bin/hailer (.*)$", text, re.MULTILINE)
    assert found is not None
    done = subprocess.run(
        [*COMMAND, *found[1].replace("%S", str(tmp_path)).split()],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "fd://systemd was given, but no sockets were passed" in done.stderr
