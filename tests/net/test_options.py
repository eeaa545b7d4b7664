from __future__ import annotations

import contextlib
import socket
import sys
import time

import pytest

from hailer.errors import UsageError
from hailer.net.options import (
    sent_again,
    set_buffers,
    set_keepalive,
    set_nodelay,
    set_user_timeout,
    unanswered,
)


def test_nodelay_on_and_off() -> None:
    with socket.socket() as sock:
        assert set_nodelay(sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert set_nodelay(sock, on=False)
        assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_keepalive_with_its_times() -> None:
    with socket.socket() as sock:
        done = set_keepalive(sock, idle=30, interval=0.2, count=4)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert done
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [30, 1, 4]


def test_a_missing_keepalive_time_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_KEEPINTVL")
    with socket.socket() as sock:
        assert set_keepalive(sock, idle=30)
        assert not set_keepalive(sock, idle=30, interval=5)


def test_user_timeout_in_milliseconds() -> None:
    with socket.socket() as sock:
        if set_user_timeout(sock, 1.5):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 1500
        else:
            assert not hasattr(socket, "TCP_USER_TIMEOUT")


def test_without_effect_on_what_is_not_tcp() -> None:
    for sock in (socket.socket(socket.AF_UNIX), socket.socket(type=socket.SOCK_DGRAM)):
        with sock:
            assert not (set_nodelay(sock))
            assert not (set_keepalive(sock, idle=1))
            assert not (set_user_timeout(sock, 1))


def test_buffers() -> None:
    with socket.socket() as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        set_buffers(sock, receive=20_000)
        # Linux keeps twice what was asked, for its own bookkeeping.
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) in (20_000, 40_000)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
        with pytest.raises(UsageError):
            set_buffers(sock, send=0)


def test_all_that_is_acknowledged_is_answered() -> None:
    """What is not is tried with real links in tests/relay/edge/test_half_open.py."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as one,
        server.accept()[0],
    ):
        one.sendall(b"x" * 100)
        assert unanswered(one) is None
    with socket.socket(socket.AF_UNIX) as no_tcp:
        assert unanswered(no_tcp) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_what_is_sent_again_is_counted() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        asking = []
        for _ in range(6):  # a listener with no room drops what asks to connect, which asks again
            asking.append(stack.enter_context(socket.socket()))
            asking[-1].setblocking(False)
            asking[-1].connect_ex(server.getsockname())
        assert sent_again(asking[0]) == 0
        give_up = time.monotonic() + 10
        while not sent_again(asking[-1]):
            assert time.monotonic() < give_up
            time.sleep(0.05)
    with socket.socket(socket.AF_UNIX) as no_tcp:
        assert sent_again(no_tcp) == 0
