"""Accounts at the edges: whose failures count together, and a table that changes under many clients."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from hailer.endpoint import Endpoint
from hailer.relay.accounts import AccountFile
from hailer.relay.app import RelayServer, Settings
from tests.relay.edge.conftest import MODELS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Connect


def test_peers_are_told_apart_by_address(model: str, tmp_path: Path, connect: Connect) -> None:
    kind, loop, workers = MODELS[model]
    endpoints = tuple(map(Endpoint.parse, ("tcp4://127.0.0.1:0", f"unix:{tmp_path}/relay.sock")))
    settings = Settings(listen=endpoints, model=kind, loop=loop, workers=workers, drain=0.2)
    with RelayServer(settings) as relay:
        for endpoint in relay.endpoints:
            connect(endpoint, "ann" if endpoint.path else "bob")
        hosts = {link.name: link.host for link in relay._edge.links.values()}
        assert hosts == {b"ann": "", b"bob": "127.0.0.1"}


def test_tables_change_under_log_ins(model: str, tmp_path: Path, connect: Connect) -> None:
    """Who is right is let in at any moment; who is removed is let go of; nothing breaks."""
    kind, loop, workers = MODELS[model]
    file = AccountFile(tmp_path / "accounts")
    tokens = {name: file.add(name) for name in ("stays", "goes")}
    settings = Settings(
        listen=(Endpoint.parse("tcp4://127.0.0.1:0"),),
        model=kind,
        loop=loop,
        workers=workers,
        drain=0.2,
        accounts=str(file.path),
    )
    with RelayServer(settings) as relay:
        done = threading.Event()

        def change() -> None:
            for _ in range(10):
                file.remove("goes")
                relay.reload()
                tokens["goes"] = file.add("goes")
                relay.reload()
            done.set()

        thread = threading.Thread(target=change)
        thread.start()
        logins = 0
        while not done.is_set() or not logins:
            wire = connect(relay.endpoints[0])
            wire.login("stays", f" token={tokens['stays']}")
            assert wire.sync() == []
            wire.close()
            logins += 1
        thread.join()
        wire = connect(relay.endpoints[0])
        wire.login("goes", f" token={tokens['goes']}")
        file.remove("goes")
        relay.reload()
        assert wire.line() == "BYE :your account was removed"
