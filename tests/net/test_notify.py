"""Telling systemd that a service is ready."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from hailer.net.notify import notify

if TYPE_CHECKING:
    from pathlib import Path


def listening(address: str) -> socket.socket:
    """What systemd has at the other end."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind(address)
    return sock


def test_what_is_said_is_one_datagram(tmp_path: Path) -> None:
    with listening(f"{tmp_path}/notify") as sock:
        assert notify("RELOADING=1", "MONOTONIC_USEC=5", environ={"NOTIFY_SOCKET": f"{tmp_path}/notify"})
        assert sock.recv(100) == b"RELOADING=1\nMONOTONIC_USEC=5"


@pytest.mark.skipif("not __import__('sys').platform.startswith('linux')", reason="abstract names are Linux's")
def test_an_abstract_name() -> None:
    name = f"hailer-{uuid.uuid4()}"
    with listening("\0" + name) as sock:
        assert notify("READY=1", environ={"NOTIFY_SOCKET": "@" + name})
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("where", ["", "relative", "vsock:2:1234", "/nonexistent/notify", "/" + "x" * 300])
def test_nobody_to_tell(where: str) -> None:
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": where})
    assert not notify("READY=1", environ={})


def test_a_full_queue_is_not_waited_for(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": f"{tmp_path}/notify"}
    with listening(environ["NOTIFY_SOCKET"]):
        for _ in range(10_000):
            if not notify("READY=1", environ=environ):
                return
        pytest.fail("the queue has no end")
