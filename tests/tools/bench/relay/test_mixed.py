"""The mixed load: what it is made of, and that it finds out what a relay does wrong."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.tools.bench.relay.dialects import DIALECTS, LineDialect
from hailer.tools.bench.relay.load import measure
from hailer.tools.bench.relay.mixed import LARGEST, SMALLEST, Receiver, Strand, make_deck
from hailer.tools.bench.relay.party import LoadError
from hailer.tools.bench.relay.peers import running
from hailer.tools.bench.relay.posting import POSTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hailer.tools.bench.relay.peers import Peer


class HastyLines(LineDialect):
    quiet = 0.02


def test_a_deck_has_what_it_says() -> None:
    deck = make_deck(2, 1000, posting=True)
    assert deck == make_deck(2, 1000, posting=True)
    sizes = sorted(len(body) for _, body, _ in deck)
    assert SMALLEST <= sizes[0] < 2 * SMALLEST
    assert LARGEST / 2 < sizes[-1] <= LARGEST
    # As many from one power of two to the next, from the first to the last.
    for low, high in pairwise(2**n for n in range(4, 17)):
        assert 50 < sum(low <= size < high for size in sizes) < 130
    assert len({body for _, body, _ in deck}) == len(deck)
    assert 0.4 < sum(b"\n" in body for _, body, _ in deck) / len(deck) < 0.6
    assert 0.07 < sum(post for *_, post in deck) / len(deck) < 0.13
    assert len({to for to, *_ in deck}) > 600
    assert not any(post for *_, post in make_deck(2, 1000, posting=False))


@contextmanager
def a_receiver() -> Iterator[Receiver]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receiver = Receiver("r00000", ours)
        for sender in (b"s0", b"s1"):
            live, mail = Strand(), Strand()
            live.frames = [b"MSG %s r00000 :live %d\n" % (sender, n) for n in range(3)]
            mail.frames = [b" %s r00000 :mail %d\n" % (sender, n) for n in range(2)]
            receiver.live.append(live)
            receiver.mail.append(mail)
        receiver.left = receiver.per_pass
        yield receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with a_receiver() as receiver:
        yield receiver


STREAM = (
    b"MSG s1 r00000 :live 0\nMSG s0 r00000 :live 0\nMAIL 41 s1 r00000 :mail 0\nMSG s0 r00000 :live 1\n"
    b"MSG s0 r00000 :live 2\nMAIL 42 s0 r00000 :mail 0\nMSG s1 r00000 :live 1\nMAIL 43 s0 r00000 :mail 1\n"
    b"MSG s1 r00000 :live 2\nMAIL 44 s1 r00000 :mail 1\n"
)


def feed(receiver: Receiver, stream: bytes, piece: int) -> int:
    count = 0
    for at in range(0, len(stream), piece):
        data = receiver.rest + stream[at : at + piece]
        # What was there before comes after it, as in a buffer that is used again.
        count += receiver.take(bytearray(data + STREAM), len(data))
    return count


@pytest.mark.parametrize("piece", [1, 2, 5, 30, 1000])
def test_what_several_senders_said_is_told_apart_however_it_is_cut(receiver: Receiver, piece: int) -> None:
    assert feed(receiver, STREAM, piece) == 10
    assert receiver.left == 0
    assert receiver.number == 45
    assert not receiver.rest


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_it_does_not_matter_where_the_stream_is_cut(cuts: list[int]) -> None:
    with a_receiver() as receiver:
        for start, end in pairwise([0, *sorted(cuts), len(STREAM)]):
            feed(receiver, STREAM[start:end], len(STREAM))
        assert receiver.left == 0
        assert receiver.number == 45


@pytest.mark.parametrize("piece", [1, 30, 1000])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"MSG s0 r00000 :live 1\n", b""),
        (b"MSG s0 r00000 :live 1\n", b"MSG s0 r00000 :live 7\n"),
        (b"MSG s0 r00000 :live 1\n", b"MSG s0 r00000 :live 1\n" * 2),
        (b"MSG s0 r00000 :live 1\n", b"GAP 1 s0 :since then\n"),
        (b"MAIL 42 s0 r00000 :mail 0\n", b""),
        (b"MAIL 42", b"MAIL 43"),
        (b"MAIL 41", b"MAIL x"),
        (b":mail 0\n", b":mail 1\n"),
    ],
)
def test_what_is_lost_doubled_or_damaged_is_found_out(
    receiver: Receiver, old: bytes, new: bytes, piece: int
) -> None:
    assert STREAM.replace(old, new) != STREAM
    with pytest.raises(LoadError, match="garbled, lost or reordered a message to r00000"):
        feed(receiver, STREAM.replace(old, new), piece)


def test_more_than_was_sent_is_found_out(receiver: Receiver) -> None:
    feed(receiver, STREAM, 1000)
    with pytest.raises(LoadError, match="1 messages more than were sent"):
        feed(receiver, b"MSG s1 r00000 :live 0\n", 1000)


@pytest.mark.parametrize("name", ["hailer", "nats", "redis"])
def test_a_tenth_is_stored(name: str, tmp_path: Path, require_peer: Callable[[str], Peer]) -> None:
    peer = require_peer(name).storing
    assert peer is not None
    dialect = HastyLines() if name == "hailer" else DIALECTS[peer.dialect]
    with running(peer, None, tmp_path) as (port, pid):
        (outcome,) = measure(
            "mixed-post",
            dialect,
            port,
            count=50,
            seconds=0.05,
            pid=pid,
            posting=POSTING[peer.dialect],
        )
    figures = outcome.figures
    assert 0.07 < figures["stored_per_s"] / figures["messages_per_s"] < 0.13
