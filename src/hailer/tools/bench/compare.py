"""Two results side by side: what changed, by how much, and whether that says anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from hailer.errors import UsageError
from hailer.tools.bench.figures import Figure, number, ratio
from hailer.tools.bench.tables import Table, shown_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.tools.bench.results import Results

__all__ = ["Change", "Comparison", "compare"]

_EXPECTED: Final = ("date", "hailer", "other programs")
"""Conditions that say nothing against a comparison if they differ."""

_LEAST_NOISE: Final = 0.02
"""Rounds that agree more closely than this agree by chance."""


@dataclass(frozen=True)
class Change:
    """One figure then and now.

    Attributes:
        case: the title of the case.
        subject: the name of the subject.
        figure: which figure.
        old: its median then.
        new: its median now.
        noise: how far from 1 the ratio may be by chance: the largest distance of a round from its median,
            of both together; None where there was one round.
    """

    case: str
    subject: str
    figure: Figure
    old: float
    new: float
    noise: float | None

    @property
    def gain(self) -> float:
        """Above 1 where it became better: new/old of what should be more, old/new of what should be less."""
        over, under = (self.new, self.old) if self.figure.better == "more" else (self.old, self.new)
        return over / under if under else 1.0 if over == under else float("inf")

    @property
    def verdict(self) -> Literal["better", "worse", "same", "unknown"]:
        """What it means: ``same`` within the noise, ``unknown`` where that is not known."""
        if self.old == self.new:
            return "same"
        if self.noise is None:
            return "unknown"
        if abs(self.gain - 1) <= self.noise:
            return "same"
        return "better" if self.gain > 1 else "worse"


@dataclass
class Comparison:
    """What changed from older results to newer ones.

    Attributes:
        changes: every figure that both have.
        warnings: why the two may not be comparable; one sentence each.
    """

    changes: list[Change] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def worst(self) -> Change | None:
        """The change for the worse that is largest, of those beyond the noise or where that is not known."""
        worse = [each for each in self.changes if each.gain < 1 and each.verdict != "same"]
        return min(worse, key=lambda each: each.gain, default=None)

    def tables(self) -> list[Table]:
        """A table of each figure that changed beyond the noise, or nobody knows."""
        tables = [_table(figure, changes) for figure, changes in self._by_figure()]
        return [each for each in tables if each.rows]

    def unchanged(self) -> list[str]:
        """A sentence for each figure on what stayed within the noise."""
        sentences = []
        for figure, changes in self._by_figure():
            same = [each for each in changes if each.verdict == "same"]
            if same:
                ratios = sorted(each.new / each.old if each.old else 1.0 for each in same)
                how_many = f"{len(same)} of {len(changes)} within the noise of the rounds"
                span = f"new/old {ratio(ratios[0])} to {ratio(ratios[-1])}"
                sentences.append(f"{figure.title}: {how_many} ({span})")
        return sentences

    def _by_figure(self) -> list[tuple[Figure, list[Change]]]:
        figures = dict.fromkeys(each.figure for each in self.changes)
        return [(figure, [each for each in self.changes if each.figure == figure]) for figure in figures]


def compare(old: Results, new: Results) -> Comparison:
    """Put two results side by side.

    Raises:
        UsageError: they measure different things.
    """
    if old.kind != new.kind:
        raise UsageError(f"the older results are of bench {old.kind}, not of bench {new.kind}: name others")
    if len(old.subjects) == len(new.subjects) == 1:
        alone = old.subjects[0].name  # two servers, or one that moved: they are to be compared all the same
        names = {new.subjects[0].name: alone}
    else:
        names = {each.name: each.name for each in new.subjects}
    comparison = Comparison(warnings=_differences(old, new, names))
    for figure in shown_figures(new):
        if figure.better == "neither":
            continue
        for subject in new.subjects:
            for case in new.cases:
                before = (case.title, names[subject.name], figure.name)
                key = (case.title, subject.name, figure.name)
                then, now = old.median(*before), new.median(*key)
                if then is not None and now is not None:
                    noise = _noise(old.values(*before), then, new.values(*key), now)
                    comparison.changes.append(Change(case.title, subject.name, figure, then, now, noise))
    if not comparison.changes:
        comparison.warnings.append("nothing was measured in both: no load and subject is the same")
    return comparison


def _noise(old: Sequence[float], then: float, new: Sequence[float], now: float) -> float | None:
    if len(old) < 2 or len(new) < 2 or not then or not now:
        return None
    apart = max(abs(value - then) for value in old) / then + max(abs(value - now) for value in new) / now
    return max(_LEAST_NOISE, apart)


def _differences(old: Results, new: Results, names: dict[str, str]) -> list[str]:
    """Sentences on what is not the same; `names` has the older name of each subject."""
    sentences = []
    for key in dict.fromkeys((*old.conditions, *new.conditions)):
        then, now = old.conditions.get(key, "not told"), new.conditions.get(key, "not told")
        if then != now and key not in _EXPECTED:
            sentences.append(f"{key} differs: {then} then, {now} now")
    before = {each.name: each for each in old.subjects}
    for subject in new.subjects:
        known = before.get(names[subject.name])
        if known is None:
            sentences.append(f"{subject.name} was not measured then")
            continue
        if known.name != subject.name:
            sentences.append(f"{known.name} was measured then, {subject.name} now")
        if known.version != subject.version and subject.name != "hailer":
            sentences.append(f"{subject.name} differs: {known.version} then, {subject.version} now")
        if known.settings != subject.settings:
            sentences.append(
                f"{subject.name} is set otherwise: {known.settings} then, {subject.settings} now"
            )
    cases = {each.title: each for each in old.cases}
    strange = [each.title for each in new.cases if each.title not in cases]
    if strange:
        sentences.append(
            f"{len(strange)} of {len(new.cases)} loads were not measured then: {'; '.join(strange[:3])}"
        )
    sentences += [
        f"the load is not the same under the name {each.title!r}: {cases[each.title].values} then,"
        f" {each.values} now"
        for each in new.cases
        if each.title in cases and cases[each.title].values != each.values
    ]
    return sentences


_WORDS: Final = {
    "better": "better",
    "worse": "WORSE",
    "unknown": "one round: who knows",
}


def _table(figure: Figure, changes: list[Change]) -> Table:
    scale = figure.scale(value for each in changes for value in (each.old, each.new))
    unit = f", {scale.unit}" if scale.unit else ""
    rows = []
    for each in changes:
        if each.verdict == "same":
            continue
        beside = ratio(each.new / each.old) if each.old else "—"
        noise = "—" if each.noise is None else f"± {each.noise:.0%}"
        values = (number(value / scale.divisor) for value in (each.old, each.new))
        rows.append([f"{each.subject}: {each.case}", *values, beside, noise, _WORDS[each.verdict]])
    title = f"Then and now: {figure.title}{unit} ({figure.better} is better)"
    return Table(title, ["", "old", "new", "new/old", "noise", ""], rows)
