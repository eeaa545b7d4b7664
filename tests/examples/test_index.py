"""The index names every example; each is short and says what it shows; what the index says of them is so."""

from __future__ import annotations

import ast
import re

import pytest

from hailer import Endpoint, EndpointError
from tests.examples.conftest import EXAMPLES, finish

NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
INDEX = (EXAMPLES / "README.md").read_text(encoding="utf-8")


def test_the_index_is_whole() -> None:
    assert set(re.findall(r"\]\((\w+\.py)\)", INDEX)) == set(NAMES)
    assert set(re.findall(r"\b[a-z_]+\.py\b", INDEX)) == set(NAMES)
    for link in re.findall(r"\]\(([^)#:]+)\)", INDEX):
        assert (EXAMPLES / link).exists(), link


@pytest.mark.parametrize("name", NAMES)
def test_each_is_short_and_says_what_it_shows(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text))
    assert doc is not None
    assert f"python examples/{name}" in doc
    code = [line for line in text.splitlines() if line.strip()]
    assert len(code) - doc.count("\n") <= 100
    for other in re.findall(r"\b\w+\.py\b", doc):
        assert other in NAMES
    done = finish(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in set(re.findall(r"(?<=[ `])--[a-z-]+", doc)):
        assert option in done.stdout


def test_other_kinds_of_sockets_are_refused_with_a_reason() -> None:
    for kind in ("raw://localhost:1", "rdm://localhost:1", "packet://eth0:1", "netlink://x:1"):
        with pytest.raises(EndpointError, match=r"tcp://.*udp://.*unix\+seqpacket:"):
            Endpoint.parse(kind)
