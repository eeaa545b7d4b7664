"""An authority that signs certificates for development. Needs the cryptography package."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Authority"]

_SKEW: Final = timedelta(hours=1)
"""So long ago each certificate begins, for clocks that are behind."""

Name = str | IPv4Address | IPv6Address


class Authority:
    """A certificate authority: its certificate and its key.

    Made by `make` and `load`.

    Attributes:
        text: the certificate in PEM.
        key_text: its key in PEM.
        expires: when it ends.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key
        self.text = certificate.public_bytes(Encoding.PEM)
        self.key_text = _key_text(key)
        self.expires = certificate.not_valid_after_utc

    @classmethod
    def make(cls, life: timedelta) -> Authority:
        """Make a new one, which signs certificates and no other authorities.

        Args:
            life: how long it is valid.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        # A name of its own: who trusts two authorities of the same name tries the wrong one of them.
        name = _called(f"hailer development authority {os.urandom(4).hex()}")
        builder = (
            _begin(name, key, datetime.now(UTC) + life)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
        )
        return cls(builder.sign(key, SHA256()), key)

    @classmethod
    def load(cls, text: bytes, key_text: bytes) -> Authority:
        """Take one that was kept.

        Args:
            text: its certificate in PEM.
            key_text: its key in PEM.

        Raises:
            ValueError: they are no authority; the message is a few words that say why.
        """
        try:
            certificate = x509.load_pem_x509_certificate(text)
        except ValueError as error:
            raise ValueError("ca.pem is no certificate in PEM") from error
        try:
            key = load_pem_private_key(key_text, None)
        except (ValueError, TypeError) as error:
            raise ValueError("ca.key is no key in PEM without a password") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("its key is not of the kind that is made here")  # noqa: TRY004 (of a file, not a type)
        if key.public_key() != certificate.public_key():
            raise ValueError("ca.key is not the key of ca.pem")
        try:
            may_sign = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            may_sign = False
        if not may_sign:
            raise ValueError("its certificate may not sign others")
        return cls(certificate, key)

    def issue(self, names: Sequence[Name], life: timedelta, *, client: bool) -> tuple[bytes, bytes, datetime]:
        """Make a certificate and its key.

        Args:
            names: host names and addresses; for a client its name, which may be a mail address.
            life: how long it is valid, if the authority is valid for as long.
            client: whether a client shows it, rather than a server.

        Returns:
            The certificate in PEM, its key in PEM, and when it ends.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        end = min(datetime.now(UTC) + life, self.expires)
        use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            # A common name has at most 64 characters; the alternative names are what counts.
            _begin(_called(str(names[0])[:64]), key, end)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName(list(map(_alternative, names))), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        certificate = builder.sign(self._key, SHA256())
        return certificate.public_bytes(Encoding.PEM), _key_text(key), certificate.not_valid_after_utc


def _alternative(name: Name) -> x509.GeneralName:
    if not isinstance(name, str):
        return x509.IPAddress(name)
    return x509.RFC822Name(name) if "@" in name else x509.DNSName(name)


def _begin(subject: x509.Name, key: ec.EllipticCurvePrivateKey, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
