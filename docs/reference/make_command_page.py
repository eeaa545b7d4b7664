"""Writes command.md, the reference of the command, from its own help texts.

python docs/reference/make_command_page.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hailer.cli.bench import BENCHES
from hailer.cli.group import VERBS


def page() -> str:
    """The whole page."""
    parts = ["# The command\n\nMade from `--help` by make_command_page.py; a test keeps it true.\n"]
    for verb in ((), *((verb,) for verb in VERBS), *(("bench", name) for name in BENCHES)):
        run = [sys.executable, "-m", "hailer", *verb, "--help"]
        environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
        text = subprocess.run(run, capture_output=True, text=True, check=True, env=environment).stdout
        parts.append(f"## {' '.join(('hailer', *verb))}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("command.md").write_text(page(), encoding="utf-8")
