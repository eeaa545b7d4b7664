"""What is planned: everything that can be, within the time that is said."""

from __future__ import annotations

import pytest

from hailer.matrix import MODELS as KINDS
from hailer.tools.bench.models.plan import MODELS, TRANSPORTS, Load, Plan, make_plan
from hailer.tools.bench.models.services import SERVICES, service_of


def titles(plan: Plan) -> set[str]:
    return {setup.case(load).title for setup in plan.setups for load in setup.loads}


def test_every_model_of_the_matrix_is_here() -> None:
    assert {model for model, _ in MODELS.values()} == set(KINDS)
    assert {loop for model, loop in MODELS.values() if model == "asyncio"} == {"uvloop", "stock"}


@pytest.mark.parametrize("length", ["normal", "long"])
def test_an_echo_is_measured_under_every_model_and_transport(length: str) -> None:
    plan = make_plan(length, all_cores=2)  # type: ignore[arg-type]
    places = {(setup.model, setup.transport) for setup in plan.setups if setup.service.name == "echo"}
    assert places == {(model, transport) for model in MODELS for transport in TRANSPORTS}


def test_the_second_question_is_what_handlers_do() -> None:
    plan = make_plan("short", all_cores=4)
    found = titles(plan)
    assert {"echo over tcp, 1 client", "echo over tcp, 64 clients", "echo over tcp, 1,000 clients"} <= found
    assert {"compute over tcp, 64 clients", "compute over tcp, 64 clients, 4 cores"} <= found
    assert "wait over tcp, 64 clients" in found
    assert "echo over tcp, a connection a message" in found
    assert not any(text.startswith("wait over tls") for text in found)


def test_on_a_single_core_nothing_is_measured_twice() -> None:
    plan = make_plan("normal", all_cores=1)
    cells = [(setup.model, setup.case(load).title) for setup in plan.setups for load in setup.loads]
    assert len(cells) == len(set(cells))
    assert {setup.cores for setup in plan.setups} == {1}


def test_iterative_has_no_several_clients_but_over_udp() -> None:
    plan = make_plan("long", models=["iterative"], clients=[1, 10])
    for setup in plan.setups:
        counts = [load.clients for load in setup.loads if load.kind == "rounds"]
        assert counts == ([1, 10] if setup.transport == "udp" else [1])
    assert any("iterative serves one connection" in note for note in plan.notes)


def test_datagrams_have_no_connections_to_accept() -> None:
    plan = make_plan("long", transports=["udp", "unix"])
    kinds = {setup.transport: {load.kind for load in setup.loads} for setup in plan.setups}
    assert kinds["udp"] == {"rounds"}
    assert "connect" in {
        load.kind for setup in plan.setups for load in setup.loads if setup.transport == "unix"
    }


def test_memory_only_grows_within_a_setup() -> None:
    for setup in make_plan("long", clients=[100, 3, 20]).setups:
        rounds = [load.clients for load in setup.loads if load.kind == "rounds"]
        assert rounds == sorted(rounds)


def test_what_is_asked_for_is_what_is_measured() -> None:
    plan = make_plan(
        "short",
        models=["thread"],
        transports=["ws"],
        services=[service_of("echo")],
        clients=[5],
        rounds=9,
        seconds=3,
    )
    (setup,) = plan.setups
    assert (setup.model, setup.transport, plan.rounds, plan.seconds) == ("thread", "ws", 9, 3)
    assert Load("rounds", 5) in setup.loads


def test_a_service_of_ones_own_is_tried_on_all_cores_too() -> None:
    plan = make_plan("short", services=[service_of("own.py:handle")], all_cores=3)
    assert {setup.cores for setup in plan.setups} == {1, 3}
    assert {setup.service.argument for setup in plan.setups} == {"own.py:handle"}


def test_the_lengths_take_longer_each() -> None:
    short, normal, long = (make_plan(each, all_cores=2).estimate() for each in ("short", "normal", "long"))
    assert 40 < short < 150
    assert short < normal < 20 * 60
    assert normal < long < 90 * 60


def test_the_services_are_told_apart() -> None:
    assert {name: service.name for name, service in SERVICES.items()} == {name: name for name in SERVICES}
