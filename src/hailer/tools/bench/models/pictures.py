"""The plots that answer "threads or processes?" at a glance: few, chosen, each one question."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hailer.tools.bench.drawing import Line, slug
from hailer.tools.bench.figures import FIGURES
from hailer.tools.bench.models.look import Look
from hailer.tools.bench.models.services import WAIT
from hailer.tools.bench.pictures import Picture
from hailer.tools.bench.plots import Bar, Group, bars, lines, percentile_curve
from hailer.tools.bench.tables import star

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hailer.tools.bench.results import Case, Results

__all__ = ["answers"]


def answers(results: Results) -> list[Picture]:
    """The plots, of what was measured; a question without figures has none."""
    look = Look(results)
    drawn = [
        _by_clients(look),
        _latency(look),
        _on_cores(look, "compute", "A handler that computes: messages"),
        _on_cores(look, "own", "Your handler: messages"),
        _one(look, "messages_per_s", f"A handler that waits {WAIT * 1000:g} ms: messages", look.some("wait")),
        _memory(look),
        _one(look, "cpu_us", "Processor time of a new connection", look.first("connect"), each="µs"),
        _transports(look),
    ]
    return [each for each in drawn if each is not None]


def _by_clients(look: Look) -> Picture | None:
    figure = FIGURES["messages_per_s"]
    curves = []
    for at, model in enumerate(look.models):
        points = [
            (float(count), rate)
            for count in look.counts("echo")
            if (rate := look.get(look.case("echo", count), model, figure.name)) is not None
        ]
        if len(points) > 1:
            curves.append(Line(model, points, at))
    if not curves:
        return None
    scale = figure.scale(y for each in curves for _, y in each.points)
    scaled = [
        Line(each.name, [(x, y / scale.divisor) for x, y in each.points], each.colour) for each in curves
    ]
    title = "An echo: messages by clients"
    return Picture(slug(title), figure.name, lines(title, scale.unit, "clients", scaled, better="more"))


def _memory(look: Look) -> Picture | None:
    figure, found = FIGURES["kib_per_connection"], look.of_most("kib_per_connection")
    if not found:
        return None
    drawn = [Bar(model, found[model], at) for at, model in enumerate(look.models) if model in found]
    title = "Memory of an open connection"
    return Picture(slug(title), figure.name, bars(title, "KiB", [Group("", drawn)], better=figure.better))


def _latency(look: Look) -> Picture | None:
    case = look.some("echo")
    curves = [
        Line(model, points, at)
        for at, model in enumerate(look.models)
        if case is not None and (points := look.results.percentiles.get((case.title, model)))
    ]
    if case is None or not curves:
        return None
    scale = FIGURES["max_us"].scale([min(y for each in curves for _, y in each.points)])
    scaled = [
        Line(each.name, [(x, y / scale.divisor) for x, y in each.points], each.colour) for each in curves
    ]
    title = f"Latency: {case.title}"
    return Picture(slug(title), "percentiles", percentile_curve(title, scale.unit, scaled))


def _on_cores(look: Look, service: str, title: str) -> Picture | None:
    cases = [
        (f"on {count} core{'s' * (count != 1)}", case)
        for count in look.cores(service)
        if (case := look.some(service, count)) is not None
    ]
    return _grouped(look, "messages_per_s", title, cases)


def _transports(look: Look) -> Picture | None:
    cases = [(f"over {case.values['transport']}", case) for case in look.over_transports()]
    return _grouped(look, "cpu_us", "An echo: processor time by transport", cases) if len(cases) > 1 else None


def _one(look: Look, figure: str, title: str, case: Case | None, each: str = "") -> Picture | None:
    return None if case is None else _grouped(look, figure, title, [("", case)], each)


def _grouped(
    look: Look, name: str, title: str, cases: Sequence[tuple[str, Case]], unit: str = ""
) -> Picture | None:
    """Bars of each case; a model's colour is that of its place, the same in all plots."""
    figure = FIGURES[name]
    found = [(head, case, values) for head, case in cases if (values := look.all(case, name))]
    if not found:
        return None
    scale = figure.scale(value for _, _, values in found for value in values.values())
    groups = [
        Group(
            head,
            [
                Bar(model, values[model] / scale.divisor, at, star(look.results, case.title, model, figure))
                for at, model in enumerate(look.models)
                if model in values
            ],
        )
        for head, case, values in found
    ]
    return Picture(slug(title), name, bars(title, unit or scale.unit, groups, better=figure.better))
