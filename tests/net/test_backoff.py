from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hailer.errors import UsageError
from hailer.net.backoff import delays


def test_waits_grow_up_to_the_bound() -> None:
    assert list(islice(delays(1, 2, 10, 0), 6)) == [1, 2, 4, 8, 10, 10]


def test_jitter_takes_away_a_share() -> None:
    draws = iter([0.0, 0.5, 0.75])
    assert list(islice(delays(1, 2, 10, 0.5, draw=lambda: next(draws)), 3)) == [1, 1.5, 2.5]


@given(
    first=st.floats(0, 100),
    factor=st.floats(1, 1e6),
    most=st.floats(0, 1000),
    jitter=st.floats(0, 1),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=50, max_size=50),
)
def test_no_wait_is_negative_or_over_the_bound(
    first: float, factor: float, most: float, jitter: float, draws: list[float]
) -> None:
    values = iter(draws)
    waits = list(islice(delays(first, factor, most, jitter, draw=lambda: next(values)), 50))
    assert all(0 <= wait <= most for wait in waits)


def test_a_thousand_clients_do_not_come_back_together() -> None:
    assert len({next(delays(10)) for _ in range(1000)}) > 900


@pytest.mark.parametrize(
    "options", [{"first": -1.0}, {"most": -1.0}, {"factor": 0.5}, {"jitter": 1.5}, {"first": float("nan")}]
)
def test_nonsense_is_refused_at_once(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        delays(**options)  # type: ignore[arg-type]
