"""Which plots show given results: bars of each figure, lines over a number of the load, percentiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.drawing import COLOURS, Line, slug
from hailer.tools.bench.figures import FIGURES, short
from hailer.tools.bench.plots import Bar, Group, bars, lines, percentile_curve
from hailer.tools.bench.tables import FLOOR, shown_figures, star

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.tools.bench.figures import Figure, Scale
    from hailer.tools.bench.results import Case, Curve, Results

__all__ = ["Picture", "apart", "bars_of", "key_cases", "key_pictures", "latencies", "pictures"]

_MOST_BARS: Final = 24
"""So many in one picture; more are shown apart for each load, and each transport if there are several."""

_SHORT: Final = 20
"""Characters of a name that stands before its bar; longer ones stand above."""

_LEAST_POINTS: Final = 3
"""What a line has to have to show more than bars do."""


@dataclass(frozen=True)
class Picture:
    """A plot.

    Attributes:
        name: fit for a file's name and an identifier; no other picture of the results has it.
        figure: what it shows, ``percentiles`` for the curves.
        svg: the plot.
    """

    name: str
    figure: str
    svg: str


def pictures(results: Results) -> list[Picture]:
    """All plots of these results, those of the most important figure first."""
    made: dict[str, Picture] = {}

    def keep(figure: str, title: str, svg: str) -> None:
        name = slug(title)
        while name in made:
            name += "-more"
        made[name] = Picture(name, figure, svg)

    for figure in shown_figures(results):
        if figure.better == "neither":
            continue
        for title, cases in _bar_plots(results, figure):
            keep(figure.name, title, _bars(results, figure, title, cases))
        for title, across, cases in _sweeps(results, figure):
            keep(figure.name, title, _lines(results, figure, title, across, cases))
    for title, curves in latencies(results):
        least = min(y for each in curves for _, y in each.points)
        scale = FIGURES["max_us"].scale([least])
        keep("percentiles", title, percentile_curve(title, scale.unit, _scaled(curves, scale)))
    return list(made.values())


def bars_of(results: Results, name: str, title: str) -> str:
    """One plot with bars of all cases that have a figure, under a title of one's own; empty if none has it.

    Args:
        results: what was measured.
        name: that of the figure.
        title: stands above.
    """
    figure = FIGURES[name]
    cases = _measured(results, figure, results.cases)
    return _bars(results, figure, title, cases) if cases else ""


def key_pictures(results: Results) -> list[Picture]:
    """The few that answer what the measurement was for; none where all plots together do."""
    if results.kind == "models":
        from hailer.tools.bench.models.pictures import answers  # noqa: PLC0415 (only for its kind)

        return answers(results)
    if results.kind == "relay":
        from hailer.tools.bench.relay import pictures as relay  # noqa: PLC0415 (only for its kind)

        return relay.answers(results)
    return []


def key_cases(results: Results) -> list[Case]:
    """The cases for which there is room in a terminal."""
    if results.kind == "models":
        from hailer.tools.bench.models.look import Look  # noqa: PLC0415 (only for its kind)

        return Look(results).key_cases()
    return results.cases


def _measured(results: Results, figure: Figure, cases: Sequence[Case]) -> list[Case]:
    """Those for which it is known; none where it is 0 throughout, as errors should be."""
    names = [each.name for each in results.subjects]
    medians = {
        case.title: [results.median(case.title, name, figure.name) for name in names] for case in cases
    }
    if not any(any(row) for row in medians.values()):
        return []
    measured = [case for case in cases if any(value is not None for value in medians[case.title])]
    # A single bar says nothing that its number does not.
    return [] if len(names) == len(measured) == 1 else measured


def _bar_plots(results: Results, figure: Figure) -> list[tuple[str, list[Case]]]:
    cases = _measured(results, figure, results.cases)
    if len(cases) * len(results.subjects) <= _MOST_BARS:
        return [(figure.title, cases)] if cases else []
    parts: dict[str, list[Case]] = {}
    for case in cases:
        words = [case.load, *(value for value in case.values.values() if isinstance(value, str))]
        parts.setdefault(", ".join(dict.fromkeys(words)), []).append(case)
    return [(f"{figure.title}: {words}", part) for words, part in parts.items()]


def _bars(results: Results, figure: Figure, title: str, cases: Sequence[Case]) -> str:
    measured = {
        (case.title, subject.name): value
        for case in cases
        for subject in results.subjects
        if (value := results.median(case.title, subject.name, figure.name)) is not None
    }
    scale = figure.scale(measured.values())
    colours = _colours(results)

    def bar(name: str, case: Case, subject: str) -> list[Bar]:
        value = measured.get((case.title, subject))
        if value is None:
            return []
        mark = star(results, case.title, subject, figure)
        return [Bar(name, value / scale.divisor, colours[subject], mark)]

    if len(results.subjects) > 1:
        groups = [
            Group(case.title, [one for name in colours for one in bar(name, case, name)]) for case in cases
        ]
    else:
        alone = results.subjects[0].name
        names = apart([case.title for case in cases])
        if max(map(len, names)) > _SHORT:
            groups = [Group(name, bar("", case, alone)) for name, case in zip(names, cases, strict=True)]
        else:
            rows = [bar(name, case, alone) for name, case in zip(names, cases, strict=True)]
            groups = [Group("", [one for row in rows for one in row])]
    return bars(title, scale.unit, groups, better=figure.better)


def apart(titles: Sequence[str]) -> list[str]:
    """What tells titles apart: without the words that all of them end with."""
    if len(titles) < 2:
        return list(titles)
    words = [title.split(", ") for title in titles]
    while min(map(len, words)) > 1 and len({each[-1] for each in words}) == 1:
        words = [each[:-1] for each in words]
    return [", ".join(each) for each in words]


def _colours(results: Results) -> dict[str, int]:
    """Each subject's colour, the same in all plots; the last one, grey, is the floor's."""
    names = [each.name for each in results.subjects]
    free = COLOURS - 1 if FLOOR in names else COLOURS
    return {name: COLOURS - 1 if name == FLOOR else at % free for at, name in enumerate(names)}


def _sweeps(results: Results, figure: Figure) -> list[tuple[str, str, list[Case]]]:
    """Cases of one load that differ in one number alone: a title, that number's name, and the cases."""
    cases = _measured(results, figure, results.cases)
    keys = list(dict.fromkeys(key for case in cases for key in case.values))
    found = []
    for key in keys:
        families: dict[tuple[object, ...], list[Case]] = {}
        for case in cases:
            if isinstance(case.values.get(key), (int, float)):
                rest = tuple(sorted((name, value) for name, value in case.values.items() if name != key))
                families.setdefault((case.load, str(rest)), []).append(case)
        for family in families.values():
            if len({case.values[key] for case in family}) >= _LEAST_POINTS:
                family.sort(key=lambda case: float(case.values[key]))
                fixed = ", ".join(
                    f"{name} {value}"
                    for name, value in family[0].values.items()
                    if name != key and len({str(each.values.get(name)) for each in cases}) > 1
                )
                title = f"{figure.title} by {key}: {family[0].load}" + (f", {fixed}" if fixed else "")
                found.append((title, key, family))
    return found


def _lines(results: Results, figure: Figure, title: str, across: str, cases: Sequence[Case]) -> str:
    curves = []
    for name, colour in _colours(results).items():
        medians = [(case, results.median(case.title, name, figure.name)) for case in cases]
        points = [(float(case.values[across]), value) for case, value in medians if value is not None]
        if points:
            curves.append(Line(name, points, colour))
    scale = figure.scale(y for each in curves for _, y in each.points)
    tick = _bytes if across == "size" else short
    return lines(title, scale.unit, across, _scaled(curves, scale), better=figure.better, tick=tick)


def _bytes(size: float) -> str:
    return f"{size / 1024:g} KiB" if size >= 1024 else f"{size:g} B"


def _scaled(curves: Sequence[Line], scale: Scale) -> list[Line]:
    return [Line(each.name, [(x, y / scale.divisor) for x, y in each.points], each.colour) for each in curves]


def _known(curve: Curve) -> Curve:
    """A curve up to the longest latency: nothing is known of what is rarer than one in all messages."""
    end = len(curve)
    while end > 2 and curve[end - 1][1] == curve[end - 2][1]:
        end -= 1
    return curve[:end]


def latencies(results: Results, cases: Sequence[Case] | None = None) -> list[tuple[str, list[Line]]]:
    """One plot for each of these cases, or of all; one for all cases of a single subject."""
    names = [subject.name for subject in results.subjects]
    titles = [case.title for case in (results.cases if cases is None else cases)]
    if len(names) == 1:
        curves = [
            Line(name, _known(results.percentiles[title, names[0]]), at)
            for at, (title, name) in enumerate(zip(titles, apart(titles), strict=True))
            if results.percentiles.get((title, names[0]))
        ]
        return [("Latency", curves)] if curves else []
    plots = []
    for title in titles:
        curves = [
            Line(name, _known(results.percentiles[title, name]), colour)
            for name, colour in _colours(results).items()
            if results.percentiles.get((title, name))
        ]
        if curves:
            plots.append((f"Latency: {title}", curves))
    return plots
