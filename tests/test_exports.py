"""The public names: each can be imported, and type checkers see the same ones."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hailer
from hailer import errors


@pytest.mark.parametrize("name", hailer.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    assert getattr(hailer, name) is not None


def test_all_errors_are_public() -> None:
    assert set(errors.__all__) <= set(hailer.__all__)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(hailer.__file__).read_text())
    [checking] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module
        for node in checking.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name  # the form that re-exports, for strict checkers
    }
    assert seen == hailer._HOME


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        hailer.bogus  # noqa: B018


def test_the_version_loads_no_event_loop() -> None:
    code = "import hailer, sys; hailer.__version__; hailer.Endpoint; print('asyncio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
