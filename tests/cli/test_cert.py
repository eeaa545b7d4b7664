"""``hailer cert``."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest

from hailer.net.certificates import client_context, server_context

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


def test_it_prints_where_all_is_and_how_to_use_it(
    hailer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = hailer("cert", "localhost", "127.0.0.1")
    assert done.returncode == 0
    assert done.stdout == b"ca   certs/ca.pem\ncert certs/localhost.pem\nkey  certs/localhost.key\n"
    said = done.stderr.decode()
    assert "hailer: certs/ca.pem is a new authority, and nothing trusts it" in said
    use = "hailer serve echo tls://localhost:7000 --cert certs/localhost.pem --key certs/localhost.key\n"
    assert use in said
    assert "hailer connect --ca certs/ca.pem tls://localhost:7000\n" in said
    server_context(tmp_path / "certs/localhost.pem", tmp_path / "certs/localhost.key")
    again = hailer("cert", "localhost")
    assert (again.returncode, again.stdout) == (2, b"")
    assert again.stderr == (
        b"hailer: certs/localhost.pem is there already: say --force to replace it, or name another --dir\n"
    )
    assert hailer("cert", "localhost", "--force", "-q").stderr == b""


def test_as_json(hailer: Run, tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    done = hailer("cert", "--client", "ann", "--dir", str(folder), "--json", "--days", "3")
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert (told["names"], told["client"], told["new_authority"]) == (["ann"], True, True)
    client_context(ca=told["ca"], cert=told["cert"], key=told["key"])
    last = done.stderr.decode().splitlines()[-1].partition("...")[2]
    assert shlex.split(last) == ["--cert", told["cert"], "--key", told["key"]]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], b"(see hailer cert --help)"),
        (["a b"], b"'a b' is no name of a host: "),
        (["localhost", "--days", "9999"], b"--days"),
        (["\x1b[2J"], b"'\\x1b[2J' is no name"),
    ],
)
def test_wrong_usage(hailer: Run, args: list[str], sentence: bytes, tmp_path: Path) -> None:
    done = hailer("cert", "--dir", str(tmp_path / "certs"), *args)
    assert (done.returncode, done.stdout) == (2, b"")
    assert sentence in done.stderr
    assert not (tmp_path / "certs").exists()
