"""What the ssl module says, as one sentence that says what to do next."""

from __future__ import annotations

import re
import ssl
from typing import Final

from hailer.errors import TlsError

__all__ = ["explain", "no_tls_error"]

# X509_V_ERR_... of OpenSSL's x509_vfy.h: what is wrong with the certificate, and what to do about it on the
# side that connects and on the side that serves.
_TRUST: Final = "name the certificate of that authority with --ca if you trust it"
_TRUST_CLIENT: Final = "name the certificate of that authority with --client-ca if it may vouch for clients"
_UNKNOWN_AUTHORITY: Final = (
    "is signed by an authority that is not trusted here",
    _TRUST,
    _TRUST_CLIENT,
)
_CERTIFICATE: Final[dict[int, tuple[str, str, str]]] = {
    2: _UNKNOWN_AUTHORITY,
    9: ("is not valid yet", "look at the clocks of both machines", "look at the clocks of both machines"),
    10: (
        "has expired",
        "have its owner renew it, or set this machine's clock",
        "have its owner renew it, or set this machine's clock",
    ),
    18: (
        "is self-signed",
        "name it with --ca if you have it from a source that you trust",
        "name it with --client-ca if you know whose it is",
    ),
    19: _UNKNOWN_AUTHORITY,
    20: _UNKNOWN_AUTHORITY,
    21: _UNKNOWN_AUTHORITY,
    23: ("was revoked", "ask its owner for another", "have its owner ask for another"),
    26: (
        "is not made for this use",
        "have its owner make one for servers",
        "have its owner make one for clients",
    ),
    47: (
        "has a name that its authority may not vouch for",
        "ask its owner for another",
        "have its owner ask for another",
    ),
    62: (
        "is not for {name}",
        "connect by a name that it has, or have one made for this name",
        "have its owner make another",
    ),
    64: (
        "is not for {name}",
        "connect by a name that it has, or have one made for this address",
        "have its owner make another",
    ),
}

# Alerts by which the peer breaks off (RFC 8446 section 6.2), as OpenSSL names them.
_REFUSED: Final = (
    "{where} refused this side's certificate",
    "look at what its program says, and give another with --cert",
)
_ALERTS: Final[dict[str, tuple[str, str]]] = {
    "BAD_CERTIFICATE": _REFUSED,
    "CERTIFICATE_UNKNOWN": _REFUSED,
    "UNSUPPORTED_CERTIFICATE": _REFUSED,
    "CERTIFICATE_REVOKED": _REFUSED,
    "ACCESS_DENIED": _REFUSED,
    "UNKNOWN_CA": (
        "{where} does not trust the authority of this side's certificate",
        "name that authority there (--ca where it connects, --client-ca where it serves)",
    ),
    "CERTIFICATE_EXPIRED": ("{where} says that this side's certificate has expired", "renew it"),
    "CERTIFICATE_REQUIRED": (
        "{where} wants a certificate from this side",
        "give one that it trusts with --cert and --key",
    ),
    "PROTOCOL_VERSION": (
        "{where} shares no version of TLS with this side",
        "have it speak TLS 1.2 or 1.3, the versions that are used here",
    ),
    "UNRECOGNIZED_NAME": ("{where} has no certificate for {name}", "connect by a name that it serves"),
}
_HANDSHAKE_REFUSED: Final = (
    "{where} refused to agree on TLS",
    "give a certificate with --cert if it wants one of clients, or look whether it shares a cipher",
)

# Reasons that OpenSSL on this side finds.
_VERSION: Final = _ALERTS["PROTOCOL_VERSION"]
_NOT_TLS: Final = ("{where} sent what is no TLS handshake", "look whether it speaks TLS at all")
_REASONS: Final[dict[str, tuple[str, str]]] = {
    "UNSUPPORTED_PROTOCOL": _VERSION,
    "VERSION_TOO_LOW": _VERSION,
    "VERSION_TOO_HIGH": _VERSION,
    "WRONG_SSL_VERSION": _VERSION,
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "UNEXPECTED_MESSAGE": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "HTTPS_PROXY_REQUEST": _NOT_TLS,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (
        "{where} showed no client certificate",
        "have it give one that an authority of --client-ca has signed",
    ),
    "NO_SHARED_CIPHER": (
        "{where} shares no cipher with this side, or this side has no certificate",
        "give a certificate with --cert, or have it allow more ciphers",
    ),
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": (
        "what came from {where} was changed on its way",
        "connect again, and look at what stands between",
    ),
}


def explain(error: ssl.SSLError, where: str, name: str | None, *, serving: bool) -> TlsError:
    """Say what an error of TLS means.

    Args:
        error: what the ssl module raised.
        where: the peer's address.
        name: the name that the peer's certificate was to have.
        serving: whether this side accepted the connection.
    """
    called = name or where
    if isinstance(error, ssl.SSLCertVerificationError):
        whose = "the client certificate" if serving else "the certificate"
        found = _CERTIFICATE.get(error.verify_code)
        if found is None:
            what = f"cannot be trusted ({str(error.verify_message).lower().rstrip('.')})"
            return TlsError(f"{whose} of {where} {what}: have its owner correct it")
        what = found[0].format(name=called)
        return TlsError(f"{whose} of {where} {what}: {found[2] if serving else found[1]}")
    reason = error.reason or ""
    _, is_alert, alert = reason.rpartition("_ALERT_")
    if is_alert:
        if alert == "HANDSHAKE_FAILURE" and not serving:
            text = _HANDSHAKE_REFUSED
        elif alert == "BAD_CERTIFICATE" and serving:
            # What a client says that looked for another name, among others.
            text = (
                "{where} refused this side's certificate",
                "look whether it has the name that was dialled",
            )
        else:
            text = _ALERTS.get(
                alert,
                (f"{{where}} broke TLS off ({_words(alert)})", "look at what its program says"),
            )
    else:
        text = _REASONS.get(
            reason,
            (f"TLS with {{where}} failed ({_words(reason) or type(error).__name__})", "connect again"),
        )
    return TlsError(f"{text[0]}: {text[1]}".format(where=where, name=called))


def no_tls_error(began: bytes, where: str, *, serving: bool) -> TlsError:
    """The error of a peer whose first bytes are none of TLS.

    Args:
        began: these bytes; a few of them are shown.
        where: the peer's address.
        serving: whether this side accepted the connection.
    """
    shown = repr(began[:16])[1:]
    what_next = (
        "have it connect with tls://"
        if serving
        else "connect with tcp://, or correct the port or set TLS up there"
    )
    return TlsError(f"{where} speaks no TLS (it began with {shown}): {what_next}")


def _words(reason: str) -> str:
    return re.sub(r"[^a-z0-9 ]", " ", reason.lower())
