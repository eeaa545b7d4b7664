"""Contexts out of PEM files, and certificates for development."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import ssl
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from hailer.errors import TlsError, UsageError
from hailer.layers.tls import TlsTransport
from hailer.net.authority import Authority
from hailer.net.certificates import client_context, server_context
from hailer.net.development import make_certificate
from hailer.testing.memory import memory_pair

if TYPE_CHECKING:
    from pathlib import Path

AUTHORITY = trustme.CA()
CERT = AUTHORITY.issue_cert("localhost")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with ca.pem, cert.pem, key.pem and both.pem."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    CERT.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    CERT.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    CERT.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    for name in ("key.pem", "both.pem"):
        (tmp_path / name).chmod(0o600)
    return tmp_path


async def agree(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str | None
) -> tuple[TlsTransport, TlsTransport]:
    """A handshake in memory; the error of the side that finds the fault comes out."""
    one, other = memory_pair()
    until = time.monotonic() + 10
    results = await asyncio.gather(
        TlsTransport.connect(one, client, name, until),
        TlsTransport.accept(other, server, until),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result
    first, second = results
    assert isinstance(first, TlsTransport)
    assert isinstance(second, TlsTransport)
    await second.push(b"welcome")
    assert await first.pull(10, until) == b"welcome"
    await first.close()
    await second.close()
    return first, second


def test_contexts_agree(files: Path) -> None:
    for server in (server_context(files / "cert.pem", files / "key.pem"), server_context(files / "both.pem")):
        client, _ = asyncio.run(agree(server, client_context(ca=str(files / "ca.pem")), "localhost"))
        assert client.version == "TLSv1.3"


def test_they_are_strict_by_default(files: Path) -> None:
    server = server_context(files / "both.pem")
    client = client_context()
    for context in (server, client):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert server.num_tickets == 0
    assert client.verify_mode is ssl.CERT_REQUIRED
    assert client.check_hostname
    with pytest.raises(TlsError, match="not trusted here"):
        asyncio.run(agree(server, client, "localhost"))
    # Naming an authority takes the place of the system's.
    assert len(client_context(ca=files / "ca.pem").get_ca_certs()) == 1


def test_without_verifying_anybody_will_do(files: Path) -> None:
    for name in ("elsewhere.example", None):
        client, _ = asyncio.run(agree(server_context(files / "both.pem"), client_context(verify=False), name))
        assert client.peer_certificate is None


def test_clients_have_to_show_who_they_are(files: Path) -> None:
    server = server_context(files / "both.pem", client_ca=files / "ca.pem")
    me = AUTHORITY.issue_cert("me@example.org", common_name="me")
    me.private_key_and_cert_chain_pem.write_to_path(str(files / "me.pem"))
    client = client_context(ca=files / "ca.pem", cert=files / "me.pem")
    _, other = asyncio.run(agree(server, client, "localhost"))
    assert other.peer_certificate is not None
    with pytest.raises(TlsError, match="showed no client certificate"):
        asyncio.run(agree(server, client_context(ca=files / "ca.pem"), "localhost"))


@pytest.mark.parametrize(
    ("cert", "key", "sentence"),
    [
        ("none.pem", "key.pem", "none.pem cannot be read (no such file or directory): "),
        ("cert.pem", "none.pem", "none.pem cannot be read (no such file or directory): "),
        (".", "key.pem", "cannot be read (is a directory): "),
        ("cert.pem", None, "cert.pem has no key beside its certificate: give the key's file too"),
        ("key.pem", "cert.pem", "key.pem has a key and no certificate: "),
        ("cert.pem", "ca.pem", "ca.pem has a certificate and no key: "),
        ("other.txt", "key.pem", "other.txt has no certificate in PEM: "),
        ("cert.pem", "other.txt", "other.txt has no key in PEM: "),
        ("cert.pem", "other.key", "other.key is not that of the certificate "),
        ("cert.pem", "encrypted.key", "encrypted.key is encrypted: "),
        ("cert.pem", "old-encrypted.key", "old-encrypted.key is encrypted: "),
        ("broken.pem", "key.pem", " cannot be used ("),
    ],
)
def test_files_that_will_not_do(files: Path, cert: str, key: str | None, sentence: str) -> None:
    (files / "other.txt").write_bytes(b"\x30\x82\x00 no PEM\n")
    (files / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(str(files / "other.key"))
    private = load_pem_private_key((files / "key.pem").read_bytes(), None)
    for name, form in (
        ("encrypted.key", PrivateFormat.PKCS8),
        ("old-encrypted.key", PrivateFormat.TraditionalOpenSSL),
    ):
        text = private.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret"))
        (files / name).write_bytes(text)
    for name in ("other.key", "encrypted.key", "old-encrypted.key", "other.txt"):
        (files / name).chmod(0o600)
    key_path = files / key if key is not None else None
    for make in (
        partial(server_context, files / cert, key_path),
        partial(client_context, cert=files / cert, key=key_path),
    ):
        with pytest.raises(UsageError) as caught:
            make()
        assert sentence in str(caught.value)
        assert str(caught.value).count(": ") == 1
        assert "_" not in str(caught.value).replace(str(files), "")


@pytest.mark.parametrize(
    ("ca", "sentence"),
    [
        ("none.pem", "none.pem cannot be read (no such file or directory): "),
        ("key.pem", "key.pem has a key and no certificate: "),
        ("empty", "empty has no certificate in PEM: "),
        ("broken", "broken cannot be used ("),
    ],
)
def test_authorities_that_will_not_do(files: Path, ca: str, sentence: str) -> None:
    (files / "empty").touch()
    (files / "broken").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
    for make in (
        partial(client_context, ca=files / ca),
        partial(server_context, files / "both.pem", client_ca=files / ca),
    ):
        with pytest.raises(UsageError) as caught:
            make()
        assert sentence in str(caught.value)


def test_a_key_without_a_certificate(files: Path) -> None:
    with pytest.raises(UsageError, match="there is no certificate for the key"):
        client_context(key=files / "key.pem")


def test_text_round_authorities_is_passed_over(files: Path) -> None:
    pem = (files / "ca.pem").read_text()
    other = trustme.CA().cert_pem.bytes().decode()
    (files / "bundle").write_text(f"# Ünïcode Röot\n{pem}\n# another\n{other}", encoding="latin-1")
    assert len(client_context(ca=files / "bundle").get_ca_certs()) == 2


def test_a_key_that_everybody_can_read_is_told(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    for mode, told in ((0o600, 0), (0o640, 0), (0o644, 1)):
        caplog.clear()
        (files / "key.pem").chmod(mode)
        server_context(files / "cert.pem", files / "key.pem")
        assert len(caplog.records) == told
    assert caplog.records[0].levelno == logging.WARNING
    assert "chmod o-r" in caplog.messages[0]


# For development.


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_made_certificates_work(tmp_path: Path) -> None:
    old = os.umask(0)  # keys are closed whatever the mask
    try:
        made = make_certificate(["localhost", "*.example.test", "127.0.0.1", "::1"], tmp_path / "a" / "certs")
    finally:
        os.umask(old)
    folder = made.authority.parent
    assert [mode(path) for path in (folder, folder / "ca.key", made.key)] == [0o700, 0o600, 0o600]
    assert (folder / ".gitignore").read_text() == "*\n"
    server = server_context(made.certificate, made.key)
    client = client_context(ca=made.authority)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT  # the default from Python 3.13 on
    for name in ("localhost", "a.example.test", "127.0.0.1", "::1", "::1%lo"):
        asyncio.run(agree(server, client, name))
    for name in ("example.test", "a.b.example.test", "127.0.0.2", "other"):
        with pytest.raises(TlsError, match=f"is not for {name}: "):
            asyncio.run(agree(server, client, name))


def test_made_client_certificates_work_for_clients_alone(tmp_path: Path) -> None:
    server = make_certificate(["localhost"], tmp_path)
    ann = make_certificate(["ann"], tmp_path, client=True)
    bob = make_certificate(["bob@example.org"], tmp_path, client=True)
    assert (server.new_authority, ann.new_authority) == (True, False)
    assert ann.certificate.name == "ann-client.pem"
    accepting = server_context(server.certificate, server.key, client_ca=server.authority)
    for who in (ann, bob):
        client = client_context(ca=server.authority, cert=who.certificate, key=who.key)
        client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
        asyncio.run(agree(accepting, client, "localhost"))
    wrong = client_context(ca=server.authority, cert=server.certificate, key=server.key)
    with pytest.raises(TlsError, match="not made for this use"):
        asyncio.run(agree(accepting, wrong, "localhost"))
    with pytest.raises(TlsError, match="not made for this use"):
        asyncio.run(agree(server_context(ann.certificate, ann.key), client_context(ca=ann.authority), "ann"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_finds_nothing_wrong(tmp_path: Path) -> None:
    made = make_certificate(["localhost"], tmp_path)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost"]
    done = subprocess.run(
        [*command, "-CAfile", made.authority, made.certificate], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    first = make_certificate(["localhost"], tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"localhost.pem is there already: say --force"):
        make_certificate(["localhost"], tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    make_certificate(["localhost"], tmp_path, force=True)
    changed = {path for path in before if path.read_bytes() != before[path]}
    assert changed == {first.certificate, first.key}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    target = tmp_path / "target"
    (folder / "localhost.key").symlink_to(target)
    with pytest.raises(UsageError, match="is there already"):
        make_certificate(["localhost"], folder)
    target.write_text("precious")
    make_certificate(["localhost"], folder, force=True)
    assert target.read_text() == "precious"
    assert mode(folder / "localhost.key") == 0o600
    assert not (folder / ".gitignore").exists()  # the folder was somebody's already


@pytest.mark.parametrize(
    "name",
    ["", "a b", "../x", "/etc/x", "a..b", "-a", "a-", "*", "*.", "a.*", "1.2.3", "x" * 64, "a:1", "\0"],
)
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    for client in (False, True):
        if client and name in {"a-", "1.2.3", "x" * 64, "a..b"}:
            continue  # a client may be called so
        with pytest.raises(UsageError, match="is no name"):
            make_certificate([name], tmp_path / "certs", client=client)
    assert not (tmp_path / "certs").exists()


def test_names_of_files(tmp_path: Path) -> None:
    made = [
        make_certificate([name], tmp_path) for name in ("ca", "*.x.test", "::1", "Bücher.test", "A.test.")
    ]
    assert [one.certificate.name for one in made] == [
        "ca-host.pem",
        "_wildcard.x.test.pem",
        "__1.pem",
        "xn--bcher-kva.test.pem",
        "a.test.pem",
    ]
    assert made[0].new_authority


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    make_certificate(["one.test"], tmp_path)
    made = make_certificate(["two.test"], tmp_path, days=365)
    authority = x509.load_pem_x509_certificate(made.authority.read_bytes())
    assert made.expires <= authority.not_valid_after_utc
    short = make_certificate(["three.test"], tmp_path, days=2)
    assert timedelta(days=1) < short.expires - datetime.now(UTC) <= timedelta(days=2)


@pytest.mark.parametrize("days", [0, -1, 366])
def test_days_that_are_none(tmp_path: Path, days: int) -> None:
    with pytest.raises(UsageError, match="give 1 to 365"):
        make_certificate(["localhost"], tmp_path, days=days)


def test_an_authority_that_will_not_do(tmp_path: Path) -> None:
    made = make_certificate(["localhost"], tmp_path)
    ca, key = made.authority, tmp_path / "ca.key"
    whole = ca.read_bytes(), key.read_bytes()
    old = Authority.make(timedelta(hours=1))
    for certificate, private, sentence in (
        (whole[0], b"nonsense", "ca.key is no key in PEM"),
        (b"nonsense", whole[1], "ca.pem is no certificate in PEM"),
        (whole[0], made.key.read_bytes(), "ca.key is not the key of ca.pem"),
        (made.certificate.read_bytes(), made.key.read_bytes(), "may not sign others"),
        (old.text, old.key_text, "has expired, or does so within a day"),
    ):
        ca.write_bytes(certificate)
        key.write_bytes(private)
        with pytest.raises(UsageError, match=sentence) as caught:
            make_certificate(["other"], tmp_path)
        assert "to have another made" in str(caught.value)
    ca.write_bytes(whole[0])
    key.unlink()
    with pytest.raises(UsageError, match=r"ca\.key cannot be read"):
        make_certificate(["other"], tmp_path)


@pytest.mark.parametrize(
    ("life", "said"),
    [(-5, ["the certificate {} has expired, so that no client trusts it: renew it"]), (3600, [])],
)
def test_a_server_with_an_expired_certificate_is_warned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, life: int, said: list[str]
) -> None:
    authority = Authority.make(timedelta(days=10))
    text, key_text, _ = authority.issue(["localhost"], timedelta(seconds=life), client=False)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(text)
    key.touch(0o600)
    key.write_bytes(key_text)
    server_context(cert, key)
    assert caplog.messages == [line.format(cert) for line in said]


def test_an_authority_signs_no_other_authority(tmp_path: Path) -> None:
    authority = Authority.make(timedelta(days=10))
    text, key_text, _ = authority.issue(["evil.test"], timedelta(days=5), client=False)
    certificate = x509.load_pem_x509_certificate(text)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    own = x509.load_pem_x509_certificate(authority.text)
    assert own.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert isinstance(load_pem_private_key(key_text, None), ec.EllipticCurvePrivateKey)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot be written .*: name another --dir"):
        make_certificate(["localhost"], tmp_path / "file" / "certs")


def test_contexts_do_not_need_what_makes_certificates() -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import hailer.net.certificates\n"
        "from hailer.net.development import make_certificate\n"
        "try: make_certificate(['localhost'], 'never')\n"
        "except Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "making certificates needs the cryptography package: pip install cryptography\n"
