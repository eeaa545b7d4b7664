"""Who did not hear STORED sends again: however late, and to a relay that was restarted, it is stored once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.relay.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.relay.core.conftest import Driver, Peer

DAY = 86400.0
POSTS = b"".join(b"POST %d bob :%d\n" % (number, number) for number in range(1, 6))


def log_in(relay: Driver, name: str) -> Peer:
    peer = relay.connect(name)
    relay.send(peer, b"HELLO %s session=of-%s\n" % (name.encode(), name.encode()))
    return peer


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("seconds", [1.0, 180.0, 7 * DAY])
def test_what_is_sent_again_late_is_stored_once(
    make_relay: type[Driver], tmp_path: Path, seconds: float, restart: bool
) -> None:
    store = SqliteStore(tmp_path / "mail.db")
    relay = make_relay(store=store)
    relay.lose(log_in(relay, "bob"))
    alice = log_in(relay, "alice")
    relay.take(alice, 0)  # she never hears that they are stored
    relay.send(alice, POSTS)
    relay.lose(alice)
    relay.pass_time(min(seconds, 120.0))
    if restart:
        store.close()
        store = SqliteStore(tmp_path / "mail.db")
        relay = make_relay(store=store, now=5.0)
    if seconds > 120.0:
        relay.jump(seconds)
    alice = log_in(relay, "alice")
    relay.send(alice, POSTS + b"POST 6 bob :6\n")
    stored = [event.words[1] for event in relay.peek(alice) if event.verb == b"STORED"]
    assert stored == [b"6"]
    mail = [event.text for event in relay.peek(log_in(relay, "bob")) if event.verb == b"MAIL"]
    assert mail == [b"1", b"2", b"3", b"4", b"5", b"6"]
    store.close()
