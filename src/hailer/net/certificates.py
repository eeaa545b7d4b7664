"""What TLS goes by: certificates, keys and authorities in PEM files, made into contexts."""

from __future__ import annotations

import logging
import os
import ssl
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from hailer.errors import UsageError

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["client_context", "server_context"]

log = logging.getLogger("hailer.net")

_LIMIT: Final = 4 << 20
"""Bytes of a PEM file that are looked at: a system's file of all authorities has some 200,000."""

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"
_ENCRYPTED: Final = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")

_OUT_OF_TIME: Final = {
    9: "is not valid yet: look at this machine's clock",
    10: "has expired, so that no client trusts it: renew it",
}
"""By the codes of OpenSSL's X509_verify_cert_error(3)."""


def server_context(
    cert: str | PathLike[str],
    key: str | PathLike[str] | None = None,
    *,
    client_ca: str | PathLike[str] | None = None,
    optional: bool = False,
) -> ssl.SSLContext:
    """Make what a server needs for TLS, version 1.2 or later.

    It gives out no session tickets: a client that sends and closes at once would answer those with a
    reset, which can take its last words from the server, and connections here live long.

    Args:
        cert: a PEM file with the certificate and those between it and its authority.
        key: the certificate's key in PEM; None when it is in the same file.
        client_ca: authorities in PEM; each client has to show a certificate of one of them.
        optional: let in clients that show no certificate; one that is shown has to be good all the same.

    Raises:
        UsageError: a file cannot be read or used.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    _load_identity(context, cert, key)
    _warn_of_age(context, Path(cert))
    if client_ca is not None:
        _load_authorities(context, client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    return context


def client_context(
    *,
    ca: str | PathLike[str] | None = None,
    cert: str | PathLike[str] | None = None,
    key: str | PathLike[str] | None = None,
    verify: bool = True,
) -> ssl.SSLContext:
    """Make what a client needs for TLS, version 1.2 or later.

    Args:
        ca: authorities in PEM that are trusted, and no others; None trusts those of the system.
        cert: a PEM file with a certificate to show to a server that asks for one.
        key: the certificate's key in PEM; None when it is in the same file.
        verify: whether the server has to prove who it is. Without that anybody between can read all.

    Raises:
        UsageError: a file cannot be read or used, or there is a key without a certificate.
    """
    if key is not None and cert is None:
        raise UsageError(f"there is no certificate for the key {os.fspath(key)}: give the certificate too")
    if ca is not None:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=_authorities(ca))
    else:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        _load_identity(context, cert, key)
    return context


def _load_identity(
    context: ssl.SSLContext, cert: str | PathLike[str], key: str | PathLike[str] | None
) -> None:
    """Load a certificate and its key; what is wrong with them is found before OpenSSL sees them."""
    cert_path = Path(cert)
    key_path = cert_path if key is None else Path(key)
    if _CERTIFICATE not in (text := _read(cert_path, "certificate")):
        what_is = "a key and no certificate" if _KEY in text else "no certificate in PEM"
        raise UsageError(f"{cert_path} has {what_is}: give the certificate's file, in PEM")
    text = _read(key_path, "key")
    if _KEY not in text:
        if key is None:
            raise UsageError(f"{cert_path} has no key beside its certificate: give the key's file too")
        what_is = "a certificate and no key" if _CERTIFICATE in text else "no key in PEM"
        raise UsageError(f"{key_path} has {what_is}: give the key's file, in PEM")
    if any(mark in text for mark in _ENCRYPTED):
        raise UsageError(
            f"the key {key_path} is encrypted: write it without a password (openssl pkey -in {key_path}) "
            "to a file that only its owner can read"
        )
    _warn_of_readers(key_path)
    try:
        # Without the function OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(cert_path, key_path, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else str(error)
        if reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"the key {key_path} is not that of the certificate {cert_path}: give the two that "
                "belong together"
            ) from error
        if reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
            raise UsageError(f"the certificate {cert_path} is too weak ({reason}): make another") from error
        raise UsageError(
            f"the certificate {cert_path} or its key {key_path} cannot be used ({_words(reason)}): "
            "make both anew"
        ) from error
    except OSError as error:
        _cannot_be_read(cert_path, "certificate", error)


def _load_authorities(context: ssl.SSLContext, path: str | PathLike[str]) -> None:
    context.load_verify_locations(cadata=_authorities(path))


def _authorities(path: str | PathLike[str]) -> str:
    """Read authorities as text, checked to be usable."""
    path = Path(path)
    raw = _read(path, "authority's certificate")
    text = raw.decode("ascii", "replace")
    if _CERTIFICATE in raw:
        # Other text may stand round the certificates, in any encoding.
        parts = text.split("-----BEGIN CERTIFICATE-----")[1:]
        end = "-----END CERTIFICATE-----"
        text = "".join(f"-----BEGIN CERTIFICATE-----{part.partition(end)[0]}{end}\n" for part in parts)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
        except (ssl.SSLError, ValueError) as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else str(error)
            raise UsageError(
                f"the authority's certificate {path} cannot be used ({_words(reason)}): get it anew"
            ) from error
        return text
    what_is = "a key and no certificate" if _KEY in raw else "no certificate in PEM"
    raise UsageError(f"{path} has {what_is}: give the authority's certificate, in PEM")


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LIMIT)
    except (OSError, ValueError) as error:
        _cannot_be_read(path, what, error)


def _cannot_be_read(path: Path, what: str, error: OSError | ValueError) -> NoReturn:
    why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
    advice = (
        "correct its path, or make one with hailer cert"
        if isinstance(error, FileNotFoundError)
        else "correct its path or its mode"
    )
    raise UsageError(f"the {what} {path} cannot be read ({why}): {advice}") from error


def _warn_of_readers(path: Path) -> None:
    """A key for all users is worth a word; one for a group is how systems share theirs among servers."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        log.warning("every user of this machine can read the key %s: chmod o-r %s", path, path)


def _warn_of_age(context: ssl.SSLContext, path: Path) -> None:
    """A certificate out of its time keeps all clients out, and only they would be told.

    The standard library tells the dates of no certificate but a peer's, so this is one, in memory.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        client.load_verify_locations(path)
        near = client.wrap_bio(back, there)
        far = context.wrap_bio(there, back, server_side=True)
        for end in (near, far, near):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OUT_OF_TIME:
            log.warning("the certificate %s %s", path, _OUT_OF_TIME[error.verify_code])
    except (ssl.SSLError, OSError, ValueError):
        pass  # whatever else is wrong is found elsewhere, or by clients


def _no_password() -> NoReturn:
    raise ValueError("it wants a password")


def _words(reason: str | None) -> str:
    return (reason or "unknown to OpenSSL").replace("_", " ").lower()
