"""Writes matrix.md, what goes with what, from the table that the code goes by.

python docs/reference/make_matrix_page.py
"""

from __future__ import annotations

from pathlib import Path

from hailer.cli.matrix import matrix_as_markdown
from hailer.matrix import MODELS, TRANSPORTS


def page() -> str:
    """The whole page."""
    models = "".join(f"| {each.name} | {each.summary} |\n" for each in MODELS.values())
    transports = "".join(f"| {each.name} | {each.summary} |\n" for each in TRANSPORTS.values())
    return (
        "# What goes with what\n\n"
        "Made by make_matrix_page.py from the table that the code goes by (`hailer.matrix`);\n"
        "`hailer serve --list` prints the same. The tests run every cell.\n\n"
        f"| model | |\n| --- | --- |\n{models}\n"
        f"| transport | |\n| --- | --- |\n{transports}\n"
        "A cell with a number is not possible; the number's reason stands below.\n\n"
        f"{matrix_as_markdown()}"
    )


if __name__ == "__main__":
    Path(__file__).with_name("matrix.md").write_text(page(), encoding="utf-8")
