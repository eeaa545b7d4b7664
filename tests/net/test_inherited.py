from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import ListenError
from hailer.net.dial import dial
from hailer.net.inherited import adopt, adopt_systemd
from hailer.net.listen import listen

if TYPE_CHECKING:
    from pathlib import Path

SERVE = """if True:
    import os, sys
    from hailer.endpoint import Endpoint
    from hailer.errors import HailerError
    from hailer.net.listen import listen
    try:
        listeners = listen(Endpoint.parse("fd://systemd"))
    except HailerError as error:
        print(error)
        sys.exit(7)
    left = [name for name in os.environ if name.startswith("LISTEN_")]
    told = [f"{each.name}={each.endpoint.scheme} {each.socket.get_inheritable()}" for each in listeners]
    connection, _ = listeners[0].socket.accept()
    connection.sendall(" ".join([*told, *left]).encode())
"""

# What systemd does between fork and exec: the sockets at 3 and up, the variables, then the program.
ACTIVATE = """if True:
    import os, sys
    sockets = [int(number) for number in sys.argv[1].split(",")]
    high = [os.dup2(number, 100 + at) for at, number in enumerate(sockets)]
    for at, number in enumerate(high):
        os.dup2(number, 3 + at, inheritable=True)
        os.close(number)
    os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[2]))
    os.environ["LISTEN_FDS"] = str(len(sockets))
    os.environ["LISTEN_FDNAMES"] = "front:back"
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[3]])
"""


def activate(sockets: list[socket.socket], *, wrong_pid: bool = False) -> subprocess.Popen[str]:
    numbers = [sock.fileno() for sock in sockets]
    return subprocess.Popen(
        [sys.executable, "-c", ACTIVATE, ",".join(map(str, numbers)), str(int(wrong_pid)), SERVE],
        pass_fds=numbers,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_systemd_passes_sockets_to_a_child(server: socket.socket, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()
        with activate([server, other]) as child, socket.create_connection(server.getsockname(), 20) as client:
            client.settimeout(20)
            with client.makefile() as answer:
                assert answer.read() == "front=tcp False back=unix False"
            child.communicate(timeout=20)
    assert child.returncode == 0
    assert (tmp_path / "s").is_socket()


def test_sockets_for_another_process_are_refused(server: socket.socket) -> None:
    with activate([server], wrong_pid=True) as child:
        said, _ = child.communicate(timeout=20)
    assert child.returncode == 7
    assert said.startswith("the sockets of systemd are for process '")


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd's own tool is not here")
def test_systemds_own_tool(server: socket.socket, tmp_path: Path) -> None:
    path = tmp_path / "s"
    command = ["systemd-socket-activate", "-l", str(path), "--fdname=front", sys.executable, "-c", SERVE]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as child:
        with dial(Endpoint("unix", path=str(path)), timeout=20, retries=99, retry_delay=0.02) as client:
            client.settimeout(20)
            with client.makefile() as answer:
                assert answer.read() == "front=unix False"
        assert child.wait(20) == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "no sockets were passed"),
        ({"LISTEN_FDS": "1"}, "no sockets were passed"),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, "are for process '1'"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "0"}, "LISTEN_FDS is '0'"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "-1"}, "LISTEN_FDS is '-1'"),
        ({"LISTEN_PID": "me", "LISTEN_FDS": "9" * 5000}, "LISTEN_FDS is"),
    ],
)
def test_variables_that_pass_nothing(variables: dict[str, str], said: str) -> None:
    variables = {name: value.replace("me", str(os.getpid())) for name, value in variables.items()}
    before = dict(variables)
    with pytest.raises(ListenError, match=said):
        adopt_systemd(variables)
    assert variables == before


def test_adopting_a_listener_by_number(server: socket.socket) -> None:
    descriptor = os.dup(server.fileno())
    os.set_inheritable(descriptor, True)
    os.set_blocking(descriptor, False)
    (listener,) = listen(Endpoint("fd", fd=descriptor))
    with listener:
        assert listener.socket.fileno() == descriptor
        assert listener.endpoint == Endpoint("tcp", "127.0.0.1", server.getsockname()[1])
        assert not os.get_inheritable(descriptor)
        assert os.get_blocking(descriptor)
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_an_inherited_path_is_not_ours_to_remove(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        adopt(os.dup(server.fileno())).close()
        assert (tmp_path / "s").is_socket()


def test_what_cannot_be_adopted_stays_open(tmp_path: Path) -> None:
    with (
        socket.socket() as idle,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unnamed,
        (tmp_path / "file").open("w") as file,
    ):
        for number, said in (
            (idle.fileno(), "neither listens nor is connected"),
            (datagrams.fileno(), "neither listens nor is connected"),
            (unnamed.fileno(), "neither listens nor is connected"),
            (file.fileno(), "is no socket"),
        ):
            with pytest.raises(ListenError, match=said):
                adopt(number)
            os.fstat(number)
    with pytest.raises(ListenError, match="is not open"):
        adopt(number)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_connection_is_accepted_once(kind: socket.SocketKind) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, adopt(other.detach(), name="it") as listener:
        assert (listener.name, listener.exhausted) == ("it", False)
        assert select.select([listener], [], [], 0)[0] == [listener]
        accepted = listener.accept()
        assert accepted.kind == ("stream" if kind == socket.SOCK_STREAM else "record")
        assert listener.exhausted
        assert select.select([listener], [], [], 0)[0] == []
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()
        one.send(b"x")
        assert accepted.socket.recv(1) == b"x"
        accepted.close()


def test_a_connection_that_is_never_accepted_is_closed() -> None:
    one, other = socket.socketpair()
    with one:
        adopt(other.detach()).close()
        assert one.recv(1) == b""


def test_a_bound_datagram_socket(tmp_path: Path) -> None:
    for family, address, scheme in (
        (socket.AF_INET, ("127.0.0.1", 0), "udp"),
        (socket.AF_UNIX, str(tmp_path / "s"), "unix+dgram"),
    ):
        with socket.socket(family, socket.SOCK_DGRAM) as bound, dial_socket(family) as client:
            bound.bind(address)
            with adopt(os.dup(bound.fileno())) as listener:
                assert listener.endpoint.scheme == scheme
                client.sendto(b"x", bound.getsockname())
                accepted = listener.accept()
                assert (accepted.kind, accepted.scheme) == ("record", scheme)
                accepted.close()
    assert (tmp_path / "s").is_socket()


def dial_socket(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_DGRAM)


def test_a_listening_seqpacket_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(path)
        server.listen()
        with (
            adopt(os.dup(server.fileno())) as listener,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
        ):
            assert listener.endpoint == Endpoint("unix+seqpacket", path=path)
            client.connect(path)
            accepted = listener.accept()
            assert (accepted.kind, accepted.scheme) == ("record", "unix+seqpacket")
            accepted.close()
