from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint, from_sockaddr
from hailer.errors import DialError, EndpointError, HailerError, ResolveError, TimedOut, UsageError
from hailer.net.address import Address
from hailer.net.dial import dial, dial_async
from hailer.net.eyeballs import ATTEMPT_DELAY
from hailer.net.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Dial = Callable[..., socket.socket]


def endpoint_of(sock: socket.socket) -> Endpoint:
    return from_sockaddr("unix" if sock.family == socket.AF_UNIX else "tcp", sock.getsockname())


def address_of(sock: socket.socket) -> Address:
    return Address(sock.family, socket.SOCK_STREAM, 0, sock.getsockname())


def stream(host: str, port: int) -> Address:
    return Address(socket.AF_INET, socket.SOCK_STREAM, 0, (host, port))


def exchange(sock: socket.socket, server: socket.socket) -> None:
    """See that a socket is connected to a server, and close it."""
    with sock, server.accept()[0] as accepted:
        sock.sendall(b"hail")
        assert accepted.recv(9) == b"hail"


class Made:
    """Every socket that a dial made, to see what became of it."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def __call__(self, sock: socket.socket) -> None:
        self.sockets.append(sock)

    @property
    def open(self) -> int:
        return sum(sock.fileno() >= 0 for sock in self.sockets)


def test_connects_and_is_not_inherited(dial_by: Dial, server: socket.socket) -> None:
    sock = dial_by(endpoint_of(server), timeout=5)
    assert not sock.get_inheritable()
    assert sock.gettimeout() is None
    exchange(sock, server)


def test_no_timeout_is_allowed(dial_by: Dial, server: socket.socket) -> None:
    exchange(dial_by(endpoint_of(server), timeout=None), server)


def test_both_families_by_one_name(dial_by: Dial) -> None:
    # The system's loopback addresses: a machine may lack IPv6.
    for found in resolve(Endpoint.parse("tcp://localhost:1"), timeout=1):
        assert isinstance(found.sockaddr, tuple)
        with socket.create_server((found.sockaddr[0], 0), family=found.family) as server:
            port = server.getsockname()[1]
            exchange(dial_by(Endpoint("tcp", "localhost", port), timeout=5), server)


def test_nobody_listens(dial_by: Dial, closed_port: int) -> None:
    endpoint = Endpoint("tcp", "127.0.0.1", closed_port)
    with pytest.raises(DialError) as caught:
        dial_by(endpoint, timeout=5, advice="start one with hailer relay")
    assert str(caught.value) == (
        f"nobody listens on 127.0.0.1:{closed_port} (connection refused): start one with hailer relay"
    )
    assert caught.value.attempts == ((f"127.0.0.1:{closed_port}", "connection refused"),)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_silent_peer_times_out_and_leaves_nothing_open(dial_by: Dial, silent: socket.socket) -> None:
    made = Made()
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"127\.0\.0\.1:\d+ did not answer within 0\.2 seconds: "):
        dial_by(endpoint_of(silent), timeout=0.2, retries=9, prepare=made)
    assert 0.19 < time.monotonic() - began < 10
    assert (len(made.sockets), made.open) == (1, 0)


def test_a_time_out_says_what_the_other_addresses_did(
    dial_by: Dial, silent: socket.socket, closed_port: int
) -> None:
    addresses = [stream("127.0.0.1", closed_port), address_of(silent)]
    with pytest.raises(
        TimedOut, match=rf"within 0\.1 seconds \(127\.0\.0\.1:{closed_port}: connection refused\)"
    ):
        dial_by(endpoint_of(silent), timeout=0.1, addresses=addresses)


def test_a_dead_first_address_costs_nothing(dial_by: Dial, closed_port: int, server: socket.socket) -> None:
    addresses = [stream("127.0.0.1", closed_port), address_of(server)]
    took = []
    for _ in range(3):  # on a busy machine not each is quick
        made = Made()
        began = time.monotonic()
        exchange(dial_by(endpoint_of(server), timeout=5, addresses=addresses, prepare=made), server)
        took.append(time.monotonic() - began)
        assert (len(made.sockets), made.open) == (2, 0)
    assert min(took) < ATTEMPT_DELAY


def test_a_silent_first_address_costs_a_quarter_second(
    dial_by: Dial, silent: socket.socket, server: socket.socket
) -> None:
    made = Made()
    began = time.monotonic()
    addresses = [address_of(silent), address_of(server)]
    sock = dial_by(endpoint_of(server), timeout=5, addresses=addresses, prepare=made)
    assert ATTEMPT_DELAY <= time.monotonic() - began < 4
    assert (len(made.sockets), made.open) == (2, 1)
    exchange(sock, server)


def test_a_machine_without_ipv6(dial_by: Dial, server: socket.socket, closed_port: int) -> None:
    def lack(sock: socket.socket) -> None:
        if sock.family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "stubbed")

    def both(port: int) -> list[Address]:
        six = Address(socket.AF_INET6, socket.SOCK_STREAM, 0, ("::1", port, 0, 0))
        return [six, stream("127.0.0.1", port)]

    port = server.getsockname()[1]
    exchange(dial_by(endpoint_of(server), timeout=5, addresses=both(port), prepare=lack), server)
    with pytest.raises(DialError, match=rf"^nobody listens on 127\.0\.0\.1:{closed_port} ") as caught:
        dial_by(Endpoint("tcp", "x", closed_port), timeout=5, addresses=both(closed_port), prepare=lack)
    assert [where for where, _ in caught.value.attempts] == [
        f"[::1]:{closed_port}",
        f"127.0.0.1:{closed_port}",
    ]


def test_a_name_that_does_not_exist_is_not_tried_again(dial_by: Dial) -> None:
    retried: list[object] = []
    with pytest.raises(ResolveError, match="no-such-host"):
        dial_by(
            Endpoint("tcp", "no-such-host.invalid", 80),
            timeout=10,
            retries=5,
            retry_delay=0.01,
            on_retry=lambda *told: retried.append(told),
        )
    assert not retried


def test_a_name_server_out_of_order_is_asked_again(
    dial_by: Dial, server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, []

    def answer(host: Any, port: Any, family: int, type_: int, proto: int, flags: int) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return real(host, port, family, type_, proto, flags)
        asked.append(host)
        if len(asked) < 3:
            raise socket.gaierror(socket.EAI_AGAIN, "stubbed")
        return real("127.0.0.1", port, family, type_, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    endpoint = Endpoint("tcp", "name.test", server.getsockname()[1])
    exchange(dial_by(endpoint, timeout=5, retries=2, retry_delay=0.01), server)
    assert len(asked) == 3


def test_retries_succeed_when_the_listener_appears(dial_by: Dial, closed_port: int) -> None:
    told: list[tuple[HailerError, int, float]] = []
    made = Made()
    with ExitStack() as stack:
        servers: list[socket.socket] = []

        def on_retry(error: HailerError, number: int, wait: float) -> None:
            told.append((error, number, wait))
            if number == 3:
                servers.append(stack.enter_context(socket.create_server(("127.0.0.2", closed_port))))

        endpoint = Endpoint("tcp", "127.0.0.2", closed_port)
        sock = dial_by(endpoint, timeout=5, retries=9, retry_delay=0.01, on_retry=on_retry, prepare=made)
        exchange(sock, servers[0])
    assert [number for _, number, _ in told] == [1, 2, 3]
    assert all(isinstance(error, DialError) for error, _, _ in told)
    for (_, _, wait), most in zip(told, (0.01, 0.02, 0.04), strict=True):
        assert 0.75 * most <= wait <= most
    assert (len(made.sockets), made.open) == (4, 0)


def test_retries_end(dial_by: Dial, closed_port: int) -> None:
    made = Made()
    with pytest.raises(DialError):
        dial_by(
            Endpoint("tcp", "127.0.0.1", closed_port), timeout=5, retries=3, retry_delay=0.001, prepare=made
        )
    assert len(made.sockets) == 4


def test_the_timeout_ends_retries_with_the_reason_and_one_last_try(dial_by: Dial, closed_port: int) -> None:
    waits: list[float] = []
    began = time.monotonic()
    with pytest.raises(DialError, match="connection refused"):
        dial_by(
            Endpoint("tcp", "127.0.0.1", closed_port),
            timeout=0.6,
            retries=99,
            retry_delay=0.4,
            on_retry=lambda error, number, wait: waits.append(wait),
        )
    assert 0.5 < time.monotonic() - began < 10
    assert len(waits) == 2


def test_a_socket_connected_with_itself_is_nobody(dial_by: Dial, closed_port: int) -> None:
    # From and to the same port: what happens by chance when a free port of the ephemeral range is dialled.
    endpoint = Endpoint("tcp", "127.0.0.3", closed_port)
    made = Made()
    with pytest.raises(DialError, match="nobody listens"):
        dial_by(endpoint, timeout=5, local=endpoint, prepare=made)
    assert made.open == 0


def test_the_local_address_can_be_chosen(dial_by: Dial, server: socket.socket) -> None:
    with dial_by(endpoint_of(server), timeout=5, local=Endpoint.parse("tcp://127.0.0.5:0")) as sock:
        assert sock.getsockname()[0] == "127.0.0.5"
    port = server.getsockname()[1]
    both = Endpoint("tcp", "localhost", port)
    with dial_by(both, timeout=5, local=Endpoint.parse("tcp://127.0.0.6:0")) as sock:
        assert sock.getsockname()[0] == "127.0.0.6"
    with pytest.raises(EndpointError, match="another local"):
        dial_by(Endpoint("tcp", "127.0.0.1", port), timeout=5, local=Endpoint.parse("tcp://[::1]:0"))
    with pytest.raises(DialError, match="no local address or port"):
        dial_by(Endpoint("tcp", "127.0.0.1", port), timeout=5, local=Endpoint.parse("tcp://192.0.2.1:0"))


def test_udp_is_connected_to_one_peer(dial_by: Dial) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as peer, socket.socket(type=socket.SOCK_DGRAM) as stranger:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        with dial_by(from_sockaddr("udp", peer.getsockname()), timeout=5) as sock:
            sock.settimeout(5)
            stranger.sendto(b"not for you", sock.getsockname())
            sock.send(b"question")
            assert peer.recvfrom(99) == (b"question", sock.getsockname())
            peer.sendto(b"answer", sock.getsockname())
            assert sock.recv(99) == b"answer"


def test_unix_path_and_abstract_name(dial_by: Dial, tmp_path: Path) -> None:
    names = [str(tmp_path / "s")]
    if os.uname().sysname == "Linux":
        names.append(f"\0hailer-test-{os.getpid()}")
    for name in names:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
            server.listen()
            exchange(dial_by(Endpoint("unix", path=name.replace("\0", "@")), timeout=5), server)


def test_unix_path_where_nobody_listens(dial_by: Dial, tmp_path: Path) -> None:
    path = tmp_path / "s"
    endpoint = Endpoint("unix", path=str(path))
    with pytest.raises(DialError, match=r"^nobody listens on unix:/.* \(no such socket\): "):
        dial_by(endpoint, timeout=5)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with pytest.raises(DialError, match=r"^nobody listens on unix:/.* \(connection refused\): "):
        dial_by(endpoint, timeout=5)
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(DialError, match="socket of another kind"):
            dial_by(endpoint, timeout=5)


def test_unix_listener_with_a_full_queue(dial_by: Dial, tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(tmp_path / "s"))
        server.listen(0)
        while True:
            filler = stack.enter_context(socket.socket(socket.AF_UNIX))
            filler.setblocking(False)
            if filler.connect_ex(server.getsockname()) == errno.EAGAIN:
                break
        made = Made()
        with pytest.raises(TimedOut, match="did not answer"):
            dial_by(endpoint_of(server), timeout=0.1, prepare=made)
        assert len(made.sockets) > 1
        assert made.open == 0

        refused = threading.Event()

        def on_socket(sock: socket.socket, seen: list[socket.socket] = []) -> None:  # noqa: B006
            seen.append(sock)
            if len(seen) == 3:  # two tries have found the queue full
                refused.set()

        def make_room() -> None:
            refused.wait(5)
            server.accept()[0].close()

        room = threading.Thread(target=make_room)
        room.start()
        try:
            sock = dial_by(endpoint_of(server), timeout=5, prepare=on_socket)
        finally:
            room.join()
        sock.close()


def test_prepare_comes_before_connecting_and_its_errors_leave_nothing_open(
    dial_by: Dial, server: socket.socket, silent: socket.socket
) -> None:
    made = Made()

    def prepare(sock: socket.socket) -> None:
        made(sock)
        with pytest.raises(OSError):
            sock.getpeername()
        if len(made.sockets) == 2:
            raise UsageError("not this one")

    with pytest.raises(UsageError, match="not this one"):
        dial_by(
            endpoint_of(server),
            timeout=5,
            addresses=[address_of(silent), address_of(server)],
            prepare=prepare,
        )
    assert (len(made.sockets), made.open) == (2, 0)


@pytest.mark.parametrize("scheme", ["tls", "ws", "wss"])
def test_what_is_over_tcp_gives_its_tcp_connection(dial_by: Dial, server: socket.socket, scheme: str) -> None:
    endpoint = Endpoint(scheme, "127.0.0.1", server.getsockname()[1])
    with dial_by(endpoint, timeout=5) as client, server.accept()[0] as accepted:
        assert client.getpeername() == accepted.getsockname()


@pytest.mark.parametrize("name", ["path", "abstract"])
def test_unix_records(dial_by: Dial, tmp_path: Path, name: str) -> None:
    path = f"@{tmp_path}" if name == "abstract" else str(tmp_path / "s")
    bound = path.replace("@", "\0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(bound)
        server.listen()
        with (
            dial_by(Endpoint("unix+seqpacket", path=path), timeout=5) as client,
            server.accept()[0] as accepted,
        ):
            client.send(b"one")
            assert accepted.recv(10) == b"one"
        # Of abstract names each kind of socket has its own.
        other = "nobody listens" if name == "abstract" else "a socket of another kind"
        with pytest.raises(DialError, match=other):
            dial_by(Endpoint("unix+dgram", path=path), timeout=5)


def test_a_client_of_unix_datagrams_can_be_answered(dial_by: Dial, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        with dial_by(Endpoint("unix+dgram", path=str(path)), timeout=5) as client:
            client.send(b"question")
            question, address = server.recvfrom(100)
            assert question == b"question"
            server.sendto(b"answer", address)
            assert client.recv(100) == b"answer"
    with pytest.raises(DialError, match="nobody listens on"):
        dial_by(Endpoint("unix+dgram", path=str(path)), timeout=5)


def test_an_inherited_connection(dial_by: Dial) -> None:
    one, other = socket.socketpair()
    with one:
        number = other.detach()
        with dial_by(Endpoint("fd", fd=number), timeout=5) as client:
            assert client.fileno() == number
            client.sendall(b"x")
            assert one.recv(1) == b"x"


def test_what_is_no_inherited_connection(dial_by: Dial, server: socket.socket) -> None:
    with pytest.raises(DialError, match="is not connected"):
        dial_by(Endpoint("fd", fd=server.fileno()), timeout=5)
    server.getsockname()  # what is refused stays open
    reader, writer = os.pipe()
    try:
        with pytest.raises(DialError, match="is no socket"):
            dial_by(Endpoint("fd", fd=reader), timeout=5)
    finally:
        os.close(reader)
        os.close(writer)
    with pytest.raises(DialError, match="is not open"):
        dial_by(Endpoint("fd", fd=1_000_000), timeout=5)


@pytest.mark.parametrize("text", ["tcp://*:80", "tcp://localhost:0", "udp://*:80", "fd://systemd"])
def test_what_is_for_listening_is_refused(dial_by: Dial, text: str) -> None:
    with pytest.raises(EndpointError, match="for listening"):
        dial_by(Endpoint.parse(text), timeout=1)


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": 1, "retries": -1}, {"timeout": 1, "retry_delay": -1}]
)
def test_nonsense_is_refused(dial_by: Dial, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        dial_by(Endpoint.parse("tcp://127.0.0.1:1"), **options)


def test_cancellation_closes_every_socket(silent: socket.socket) -> None:
    made = Made()

    async def cancel() -> None:
        started = asyncio.Event()

        def prepare(sock: socket.socket) -> None:
            made(sock)
            if len(made.sockets) == 2:
                started.set()

        other = stream("127.0.0.2", silent.getsockname()[1])
        with socket.create_server(("127.0.0.2", other.sockaddr[1]), backlog=0) as second:
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(second.getsockname())
            dialling = dial_async(
                endpoint_of(silent), timeout=None, addresses=[address_of(silent), other], prepare=prepare
            )
            task = asyncio.create_task(dialling)
            await started.wait()
            assert made.open == 2
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert made.open == 0
            for filler in fillers:
                filler.close()

    asyncio.run(cancel())


def test_cancellation_at_any_step_loses_no_socket(server: socket.socket) -> None:
    """A dial is cancelled after each number of turns of the loop, also when it has just won."""
    server.listen(100)

    async def cancel_after(turns: int) -> bool:
        made = Made()
        task = asyncio.create_task(dial_async(endpoint_of(server), timeout=5, prepare=made))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = task.cancel()
        try:
            sock = await task
        except asyncio.CancelledError:
            assert made.open == 0
            return cancelled
        sock.close()
        return False

    async def every() -> list[bool]:
        return [await cancel_after(turns) for turns in range(12)]

    outcomes = asyncio.run(every())
    assert outcomes[0]
    assert not outcomes[-1]


def test_the_loop_runs_on_while_dialling(silent: socket.socket) -> None:
    async def run() -> int:
        turns = 0
        task = asyncio.create_task(dial_async(endpoint_of(silent), timeout=0.2))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.005)
        with pytest.raises(TimedOut):
            await task
        return turns

    assert asyncio.run(run()) > 5


def test_addresses_of_resolve_can_be_given(server: socket.socket) -> None:
    endpoint = endpoint_of(server)
    exchange(dial(endpoint, timeout=5, addresses=resolve(endpoint, timeout=1)), server)
    with pytest.raises(EndpointError):
        dial(endpoint, timeout=5, addresses=[])
