"""Takeover: another token is refused, the same one replaces; the old connection then counts for nothing."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.relay.ledger.book import Ledger
from tests.relay.ledger.parties import Poster, Stream, Taker
from tests.relay.ledger.running import RelayProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.relay.ledger.conftest import TakeDown
    from tests.relay.ledger.parties import Event

NAMES = ("ann", "ben", "cy")


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    """Accounts beside the store, made by the command, with their tokens."""
    command = [sys.executable, "-m", "hailer", "account", "add", "--store", str(tmp_path / "mail.db")]
    return {
        name: subprocess.run([*command, name], check=True, capture_output=True, text=True).stdout.strip()
        for name in NAMES
    }


@pytest.fixture
def relay(tmp_path: Path, tokens: dict[str, str]) -> Iterator[RelayProcess]:
    """A relay that asks for accounts."""
    with RelayProcess(tmp_path, None, "--accounts") as running:
        yield running


def log_in(relay: RelayProcess, name: str, token: str, session: str = "") -> tuple[Stream, Event]:
    """A connection that is logged in, and its WELCOME; what else came is put back."""
    stream = Stream(relay.dial())
    options = f"token={token}" + (f" session={session}" if session else "")
    welcome, rest = stream.hello(name, options)
    stream.unread(rest)
    return stream, welcome


def mail(stream: Stream, count: int) -> list[tuple[int, bytes | None]]:
    """The next so many entries."""
    got: list[tuple[int, bytes | None]] = []
    while len(got) < count:
        got += [(int(event.words[1]), event.text) for event in stream.receive() if event.verb == b"MAIL"]
    return got


def test_another_token_is_refused(relay: RelayProcess, tokens: dict[str, str]) -> None:
    ann, welcome = log_in(relay, "ann", tokens["ann"])
    with ann:
        session = next(word for word in welcome.words if word.startswith(b"session=")).decode()
        for guess in (f"token={tokens['ben']} {session}", session):
            with Stream(relay.dial()) as thief, pytest.raises(ConnectionRefusedError, match="denied"):
                thief.hello("ann", guess)
        ann.say(b"PING still")
        assert ann.receive()[-1].words == (b"PONG", b"still")


def test_the_same_token_replaces_and_a_stale_ack_is_ignored(
    relay: RelayProcess, tokens: dict[str, str]
) -> None:
    ben, _ = log_in(relay, "ben", tokens["ben"])
    old, _ = log_in(relay, "ann", tokens["ann"], "s")
    with ben, old:
        for number in (1, 2, 3):
            ben.sock.sendall(ben.post(number, "ann", b"m%d" % number))
        expected = mail(old, 3)
        first = expected[0][0]
        assert expected == [(first, b"m1"), (first + 1, b"m2"), (first + 2, b"m3")]
        old.say(b"ACK %d" % first, b"PING acked")
        old.until(b"PONG")
        new, welcome = log_in(relay, "ann", tokens["ann"], "s")
        with new:
            assert welcome.number(b"mail") == 2
            assert mail(new, 2) == expected[1:]
            bye = old.until(b"BYE")
            assert (bye.text or b"").startswith(b"replaced")
            # the old connection says more, which the relay reads before it knows that all has been said
            old.say(b"ACK %d" % (first + 2), b"POST 1 ben :late", b"SEND ben :late")
            old.read_to_the_end()
            # there is one live session: what is sent comes to the new one
            ben.say(b"SEND ann :live", b"WHO")
            events = [ben.until(b"HERE"), new.until(b"MSG")]
            assert sorted(events[0].words[1:]) == [b"ann", b"ben"]
            assert events[1].text == b"live"
            assert not any(event.verb in {b"MSG", b"MAIL"} for event in ben.drain())
        again, welcome = log_in(relay, "ann", tokens["ann"], "s")
        with again:
            assert (welcome.number(b"mail"), welcome.number(b"stored")) == (2, 0)
            assert mail(again, 2) == expected[1:]


@pytest.mark.timeout(240)
def test_takeovers_under_load_lose_and_double_nothing(
    relay: RelayProcess, tokens: dict[str, str], take_down: TakeDown
) -> None:
    """A poster and a taker whose connections are taken over again and again by connections of their own."""
    ledger = Ledger()
    taker = Taker(relay.dial, "ann", ledger, token=tokens["ann"], goes=0, acks=0.5)
    to = {"ann": ("ann",)}
    poster = Poster(relay.dial, "ben", ledger, to, token=tokens["ben"])
    taker.start()
    assert taker.ready.wait(20)
    poster.start()
    dice = random.Random(5)
    while poster.connections + taker.connections < 60:
        assert ledger.wait(20, acknowledged=ledger.acknowledgements + dice.randrange(200))
        party = dice.choice((poster, taker))
        with Stream(relay.dial()) as other:
            # the same credential and session: what the other one had not done is not done by this one either
            other.hello(party.name, f"token={party.token} session={party.session}")
    poster.end()
    poster.check()
    assert ledger.wait(20, taken_by=("ann",))
    taker.hang_up()
    taker.check()
    found = ledger.verdicts()
    take_down(found.row(), f"{poster.connections + taker.connections} connections replaced")
    found.check()
    assert found.unknown == 0
    assert poster.forgotten == 0
