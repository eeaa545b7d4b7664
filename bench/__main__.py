"""`python -m bench echo|durable`: the library's echo servers beside others, and messages that are stored.

The relay beside others is measured by `hailer bench relay`.
"""

from __future__ import annotations

import sys

from bench import durable, echo


def main() -> int:
    """Run the one that is named; returns the exit status."""
    known = {"echo": echo.main, "durable": durable.main}
    if len(sys.argv) > 1 and sys.argv[1] in known:
        return known[sys.argv[1]](sys.argv[2:])
    print("bench: write python -m bench echo or durable; relays: hailer bench relay", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
