"""The page on the library names what there is: arguments with their defaults, methods, errors."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import hailer
from hailer import errors
from hailer.server import MODELS

PAGE = (Path(__file__).parents[2] / "docs/reference/python.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", PAGE))


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize(("title", "function"), [("Connect", hailer.connect), ("Serve", hailer.Server)])
def test_arguments_and_their_defaults(title: str, function: object) -> None:
    said = section(title)
    for name, parameter in inspect.signature(function).parameters.items():  # type: ignore[arg-type]
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        default = "0o600" if name == "unix_mode" else repr(parameter.default).replace("'", '"')
        as_for_connect = name in ("framing", "max_message", "message_timeout")
        assert f"`{name}={default}`" in said or (as_for_connect and f"`{name}=" in said), name


@pytest.mark.parametrize(("title", "kind"), [("Connections", hailer.Connection), ("Serve", hailer.Server)])
def test_methods(title: str, kind: type) -> None:
    said = section(title)
    for name in vars(kind):
        if not name.startswith("_") and name != "close":
            assert re.search(rf"`[^`]*\.{name}\b", said), name


def test_models_and_errors() -> None:
    assert all(f"`{model}`" in section("Serve") for model in MODELS)
    assert set(errors.__all__) <= NAMED | {"HailerError"}  # which is named in the text above the table


def test_nothing_is_named_that_is_not_there() -> None:
    for name in re.findall(r"\bhailer\.(\w+)\b", PAGE):
        assert hasattr(hailer, name) or name in ("testing", "services", "blocking", "server"), name
