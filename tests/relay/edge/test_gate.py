"""What layers go by reaches a worker as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from hailer.errors import UsageError
from hailer.relay.edge.gate import make_gate, pack_gate
from hailer.relay.edge.link import Gate

if TYPE_CHECKING:
    from pathlib import Path


def test_all_but_the_certificate() -> None:
    gate = Gate(paths={7000: "/chat"}, origins=["https://example.org"], max_message=77)
    assert make_gate(pack_gate(gate)) == gate
    assert make_gate(pack_gate(Gate())) == Gate()


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_memory: bool) -> None:
    if not in_memory:
        monkeypatch.delattr("os.memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    cert = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    pem = {"cert": cert, "key": leaf.private_key_pem.bytes(), "client_ca": authority.cert_pem.bytes()}
    made = make_gate(pack_gate(Gate(pem=pem, optional=True)))
    assert made.tls is not None
    assert made.tls.verify_mode.name == "CERT_OPTIONAL"
    assert made.tls.cert_store_stats()["x509_ca"] == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError):
        make_gate(pack_gate(Gate(pem={"cert": b"none"})))
