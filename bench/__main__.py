"""`python -m bench echo`: the library's echo servers beside others.

The relay beside others, and messages that are stored, are measured by `hailer bench relay`.
"""

from __future__ import annotations

import sys

from bench import echo


def main() -> int:
    """Run the one that is named; returns the exit status."""
    if sys.argv[1:2] == ["echo"]:
        return echo.main(sys.argv[2:])
    print("bench: write python -m bench echo; relays: hailer bench relay [--durable]", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
