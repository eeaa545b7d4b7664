"""The histogram: what it says is true to within one in a hundred, whatever is put in."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.errors import UsageError
from hailer.tools.bench.wire import Histogram

times = st.integers(min_value=1, max_value=1 << 42)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


@given(st.lists(times, min_size=1, max_size=300), st.floats(min_value=0, max_value=100))
def test_every_percentile_is_within_one_percent(values: list[int], percent: float) -> None:
    rank = max(1, math.ceil(len(values) * percent / 100 - 1e-6))
    exact = sorted(values)[rank - 1]
    assert filled(values).percentile(percent) * 1e9 == pytest.approx(exact, rel=0.01)


@given(st.lists(times, min_size=1))
def test_the_quickest_and_the_slowest_are_exact(values: list[int]) -> None:
    histogram = filled(values)
    assert (histogram.least, histogram.most) == (min(values), max(values))
    assert histogram.percentile(0) == min(values) / 1e9
    assert histogram.percentile(100) == max(values) / 1e9
    assert histogram.mean == pytest.approx(sum(values) / len(values) / 1e9)


@given(st.lists(times), st.lists(times))
def test_two_added_are_as_one(left: list[int], right: list[int]) -> None:
    both = filled(left)
    both.add(filled(right))
    assert both.as_json() == filled(left + right).as_json()


@given(st.lists(times))
def test_it_passes_through_json(values: list[int]) -> None:
    histogram = filled(values)
    again = Histogram.from_json(json.loads(json.dumps(histogram.as_json())))
    assert again.as_json() == histogram.as_json()
    assert again.curve() == histogram.curve()


def test_a_count_is_as_often_recorded() -> None:
    histogram = Histogram()
    histogram.record(1000, 99)
    histogram.record(1_000_000)
    assert len(histogram) == 100
    assert histogram.percentile(99) == pytest.approx(1e-6, rel=0.01)
    assert histogram.percentile(99.5) == pytest.approx(1e-3, rel=0.01)


def test_the_curve_ends_where_there_is_no_more_to_tell() -> None:
    histogram = filled(list(range(1, 1001)))
    percents = [percent for percent, _ in histogram.curve()]
    assert percents[-2:] == [99.9, 100]
    assert [time for _, time in histogram.curve()] == sorted(time for _, time in histogram.curve())


def test_what_it_cannot_hold_is_counted_as_the_longest() -> None:
    histogram = filled([1 << 60, 0, -5])
    assert len(histogram) == 3
    assert histogram.percentile(100) > 8000
    assert histogram.percentile(1) < 1e-8


def test_nothing_was_recorded() -> None:
    histogram = Histogram()
    assert (histogram.percentile(50), histogram.mean, histogram.curve()) == (0.0, 0.0, [])
    histogram.record(5)
    histogram.clear()
    assert histogram.as_json() == Histogram().as_json()


@pytest.mark.parametrize("percent", [-1, 100.5, math.nan])
def test_no_percentage(percent: float) -> None:
    with pytest.raises(UsageError, match="from 0 to 100"):
        Histogram().percentile(percent)
