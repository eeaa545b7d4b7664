"""Who may have which name: the table of accounts, and what it says to a HELLO."""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Account(NamedTuple):
    """A name that has an owner.

    Attributes:
        name: as it is shown.
        digest: SHA-256 of the token. The token has 256 random bits: nothing slower is needed to keep it.
        made: when, as text. It tells this account from an earlier one of the same name.
    """

    name: bytes
    digest: bytes
    made: bytes

    def __repr__(self) -> str:
        return f"<account {self.name.decode()}>"


class Verdict(NamedTuple):
    """The answer to who asks for a name.

    Attributes:
        allowed: whether it gets the name.
        account: the name as its account has it; empty for a guest and for who is not allowed.
        why: what whoever is not allowed is told.
    """

    allowed: bool
    account: bytes = b""
    why: bytes = b""


# It says the same of a name without an account as of one with another token.
_DENIED = Verdict(allowed=False, why=b"no account has this name and token; ask who runs the relay for one")
_CERTIFIED = Verdict(allowed=False, why=b"your certificate is for another name; log in with that one")
_GUEST = Verdict(allowed=True)
_NO_DIGEST = bytes(32)


class Accounts:
    """The accounts of a relay; a new table takes the place of an old one, none is changed.

    Args:
        accounts: no two with one name, in any case of letters.
        guests: whether names that have no account are for anybody.
    """

    def __init__(self, accounts: Iterable[Account] = (), *, guests: bool = True) -> None:
        self._by_key = {account.name.lower(): account for account in accounts}
        self.guests = guests

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[Account]:
        return iter(self._by_key.values())

    def get(self, key: bytes) -> Account | None:
        """The account of a name in lower case."""
        return self._by_key.get(key)

    def admit(self, key: bytes, token: bytes | None, certified: bytes) -> Verdict:
        """Decide who may have a name.

        Args:
            key: the name that is asked for, in lower case.
            token: what was given for it.
            certified: the name, in lower case, that a certificate proves; empty for none.
        """
        account = self._by_key.get(key)
        # Done for a name without an account too: else the time that it takes would tell which names have one.
        right = compare_digest(
            sha256(token or b"").digest(), _NO_DIGEST if account is None else account.digest
        )
        if certified and certified != key:
            return _CERTIFIED
        if account is None:
            return _GUEST if self.guests else _DENIED
        if certified or (token and right):
            return Verdict(allowed=True, account=account.name)
        return _DENIED
