"""What is read from figures: the answer that they give, and none that they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from hailer.tools.bench.models.pictures import answers
from hailer.tools.bench.models.reading import read
from hailer.tools.bench.page import page
from hailer.tools.bench.results import Results
from hailer.tools.bench.tables import as_markdown, as_text
from hailer.tools.bench.terminal import bars

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Results]


def usual(model: str, service: str, clients: int, cores: int) -> float:
    """A machine with a lock around the interpreter: processes compute on all cores, threads wait well."""
    if service == "compute":
        return 3000.0 * (cores if model in ("fork", "prefork") else 1)
    if service == "wait":
        return 190.0 if model == "iterative" else 11_000.0
    if clients == 1000 and model in ("fork", "prefork", "thread"):
        return 8_000.0
    return {"epoll": 80_000.0, "thread": 48_000.0}.get(model, 40_000.0)


def test_the_answer_comes_first(made_up: Make) -> None:
    first, *rest = read(made_up(usual))
    assert first.startswith("Threads or processes, on this machine?")
    assert "For handlers that compute, processes: " in first
    assert "answers 2.0 times as many as thread on 2 cores." in first
    assert "For handlers that wait, threads do as well as processes" in first
    assert "26.0 KiB under thread and 2.54 MiB under fork" in first
    assert "For 1,000 clients and short handlers, neither: epoll" in first
    assert "10.0 times as many" in first
    text = "\n".join(rest)
    assert "epoll 80,000 a second; then thread 48,000 a second; then" in text
    assert "4 ms under fork" in text
    assert "who can get 12,800 messages a second at best" in text


def test_no_difference_is_called_none(made_up: Make) -> None:
    said = read(made_up(lambda model, *_: 3100.0 if model == "prefork" else 3000.0))
    assert "sees no difference between them" in said[0]
    assert "threads do as well as processes" in said[0]
    assert "one thread for all does as well" in said[0]


def test_without_a_lock_around_the_interpreter_threads_win(made_up: Make) -> None:
    def free(model: str, service: str, clients: int, cores: int) -> float:
        return 6000.0 if model == "thread" else 3000.0

    said = read(made_up(free))
    assert "For handlers that compute, threads: thread answers 2.0 times as many" in said[0]
    assert "For handlers that wait, threads: thread answers 2.0 times as many" in said[0]
    assert "For 1,000 clients and short handlers, thread: it answers 2.0 times as many" in said[0]


def test_rounds_that_differ_much_prove_little(made_up: Make) -> None:
    results = made_up(usual)
    wild = {1: 0.4, 2: 1.0, 3: 1.6}
    results.rows = [
        replace(row, figures={name: value * wild[row.round] for name, value in row.figures.items()})
        for row in results.rows
    ]
    assert "sees no difference" in read(results)[0]


def test_other_programs_at_work_are_told_of_first(made_up: Make) -> None:
    said = read(made_up(usual, others=0.2))
    assert said[0].startswith("Other programs used 20% of all cores meanwhile: trust no rate")
    assert "Threads or processes" in said[0]


def test_from_rates_that_others_made_nothing_is_concluded(made_up: Make) -> None:
    text = "\n".join(read(made_up(usual, others=0.7)))
    assert text.startswith("Other programs used 70%")
    assert "a second" not in text
    assert "times as many" not in text
    assert "2.54 MiB under fork" in text
    assert "4 ms under fork" in text


def test_one_round_is_said_to_be_one(made_up: Make) -> None:
    assert "This was one round" in read(made_up(usual, rounds=1))[-1]
    assert not any("one round" in text for text in read(made_up(usual)))


def test_where_the_load_was_the_limit_the_figure_is_called_a_lower_bound(made_up: Make) -> None:
    results = made_up(usual)
    busy = {"load_busy": 1.0, "subject_busy": 0.7}
    results.rows = [
        replace(row, figures={**row.figures, **busy}) if row.subject == "epoll" else row
        for row in results.rows
    ]
    assert any("the load was the limit for epoll: more may be possible" in text for text in read(results))


def test_nothing_is_said_of_what_was_not_measured(made_up: Make) -> None:
    whole = made_up(usual)
    assert read(Results("models", "x")) == []
    part = Results("models", "x")
    for row in whole.rows:
        case = next(case for case in whole.cases if case.title == row.case)
        subject = next(each for each in whole.subjects if each.name == row.subject)
        if row.subject == "thread" and case.values["service"] == "wait":
            part.add(case, subject, row.round, row.figures)
    text = "\n".join(read(part))
    assert "Threads or processes" not in text
    assert "compute" not in text
    assert "thread 11,000 a second" in text


def test_a_single_core_says_nothing_of_several(made_up: Make) -> None:
    text = "\n".join(read(made_up(usual, all_cores=1)))
    assert "on one core this run sees no difference between them" in text
    assert "On 2 cores" not in text


def test_the_pictures_show_each_question_and_what_was_read(made_up: Make) -> None:
    results = made_up(usual)
    results.reading = read(results)
    drawn = {each.name: each.svg for each in answers(results)}
    assert list(drawn) == [
        "an-echo-messages-by-clients",
        "a-handler-that-computes-messages",
        "a-handler-that-waits-5-ms-messages",
        "memory-of-an-open-connection",
        "processor-time-of-a-new-connection",
        "an-echo-processor-time-by-transport",
    ]
    for svg in drawn.values():
        ET.fromstring(svg)
    assert "on 2 cores" in drawn["a-handler-that-computes-messages"]
    html = page(results)
    assert html.index("Threads or processes") < html.index("<svg") < html.index("Conditions")
    assert "Threads or processes" in as_markdown(results)
    text = as_text(results, 80)
    assert text.rindex("Threads or processes") > text.rindex("Memory of all processes together")
    assert all(len(line) <= 80 for line in text[text.rindex("Threads or processes") :].splitlines())


def test_a_terminal_gets_the_cases_that_stand_for_the_others(made_up: Make) -> None:
    text = bars(made_up(usual), 80)
    assert "compute over tcp, 64 clients, 2 cores" in text
    assert "echo over tls" not in text
    assert answers(Results("models", "x")) == []
