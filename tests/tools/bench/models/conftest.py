"""Results that were made up, in the form that a measurement has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hailer.tools.bench.models.plan import make_plan
from hailer.tools.bench.results import Results, Subject

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def made_up() -> Callable[..., Results]:
    """Makes results; the rate of a model, by service, clients and cores, is told by a function."""

    def make(
        rate: Callable[[str, str, int, int], float],
        *,
        rounds: int = 3,
        all_cores: int = 2,
        others: float = 0.0,
    ) -> Results:
        results = Results("models", "hailer bench models", {"compute": "290 µs of Python a message"})
        plan = make_plan("normal", all_cores=all_cores)
        for number in range(1, rounds + 1):
            for setup in plan.setups:
                subject = Subject(setup.model)
                results.add(setup.at_rest(), subject, number, {"memory_kib": 20_000.0})
                for load in setup.loads:
                    each = {"fork": 2600.0, "thread": 26.0}.get(setup.model, 4.0)
                    if load.kind == "connect":
                        figures = {
                            "accepts_per_s": 1000.0,
                            "cpu_us": 4000.0 if setup.model == "fork" else 200.0,
                        }
                    else:
                        a_second = rate(setup.model, setup.service.name, load.clients, setup.cores)
                        figures = {
                            "messages_per_s": a_second,
                            "cpu_us": 1e6 / a_second,
                            "p99_us": load.clients / a_second * 2e6,
                            "memory_kib": 20_000 + each * load.clients,
                            "subject_busy": 0.99,
                            "load_busy": 0.5,
                            "others": others,
                        }
                        if load.clients > 9:
                            figures["kib_per_connection"] = each
                    results.add(setup.case(load), subject, number, figures)
        return results

    return make
