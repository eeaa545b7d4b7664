"""Plots as SVG: well formed, within their bounds, legible without colour."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hailer.tools.bench.drawing import WIDTH, Line, slug
from hailer.tools.bench.plots import Bar, Group, bars, lines, percentile_curve

if TYPE_CHECKING:
    from collections.abc import Iterator

SVG = "{http://www.w3.org/2000/svg}"
names = st.text(max_size=60)
values = st.just(0.0) | st.floats(1e-9, 1e12)


def checked(text: str) -> ET.Element:
    """Parse it; every place must be a finite number within the drawing."""
    root = ET.fromstring(text)
    height = float(root.attrib["height"])
    assert root.attrib["viewBox"] == f"0 0 {WIDTH} {root.attrib['height']}"
    for value, most in places(root, height):
        assert math.isfinite(value)
        assert -1 <= value <= most + 1
    identifiers = {each.attrib["id"] for each in root.iter() if "id" in each.attrib}
    assert set(root.attrib["aria-labelledby"].split()) == identifiers
    return root


def places(root: ET.Element, height: float) -> Iterator[tuple[float, float]]:
    for each in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            yield float(each.attrib.get(name, 0)), WIDTH
        for name in ("y", "y1", "y2", "cy"):
            yield float(each.attrib.get(name, 0)), height
        if each.tag == f"{SVG}rect":
            yield float(each.attrib.get("x", 0)) + float(each.attrib["width"]), WIDTH
        for pair in each.attrib.get("points", "").split():
            x, y = pair.split(",")
            yield float(x), WIDTH
            yield float(y), height


def texts(root: ET.Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def named(root: ET.Element, text: str) -> ET.Element:
    return next(each for each in root.iter(f"{SVG}text") if each.text == text)


def widths(root: ET.Element) -> list[float]:
    return [float(each.attrib["width"]) for each in root.iter(f"{SVG}rect")][1:]


some_bars = st.lists(st.builds(Bar, names, values, st.integers(0, 20), st.just("*")), max_size=10)


@settings(max_examples=30)
@given(names, names, st.lists(st.tuples(names, some_bars), max_size=10))
def test_any_bars_lie_within_the_drawing(title: str, unit: str, groups: list[tuple[str, list[Bar]]]) -> None:
    checked(bars(title, unit, [Group(*group) for group in groups], better="more"))


curves = st.lists(
    st.builds(
        Line,
        names,
        st.lists(st.tuples(st.just(0.0) | st.floats(1e-6, 100), values), max_size=8).map(sorted),
        st.integers(0, 20),
    ),
    max_size=10,
)


@given(names, names, curves)
def test_any_lines_lie_within_the_drawing(title: str, unit: str, drawn: list[Line]) -> None:
    checked(lines(title, unit, "connections", drawn, better="more"))
    checked(percentile_curve(title, unit, drawn))


def test_bars_are_as_long_as_their_values_and_say_them() -> None:
    group = Group("pipeline", [Bar("hailer", 4000, 0), Bar("nats", 2000, 1, "*")])
    root = checked(bars("Rate", "a second", [group], better="more"))
    hailer, nats = widths(root)
    assert hailer == pytest.approx(2 * nats, abs=0.1)
    shown = {"Rate", "a second; more is better", "pipeline", "hailer", "4,000", "2,000*"}
    assert shown | {"* the load was the limit"} <= set(texts(root))
    description = root.find(f"{SVG}desc")
    assert description is not None
    assert "pipeline nats: 2,000" in (description.text or "")


def test_groups_that_lie_far_apart_have_a_scale_each_and_say_so() -> None:
    groups = [Group("", [Bar("x", most, 0), Bar("y", most / 2, 1)]) for most in (10, 10_000)]
    root = checked(bars("Rate", "", groups, better="more"))
    assert widths(root)[:2] == pytest.approx(widths(root)[2:], abs=0.1)
    assert "more is better; each group has its own scale" in texts(root)


def test_values_that_lie_far_apart_are_dots_on_a_logarithmic_scale_that_says_so() -> None:
    group = Group("a", [Bar("x", 10_000, 0), Bar("y", 1, 1), Bar("z", 100, 2)])
    root = checked(bars("Rate", "µs", [group], better="less"))
    assert widths(root) == []
    x, y, z = (float(each.attrib["cx"]) for each in root.iter(f"{SVG}circle"))
    assert z - y == pytest.approx(x - z, abs=0.2)
    assert "µs; less is better; logarithmic scale" in texts(root)
    assert {"1", "10", "100", "1 k", "10 k"} <= set(texts(root))


def test_lines_differ_in_dashes_and_have_names_that_do_not_touch() -> None:
    drawn = [Line(f"model {at}", [(1, 100.0), (1000, 100 + at / 10)], at) for at in range(10)]
    root = checked(lines("Rate", "", "connections", drawn, better="more"))
    dashes = [each.attrib.get("stroke-dasharray", "") for each in root.iter(f"{SVG}polyline")]
    assert len(set(dashes)) == 10
    heights = sorted(float(named(root, f"model {at}").attrib["y"]) for at in range(10))
    assert min(after - before for before, after in pairwise(heights)) >= 14
    assert "connections, logarithmic scale" in texts(root)


def test_a_line_that_ends_early_is_named_where_it_ends() -> None:
    drawn = [Line("short", [(1, 5.0)], 0), Line("long", [(1, 5.0), (100, 9.0)], 1)]
    root = checked(lines("Rate", "", "connections", drawn, better="more"))
    assert float(named(root, "short").attrib["x"]) < float(named(root, "long").attrib["x"]) - 100


def test_percentiles_go_across_by_nines() -> None:
    points = [(0.0, 10.0), (90.0, 20.0), (99.0, 40.0), (99.9, 5000.0)]
    root = checked(percentile_curve("Latency", "µs", [Line("nats", points, 0)]))
    (line,) = root.iter(f"{SVG}polyline")
    xs = [float(pair.split(",")[0]) for pair in line.attrib["points"].split()]
    assert [after - before for before, after in pairwise(xs)] == pytest.approx([xs[1] - xs[0]] * 3, abs=0.2)
    assert {"0", "90", "99", "99.9", "1 k"} <= set(texts(root))


def test_long_names_are_cut_but_told_whole() -> None:
    name = "a name that goes on and on and on"
    root = checked(bars("Rate", "", [Group("", [Bar(name, 1, 0)])], better="more"))
    (whole,) = root.findall(f"{SVG}text/{SVG}title")
    assert whole.text == name
    assert whole.tail == "a name that goes on…"


def test_a_slug_is_never_empty() -> None:
    assert slug("Latency, 99 % within") == "latency-99-within"
    assert slug("…") == "plot"
