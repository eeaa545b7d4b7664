"""Where a relay listens: several places, one that is taken, one that a dead relay left."""

from __future__ import annotations

import socket
import stat
from typing import TYPE_CHECKING

import pytest

from hailer.endpoint import Endpoint
from hailer.errors import EndpointError, ListenError, UsageError
from hailer.relay.app import RelayServer, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Connect
    from tests.relay.edge.conftest import MakeSettings


def test_several_listeners_are_one_relay(
    settings_for: MakeSettings, connect: Connect, tmp_path: Path
) -> None:
    listen = (
        Endpoint.parse(text)
        for text in ("tcp4://127.0.0.1:0", f"unix:{tmp_path}/one", f"unix:{tmp_path}/two")
    )
    with RelayServer(settings_for(*listen, drain=0)) as relay:
        wires = [connect(endpoint, f"n{number}") for number, endpoint in enumerate(relay.endpoints)]
        for number, wire in enumerate(wires):
            wire.send(f"SEND n{(number + 1) % 3} :from {number}")
        assert [wire.line() for wire in wires] == [f"MSG n{n} n{(n + 1) % 3} :from {n}" for n in (2, 0, 1)]
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use(settings_for: MakeSettings, tcp: Endpoint, connect: Connect) -> None:
    with RelayServer(settings_for(tcp, drain=0)) as relay:
        taken = relay.endpoints[0]
        with pytest.raises(ListenError, match=rf"{taken.port} is in use by .*: stop it or take another port"):
            RelayServer(settings_for(taken)).bind()
        # nothing stays open of a relay that could not have all its places
        second = RelayServer(Settings(listen=(Endpoint.parse("tcp4://127.0.0.1:0"), taken)))
        with pytest.raises(ListenError):
            second.bind()
        connect(taken, "alice").sync()
    with RelayServer(settings_for(taken)):
        pass  # at once, though connections of the first were there


def test_a_stale_path_is_replaced(settings_for: MakeSettings, tmp_path: Path, connect: Connect) -> None:
    path = tmp_path / "relay.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    with RelayServer(settings_for(Endpoint.parse(f"unix:{path}"), drain=0)) as relay:
        connect(relay.endpoints[0], "alice").sync()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_a_live_path_is_refused(settings_for: MakeSettings, tmp_path: Path, connect: Connect) -> None:
    where = Endpoint.parse(f"unix:{tmp_path}/relay.sock")
    with RelayServer(settings_for(where, drain=0)) as relay:
        alice = connect(relay.endpoints[0], "alice")
        with pytest.raises(ListenError, match="in use by a live server: stop that or give another path"):
            RelayServer(settings_for(where)).bind()
        # the one who asked is seen as a connection that ends at once, and harms nobody
        assert alice.sync() == []
        connect(where, "bob").sync()


def test_a_file_is_not_replaced(settings_for: MakeSettings, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear")
    with pytest.raises(ListenError, match="no socket"):
        RelayServer(settings_for(Endpoint.parse(f"unix:{path}"))).bind()
    assert path.read_text() == "dear"


def test_what_a_relay_does_not_listen_on(settings_for: MakeSettings) -> None:
    with pytest.raises(EndpointError, match="cannot listen on udp"):
        RelayServer(settings_for(Endpoint.parse("udp://127.0.0.1:0")))
    with pytest.raises(UsageError, match="--insecure"):
        RelayServer(settings_for(Endpoint.parse("tcp://*:0")))
