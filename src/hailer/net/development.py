"""Certificates for development: an authority of one's own, and what it signs.

The files and names of them; `hailer.net.authority`, which needs the cryptography package, makes what is
in them and is loaded when a certificate is made.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hailer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from hailer.net.authority import Authority

__all__ = ["AUTHORITY_DAYS", "DEFAULT_DAYS", "Made", "make_certificate"]

DEFAULT_DAYS: Final = 90
"""Days that a certificate is valid: those of Let's Encrypt, so that renewing is no surprise later."""

AUTHORITY_DAYS: Final = 365
"""Days that the authority is valid, and the most for what it signs: a lost key does harm for no longer."""

_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII | re.IGNORECASE)
_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", re.ASCII)


class Made(NamedTuple):
    """What `make_certificate` left behind.

    Attributes:
        authority: the authority's certificate: what the other side is to trust.
        certificate: the certificate.
        key: its key.
        expires: when the certificate ends.
        new_authority: whether the authority was made too.
    """

    authority: Path
    certificate: Path
    key: Path
    expires: datetime
    new_authority: bool


def make_certificate(
    names: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    days: int = DEFAULT_DAYS,
    client: bool = False,
    force: bool = False,
) -> Made:
    """Make a certificate and its key, signed by the folder's own authority, which is made if there is none.

    Keys are made readable for their owner alone. A folder that this makes keeps itself out of git. The
    authority is trusted by nobody until a program is told to, and is put into no system's store.

    Args:
        names: host names (a first label ``*`` stands for any) and IP addresses; for a client its name.
        folder: where all of it goes.
        days: how long it is valid, 1 to 365; the authority's own end is also its end.
        client: whether a client shows it, rather than a server.
        force: whether a certificate and key that are there are replaced; the authority never is.

    Raises:
        UsageError: a name is none, a file is there already or cannot be written, the authority has
            expired or cannot be used, or the cryptography package is not installed.
    """
    crypto = _crypto()
    if not 1 <= days <= AUTHORITY_DAYS:
        raise UsageError(f"{days} is no number of days for a certificate: give 1 to {AUTHORITY_DAYS}")
    if not names:
        raise UsageError("there is no name to make a certificate for: give one, such as localhost")
    parsed = [_parse_client(name) if client else _parse_host(name) for name in names]
    folder = Path(folder)
    stem = _stem(str(parsed[0])) + ("-client" if client else "")
    made = (folder / f"{stem}.pem", folder / f"{stem}.key")
    if not force:
        for path in made:
            if path.is_symlink() or path.exists():
                raise UsageError(f"{path} is there already: say --force to replace it, or name another --dir")
    try:
        _make_folder(folder)
        authority, new = _find_authority(crypto, folder)
        certificate, key, expires = authority.issue(parsed, timedelta(days=days), client=client)
        _write(made[1], key, 0o600, force=force)
        _write(made[0], certificate, 0o644, force=force)
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise UsageError(
            f"{error.filename or folder} cannot be written ({why}): name another --dir"
        ) from error
    return Made(folder / "ca.pem", *made, expires=expires, new_authority=new)


def _crypto() -> ModuleType:
    try:
        from hailer.net import authority  # noqa: PLC0415 (an extra, and slow to load)
    except ImportError as error:
        raise UsageError(
            "making certificates needs the cryptography package: pip install cryptography"
        ) from error
    return authority


def _parse_host(name: str) -> str | IPv4Address | IPv6Address:
    try:
        return ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        pass
    host = name.removesuffix(".").lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")  # as the ssl module does when it connects
        except UnicodeError:
            host = ""
    labels = host.split(".")
    if labels[0] == "*" and len(labels) > 2:
        labels = labels[1:]
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise UsageError(
            f"{name!r} is no name of a host: give one such as localhost, *.example.test or 127.0.0.1"
        )
    return host


def _parse_client(name: str) -> str:
    if not _CLIENT.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a client: take letters, digits and . _ @ + -, at most 64 of them"
        )
    return name


def _stem(name: str) -> str:
    """The name as that of a file. ``ca`` belongs to the authority."""
    stem = name.replace("*", "_wildcard").replace(":", "_")
    return f"{stem}-host" if stem == "ca" else stem


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(0o700, parents=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")  # keys belong in no repository


def _find_authority(crypto: ModuleType, folder: Path) -> tuple[Authority, bool]:
    """Load the folder's authority, or make it; with whether it was made."""
    certificate_path, key_path = folder / "ca.pem", folder / "ca.key"
    if not certificate_path.exists() and not key_path.exists():
        authority = crypto.Authority.make(timedelta(days=AUTHORITY_DAYS))
        _write(key_path, authority.key_text, 0o600, force=False)
        _write(certificate_path, authority.text, 0o644, force=False)
        return authority, True
    anew = f"remove {certificate_path} and {key_path} to have another made, or name another --dir"
    try:
        authority = crypto.Authority.load(certificate_path.read_bytes(), key_path.read_bytes())
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise UsageError(f"the authority's {error.filename} cannot be read ({why}): {anew}") from error
    except ValueError as error:
        raise UsageError(f"the authority {certificate_path} cannot be used ({error}): {anew}") from error
    if authority.expires < datetime.now(UTC) + timedelta(days=1):
        raise UsageError(f"the authority {certificate_path} has expired, or does so within a day: {anew}")
    return authority, False


def _write(path: Path, text: bytes, mode: int, *, force: bool) -> None:
    """Make a file that was not there, with its mode from the start: a key is never readable by others."""
    if force:
        path.unlink(missing_ok=True)  # a link is replaced, not followed
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
