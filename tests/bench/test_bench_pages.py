"""The pages about measurements say what the raw results say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from bench import pages
from hailer.tools.bench.results import Case, Results, Subject

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = Case("pipeline", "pipeline, 10 pairs", {"count": 10, "size": 64})
ROOM = Case("fanout", "fanout to 100", {"count": 100, "size": 64})
LARGE = Case("pipeline", "pipeline, 10 pairs, 1 KiB", {"count": 10, "size": 1024})
PACED = Case("paced", "paced 10,000 a second, 100 pairs", {"of": "rate", "size": 64})


def relay(nats: tuple[float, float, float] = (50.0, 99.0, 200.0)) -> Results:
    """Some results; hailer has 100 messages a second in each load."""
    results = Results("relay", "hailer bench relay", {"date": "today", "cores": "one *each*"})
    for case, theirs in zip((PAIRS, ROOM, LARGE), nats, strict=True):
        for name, rate in (("hailer", 100.0), ("nats", theirs)):
            results.add(case, Subject(name, "1"), 1, {"messages_per_s": rate})
    results.add(PACED, Subject("hailer"), 1, {"messages_per_s": 1.0, "p99_us": 70.0})
    results.add(PACED, Subject("nats"), 1, {"messages_per_s": 9.0, "p99_us": 90.0})
    return results


def filled(what: str, results: Results | None = None) -> str:
    """What is put between the marks."""
    page = f"<!-- bench: relay {what} -->\n<!-- end -->\n"
    whole = pages.filled(page, lambda _: results or relay())
    return whole.removeprefix(f"<!-- bench: relay {what} -->\n").removesuffix("<!-- end -->\n").strip()


def test_pages_tables_and_pictures_are_those_of_the_raw_results() -> None:
    for path, text in pages.made().items():
        name = path.relative_to(pages.ROOT)
        assert path.exists(), f"{name} is missing: run make bench-pages"
        assert path.read_text(encoding="utf-8") == text, (
            f"{name} is not made of bench/*.json: run make bench-pages"
        )


def test_each_picture_is_of_these_results_and_is_shown() -> None:
    made = {path for path in pages.made() if path.suffix == ".svg"}
    assert made == set(pages.PICTURES.glob("*.svg")), "run make bench-pages"
    shown = {
        (pages.ROOT / name).parent / link
        for name in pages.PAGES
        for link in re.findall(r"!\[[^]]+\]\(([^)]+\.svg)\)", (pages.ROOT / name).read_text(encoding="utf-8"))
    }
    assert made <= {path.resolve() for path in shown}


def test_what_is_made_can_be_made_again() -> None:
    page = (
        "Once <!-- bench: relay claim --><!-- end --> said.\n\n<!-- bench: relay beside -->\n<!-- end -->\n"
    )
    once = pages.filled(page, lambda _: relay())
    assert pages.filled(once, lambda _: relay()) == once
    assert once.startswith("Once <!-- bench: relay claim -->with messages of 64 bytes it moved more")
    assert "bench: relay beside -->\n\n- Beside" in once
    assert ".\n\n<!-- end -->\n" in once


def test_a_table_has_the_loads_that_are_wanted() -> None:
    assert filled("table p99_us paced").splitlines()[0] == "**Latency, 99 % within, µs**"
    assert "| paced 10,000 a second, 100 pairs | **70.0** | 90.0 | 0.78 |" in filled("table p99_us paced")
    assert "fanout to 100 | **100** | 99.0 | 1.01 |" in filled("table messages_per_s fanout")
    assert "pipeline" not in filled("table messages_per_s fanout")
    assert filled("table p99_us fanout") == "(Latency, 99 % within: not measured.)"


def test_who_is_ahead_is_said_as_it_is() -> None:
    said = filled("beside")
    assert said == (
        "- Beside **nats**: more in 1 of 3 loads (2.00 times as many); as many in “fanout to 100” (1.01 ×);"
        " fewer in “pipeline, 10 pairs, 1 KiB” (0.50 ×)."
    )
    assert "more in 3 of 3 loads (2.00 to 4.00 times as many)." in filled("beside", relay((50, 40, 25)))
    assert filled("beside", Results("relay", "")) == "(Not measured.)"


@pytest.mark.parametrize(
    ("nats", "said"),
    [
        ((50, 50, 200), "in each of 2 loads"),
        ((50, 99, 50), "in 1 of 2 loads"),
        ((200, 200, 1), "in 0 of 2 loads"),
    ],
)
def test_the_claim_is_of_short_messages_and_counts_where_it_is_true(
    nats: tuple[float, float, float], said: str
) -> None:
    assert filled("claim", relay(nats)).endswith(f"than nats-server {said}")


def test_goals_that_were_missed_are_named() -> None:
    said = filled("missed")
    assert said.startswith("Reached: 1 of 3. Missed: fanout to 100 (messages delivered: at least 5 × nats,")
    assert "pipeline, 10 pairs, 1 KiB" in said


def test_text_of_conditions_is_no_markup() -> None:
    assert filled("conditions") == "- date: today\n- cores: one \\*each\\*"
    assert filled("conditions date") == "- date: today"


def test_a_busy_machine_is_told() -> None:
    results = relay()
    assert filled("disturbed", results) == ""
    for share, told in (("3", False), ("84", True)):
        results.conditions["other programs"] = f"used {share}% of all cores (median)"
        assert ("used 84 % of all cores" in filled("disturbed", results)) is told


@pytest.mark.parametrize("mark", ["relay", "relay everything", "echo claim"])
def test_marks_that_mean_nothing_are_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="nothing is known of"):
        pages.filled(f"<!-- bench: {mark} --><!-- end -->", lambda _: relay())


def test_a_mark_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="has no <!-- end -->"):
        pages.filled("<!-- bench: relay claim -->", lambda _: relay())


def test_missing_raw_results_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    for name in pages.PAGES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("<!-- bench: relay claim --><!-- end -->")
    assert pages.main() == 1
    assert "relay.json cannot be read" in capsys.readouterr().err
