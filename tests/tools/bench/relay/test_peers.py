"""How relays are found, started and stopped."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from hailer.tools.bench.relay.dialects import DIALECTS
from hailer.tools.bench.relay.load import measure
from hailer.tools.bench.relay.party import LoadError
from hailer.tools.bench.relay.peers import PEER_NAMES, Peer, PeerError, find_peers, free_port, running
from hailer.tools.bench.relay.plan import Load, reason_against

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVER = """import socket, sys, time
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener:
    open(sys.argv[2] + "/mail", "w").close()
    time.sleep(60)
"""


def test_a_relay_that_does_not_start_is_explained(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no such luck')")
    dud = Peer("dud", "hailer", "0", "", command)
    with pytest.raises(PeerError, match=r"ended with 1; it said: no such luck"), running(dud, None, tmp_path):
        pass


def test_a_relay_is_stopped_and_its_files_removed_when_the_load_fails(tmp_path: Path) -> None:
    server = Peer("server", "hailer", "0", "", (sys.executable, "-c", SERVER, "{port}", "{data}"))

    def fail_under_load() -> None:
        with running(server, None, tmp_path) as (port, pid):
            seen.extend((port, pid))
            assert list(tmp_path.glob("data-*/mail"))
            raise LoadError("on purpose")

    seen: list[int] = []
    with pytest.raises(LoadError):
        fail_under_load()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", seen[0]))
    with pytest.raises(ProcessLookupError):
        os.kill(seen[1], 0)
    assert not list(tmp_path.glob("data-*"))


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    found, missing = find_peers(["nats"], tmp_path, nats=str(tmp_path / "nowhere"))
    assert not found
    assert "--nats PATH" in missing["nats"]


def test_each_relay_is_found_or_its_absence_explained(tmp_path: Path) -> None:
    found, missing = find_peers(PEER_NAMES, tmp_path)
    assert {peer.name for peer in found} | missing.keys() == set(PEER_NAMES)
    assert "hailer" in {peer.name for peer in found}
    for peer in found:
        assert any("{port}" in part for part in (*peer.command, peer.config)), peer
        assert peer.version
        assert peer.described()


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", free_port())):
        pass


@pytest.mark.parametrize(
    ("name", "load"),
    [
        *[(name, "pingpong") for name in ("nats", "redis", "mosquitto", "ngircd")],
        *[(name, "fanout") for name in ("nats", "redis", "mosquitto", "ngircd")],
        # no message of ngircd's has more than 400 bytes
        *[(name, "mixed") for name in ("nats", "redis", "mosquitto")],
    ],
)
def test_a_relay_that_is_here_does_what_the_load_expects(
    name: str, load: str, tmp_path: Path, require_peer: Callable[[str], Peer]
) -> None:
    peer = require_peer(name)
    assert reason_against(peer, Load(load, 5)) is None
    with running(peer, None, tmp_path) as (port, pid):
        (outcome,) = measure(load, DIALECTS[peer.dialect], port, count=5, seconds=0.05, pid=pid)
    assert outcome.figures["messages_per_s"] > 0
    assert outcome.figures["cpu_us"] >= 0
