"""What the relay logs: the events that an operator needs, a line each, and no secrets."""

from __future__ import annotations

import json
import logging
import re
import signal
import time
from typing import TYPE_CHECKING

from hailer.logs import JsonFormatter, TextFormatter

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.conftest import Connect
    from tests.relay.edge.conftest import Start

    WaitFor = Callable[[Callable[[], bool]], None]


def events(caplog: pytest.LogCaptureFixture, *names: str) -> list[dict[str, str | int]]:
    """The fields of all events of these names, with the name as ``event``."""
    lines = [JsonFormatter().format(record) for record in caplog.records if record.name == "hailer.relay"]
    return [read for read in map(json.loads, lines) if read["event"] in names]


def only(caplog: pytest.LogCaptureFixture, name: str) -> dict[str, str | int]:
    """The one event of this name, without time and level."""
    (found,) = events(caplog, name)
    return {key: value for key, value in found.items() if key not in {"time", "event"}}


def test_the_life_of_a_connection(
    start_tcp: Start, connect: Connect, caplog: pytest.LogCaptureFixture, wait_for: WaitFor
) -> None:
    relay = start_tcp()
    where = relay.endpoints[0]
    assert only(caplog, "listening") == {"level": "info", "endpoint": str(where)}
    ann = connect(where, "ann")
    local = f"tcp4://127.0.0.1:{ann.sock.getsockname()[1]}"
    wait_for(lambda: bool(events(caplog, "login")))
    assert only(caplog, "login") == {"level": "info", "peer": local, "name": "ann"}
    ann.send("QUIT :so long")
    assert ann.rest() == b"BYE :so long\n"
    wait_for(lambda: bool(events(caplog, "bye")))
    assert only(caplog, "bye") == {"level": "info", "peer": local, "name": "ann", "why": "so long"}
    lost = connect(where, "lost")
    lost.reset()
    wait_for(lambda: bool(events(caplog, "gone")))
    assert only(caplog, "gone")["name"] == "lost"
    assert events(caplog, "cut", "limit", "fault", "denied") == []


def test_who_is_denied_and_who_is_replaced(
    start_tcp: Start, connect: Connect, caplog: pytest.LogCaptureFixture, wait_for: WaitFor
) -> None:
    where = start_tcp().endpoints[0]
    first, thief = connect(where), connect(where)
    welcome = first.login("ann", " token=secret-token")
    session = re.findall(r"session=(\S+)", welcome)[0]
    thief.expect("RELAY ")
    for _ in range(5):
        thief.send("HELLO Ann session=guess token=secret-guess")
        thief.expect("FAIL taken ")
    wait_for(lambda: bool(events(caplog, "denied")))
    denied = events(caplog, "denied")
    assert len(denied) == 1, "more than a line a second"
    assert (denied[0]["level"], denied[0]["name"]) == ("warning", "Ann")
    thief.send(f"HELLO ann session={session}")
    thief.expect("WELCOME ann ")
    assert first.line() == "BYE :replaced"
    wait_for(lambda: bool(events(caplog, "replaced")))
    old = f"tcp4://127.0.0.1:{first.sock.getsockname()[1]}"
    assert only(caplog, "replaced") == {"level": "info", "peer": old, "name": "ann"}
    wait_for(lambda: len(events(caplog, "login")) == 2)
    everything = "\n".join(TextFormatter().format(record) for record in caplog.records)
    for secret in (session, "secret", "guess"):
        assert secret not in everything


def test_limits_are_told_once_a_second(
    start_tcp: Start,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    wait_for: WaitFor,
    quick_clocks: None,
) -> None:
    where = start_tcp(rooms=1).endpoints[0]
    ann = connect(where, "ann")
    ann.send("JOIN #a")
    for _ in range(20):
        ann.send("JOIN #b")
        ann.sync()
    wait_for(lambda: bool(events(caplog, "limit")))
    began = time.monotonic()
    for _ in range(30):
        ann.send("JOIN #b")
    ann.sync()
    wait_for(lambda: sum(int(each["count"]) for each in events(caplog, "limit")) == 50)
    told = events(caplog, "limit")
    assert time.monotonic() - began > 0.7
    assert len(told) == 2, "more than a line a second"
    assert {(each["limit"], each["name"], each["level"]) for each in told} == {("rooms", "ann", "warning")}


def test_why_somebody_is_cut(
    start_tcp: Start, connect: Connect, caplog: pytest.LogCaptureFixture, wait_for: WaitFor
) -> None:
    where = start_tcp(payload=10).endpoints[0]
    ann = connect(where, "ann")
    ann.send("SEND ann 11")
    ann.rest()
    wait_for(lambda: bool(events(caplog, "cut")))
    assert only(caplog, "cut")["why"] == "too long"
    assert events(caplog, "bye") == []


def test_nobody_writes_into_the_log(
    start_tcp: Start, connect: Connect, caplog: pytest.LogCaptureFixture, wait_for: WaitFor
) -> None:
    where = start_tcp().endpoints[0]
    evil = '\u202e2026-11-21T00:00:00.000Z info login name=root" \u2028\u2066'
    ann = connect(where, "ann")
    ann.send(f"QUIT :{evil}")
    ann.rest()
    wait_for(lambda: bool(events(caplog, "bye")))
    assert only(caplog, "bye")["why"] == evil
    (record,) = [each for each in caplog.records if getattr(each, "event", "") == "bye"]
    line = TextFormatter().format(record)
    assert line.isprintable()
    assert r'why="\u202e2026-11-21T00:00:00.000Z info login name=root\" \u2028\u2066"' in line


def test_the_end_has_the_counters(
    start_tcp: Start, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    relay = start_tcp(rooms=1)
    ann, _ = connect(relay.endpoints[0], "ann"), connect(relay.endpoints[0], "bob")
    ann.send("JOIN #a\nJOIN #b\nSEND bob :x\nSEND bob :y")
    ann.sync()
    relay.tell_counters()
    counters = only(caplog, "counters")
    assert counters["level"] == "warning"
    wanted = {
        "active": 2,
        "sessions": 2,
        "logins": 2,
        "commands": 7,
        "received": 2,
        "delivered": 2,
        "refused": 1,
    }
    assert {key: counters[key] for key in wanted} == wanted
    assert counters["met_rooms"] == 1
    assert "met_asks" not in counters
    relay.stop()
    relay.stop()
    assert relay._thread is not None
    relay._thread.join(5)
    assert only(caplog, "stopping") == {"level": "info", "peers": 2}
    stopped = only(caplog, "stopped")
    assert (stopped["level"], stopped["active"], stopped["received"]) == ("info", 0, 2)


def test_a_log_that_nobody_wants_costs_nothing(
    start_tcp: Start, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "hailer.relay")
    relay = start_tcp(rooms=1)
    connect(relay.endpoints[0], "ann").sync()
    relay.stop()
    assert caplog.records == []
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL, "a library takes no signals"
