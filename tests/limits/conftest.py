"""Certificates for the servers of this part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from hailer.net.certificates import client_context

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Whom the tests trust."""
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine and its key."""
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's side of TLS that trusts it."""
    context = client_context()
    authority.configure_trust(context)
    return context
