"""The few plots of relays that answer at a glance."""

from __future__ import annotations

import re

from hailer.tools.bench.page import page
from hailer.tools.bench.pictures import key_pictures
from hailer.tools.bench.relay.plan import Load
from hailer.tools.bench.results import Case, Results, Subject

HAILER, NATS, FLOOR = Subject("hailer"), Subject("nats"), Subject("floor")


def texts(svg: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", svg)


def test_each_question_has_its_plot_with_the_loads_that_answer_it() -> None:
    results = Results("relay", "hailer bench relay")
    loads = [Load("pipeline", 10), Load("pipeline", 10, 1024), Load("scatter", 100), Load("pingpong", 10)]
    for load in [*loads, Load("mixed", 1000), Load("idle", 1000)]:
        for case in load.cases().values():
            for subject in (HAILER, NATS, FLOOR, Subject("hailer-2"), Subject("ngircd")):
                results.add(case, subject, 1, {"messages_per_s": 7.0, "cpu_us": 3.0})
    for part, case in Load("paced", 100).cases().items():
        for subject in (HAILER, NATS):
            results.add(case, subject, 1, {"p99_us": 9.0})
            results.percentiles[case.title, subject.name] = [(0, 1.0), (50, 2.0), (99, 9.0), (100, 9.5)]
        assert part
    drawn = {each.name: each.svg for each in key_pictures(results)}
    assert list(drawn) == ["relay-short", "relay-pingpong", "relay-latency", "relay-large", "relay-cores"]
    assert {"pipeline, 10 pairs", "scatter over 100"} <= set(texts(drawn["relay-short"]))
    assert "1 KiB" not in drawn["relay-short"]
    assert {"pipeline, 10 pairs, 1 KiB", "mixed sizes to 1,000"} <= set(texts(drawn["relay-large"]))
    assert "Latency: paced at 75 % of its pingpong, 100 pairs" in texts(drawn["relay-latency"])
    assert {"hailer", "nats", "floor"} <= set(texts(drawn["relay-pingpong"]))
    assert not {"hailer-2", "ngircd"} & set(texts(drawn["relay-pingpong"]))
    assert {"hailer", "hailer-2", "nats"} <= set(texts(drawn["relay-cores"]))
    # On the page they come before all else.
    made = page(results)
    assert made.index(drawn["relay-short"]) < made.index("<h2>Conditions</h2>")
    assert "<details><summary>" in made
    names = re.findall(r' id="([^"]+)"', made)
    assert len(names) == len(set(names))


def test_a_colour_is_the_same_in_all_plots() -> None:
    results = Results("relay", "")
    for subject in (Subject("ngircd"), Subject("hailer"), Subject("hailer-2")):
        for load in (Load("scatter", 100), Load("pingpong", 10)):
            results.add(load.cases()[""], subject, 1, {"messages_per_s": 7.0, "cpu_us": 3.0})
        results.add(Load("scatter", 1000).cases()[""], subject, 1, {"messages_per_s": 7.0})
        results.add(Load("pingpong", 100).cases()[""], subject, 1, {"cpu_us": 7.0})
    drawn = {each.name: each.svg for each in key_pictures(results)}
    assert 'class="hb-f1"' in drawn["relay-cores"]
    assert 'class="hb-f1"' in drawn["relay-pingpong"]
    assert 'class="hb-f0"' not in drawn["relay-pingpong"]


def test_stores_are_compared_where_they_were_measured() -> None:
    results = Results("relay", "hailer bench relay --durable")
    for title in ("stored, 100 senders", "stored, 1 sender", "stored, 100 senders, any core"):
        for subject in (HAILER, NATS, Subject("redis-memory")):
            results.add(Case("post", title), subject, 1, {"stored_per_s": 9.0})
    (drawn,) = key_pictures(results)
    assert (drawn.name, drawn.figure) == ("durable", "stored_per_s")
    assert {"stored, 100 senders", "stored, 1 sender", "nats"} <= set(texts(drawn.svg))
    assert not {"redis-memory", "stored, 100 senders, any core"} & set(texts(drawn.svg))


def test_nothing_that_answers_is_no_plot() -> None:
    results = Results("relay", "")
    results.add(Load("idle", 1000).cases()[""], HAILER, 1, {"kib_per_connection": 1.0})
    assert key_pictures(results) == []
