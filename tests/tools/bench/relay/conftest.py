"""Relays of others, where they are installed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from hailer.tools.bench.relay.peers import find_peers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hailer.tools.bench.relay.peers import Peer


@pytest.fixture
def require_peer(tmp_path: Path) -> Callable[[str], Peer]:
    """Gives a relay by its name; without it the test is skipped, or fails where HAILER_NO_SKIP=1 (CI)."""

    def require(name: str) -> Peer:
        found, missing = find_peers([name], tmp_path)
        if not found:
            if os.environ.get("HAILER_NO_SKIP") == "1":
                pytest.fail(missing[name])
            pytest.skip(missing[name])
        return found[0]

    return require
