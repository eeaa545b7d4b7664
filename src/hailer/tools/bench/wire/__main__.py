"""The load as a process of its own: see `hailer.tools.bench.wire.process`."""

from __future__ import annotations

import sys
from contextlib import suppress

from hailer.tools.bench.machine import raise_descriptor_limit
from hailer.tools.bench.wire.process import serve_orders

if __name__ == "__main__":
    raise_descriptor_limit()
    with suppress(KeyboardInterrupt, BrokenPipeError):  # whoever started it ended it
        serve_orders(sys.stdin, sys.stdout)
