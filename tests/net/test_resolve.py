from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import EndpointError, ResolveError, TimedOut
from hailer.net.address import Address
from hailer.net.resolve import is_temporary, resolve, resolve_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Resolve = Callable[..., list[Address]]

STREAM = socket.SOCK_STREAM


@pytest.fixture(params=["blocking", "asyncio"])
def resolve_by(request: pytest.FixtureRequest) -> Resolve:
    if request.param == "blocking":
        return resolve
    return lambda endpoint, **options: asyncio.run(resolve_async(endpoint, **options))


class Names:
    """A system resolver that numeric addresses pass through, and names as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = socket.getaddrinfo
        self.asked: list[str] = []
        self.answer: Callable[[], object] = lambda: None
        self.threads: set[threading.Thread] = set()
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(
        self, host: Any, port: Any, family: int = 0, type_: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return self.real(host, port, family, type_, proto, flags)
        self.asked.append(host.decode() if isinstance(host, bytes) else host)
        self.threads.add(threading.current_thread())
        self.answer()
        return self.real("127.0.0.9", port, family, type_, proto, flags)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
def stuck(names: Names) -> Iterator[Names]:
    """A name server that gives no answer until the test is over."""
    over = threading.Event()
    names.answer = over.wait
    yield names
    over.set()
    for thread in names.threads:
        thread.join()


def hosts(addresses: list[Address]) -> list[str]:
    return [str(address.sockaddr[0]) for address in addresses]


@pytest.mark.parametrize(
    ("text", "sockaddr"),
    [
        ("tcp://127.0.0.1:7", ("127.0.0.1", 7)),
        ("tcp://[::1]:7", ("::1", 7, 0, 0)),
        ("tcp4://127.0.0.1:echo", ("127.0.0.1", 7)),
        ("tcp://0x7f000001:7", ("127.0.0.1", 7)),
    ],
)
def test_numbers_and_services_need_no_look_up(
    names: Names, resolve_by: Resolve, text: str, sockaddr: object
) -> None:
    assert [address.sockaddr for address in resolve_by(Endpoint.parse(text), timeout=1)] == [sockaddr]
    assert not names.asked


@pytest.mark.parametrize("text", ["tcp://localhost:80", "tcp://LOCALHOST:80", "tcp://a.localhost:80"])
def test_localhost_is_loopback_without_a_look_up(names: Names, text: str) -> None:
    found = hosts(resolve(Endpoint.parse(text), timeout=1))
    assert found in (["::1", "127.0.0.1"], ["127.0.0.1"])
    assert not names.asked


def test_a_family_can_be_chosen() -> None:
    assert hosts(resolve(Endpoint.parse("tcp4://localhost:80"), timeout=1)) == ["127.0.0.1"]
    assert hosts(resolve(Endpoint.parse("tcp6://localhost:80"), timeout=1)) == ["::1"]
    assert hosts(resolve(Endpoint.parse("tcp6://*:80"), timeout=1, passive=True)) == ["::"]


def test_localhost_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hailer.net.resolve._has_address", lambda family, text: family == socket.AF_INET)
    assert hosts(resolve(Endpoint.parse("tcp://localhost:80"), timeout=1)) == ["127.0.0.1"]
    assert hosts(resolve(Endpoint.parse("tcp6://localhost:80"), timeout=1)) == ["::1"]


def test_the_star_is_all_interfaces_and_only_for_listening() -> None:
    star = Endpoint.parse("tcp://*:80")
    assert sorted(hosts(resolve(star, timeout=1, passive=True))) == ["0.0.0.0", "::"]
    with pytest.raises(EndpointError, match="for listening"):
        resolve(star, timeout=1)


def test_kinds_of_sockets() -> None:
    assert resolve(Endpoint.parse("udp://127.0.0.1:7"), timeout=1)[0].type == socket.SOCK_DGRAM
    path = Address(socket.AF_UNIX, STREAM, 0, "/tmp/x")
    assert resolve(Endpoint.parse("unix:/tmp/x"), timeout=1) == [path]
    name = Address(socket.AF_UNIX, STREAM, 0, "\0x")
    assert resolve(Endpoint.parse("unix:@x"), timeout=1) == [name]
    for text, kind in (("unix+dgram:/x", socket.SOCK_DGRAM), ("unix+seqpacket:/x", socket.SOCK_SEQPACKET)):
        assert resolve(Endpoint.parse(text), timeout=1) == [Address(socket.AF_UNIX, kind, 0, "/x")]
    for text, port in (("tls://127.0.0.1:7", 7), ("ws://127.0.0.1/x", 80), ("wss://127.0.0.1", 443)):
        (found,) = resolve(Endpoint.parse(text), timeout=1)
        assert (found.type, found.sockaddr) == (STREAM, ("127.0.0.1", port))
    for text in ("fd://3", "stdio:"):
        with pytest.raises(EndpointError):
            resolve(Endpoint.parse(text), timeout=1)


@pytest.mark.skipif(not hasattr(socket, "if_nameindex"), reason="interfaces cannot be listed")
def test_a_scope_is_kept_as_a_number_alone() -> None:
    number, name = socket.if_nameindex()[0]
    found = resolve(Endpoint.parse(f"tcp://[fe80::1%{name}]:80"), timeout=1)
    assert [address.sockaddr for address in found] == [("fe80::1", 80, 0, number)]
    with pytest.raises(ResolveError, match="interface"):
        resolve(Endpoint.parse("tcp://[fe80::1%nothing0]:80"), timeout=1)


def test_an_unknown_service_is_said_before_any_look_up(names: Names, resolve_by: Resolve) -> None:
    with pytest.raises(ResolveError, match="'nosuchservice' is no UDP service"):
        resolve_by(Endpoint.parse("udp://somewhere.test:nosuchservice"), timeout=1)
    assert not names.asked


def test_names_under_invalid_do_not_exist_and_nobody_is_asked(names: Names, resolve_by: Resolve) -> None:
    with pytest.raises(ResolveError, match=r"no host is called 'no-such-host\.invalid': "):
        resolve_by(Endpoint.parse("tcp://no-such-host.invalid:80"), timeout=10)
    assert not names.asked


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "é" * 80])
def test_what_can_be_no_name_is_unknown_too(names: Names, resolve_by: Resolve, host: str) -> None:
    names.answer = lambda: names.real(names.asked[-1].encode("idna"), 80)
    with pytest.raises(ResolveError, match="no host is called"):
        resolve_by(Endpoint.parse(f"tcp://{host}:80"), timeout=10)


@pytest.mark.parametrize(
    ("number", "said", "again"),
    [
        (socket.EAI_NONAME, "no host is called 'a.test'", False),
        (socket.EAI_AGAIN, "for now", True),
        (socket.EAI_FAIL, "could not be looked up", False),
    ],
)
def test_failures_differ(names: Names, resolve_by: Resolve, number: int, said: str, again: bool) -> None:
    def fail() -> None:
        raise socket.gaierror(number, "stubbed")

    names.answer = fail
    with pytest.raises(ResolveError, match=said) as caught:
        resolve_by(Endpoint.parse("tcp://a.test:80"), timeout=10)
    assert is_temporary(caught.value) == again


def test_a_name_is_looked_up_off_this_thread(names: Names, resolve_by: Resolve) -> None:
    assert hosts(resolve_by(Endpoint.parse("tcp://a.test:80"), timeout=10)) == ["127.0.0.9"]
    assert names.asked == ["a.test"]
    (thread,) = names.threads
    assert thread is not threading.main_thread()
    assert thread.daemon
    thread.join(5)
    assert not thread.is_alive()  # none stays idle


def test_a_slow_look_up_is_left_at_the_deadline(stuck: Names, resolve_by: Resolve) -> None:
    began = time.monotonic()
    with pytest.raises(TimedOut, match=r"looking up 'slow\.test' took more than 0\.05 seconds: "):
        resolve_by(Endpoint.parse("tcp://slow.test:80"), timeout=0.05)
    assert 0.04 < time.monotonic() - began < 10


def test_stuck_look_ups_are_few_and_hold_nothing_else_up(stuck: Names) -> None:
    async def many() -> None:
        slow = [resolve_async(Endpoint.parse(f"tcp://slow{n}.test:80"), timeout=0.2) for n in range(40)]
        ended = asyncio.gather(*slow, return_exceptions=True)
        # asyncio's own pool and numeric addresses are free meanwhile.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 5) == 7
        assert hosts(await resolve_async(Endpoint.parse("tcp://127.0.0.1:80"), timeout=1)) == ["127.0.0.1"]
        assert {type(error) for error in await ended} == {TimedOut}

    asyncio.run(many())
    assert len(stuck.threads) == len(stuck.asked) == 8


def test_look_ups_go_on_after_stuck_ones(names: Names) -> None:
    gate = threading.Event()
    names.answer = gate.wait
    for number in range(12):
        with pytest.raises(TimedOut):
            resolve(Endpoint.parse(f"tcp://slow{number}.test:80"), timeout=0.001)
    gate.set()
    assert hosts(resolve(Endpoint.parse("tcp://quick.test:80"), timeout=10)) == ["127.0.0.9"]
    # Those that had not begun at their deadline were never asked.
    assert len(names.asked) <= 8 + 1


def test_waiting_look_ups_are_bounded(stuck: Names) -> None:
    async def flood() -> list[object]:
        many = [resolve_async(Endpoint.parse(f"tcp://n{n}.test:80"), timeout=0.3) for n in range(300)]
        return list(await asyncio.gather(*many, return_exceptions=True))

    kinds = [type(result) for result in asyncio.run(flood())]
    assert 256 <= kinds.count(TimedOut) <= 256 + 8
    assert kinds.count(ResolveError) == 300 - kinds.count(TimedOut)


def test_cancelling_a_look_up(stuck: Names) -> None:
    asked, stay = threading.Event(), stuck.answer

    def ask() -> None:
        asked.set()
        stay()

    stuck.answer = ask

    async def cancel() -> None:
        task = asyncio.create_task(resolve_async(Endpoint.parse("tcp://slow.test:80"), timeout=None))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def test_a_stuck_look_up_does_not_block_the_exit() -> None:
    program = """if True:
        import socket, threading
        from hailer.endpoint import Endpoint
        from hailer.net.resolve import resolve

        def stuck(host, port, family, type, proto, flags):
            if flags & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "a name")
            threading.Event().wait()

        socket.getaddrinfo = stuck
        try:
            resolve(Endpoint("tcp", "slow.test", 80), timeout=0.05)
        except TimeoutError as error:
            print(type(error).__name__)
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "TimedOut\n", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_looks_up_on_its_own_threads(stuck: Names) -> None:
    for number in range(8):  # all threads are stuck, and the child does not have them
        with pytest.raises(TimedOut):
            resolve(Endpoint.parse(f"tcp://slow{number}.test:80"), timeout=0.01)
    child = os.fork()
    if child == 0:
        stuck.answer = lambda: None
        try:
            found = hosts(resolve(Endpoint.parse("tcp://quick.test:80"), timeout=5))
            os._exit(0 if found == ["127.0.0.9"] else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
