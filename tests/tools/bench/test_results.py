"""The model of measurements and its JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.errors import StoreError, UsageError
from hailer.tools.bench.figures import FIGURES, figure, number, ratio, short
from hailer.tools.bench.results import Case, Results, Subject, load, parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HAILER = Subject("hailer", "1.0", "memory")
NATS = Subject("nats", "2.15", "as it comes")
PIPELINE = Case("pipeline", "pipeline, 10 pairs", {"count": 10, "size": 64})


def some() -> Results:
    results = Results("relay", "hailer bench relay", {"cores": "0 and 1"}, notes=["redis is not here"])
    for number_of_round, rate in enumerate((100.0, 300.0, 200.0), 1):
        results.add(PIPELINE, HAILER, number_of_round, {"messages_per_s": rate})
    results.add(PIPELINE, NATS, 1, {"messages_per_s": 50.0, "load_busy": 0.99, "subject_busy": 0.3})
    results.percentiles[PIPELINE.title, "nats"] = [(50.0, 71.5), (99.0, 130.0)]
    return results


def test_adding_makes_cases_and_subjects_known_once() -> None:
    results = some()
    assert results.cases == [PIPELINE]
    assert results.subjects == [HAILER, NATS]
    assert [row.round for row in results.rows] == [1, 2, 3, 1]
    assert results.rounds() == 3


def test_the_median_of_the_rounds_counts_and_what_was_not_measured_is_none() -> None:
    results = some()
    assert results.values(PIPELINE.title, "hailer", "messages_per_s") == [100, 300, 200]
    assert results.median(PIPELINE.title, "hailer", "messages_per_s") == 200
    assert results.median(PIPELINE.title, "hailer", "cpu_us") is None
    assert results.median("another", "hailer", "messages_per_s") is None


def test_figures_keep_the_values_that_they_had_when_added() -> None:
    results, figures = some(), {"cpu_us": 1.0}
    results.add(PIPELINE, HAILER, 4, figures)
    figures["cpu_us"] = 2.0
    assert results.median(PIPELINE.title, "hailer", "cpu_us") == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_not_taken(value: float) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        some().add(PIPELINE, HAILER, 4, {"cpu_us": value})


@pytest.mark.parametrize(
    ("load_busy", "subject_busy", "limit"), [(0.99, 0.5, True), (0.99, 0.99, False), (0.5, 0.5, False)]
)
def test_the_load_was_the_limit_if_only_its_core_was_busy(
    load_busy: float, subject_busy: float, limit: bool
) -> None:
    results = Results("relay", "")
    results.add(PIPELINE, HAILER, 1, {"load_busy": load_busy, "subject_busy": subject_busy})
    assert results.load_was_limit(PIPELINE.title, "hailer") is limit
    assert not results.load_was_limit(PIPELINE.title, "nats")


def test_two_cases_with_one_title_are_one() -> None:
    assert Case("a", "title", {"x": 1}) == Case("b", "title", {})
    assert len({Case("a", "title", {"x": 1}), Case("a", "title", {"x": 2})}) == 1


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    results, path = some(), tmp_path / "results.json"
    results.save(path)
    again = load(path)
    assert again == results
    assert again.cases[0].values == {"count": 10, "size": 64}
    assert json.loads(path.read_text())["format"] == "hailer-bench/1"


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_any_text_and_number_survives(text: str, value: float, name: str) -> None:
    text, name = (each.encode("utf-8", "replace").decode() for each in (text, name))
    results = Results("relay", text, {name: text}, notes=[text])
    results.add(Case(text, name, {name: text}), Subject(name, text, text), 1, {name: value})
    results.percentiles[name, text] = [(value, value)]
    assert parse(results.as_text()) == results


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="name another file"):
        some().save(tmp_path / "no" / "results.json")


def break_(change: Callable[[dict[str, Any]], object]) -> str:
    document = some().as_json()
    change(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "[" * 100_000,
        '{"format": "hailer-bench/2"}',
        break_(lambda whole: whole.pop("rows")),
        break_(lambda whole: whole.update(kind=3)),
        break_(lambda whole: whole.update(conditions={"cores": 2})),
        break_(lambda whole: whole["rows"][0].update(round="1")),
        break_(lambda whole: whole["rows"][0].update(round=True)),
        break_(lambda whole: whole["rows"][0].update(figures={"cpu_us": "1"})),
        break_(lambda whole: whole["rows"][0].update(figures={"cpu_us": float("nan")})),
        break_(lambda whole: whole["rows"][0].update(figures={"cpu_us": 10**400})),
        break_(lambda whole: whole["cases"][0].update(values={"count": None})),
        break_(lambda whole: whole["subjects"].append("nats")),
        break_(lambda whole: whole["percentiles"][0].update(points=[[1]])),
        break_(lambda whole: whole["notes"].append({})),
    ],
)
def test_what_is_no_results_is_told_in_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"no results of the format hailer-bench/1 \(.+\): name a file"):
        load(path)


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    path = tmp_path / "image.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="holds no results"):
        load(path)
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3, "3"),
        (0.0514, "0.051"),
        (0.00042, "0.00042"),
        (1e-30, "0.000000000"),
        (0.0999, "0.10"),
        (0.123, "0.12"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (99.94, "99.9"),
        (99.96, "100"),
        (1234567.8, "1,234,568"),
        (-12.34, "-12.3"),
    ],
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1.00"), (0.5, "0.50"), (44.44, "44.4"), (0.0123, "0.012"), (0, "0")]
)
def test_ratios_have_two_decimals_or_what_they_take(value: float, text: str) -> None:
    assert ratio(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (200, "200"), (1500, "1.5 k"), (2e7, "20 M"), (3e9, "3 G")]
)
def test_numbers_on_axes_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_a_unit_fits_the_smallest_value() -> None:
    rate = FIGURES["messages_per_s"]
    assert rate.scale([95_800, 71_618_000]).unit == "thousand a second"
    assert rate.scale([5, 71_618_000]).unit == "a second"
    assert rate.scale([0, 20_000_000]).unit == "million a second"
    assert rate.scale([9_999]).unit == "a second"
    assert rate.scale([]).unit == "a second"
    assert FIGURES["p99_us"].scale([15_000]).unit == "ms"


def test_a_figure_that_is_not_known_is_shown_under_its_name() -> None:
    assert figure("page_faults").title == "page faults"
    assert figure("page_faults").better == "neither"
