"""Names of the relay's load that the measurements here still use; it is in `hailer.tools.bench.relay` now."""

from __future__ import annotations

import json
import subprocess
import sys

from hailer.tools.bench.machine import raise_descriptor_limit
from hailer.tools.bench.relay import meter
from hailer.tools.bench.relay.party import LoadError

__all__ = ["Figures", "LoadError", "Meter", "raise_descriptor_limit"]

Figures = dict[str, float]


class Meter(meter.Meter):
    """The same, and how many messages in how many seconds it was."""

    def read(self, delivered: int, took: float) -> Figures:
        return {"delivered": delivered, "seconds": round(took, 3), **super().read(delivered, took)}


def main() -> None:
    """Run one load of one part, and print its figures alone."""
    command = [sys.executable, "-m", "hailer.tools.bench.relay.load", *sys.argv[1:]]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    print(json.dumps(json.loads(done.stdout)["figures"]))


if __name__ == "__main__":
    main()
