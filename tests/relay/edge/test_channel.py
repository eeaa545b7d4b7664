"""Batches between processes: whatever the pieces in which they come, they come whole and in order."""

from __future__ import annotations

import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from hailer.relay.edge import channel as c

ENTRY = st.tuples(
    st.integers(0, 0xFFFFFFFF),
    st.one_of(st.sampled_from([c.READ, c.SAME, c.CLOSE]), st.binary(max_size=400)),
)


def pair(space: int = 64) -> tuple[c.Channel, c.Channel]:
    """Two sides of a channel."""
    one, other = socket.socketpair()
    return c.Channel(one, space), c.Channel(other, space)


def take_all(channel: c.Channel) -> list[tuple[int, int | bytes]]:
    """All entries that have come."""
    got: list[tuple[int, int | bytes]] = []
    while True:
        try:
            for links, sizes, data in channel.receive():
                end = 0
                for link, size in zip(links, sizes, strict=True):
                    if size >= c.ORDERS:
                        got.append((link, size))
                    else:
                        got.append((link, bytes(data[end : end + size])))
                        end += size
                assert end == len(data)
        except BlockingIOError:
            return got


@settings(deadline=None)
@given(st.lists(st.lists(ENTRY, min_size=1), max_size=4), st.integers(1, 50))
def test_any_splitting(batches: list[list[tuple[int, int | bytes]]], piece: int) -> None:
    out, aside = pair(1 << 20)
    between, back = pair()
    try:
        for batch in batches:
            for link, what in batch:
                if isinstance(what, int):
                    out.put(link, what)
                else:
                    out.put_bytes(link, what)
            assert out.flush()
        got: list[tuple[int, int | bytes]] = []
        while True:
            try:
                data = aside.sock.recv(piece)
            except BlockingIOError:
                break
            between.sock.sendall(data)
            got += take_all(back)
        assert got == [entry for batch in batches for entry in batch]
    finally:
        for side in (out, aside, between, back):
            side.sock.close()


def test_what_the_other_side_does_not_take_waits() -> None:
    out, back = pair()
    try:
        big = bytes(range(256)) * (1 << 12)
        out.put_bytes(1, big[:7], big[7:])
        out.put_with(2, c.TOOK, 5)
        assert not out.flush()
        assert 0 < out.backlog <= len(big) + 100
        assert not out.wait(0)
        got = take_all(back)
        while not out.flush():
            got += take_all(back)
        assert out.backlog == 0
        assert got + take_all(back) == [(1, big), (2, c.TOOK), (5, b"")]
    finally:
        out.sock.close()
        back.sock.close()
