"""Results as tables, as a page, and in a terminal."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from hailer.tools.bench import terminal
from hailer.tools.bench.compare import compare
from hailer.tools.bench.page import page
from hailer.tools.bench.pictures import apart, key_pictures, latencies, pictures
from hailer.tools.bench.results import Case, Results, Subject
from hailer.tools.bench.tables import STAR, as_markdown, as_text, tables

if TYPE_CHECKING:
    import pytest

EVIL = "<script>alert('1')</script>|*_`\x1b[31m\n\u202e\"&"


def relays(extra: str = "") -> Results:
    results = Results("relay", "hailer bench relay", {"cores": "0 and 1" + extra}, notes=["a note" + extra])
    results.reading.append("what it says" + extra)
    for title, rates in (
        ("pipeline" + extra, {"hailer": 400, "nats": 200, "floor": 2000}),
        ("fanout" + extra, {"hailer": 900, "floor": 800}),
    ):
        case = Case(title, title, {"text": extra, "count": 10})
        for name, rate in rates.items():
            busy = 0.99 if name == "floor" else 0.5
            figures = {"messages_per_s": rate * 1000.0, "load_busy": busy, "subject_busy": 0.7}
            for number in (1, 2):
                results.add(case, Subject(name + extra, "1.0" + extra, "fast" + extra), number, figures)
    results.percentiles["pipeline" + extra, "nats" + extra] = [(0, 10), (50, 20), (99, 90), (100, 5000)]
    return results


def endpoint(cases: int = 2) -> Results:
    results = Results("endpoint", "hailer bench endpoint tcp://[::1]:7")
    for number in range(1, cases + 1):
        case = Case("echo", f"{number} clients, one message at a time", {"clients": number})
        figures = {"messages_per_s": 1000.0 * number, "p99_us": 80.0, "lost": 0, "p90_us": 40.0}
        results.add(case, Subject("tcp://[::1]:7"), 1, figures)
    return results


def test_a_table_has_medians_ratios_stars_and_the_best_of_each_row() -> None:
    (table,) = tables(relays())
    assert table.title == "Messages delivered, thousand a second"
    assert table.head == ["load", "hailer", "nats", "floor", "hailer/nats", "hailer/floor"]
    assert table.rows == [
        ["pipeline", "400", "200", "2,000*", "2.00", "0.20"],
        ["fanout", "900", "—", "800*", "—", "1.12"],
    ]
    assert table.best == {(0, 1)}  # the floor is nobody's rival, and who is alone wins nothing
    assert table.notes == [STAR, "Medians of 2 rounds, which lay 0% apart (0% at worst)."]


def test_rounds_that_lie_far_apart_are_warned_of() -> None:
    results = relays()
    results.add(results.cases[1], results.subjects[0], 3, {"messages_per_s": 5e6})
    for number in (3, 4):
        results.add(results.cases[0], results.subjects[0], number, {"messages_per_s": 6e5})
    assert tables(results)[0].notes[-1].startswith("Medians of 4 rounds, which lay ")
    assert "say nothing" not in tables(results)[0].notes[-1]
    for each in results.subjects[1:]:
        results.add(results.cases[0], each, 3, {"messages_per_s": 9e6})
    assert tables(results)[0].notes[-1].endswith("at worst): smaller differences say nothing here.")


def test_figures_of_one_subject_stand_below_each_other_if_there_are_few_cases() -> None:
    (table,) = tables(endpoint())
    assert table.rows == [
        ["Messages delivered, a second", "1,000", "2,000"],
        ["Latency, 90 % within, µs", "40.0", "40.0"],
        ["Latency, 99 % within, µs", "80.0", "80.0"],
        ["Messages lost", "0", "0"],
    ]
    assert [each.title for each in tables(endpoint(5))] == [
        "Messages delivered, a second",
        "Latency, 99 % within, µs",
        "Messages lost",
    ]


def test_nothing_measured_shows_nothing_but_the_conditions() -> None:
    results = Results("relay", "hailer bench relay", {"cores": "0"}, notes=["interrupted"])
    assert as_text(results) == "cores: 0\n\nnote: interrupted\n"
    assert pictures(results) == []
    assert terminal.bars(results, 80) == ""
    assert terminal.curves(results, 80) == ""
    assert "interrupted" in page(results)


def test_a_table_that_is_too_wide_goes_on_below() -> None:
    lines = as_text(relays(), 40).splitlines()
    assert max(map(len, lines[lines.index("Messages delivered, thousand a second") + 2 :][:8])) <= 40
    assert sum(line.startswith("pipeline") for line in lines) > 1
    assert sum(line.startswith("pipeline") for line in as_text(relays()).splitlines()) == 1


def test_text_of_others_moves_no_cursor_and_is_no_markup() -> None:
    results = relays(EVIL)
    shown = [as_text(results), terminal.bars(results, 80), terminal.curves(results, 80, colour=False) or ""]
    for text in shown:
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
        assert "what it says" in text or text != shown[0]
    markdown = as_markdown(results)
    assert "what it says" in markdown
    assert "<script" not in markdown.replace("\\<", "")
    heads = [line for line in markdown.splitlines() if line.startswith("| load")]
    assert len(re.findall(r"(?<!\\)\|", heads[0])) == 5  # the bars of the three cells


class _Page(HTMLParser):
    """What stands in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src", "action"} or name.startswith("on"):
                self.addresses.append(f"{name}={value}")

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> _Page:
    read = _Page()
    read.feed(text)
    return read


def test_the_page_needs_nothing_else_and_says_all() -> None:
    text = page(relays(), compare(relays(), relays()))
    seen = read(text)
    assert seen.addresses == []
    assert "script" not in seen.tags
    assert "url(" not in text
    assert "@import" not in text
    assert seen.tags.count("svg") == len([*key_pictures(relays()), *pictures(relays())])
    assert len(seen.ids) == len(set(seen.ids))
    for words in ("hailer bench relay", "0 and 1", "a note", "what it says", "2,000*", "within the noise"):
        assert words in seen.text
    assert STAR in seen.text


def test_the_page_escapes_what_others_say() -> None:
    seen = read(page(relays(EVIL)))
    assert "script" not in seen.tags
    assert seen.addresses == []
    assert "<script>alert('1')</script>|*_`\\x1b[31m\\n" in seen.text


def test_pictures_have_names_of_their_own_that_are_fit_for_files() -> None:
    results = relays(EVIL)
    names = [each.name for each in pictures(results)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z0-9-]{1,90}", name) for name in names)


def test_a_number_that_varies_becomes_a_line() -> None:
    results = Results("models", "")
    for transport in ("tcp", "unix"):
        for count in (1, 10, 100):
            values: dict[str, str | int | float] = {"transport": transport, "connections": count}
            for name in ("thread", "epoll"):
                case = Case("echo", f"echo over {transport}, {count}", values)
                results.add(case, Subject(name), 1, {"messages_per_s": 1000.0 * count})
    assert [each.name for each in pictures(results)] == [
        "messages-delivered",
        "messages-delivered-by-connections-echo-transport-tcp",
        "messages-delivered-by-connections-echo-transport-unix",
    ]


def test_many_bars_are_shown_apart_by_load_and_transport() -> None:
    results = Results("models", "")
    for transport in ("tcp", "unix"):
        for count in range(25):
            case = Case("echo", f"echo over {transport}, {count}", {"transport": transport})
            results.add(case, Subject("thread"), 1, {"messages_per_s": 10})
    names = [each.name for each in pictures(results)]
    assert names == ["messages-delivered-echo-tcp", "messages-delivered-echo-unix"]


def test_figures_that_are_0_throughout_get_no_picture() -> None:
    assert {each.figure for each in pictures(endpoint())} == {"messages_per_s", "p99_us"}


def test_a_single_bar_is_no_picture() -> None:
    assert pictures(endpoint(1)) == []


def test_curves_end_with_the_longest_latency() -> None:
    results = endpoint()
    results.percentiles["1 clients, one message at a time", "tcp://[::1]:7"] = [
        (50, 10), (90, 90), (99, 90), (99.9, 95), (99.99, 95), (99.999, 95),
    ]  # fmt: skip
    ((_, (line,)),) = latencies(results)
    assert line.points == [(50, 10), (90, 90), (99, 90), (99.9, 95)]


def test_what_all_titles_end_with_is_left_out() -> None:
    assert apart(["1 client, echo, tcp", "2 clients, echo, tcp"]) == ["1 client", "2 clients"]
    assert apart(["echo", "echo"]) == ["echo", "echo"]
    assert apart(["alone, with all"]) == ["alone, with all"]
    assert apart([]) == []


def test_bars_in_a_terminal_are_as_long_as_their_values_and_fit() -> None:
    text = terminal.bars(relays(), 60)
    assert max(len(line) for line in text.splitlines() if "█" in line) in {59, 60}
    rows = {line.split()[0]: line.count("█") for line in text.split("fanout")[0].splitlines() if "█" in line}
    assert rows["floor"] > 20
    assert abs(rows["floor"] - 10 * rows["nats"]) < 10
    assert abs(rows["floor"] - 5 * rows["hailer"]) < 5
    assert STAR in text


def test_curves_in_a_terminal_name_their_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    text = terminal.curves(relays(), 80, colour=False)
    assert text is not None
    assert "nats" in text
    assert "99.9" in text
    monkeypatch.setitem(sys.modules, "plotext", None)
    assert terminal.curves(relays(), 80) is None
    assert terminal.curves(endpoint(), 80) == ""  # nothing is missed if there is nothing to show
