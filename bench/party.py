"""A name of the relay's load that the measurements here still use."""

from __future__ import annotations

from hailer.tools.bench.relay.party import LoadError

__all__ = ["LoadError"]
