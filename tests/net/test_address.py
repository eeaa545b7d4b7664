from __future__ import annotations

import socket

import pytest

from hailer.net.address import Address, RawAddress


@pytest.mark.parametrize(
    ("family", "raw", "text"),
    [
        (socket.AF_INET, ("1.2.3.4", 80), "1.2.3.4:80"),
        (socket.AF_INET6, ("::1", 80, 0, 0), "[::1]:80"),
        (socket.AF_INET6, ("fe80::1", 80, 0, 7), "[fe80::1%7]:80"),
        (socket.AF_INET6, ("::ffff:1.2.3.4", 80, 0, 0), "1.2.3.4:80"),
        (socket.AF_UNIX, "/run/x", "unix:/run/x"),
        (socket.AF_UNIX, "\0name", "unix:@name"),
        (socket.AF_UNIX, b"\0name", "unix:@name"),
    ],
)
def test_text_is_what_people_read(family: int, raw: RawAddress, text: str) -> None:
    assert str(Address(family, socket.SOCK_STREAM, 0, raw)) == text


def test_open_makes_a_socket_that_children_do_not_inherit() -> None:
    with Address(socket.AF_INET, socket.SOCK_DGRAM, 0, ("127.0.0.1", 0)).open() as sock:
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_DGRAM)
        assert not sock.get_inheritable()
