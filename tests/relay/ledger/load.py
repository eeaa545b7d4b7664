"""Senders and receivers of one relay, and the ledger that all of them keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.relay.ledger.book import Ledger, Verdicts
from tests.relay.ledger.parties import Poster, Taker, waiting_mail

if TYPE_CHECKING:
    from typing import Self

    from tests.relay.ledger.parties import Dial
    from tests.relay.ledger.running import RelayProcess

# Receivers that are away do not fill their mailboxes: what a full one does has tests of its own.
ROOMY = ("--mail-entries", "1000000", "--mail-bytes", "1000000000")


class Load:
    """Senders and receivers of one relay, all of them posting to all, and to a room of each sender."""

    def __init__(
        self,
        relay: RelayProcess,
        *,
        senders: int = 4,
        receivers: int = 3,
        cursor: bool = True,
        forgetful: int = 1,
        goes: float = 0.02,
        window: int = 100,
        size: int = 40,
        rooms: bool = True,
        patience: float = 10.0,
        seed: int = 0,
        dial: Dial | None = None,
    ) -> None:
        self.relay = relay
        self.ledger = Ledger()
        dial = dial or relay.dial
        names = tuple(f"r{number}" for number in range(receivers))
        each = [f"#s{number}" for number in range(senders)] if rooms else []
        self.takers = [
            Taker(
                dial,
                name,
                self.ledger,
                rooms=tuple(each),
                cursor=cursor,
                goes=goes,
                patience=patience,
                seed=seed,
            )
            for name in names
        ]
        to: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
        self.posters = [
            Poster(
                dial,
                f"s{number}",
                self.ledger,
                to | dict.fromkeys(each[number : number + 1], names),
                forgets=0.3 if number < forgetful else 0.0,
                window=window,
                size=size,
                patience=patience,
                seed=seed,
            )
            for number in range(senders)
        ]

    def start(self) -> None:
        for taker in self.takers:
            taker.start()
        for taker in self.takers:
            assert taker.ready.wait(20), taker.fault
        for poster in self.posters:
            poster.start()

    def finish(self, seconds: float = 60.0) -> Verdicts:
        """Have all posts acknowledged and all mail taken; gives what came of it."""
        for poster in self.posters:
            poster.end()
        for poster in self.posters:
            poster.check(seconds)
        self.ledger.wait(seconds, taken_by=tuple(taker.name for taker in self.takers))
        return self.end()

    def acknowledge_all(self) -> None:
        """Once all is taken: have the relay know it."""
        for taker in self.takers:
            left = waiting_mail(self.relay.dial, taker.name, taker.session, taker.cursor)
            assert left == 0, f"{left} entries wait for {taker.name}, which has taken all"

    def end(self) -> Verdicts:
        """Everybody hangs up."""
        for party in [*self.posters, *self.takers]:
            party.hang_up()
        for party in [*self.posters, *self.takers]:
            party.check()
        return self.ledger.verdicts()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for party in [*self.posters, *self.takers]:
            party.hang_up()
        for party in [*self.posters, *self.takers]:
            if party.ident is not None:
                party.join(20)
