"""The accounts of a relay, in a file of plain text that is edited while the relay runs.

One line an account: its name, the SHA-256 of its token in hexadecimal, when it was made, and when its token
was made if that was later (both RFC 3339). Empty lines and lines that begin with # mean nothing. The tokens
themselves are nowhere: who reads the file can log in as nobody.

A change is written to a file beside it, flushed to disk and put in its place; whoever makes one holds a lock
on ``FILE.lock`` meanwhile, so that of several at once none is lost.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hailer.errors import StoreError, UsageError
from hailer.relay import grammar
from hailer.relay.core.accounts import Account, Accounts
from hailer.relay.store.place import default_path

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["AccountFile", "Entry", "accounts_beside", "parse"]

_MOST_BYTES = 64 << 20
"""Of the file: some 500,000 accounts. A wrong path, such as that of a device, ends here."""

_DIGEST = re.compile(rb"[0-9a-fA-F]{64}")
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
_HEAD = b"# Accounts of a hailer relay; see hailer account --help\n"


@dataclass(frozen=True, slots=True)
class Entry:
    """One account.

    Attributes:
        account: as the relay's core knows it.
        rotated: when its token was made, if that was after the account; else empty.
    """

    account: Account
    rotated: bytes = b""

    @property
    def name(self) -> str:
        """Its name, as it is shown."""
        return self.account.name.decode()


def accounts_beside(store: str | None) -> Path:
    """The accounts of the relay that has this store.

    Args:
        store: its path. With ``memory``, or none, the accounts are beside the default store: accounts
            outlive a relay also when its mail does not.

    Raises:
        UsageError: it is no path of a file.
        StoreError: the user has no home directory for the default store.
    """
    path = default_path() if store is None or store == "memory" else Path(store)
    if not path.name:
        raise UsageError(f"{store or repr(store)} is no file: give the store of the relay, such as relay.db")
    return path.with_name(path.name + ".accounts")


def parse(text: bytes, where: str) -> list[Entry]:
    """Read the lines of an accounts file.

    Args:
        text: all of it.
        where: the file's path, for errors.

    Raises:
        StoreError: a line is none of an account, or has the name of an earlier one. It is named by its
            number; nothing of it is shown, for what is wrong with it may be that it holds a token.
    """
    entries: dict[bytes, tuple[int, Entry]] = {}
    for number, line in enumerate(text.split(b"\n"), 1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        if not 3 <= len(words) <= 4:
            raise _bad_line(
                where, number, "an account is a name, a digest, when it was made and when its token"
            )
        name, digest, *times = words
        if not grammar.is_name(name):
            raise _bad_line(where, number, "a name is 1 to 64 letters, digits, dots, _ and -")
        if not _DIGEST.fullmatch(digest):
            raise _bad_line(where, number, "the second word is no SHA-256 in hexadecimal")
        if not all(map(_is_time, times)):
            raise _bad_line(where, number, "a time is written such as 2026-11-21T18:30:00Z")
        key = name.lower()
        if key in entries:
            raise _bad_line(where, number, f"the name of line {entries[key][0]} stands here again")
        account = Account(name, bytes.fromhex(digest.decode()), times[0])
        entries[key] = number, Entry(account, times[1] if times[1:] else b"")
    return [entry for _, entry in entries.values()]


class AccountFile:
    """An accounts file; it need not exist yet.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        # What a link leads to: it is that file that has to be replaced, not the link.
        self.path = Path(os.path.realpath(path))

    # for a relay

    def exists(self) -> bool:
        """Whether there is such a file.

        Raises:
            StoreError: that cannot be found out.
        """
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._trouble("read", error) from error
        return True

    def read(self) -> list[Entry]:
        """Read all accounts, in the order in which they were made.

        Raises:
            StoreError: the file cannot be read, is open to others or is not well-formed.
        """
        try:
            # O_NONBLOCK: a pipe of this name must not keep us waiting for its other end.
            with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                status = os.fstat(file.fileno())  # of what was opened: the path may change meanwhile
                self._check(status)
                text = file.read(_MOST_BYTES + 1)
        except OSError as error:
            raise self._trouble("read", error) from error
        if len(text) > _MOST_BYTES:
            raise StoreError(f"{self.path} is larger than {_MOST_BYTES >> 20} MiB: is it the accounts file?")
        return parse(text, str(self.path))

    def load(self, before: Accounts, *, guests: bool | None) -> Accounts:
        """Read all accounts as the table for a relay, in the place of the one that it has.

        Args:
            before: the table that it has; an empty one at the start.
            guests: whether names that have no account are for anybody; None for as long as there are no
                accounts at all. A relay that has once had some lets in nobody else, also if all go.

        Raises:
            StoreError: the file cannot be read, is open to others, is not well-formed, or was there and
                is no more.
        """
        if self.exists():
            accounts = [entry.account for entry in self.read()]
        elif len(before):
            raise StoreError(f"the accounts were in {self.path}, which is gone: put it back")
        else:
            accounts = []
        return Accounts(accounts, guests=before.guests and not accounts if guests is None else guests)

    # for who runs it

    def add(self, name: str) -> str:
        """Make an account.

        Returns:
            Its token, which is shown nowhere else and never again.

        Raises:
            UsageError: it is no name.
            StoreError: there is an account of this name, or the file cannot be read or written.
        """
        if not grammar.is_name(name.encode("utf-8", "surrogateescape")):
            raise UsageError(f"{name!r} is no name: take 1 to 64 letters, digits, dots, _ and -")
        token = _new_token()
        with self._changing() as entries:
            old = _find(entries, name)
            if old is not None:
                raise StoreError(f"{old.name} has an account already: rotate gives it a new token")
            entries.append(Entry(Account(name.encode(), _digest(token), _now())))
        return token

    def rotate(self, name: str) -> str:
        """Give an account a new token; the old one is good until the relay reads the file again.

        Returns:
            The new token.

        Raises:
            StoreError: there is no such account, or the file cannot be read or written.
        """
        token = _new_token()
        with self._changing() as entries:
            old = self._existing(entries, name)
            account = old.account._replace(digest=_digest(token))
            entries[entries.index(old)] = replace(old, account=account, rotated=_now())
        return token

    def remove(self, name: str) -> None:
        """Remove an account; the relay knows when it reads the file again.

        Raises:
            StoreError: there is no such account, or the file cannot be read or written.
        """
        with self._changing() as entries:
            entries.remove(self._existing(entries, name))

    # inside

    def _existing(self, entries: list[Entry], name: str) -> Entry:
        entry = _find(entries, name)
        if entry is None:
            raise StoreError(f"there is no account {name!r} in {self.path}: hailer account list shows all")
        return entry

    @contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        """Give all accounts to be changed, and write them; nobody else changes them meanwhile."""
        lock_path = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                lock = _make(lock_path, like=self.path.parent)
            except FileExistsError:
                lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise self._trouble("changed", error) from error
        try:
            # The file stays: were it removed, two could hold a lock each, on two files of its name.
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                raise self._trouble("locked", error) from error
            entries = self.read() if self.exists() else []
            yield entries
            self._write(entries)
        finally:
            os.close(lock)

    def _write(self, entries: list[Entry]) -> None:
        new = self.path.with_name(self.path.name + ".new")
        try:
            new.unlink(missing_ok=True)  # of one who was killed while it held the lock
            fd = _make(new, like=self.path if self.path.exists() else self.path.parent)
            with os.fdopen(fd, "wb") as file:
                file.write(_HEAD + b"".join(map(_line, entries)))
                file.flush()
                os.fsync(fd)
            new.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # the new name is on disk only when its directory is
            finally:
                os.close(folder)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise self._trouble("written", error) from error

    def _check(self, status: os.stat_result) -> None:
        """Refuse what others could have written, or can read."""
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{self.path} is no file: give the --store whose accounts you mean")
        if status.st_mode & 0o077:
            raise StoreError(
                f"{self.path} is open to others (its mode is {status.st_mode & 0o777:o}): look whether its"
                f" lines are yours, then make it yours alone with chmod 600 {self.path}"
            )

    def _trouble(self, what: str, error: OSError) -> StoreError:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        hint = "see that it exists and is yours, or give the right --store"
        return StoreError(f"the accounts in {self.path} cannot be {what} ({why}): {hint}")


def _make(path: Path, like: Path) -> int:
    """Make a file for its owner alone; gives its descriptor.

    Args:
        path: of the file.
        like: who owns this is to own the file too, as far as that is ours to say: root makes accounts for
            a relay that runs as another user and has to read them.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        owner = like.stat()
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd


def _find(entries: list[Entry], name: str) -> Entry | None:
    return next((entry for entry in entries if entry.name.lower() == name.lower()), None)


def _line(entry: Entry) -> bytes:
    name, digest, made = entry.account
    return b" ".join((name, digest.hex().encode(), made, entry.rotated)).rstrip() + b"\n"


def _new_token() -> str:
    """256 random bits as base64url, 43 characters (RFC 4648 section 5)."""
    return secrets.token_urlsafe(32)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _now() -> bytes:
    # To the millisecond: an account that is removed and made again at once is another one.
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _is_time(word: bytes) -> bool:
    if not _TIME.fullmatch(word):
        return False
    try:
        datetime.fromisoformat(word.decode())
    except ValueError:
        return False
    return True


def _bad_line(where: str, number: int, why: str) -> StoreError:
    return StoreError(f"line {number} of {where} is wrong, for {why}: correct or remove it")
