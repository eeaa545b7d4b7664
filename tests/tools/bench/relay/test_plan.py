"""Which loads are measured, and what they ought to reach."""

from __future__ import annotations

import pytest

from hailer.cli import bench_relay
from hailer.tools.bench.relay.goals import GOALS, verdicts
from hailer.tools.bench.relay.load import LOADS as LOADS_OF_THE_LOAD
from hailer.tools.bench.relay.paced import PARTS
from hailer.tools.bench.relay.peers import PEER_NAMES, Peer
from hailer.tools.bench.relay.plan import LOADS, Load, make_plan, reason_against
from hailer.tools.bench.results import Case, Results, Subject
from hailer.tools.bench.tables import as_markdown

RELAY = Peer("hailer", "hailer", "1", "", (), storing=Peer("hailer", "hailer", "1", "", ()))
IRC = Peer("ngircd", "irc", "1", "", ())


def test_the_command_knows_the_same_names() -> None:
    assert bench_relay._PEERS == PEER_NAMES
    assert bench_relay._LOADS == LOADS
    assert set(LOADS) == {*LOADS_OF_THE_LOAD, "start"}


@pytest.mark.parametrize("length", ["short", "normal", "long"])
def test_all_cases_of_a_plan_differ(length: str) -> None:
    plan = make_plan(length)  # type: ignore[arg-type]
    titles = [case.title for load in plan.loads for case in load.cases().values()]
    assert len(titles) == len(set(titles))


def test_a_length_takes_about_what_it_should() -> None:
    # Five relays and the floor, of which three store messages.
    peers = [RELAY, RELAY, RELAY, IRC, IRC, IRC]
    assert 60 < make_plan("short").estimate(peers) < 180
    assert 400 < make_plan("normal").estimate(peers) < 900
    assert make_plan("long").estimate(peers) > 900


def test_what_is_named_is_measured() -> None:
    assert [load.name for load in make_plan("short", ["paced", "idle"]).loads] == ["idle", "paced"]
    plan = make_plan("normal", ["pipeline"], count=3, size=100, seconds=0.5, rounds=7)
    assert plan.loads == (Load("pipeline", 3, 100),)
    assert (plan.rounds, plan.seconds) == (7, 0.5)
    assert make_plan("normal", ["start"], count=3).loads == (Load("start"),)


def test_each_part_of_the_open_loop_is_a_case() -> None:
    cases = Load("paced", 100).cases()
    assert tuple(cases) == PARTS
    assert cases["pipeline-50"].title == "paced at 50 % of its pipeline, 10 pairs"
    assert cases["rate-10000"].title == "paced 10,000 a second, 100 pairs"
    assert cases["pingpong-90"].values == {"of": "pingpong", "pairs": 100, "size": 64, "percent": 90}


def test_what_a_relay_cannot_do_is_left_out_with_a_reason() -> None:
    assert reason_against(RELAY, Load("mixed-post", 10)) is None
    assert "it stores none" in str(reason_against(IRC, Load("mixed-post", 10)))
    assert "400 bytes" in str(reason_against(IRC, Load("mixed", 10)))
    assert "400 bytes" in str(reason_against(IRC, Load("pipeline", 10, 1024)))
    assert reason_against(IRC, Load("pipeline", 10)) is None
    assert "20,100 open files, and 1,024" in str(reason_against(RELAY, Load("pingpong", 10_000), 1024))


def test_every_goal_is_measured_by_a_normal_plan() -> None:
    measured = {case.title for load in make_plan("normal").loads for case in load.cases().values()}
    assert {goal.case for goal in GOALS} <= measured | {"hailer --version"}
    assert {goal.subject for goal in GOALS} | {goal.against for goal in GOALS} - {""} <= set(PEER_NAMES)


def test_goals_stand_beside_what_was_measured() -> None:
    results = Results("relay", "hailer bench relay")
    rows = {"hailer": (1000.0, 3.0), "nats": (500.0, 2.0), "floor": (4000.0, 2.0)}
    for name, (rate, cost) in rows.items():
        for title in ("pipeline, 10 pairs", "pingpong, 100 pairs", "fanout to 100"):
            busy = {"load_busy": 1.0, "subject_busy": 0.5 if name == "floor" else 1.0}
            results.add(Case("x", title), Subject(name), 1, {"messages_per_s": rate, "cpu_us": cost} | busy)
    results.add(Case("idle", "idle, 10,000 connections"), Subject("hailer"), 1, {"kib_per_connection": 3.5})
    found = [verdict.texts()[0:1] + verdict.texts()[2:] for verdict in verdicts(results)]
    assert found == [
        ["pipeline, 10 pairs", "at least 1.3 × nats", "2", "reached"],
        ["fanout to 100", "at least 5 × nats", "2", "missed"],
        ["fanout to 100", "at least 0.6 × floor", "0.25*", "missed"],
        ["pingpong, 100 pairs", "at most 1.4 × floor", "1.50", "missed"],
        ["pingpong, 100 pairs", "at most 0.75 × nats", "1.50", "missed"],
        ["idle, 10,000 connections", "at most 4 KiB", "3.50", "reached"],
    ]
    close = Results("relay", "hailer bench relay")
    for name, rate in (("hailer", 1297.0), ("nats", 1000.0)):
        close.add(Case("x", "pipeline, 10 pairs"), Subject(name), 1, {"messages_per_s": rate})
    assert [verdict.texts()[3:] for verdict in verdicts(close)] == [["1.297", "missed"]]
    assert "| fanout to 100 | Messages delivered | at least 5 × nats | 2 | missed |" in as_markdown(results)
