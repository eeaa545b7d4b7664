"""Finds figures of the models by what they are about, and says which of them differ."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.models.plan import MANY, MODELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.tools.bench.results import Case, Results

__all__ = ["LEAST_OF_ONE", "Look"]

_LEAST: Final = 0.10
LEAST_OF_ONE: Final = 0.20
"""Shares by which figures must differ to count as different, with several rounds and with one."""


@dataclass(frozen=True)
class Look:
    """Finds figures by what they are about."""

    results: Results

    def case(self, service: str, clients: int, cores: int | None = None) -> Case | None:
        """The first case of a service with so many clients; None takes the first number of cores."""
        for case in self.results.cases:
            if (
                case.load == service
                and case.values["clients"] == clients
                and cores in (None, case.values["cores"])
            ):
                return case
        return None

    def counts(self, service: str) -> list[int]:
        """With how many clients a service was measured."""
        return sorted({int(case.values["clients"]) for case in self.results.cases if case.load == service})

    def some(self, service: str, cores: int | None = None) -> Case | None:
        """The case that is to stand for a service: some clients, neither one nor the most."""
        counts = self.counts(service)
        return self.case(service, min(counts, key=lambda count: abs(count - MANY)), cores) if counts else None

    def most(self, service: str) -> Case | None:
        """The case with the most clients, if they are more than some."""
        case, some = self.case(service, max(self.counts(service), default=0)), self.some(service)
        return None if case == some else case

    def of_most(self, figure: str, service: str = "echo") -> dict[str, float]:
        """A figure of each model, with the most clients under which that model has it."""
        found: dict[str, float] = {}
        for clients in self.counts(service):
            found |= self.all(self.case(service, clients), figure)
        return {model: found[model] for model in MODELS if model in found}

    def first(self, load: str) -> Case | None:
        """The first case of a kind of load."""
        return next((case for case in self.results.cases if case.load == load), None)

    def over_transports(self) -> list[Case]:
        """The echo with some clients over each transport."""
        some = self.some("echo")
        if some is None:
            return []
        alike = ("clients", "cores")
        return [
            case
            for case in self.results.cases
            if case.load == "echo" and all(case.values[key] == some.values[key] for key in alike)
        ]

    def key_cases(self) -> list[Case]:
        """The few that stand for the others: some and many clients, each service, each number of cores."""
        found = [self.some("echo"), self.most("echo")]
        found += [
            self.some(service, count) for service in ("compute", "own") for count in self.cores(service)
        ]
        return [case for case in (*found, self.some("wait")) if case is not None]

    @property
    def models(self) -> list[str]:
        """Those that were measured, in the order in which tables have them."""
        return [subject.name for subject in self.results.subjects]

    def others(self) -> float:
        """The share of all cores that other programs used meanwhile."""
        shares = [row.figures["others"] for row in self.results.rows if "others" in row.figures]
        return statistics.median(shares) if shares else 0.0

    def get(self, case: Case | None, model: str, figure: str) -> float | None:
        """The median of a figure, None where it was not measured."""
        return None if case is None else self.results.median(case.title, model, figure)

    def all(self, case: Case | None, figure: str, models: Sequence[str] = tuple(MODELS)) -> dict[str, float]:
        """A figure of each model that has it."""
        found = {model: self.get(case, model, figure) for model in models}
        return {model: value for model, value in found.items() if value is not None}

    def margin(self, case: Case, models: Sequence[str], figure: str = "messages_per_s") -> float:
        """The share by which these must differ to count as different."""
        if self.results.rounds() < 2:
            return LEAST_OF_ONE + self.others()
        spreads = [_LEAST + self.others()]
        for model in models:
            values = self.results.values(case.title, model, figure)
            if len(values) > 1 and min(values) > 0:
                spreads.append((max(values) - min(values)) / 2 / min(values))
        return max(spreads)

    def alike(self, case: Case, one: str, other: str, figure: str = "messages_per_s") -> bool:
        """Whether two models cannot be told apart by a figure."""
        a, b = self.get(case, one, figure), self.get(case, other, figure)
        if a is None or b is None:
            return False
        return max(a, b) <= min(a, b) * (1 + self.margin(case, (one, other), figure))

    def cores(self, service: str) -> list[int]:
        """The numbers of cores on which a service was measured."""
        found = {int(case.values["cores"]) for case in self.results.cases if case.load == service}
        return sorted(found)
