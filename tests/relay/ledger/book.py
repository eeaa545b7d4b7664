"""The ledger of tests of loss: what senders were promised and what receivers took, kept outside of the relay.

Each posted value is unique, a sender's name and a serial number. Whatever became of it is one of three:

    once      it was acknowledged by STORED, and its receiver took it exactly once
    lost      it was acknowledged, and its receiver never took it
    unknown   it was never acknowledged: its receiver took it once, or not at all

What must never be comes on top: taken twice (acknowledged or not), out of its sender's order, never posted at
all, or under a number of the mailbox that another value had before.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import NamedTuple


class Value(NamedTuple):
    """What is posted: unique over a whole test."""

    sender: str
    serial: int

    def text(self, size: int = 0, end: str = "") -> bytes:
        """As a payload of at least `size` bytes that ends so."""
        return f"{self.sender}/{self.serial} ".encode().ljust(size, b".") + end.encode()

    @classmethod
    def parse(cls, payload: bytes) -> Value:
        """The value that a payload says."""
        sender, _, rest = payload.partition(b"/")
        return cls(sender.decode(), int(rest.partition(b" ")[0]))


@dataclass
class Verdicts:
    """How many values came to which end; a value that is posted to a room counts once for each receiver."""

    acknowledged: int = 0
    once: int = 0
    lost: int = 0
    unknown: int = 0
    doubled: int = 0
    disordered: int = 0
    invented: int = 0
    renumbered: int = 0
    examples: list[str] = field(default_factory=list)
    """The first few of what must not be."""

    @property
    def faults(self) -> dict[str, int]:
        """What must not be, by kind; empty if all is well."""
        bad = ("lost", "doubled", "disordered", "invented", "renumbered")
        return {kind: getattr(self, kind) for kind in bad if getattr(self, kind)}

    def check(self) -> None:
        """Fail the test if anything is what it must not be."""
        assert not self.faults, f"{self.faults}: {'; '.join(self.examples)}"

    def row(self) -> dict[str, int]:
        """The counts, for a table."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "examples"}


class Ledger:
    """Takes down what happens, from any thread, and says at the end what it comes to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._posted: dict[Value, tuple[str, ...]] = {}
        self._acknowledged: set[Value] = set()
        self._open: Counter[str] = Counter()  # by receiver: acknowledged, not yet taken
        self._taken: dict[str, list[Value]] = {}
        self._seen: dict[str, set[Value]] = {}
        self._numbers: dict[tuple[str, int], Value] = {}
        self._wrong: list[str] = []
        self._renumbered = 0
        self.moved = threading.Condition(self._lock)
        """Notified whenever something was taken down."""
        self.broken: BaseException | None = None
        """What ended one of those who write in it, for the others to wait no longer."""

    def posted(self, value: Value, receivers: tuple[str, ...]) -> None:
        """A sender is about to post; again, if it has to send it again."""
        with self.moved:
            before = self._posted.setdefault(value, receivers)
            assert before == receivers, f"{value} is posted anew to others: the test is wrong"

    def acknowledged(self, value: Value) -> None:
        """A sender was told STORED."""
        with self.moved:
            if value in self._acknowledged:
                return
            self._acknowledged.add(value)
            for receiver in self._posted[value]:
                if value not in self._seen.setdefault(receiver, set()):
                    self._open[receiver] += 1
            self.moved.notify_all()

    def shown(self, receiver: str, number: int, value: Value) -> None:
        """A receiver got a MAIL line, for the first time or again."""
        with self.moved:
            before = self._numbers.setdefault((receiver, number), value)
            if before != value:
                self._renumbered += 1
                self._wrong.append(f"entry {number} of {receiver} was {before} and is {value}")

    def took(self, receiver: str, value: Value) -> None:
        """A receiver let a value have its effect."""
        with self.moved:
            self._taken.setdefault(receiver, []).append(value)
            seen = self._seen.setdefault(receiver, set())
            if value not in seen:
                seen.add(value)
                if value in self._acknowledged:
                    self._open[receiver] -= 1
            self.moved.notify_all()

    def give_up(self, fault: BaseException) -> None:
        """Somebody cannot go on: whoever waits is told so."""
        with self.moved:
            self.broken = self.broken or fault
            self.moved.notify_all()

    @property
    def acknowledgements(self) -> int:
        """How many values are acknowledged so far."""
        return len(self._acknowledged)

    def outstanding(self, receiver: str) -> int:
        """How many acknowledged values this receiver has yet to take."""
        with self.moved:
            return self._open[receiver]

    def wait(self, seconds: float, *, acknowledged: int = 0, taken_by: tuple[str, ...] = ()) -> bool:
        """Wait until so many are acknowledged, and these receivers have nothing outstanding.

        Returns:
            Whether it came to that in time.

        Raises:
            BaseException: what ended one of those who were to write in it.
        """

        def through() -> bool:
            return len(self._acknowledged) >= acknowledged and not any(map(self._open.get, taken_by))

        with self.moved:
            self.moved.wait_for(lambda: self.broken is not None or through(), timeout=seconds)
            if self.broken is not None:
                raise self.broken
            return through()

    def verdicts(self) -> Verdicts:
        """What it all comes to."""
        with self.moved:
            return self._judge()

    def _judge(self) -> Verdicts:
        found = Verdicts(
            acknowledged=sum(len(self._posted[value]) for value in self._acknowledged),
            renumbered=self._renumbered,
        )
        wrong = list(self._wrong)
        times = {receiver: Counter(values) for receiver, values in self._taken.items()}
        for value, receivers in self._posted.items():
            for receiver in receivers:
                count = times[receiver][value] if receiver in times else 0
                if count > 1:
                    found.doubled += 1
                    wrong.append(f"{receiver} took {value} {count} times")
                if value not in self._acknowledged:
                    found.unknown += 1
                elif count == 0:
                    found.lost += 1
                    wrong.append(f"{receiver} never got {value}")
                elif count == 1:
                    found.once += 1
        for receiver, values in self._taken.items():
            newest: dict[str, int] = {}
            for value in dict.fromkeys(values):  # the first time of each: what is taken twice is told above
                if receiver not in self._posted.get(value, ()):
                    found.invented += 1
                    wrong.append(f"{receiver} got {value}, which nobody posted to it")
                if value.serial < newest.get(value.sender, -1):
                    found.disordered += 1
                    wrong.append(f"{receiver} took {value} after {newest[value.sender]}")
                newest[value.sender] = max(value.serial, newest.get(value.sender, -1))
        found.examples = wrong[:5]
        return found
