"""Two results side by side."""

from __future__ import annotations

import pytest

from hailer.errors import UsageError
from hailer.tools.bench.compare import compare
from hailer.tools.bench.results import Case, Results, Subject

CASE = Case("pipeline", "pipeline", {"count": 10})


def results(
    *rates: float, figure: str = "messages_per_s", subject: Subject | None = None, case: Case = CASE
) -> Results:
    made = Results("relay", "hailer bench relay", {"cores": "0 and 1", "date": "today"})
    for number, rate in enumerate(rates, 1):
        made.add(case, subject or Subject("hailer"), number, {figure: rate})
    return made


@pytest.mark.parametrize(
    ("old", "new", "figure", "verdict", "gain"),
    [
        ((100, 101, 99), (150, 151, 149), "messages_per_s", "better", 1.5),
        ((150, 151, 149), (75, 76, 74), "messages_per_s", "worse", 0.5),
        ((100, 130, 70), (110, 140, 100), "messages_per_s", "same", 1.1),
        ((100, 100), (101, 101), "messages_per_s", "same", 1.01),
        ((10, 10), (5, 5), "cpu_us", "better", 2),
        ((5, 5), (10, 10), "cpu_us", "worse", 0.5),
        ((100,), (150, 150), "messages_per_s", "unknown", 1.5),
        ((100, 100), (150,), "messages_per_s", "unknown", 1.5),
        ((0, 0), (0, 0), "lost", "same", 1),
        ((0, 0), (3, 3), "lost", "unknown", 0),
        ((3, 3), (0, 0), "lost", "unknown", float("inf")),
    ],
)
def test_a_change_counts_if_it_is_more_than_the_rounds_lay_apart(
    old: tuple[float, ...], new: tuple[float, ...], figure: str, verdict: str, gain: float
) -> None:
    change = compare(results(*old, figure=figure), results(*new, figure=figure)).changes[0]
    assert change.verdict == verdict
    assert change.gain == pytest.approx(gain)


def test_the_tables_name_what_changed_and_sentences_the_rest() -> None:
    old, new = results(100, 100), results(200, 200)
    for each, cpu in ((old, 5.0), (new, 5.01)):
        each.add(CASE, Subject("hailer"), 1, {"cpu_us": cpu})
        each.add(CASE, Subject("hailer"), 2, {"cpu_us": cpu})
    comparison = compare(old, new)
    (table,) = comparison.tables()
    assert table.title == "Then and now: Messages delivered, a second (more is better)"
    assert table.rows == [["hailer: pipeline", "100", "200", "2.00", "± 2%", "better"]]
    assert comparison.unchanged() == [
        "Processor time: 1 of 1 within the noise of the rounds (new/old 1.00 to 1.00)"
    ]


def test_the_worst_change_is_known_unless_it_is_noise() -> None:
    worse = compare(results(100, 100), results(80, 80)).worst()
    assert worse is not None
    assert worse.gain == 0.8
    assert compare(results(100, 120), results(90, 110)).worst() is None
    alone = compare(results(100), results(80)).worst()
    assert alone is not None


def test_what_differs_in_the_conditions_is_told_but_not_the_date() -> None:
    old, new = results(1), results(1)
    new.conditions = {"cores": "only 0", "date": "tomorrow", "python": "3.14"}
    assert compare(old, new).warnings == [
        "cores differs: 0 and 1 then, only 0 now",
        "python differs: not told then, 3.14 now",
    ]


def test_what_differs_in_subjects_and_loads_is_told() -> None:
    old = results(1, subject=Subject("nats", "2.1", "fast"))
    new = results(1, subject=Subject("nats", "2.2", "slow"), case=Case("pipeline", "pipeline", {"count": 20}))
    new.add(Case("fanout", "fanout"), Subject("redis"), 1, {"messages_per_s": 1})
    assert compare(old, new).warnings == [
        "nats differs: 2.1 then, 2.2 now",
        "nats is set otherwise: fast then, slow now",
        "redis was not measured then",
        "1 of 2 loads were not measured then: fanout",
        "the load is not the same under the name 'pipeline': {'count': 10} then, {'count': 20} now",
    ]


def test_two_servers_are_compared_if_each_was_measured_alone() -> None:
    old, new = results(100, 100, subject=Subject("a:1")), results(200, 200, subject=Subject("b:2"))
    comparison = compare(old, new)
    assert comparison.changes[0].gain == 2
    assert comparison.warnings == ["a:1 was measured then, b:2 now"]


def test_nothing_in_common_is_told_and_another_kind_is_refused() -> None:
    other = results(1, case=Case("fanout", "fanout"))
    warnings = compare(results(1), other).warnings
    assert "nothing was measured in both: no load and subject is the same" in warnings
    with pytest.raises(UsageError, match="of bench models, not of bench relay"):
        compare(Results("models", ""), results(1))


def test_a_figure_that_only_explains_others_is_not_compared() -> None:
    assert compare(results(0.5, figure="load_busy"), results(0.9, figure="load_busy")).changes == []
