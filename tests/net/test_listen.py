from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import ListenError, ResolveError
from hailer.net.address import Address
from hailer.net.dial import dial
from hailer.net.listen import listen

if TYPE_CHECKING:
    from hailer.net.listener import Listener


def opened(text: str, stack: ExitStack, **options: object) -> list[Listener]:
    return [stack.enter_context(each) for each in listen(Endpoint.parse(text), **options)]  # type: ignore[arg-type]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


def test_one_address() -> None:
    with ExitStack() as stack:
        (listener,) = opened("tcp://127.0.0.1:0", stack)
        assert str(listener.endpoint) == f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}"
        assert listener.socket.getblocking()
        assert not listener.socket.get_inheritable()
        with dial(listener.endpoint, timeout=5), listener.socket.accept()[0]:
            pass
    assert listener.socket.fileno() == -1
    listener.close()


@needs_ipv6
def test_localhost_is_both_families_on_one_port() -> None:
    with ExitStack() as stack:
        four, six = opened("tcp://localhost:0", stack)
        port = four.endpoint.port
        assert port != 0
        assert [str(four.endpoint), str(six.endpoint)] == [f"tcp://127.0.0.1:{port}", f"tcp://[::1]:{port}"]
        for listener in (four, six):
            with dial(listener.endpoint, timeout=5), listener.socket.accept()[0]:
                pass


@needs_ipv6
def test_the_star_shows_ipv4_peers_as_ipv4() -> None:
    with ExitStack() as stack:
        four, six = opened("tcp://*:0", stack)
        assert (four.endpoint.host, six.endpoint.host) == ("0.0.0.0", "::")
        assert four.endpoint.port == six.endpoint.port
        assert six.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        assert isinstance(four.endpoint.port, int)
        for listener, host in ((four, "127.0.0.1"), (six, "::1")):
            with socket.create_connection((host, four.endpoint.port), 5):
                accepted, peer = listener.socket.accept()
                accepted.close()
                assert peer[0] == host


@needs_ipv6
def test_a_free_port_has_to_be_free_on_all_addresses() -> None:
    with ExitStack() as stack:
        seen: list[socket.socket] = []
        taken: list[int] = []

        def take_the_port(sock: socket.socket) -> None:
            seen.append(sock)
            if sock.family == socket.AF_INET6 and len(taken) < 3:
                port = seen[-2].getsockname()[1]
                blocker = stack.enter_context(socket.socket(socket.AF_INET6))
                blocker.bind(("::1", port))
                blocker.listen()
                taken.append(port)

        four, six = opened("tcp://localhost:0", stack, prepare=take_the_port)
        assert four.endpoint.port == six.endpoint.port
        assert four.endpoint.port not in taken
        assert len(taken) == 3
        assert sum(sock.fileno() >= 0 for sock in seen) == 2


@needs_ipv6
def test_a_given_port_is_taken_on_all_addresses_or_none() -> None:
    with ExitStack() as stack:
        blocker = stack.enter_context(socket.socket(socket.AF_INET6))
        blocker.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        blocker.bind(("::1", 0))
        blocker.listen()
        port = blocker.getsockname()[1]
        seen: list[socket.socket] = []
        with pytest.raises(ListenError, match=rf"^\[::1\]:{port} is in use"):
            listen(Endpoint("tcp", "localhost", port), prepare=seen.append)
        assert [sock.fileno() for sock in seen] == [-1, -1]


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize("text", ["tcp://localhost:0", "tcp://*:0"])
def test_a_machine_without_ipv6(text: str, number: int) -> None:
    def lack(sock: socket.socket) -> None:
        if sock.family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))

    with ExitStack() as stack:
        (listener,) = opened(text, stack, prepare=lack)
        assert listener.socket.family == socket.AF_INET
    with pytest.raises(ListenError, match=r"\[::1?\]"):
        listen(Endpoint.parse(text.replace("tcp:", "tcp6:")), prepare=lack)


def test_an_address_that_is_not_ours_is_never_left_out() -> None:
    ours = Address(socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", 0))
    other = Address(socket.AF_INET, socket.SOCK_STREAM, 0, ("192.0.2.1", 0))
    seen: list[socket.socket] = []
    with pytest.raises(ListenError, match=r"^192\.0\.2\.1:\d+ is no address of this machine: "):
        listen(Endpoint.parse("tcp://name.test:0"), addresses=[ours, other], prepare=seen.append)
    assert [sock.fileno() for sock in seen] == [-1, -1]


def test_in_use_by_this_program() -> None:
    with ExitStack() as stack:
        (listener,) = opened("tcp://127.0.0.1:0", stack)
        with pytest.raises(ListenError) as caught:
            listen(listener.endpoint)
        if sys.platform == "linux":
            me = f"this program itself (process {os.getpid()})"
            assert (
                str(caught.value)
                == f"{listener.endpoint.address_text} is in use by {me}: stop it or take another port"
            )


@pytest.mark.skipif(sys.platform != "linux", reason="who has a port is read in /proc")
def test_in_use_by_another_program() -> None:
    program = """if True:
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        name = Path(f"/proc/{other.pid}/comm").read_text(encoding="utf-8").strip()
        with pytest.raises(ListenError) as caught:
            listen(Endpoint("tcp", "127.0.0.1", port))
        assert str(caught.value).startswith(f"127.0.0.1:{port} is in use by {name} (process {other.pid}): ")
        other.communicate("\n")


def test_a_port_is_free_again_at_once() -> None:
    with ExitStack() as stack:
        (listener,) = opened("tcp://127.0.0.1:0", stack)
        client = dial(listener.endpoint, timeout=5)
        accepted, _ = listener.socket.accept()
        accepted.close()  # this side closes first, and keeps TIME_WAIT
        assert client.recv(1) == b""
        client.close()
        listener.close()
        assert opened(str(listener.endpoint), stack)


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="no SO_REUSEPORT")
def test_a_port_is_shared_only_when_both_ask_for_it() -> None:
    with ExitStack() as stack:
        (first,) = opened("tcp://127.0.0.1:0", stack, reuse_port=True)
        (second,) = opened(str(first.endpoint), stack, reuse_port=True)
        assert first.endpoint == second.endpoint
        with pytest.raises(ListenError):
            listen(first.endpoint)


def unprivileged_start() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text(encoding="ascii"))
    except OSError:
        return 1024


@pytest.mark.skipif(unprivileged_start() < 2, reason="every port is open to all users here")
def test_a_low_port_without_permission() -> None:
    program = """if True:
        import os
        from hailer.endpoint import Endpoint
        from hailer.errors import ListenError
        from hailer.net.listen import listen
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            listen(Endpoint("tcp", "127.0.0.1", 1))
        except ListenError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout.startswith("no permission to listen on 127.0.0.1:1: take a port from 1024 up")


def test_unknown_names_and_services() -> None:
    with pytest.raises(ResolveError):
        listen(Endpoint.parse("tcp://no-such-host.invalid:0"))
    with pytest.raises(ResolveError):
        listen(Endpoint.parse("tcp://localhost:nosuchservice"))


@pytest.mark.parametrize("text", ["tls://127.0.0.1:0", "ws://127.0.0.1:0/path?q", "wss://127.0.0.1:0/"])
def test_what_is_over_tcp(text: str) -> None:
    with ExitStack() as stack:
        (listener,) = opened(text, stack)
        wanted = Endpoint.parse(text)
        port = listener.socket.getsockname()[1]
        assert listener.endpoint == wanted.with_port(port)
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            accepted = listener.accept()
            assert (accepted.kind, accepted.scheme) == ("stream", wanted.scheme)
            assert accepted.address == client.getsockname()
            accepted.close()


def test_accepting_without_anybody_there() -> None:
    with ExitStack() as stack:
        (listener,) = opened("tcp://127.0.0.1:0", stack)
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert not listener.exhausted
        assert not listener.forwards


@needs_ipv6
@pytest.mark.parametrize("host", ["localhost", "*"])
def test_datagrams_on_both_families(host: str) -> None:
    with ExitStack() as stack:
        four, six = opened(f"udp://{host}:0", stack)
        assert four.endpoint.port == six.endpoint.port
        assert (four.endpoint.scheme, four.endpoint.is_datagram) == ("udp", True)
        assert isinstance(four.endpoint.port, int)
        for listener, address in ((four, "127.0.0.1"), (six, "::1")):
            with dial(Endpoint("udp", address, four.endpoint.port), timeout=5) as client:
                client.send(b"x")
                accepted = listener.accept()
                assert (accepted.kind, accepted.scheme) == ("record", "udp")
                assert accepted.address == client.getsockname()
                accepted.close()


def test_a_udp_port_in_use() -> None:
    with ExitStack() as stack:
        (listener,) = opened("udp://127.0.0.1:0", stack)
        with pytest.raises(ListenError, match="is in use") as caught:
            listen(listener.endpoint)
        if sys.platform == "linux":
            assert "by this program itself" in str(caught.value)
        listener.close()
        assert opened(str(listener.endpoint), stack)
