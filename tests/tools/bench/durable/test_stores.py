"""How stores are found and set, and a disk made slow."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from hailer.tools.bench.durable.dialects import DURABLE
from hailer.tools.bench.durable.stores import STORES, at, build_delay, find_stores, slowed
from hailer.tools.bench.relay.peers import Peer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RequireProgram


def test_a_slow_disk_is_slow(tmp_path: Path, require_program: RequireProgram) -> None:
    require_program("cc")
    code = (
        "import os, sys, time; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); b = time.perf_counter(); "
    )
    code += "os.fsync(f); print(time.perf_counter() - b)"
    program = Peer("program", "", "", "", (sys.executable, "-c", code, "{data}/file"))
    command = slowed(at(program, tmp_path), build_delay(tmp_path), 0.2).command
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert float(done.stdout) >= 0.2


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    found, missing = find_stores(["nats", "nats-always"], nats=str(tmp_path / "nowhere"))
    assert not found
    assert "--nats PATH" in missing["nats-always"]


def test_every_store_is_found_or_missed(tmp_path: Path) -> None:
    found, missing = find_stores(STORES)
    assert [*(peer.name for peer in found), *missing] != []
    assert {peer.name for peer in found} | set(missing) == set(STORES)
    assert "{data}" not in "".join(word for peer in found for word in at(peer, tmp_path).command)


def test_each_is_set_as_it_is_called() -> None:
    found = {peer.name: peer for peer in find_stores(STORES)[0]}
    assert {"hailer", "hailer-memory", "sqlite-1", "sqlite-1000", "sink"} <= set(found)
    for name, peer in found.items():
        words = " ".join((*peer.command, peer.config))
        assert ("always" in words) == (name in {"nats-always", "nats-always-one", "redis"})
        assert ("{data}" in words) == (name not in {"hailer-memory", "redis-memory", "sink"})
        assert not peer.dialect or peer.dialect in DURABLE
