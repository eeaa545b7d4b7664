"""What the figures say about the reader's machine, in sentences, and no more than they say.

Pure: from `Results` alone, so that it is the same for a file of older ones. Where two models differ by less
than rounds differ among themselves, or than `_LEAST`, the sentence calls them alike.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.figures import number
from hailer.tools.bench.models.plan import MANY, MODELS
from hailer.tools.bench.models.services import WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.tools.bench.results import Case, Results

__all__ = ["read"]

_LEAST: Final = 0.10
_LEAST_OF_ONE: Final = 0.20
"""Shares by which figures must differ to count as different, with several rounds and with one."""

_PROCESSES: Final = ("prefork", "fork")
_LOOPS: Final = ("epoll", "uvloop", "asyncio", "select")


def read(results: Results) -> list[str]:
    """Say what was found, a paragraph for each question; only of what was measured."""
    look = _Look(results)
    paragraphs = [
        _verdict(look),
        _some_clients(look),
        _many_clients(look),
        _connections(look),
        _computing(look),
        _waiting(look),
        _own(look),
        _transports(look),
    ]
    said = [text for text in paragraphs if text]
    if said and results.rounds() < 2:
        said.append(
            f"This was one round: take no difference of less than {_LEAST_OF_ONE:.0%} for one, and measure"
            " again without --short before much depends on it."
        )
    return said


@dataclass(frozen=True)
class _Look:
    """Finds figures by what they are about."""

    results: Results

    def case(self, service: str, clients: int, cores: int | None = None) -> Case | None:
        """The first case of a service with so many clients; None takes the first number of cores."""
        for case in self.results.cases:
            if (
                case.load == service
                and case.values["clients"] == clients
                and cores in (None, case.values["cores"])
            ):
                return case
        return None

    def counts(self, service: str) -> list[int]:
        """With how many clients a service was measured."""
        return sorted({int(case.values["clients"]) for case in self.results.cases if case.load == service})

    def some(self, service: str, cores: int | None = None) -> Case | None:
        """The case that is to stand for a service: some clients, neither one nor the most."""
        counts = self.counts(service)
        return self.case(service, min(counts, key=lambda count: abs(count - MANY)), cores) if counts else None

    def most(self, service: str) -> Case | None:
        """The case with the most clients, if they are more than some."""
        case, some = self.case(service, max(self.counts(service), default=0)), self.some(service)
        return None if case == some else case

    def get(self, case: Case | None, model: str, figure: str) -> float | None:
        return None if case is None else self.results.median(case.title, model, figure)

    def all(self, case: Case | None, figure: str, models: Sequence[str] = tuple(MODELS)) -> dict[str, float]:
        """A figure of each model that has it."""
        found = {model: self.get(case, model, figure) for model in models}
        return {model: value for model, value in found.items() if value is not None}

    def margin(self, case: Case, models: Sequence[str], figure: str = "messages_per_s") -> float:
        """The share by which these must differ to count as different."""
        if self.results.rounds() < 2:
            return _LEAST_OF_ONE
        spreads = [_LEAST]
        for model in models:
            values = self.results.values(case.title, model, figure)
            if len(values) > 1 and min(values) > 0:
                spreads.append((max(values) - min(values)) / 2 / min(values))
        return max(spreads)

    def alike(self, case: Case, one: str, other: str, figure: str = "messages_per_s") -> bool:
        """Whether two models cannot be told apart by a figure."""
        a, b = self.get(case, one, figure), self.get(case, other, figure)
        if a is None or b is None:
            return False
        return max(a, b) <= min(a, b) * (1 + self.margin(case, (one, other), figure))

    def cores(self, service: str) -> list[int]:
        """The numbers of cores on which a service was measured."""
        found = {int(case.values["cores"]) for case in self.results.cases if case.load == service}
        return sorted(found)


def _some_clients(look: _Look) -> str:
    case = look.some("echo")
    rates = look.all(case, "messages_per_s")
    if case is None or len(rates) < 2:
        return ""
    return f"{_place(case)}, each waiting for its answer before it sends again: {_ranked(look, case, rates)}."


def _many_clients(look: _Look) -> str:
    case = look.most("echo")
    rates = look.all(case, "messages_per_s")
    if case is None or not rates:
        return ""
    parts = []
    for model in sorted(rates, key=lambda name: -rates[name]):
        within, memory = look.get(case, model, "p99_us"), look.get(case, model, "memory_kib")
        extra = [f"99 % within {_time(within)}" if within is not None else ""]
        extra += [f"{_memory(memory)} in all" if memory is not None else ""]
        beside = ", ".join(each for each in extra if each)
        parts.append(f"{model} {_about(rates[model])}" + (f" ({beside})" if beside else ""))
    return f"{_place(case)}, messages a second: {'; '.join(parts)}."


def _connections(look: _Look) -> str:
    """What it costs to begin one, and to keep it."""
    connect = next((case for case in look.results.cases if case.load == "connect"), None)
    parts = []
    costs = look.all(connect, "cpu_us")
    if costs:
        each = _grouped(look, connect, "cpu_us", costs, _time)
        parts.append(
            f"To accept a connection, answer once and end it takes, of the server's processor time, {each}."
        )
    for clients in reversed(look.counts("echo")):
        case = look.case("echo", clients)
        memory = look.all(case, "kib_per_connection")
        if len(memory) > 1:
            each = _grouped(look, case, "kib_per_connection", memory, _memory)
            parts.append(f"The memory of an open connection, as the mean of {clients:,}: {each}.")
            break
    return " ".join(parts)


def _computing(look: _Look) -> str:
    counts = look.cores("compute")
    first = look.some("compute", counts[0]) if counts else None
    rates = look.all(first, "messages_per_s")
    if first is None or not rates:
        return ""
    busy = look.results.conditions.get("compute", "")
    text = (
        f"A handler that computes{f' ({busy})' if busy else ''}, {_clients(first)}, on {_cores(counts[0])}: "
    )
    text += f"{_ranked(look, first, rates)}."
    last = look.some("compute", counts[-1]) if len(counts) > 1 else None
    gains = _gains(look, first, last)
    if last is not None and gains:
        many = [f"{model} {_times(gain)}" for model, gain in sorted(gains.items(), key=lambda item: -item[1])]
        text += f" On {_cores(counts[-1])}, times as many as on {_cores(counts[0])}: {_listed(many)}."
    return text


def _gains(look: _Look, first: Case | None, last: Case | None) -> dict[str, float]:
    """How many times as many messages each model answers on more cores."""
    before, after = look.all(first, "messages_per_s"), look.all(last, "messages_per_s")
    return {model: after[model] / before[model] for model in before if model in after}


def _waiting(look: _Look) -> str:
    case = look.some("wait")
    rates = look.all(case, "messages_per_s")
    if case is None or not rates:
        return ""
    most = number(int(case.values["clients"]) / WAIT)
    text = f"A handler that waits {WAIT * 1000:g} ms, {_clients(case)}, who can get {most} messages"
    text += f" a second at best: {_ranked(look, case, rates)}."
    alone = look.case("wait", 1)
    rate = look.get(alone, "iterative", "messages_per_s")
    if rate is not None:
        text += f" Iterative answers {_about(rate)} a second, whoever asks, for it waits for one at a time."
    return text


def _own(look: _Look) -> str:
    case = look.some("own")
    rates = look.all(case, "messages_per_s")
    if case is None or not rates:
        return ""
    text = f"{_place(case)}: {_ranked(look, case, rates)}."
    counts = look.cores("own")
    last = look.some("own", counts[-1]) if len(counts) > 1 else None
    gains = _gains(look, case, last)
    if gains:
        many = [f"{model} {_times(gain)}" for model, gain in sorted(gains.items(), key=lambda item: -item[1])]
        text += f" On {_cores(counts[-1])}, times as many as on {_cores(counts[0])}: {_listed(many)}."
    return text


def _transports(look: _Look) -> str:
    """What each transport costs, by the processor time that the cheapest model takes."""
    costs: dict[str, tuple[float, str]] = {}
    some = look.some("echo")
    for case in look.results.cases:
        if some is not None and case.load == "echo" and case.values["clients"] == some.values["clients"]:
            found = look.all(case, "cpu_us")
            if found:
                model = min(found, key=lambda name: found[name])
                costs.setdefault(str(case.values["transport"]), (found[model], model))
    if len(costs) < 2 or some is None:
        return ""
    each = [
        f"{_time(cost)} over {transport} ({model})"
        for transport, (cost, model) in sorted(costs.items(), key=lambda item: item[1][0])
    ]
    return (
        f"A message of an echo with {_clients(some)} takes, of the server's processor time, under the model"
        f" that is cheapest there: {'; '.join(each)}."
    )


def _verdict(look: _Look) -> str:
    """Threads or processes?"""
    parts = [_verdict_computing(look), _verdict_waiting(look), _verdict_many(look)]
    said = "; ".join(part for part in parts if part)
    return f"Threads or processes, on this machine: {said}." if said else ""


def _verdict_computing(look: _Look) -> str:
    for service, what in (("compute", "for handlers that compute"), ("own", "for this handler")):
        counts = look.cores(service)
        if not counts:
            continue
        case = look.some(service, counts[-1])
        best = _best(look, case, _PROCESSES)
        thread = look.get(case, "thread", "messages_per_s")
        if case is None or best is None or not thread:
            continue
        rate = look.get(case, best, "messages_per_s")
        assert rate is not None
        where = f"on {_cores(counts[-1])}"
        if look.alike(case, best, "thread"):
            return f"{what} no difference {where} that this run can tell ({best}, thread)"
        if rate > thread:
            return f"{what} processes: {best} answers {_times(rate / thread)} times as many as thread {where}"
        return f"{what} threads: thread answers {_times(thread / rate)} times as many as {best} {where}"
    return ""


def _verdict_waiting(look: _Look) -> str:
    case = look.some("wait")
    best = _best(look, case, _PROCESSES)
    thread = look.get(case, "thread", "messages_per_s")
    if case is None or best is None or not thread:
        return ""
    rate = look.get(case, best, "messages_per_s")
    assert rate is not None
    if look.alike(case, best, "thread"):
        said = f"threads do as well as processes (thread {_about(thread)}, {best} {_about(rate)} a second)"
    elif thread > rate:
        said = f"threads: thread answers {_times(thread / rate)} times as many as {best}"
    else:
        said = f"processes: {best} answers {_times(rate / thread)} times as many as thread"
    each = [
        f"{_memory(memory)} of memory under {model}"
        for model in ("thread", "fork")
        if (memory := _memory_each(look, model)) is not None
    ]
    return f"for handlers that wait {said}" + (f", and a connection takes {_listed(each)}" if each else "")


def _verdict_many(look: _Look) -> str:
    """Neither, where one thread serves more: of as many clients as there were with each."""
    case = look.most("echo")
    loop = _best(look, case, _LOOPS)
    other = _best(look, case, ("thread", *_PROCESSES))
    if case is None or loop is None or other is None:
        return ""
    rate, theirs = look.get(case, loop, "messages_per_s"), look.get(case, other, "messages_per_s")
    assert rate is not None
    assert theirs is not None
    who = f"for {_clients(case)} and short handlers"
    if look.alike(case, loop, other):
        return f"{who} either, or one thread for all: {loop} and {other} answer about as many"
    if rate > theirs:
        times = _times(rate / theirs)
        return f"{who} neither: {loop}, one thread for all, answers {times} times as many as {other}"
    return f"{who} {other}, which answers {_times(theirs / rate)} times as many as {loop}"


def _memory_each(look: _Look, model: str) -> float | None:
    for clients in reversed(look.counts("echo")):
        value = look.get(look.case("echo", clients), model, "kib_per_connection")
        if value is not None:
            return value
    return None


def _best(look: _Look, case: Case | None, models: Sequence[str]) -> str | None:
    rates = look.all(case, "messages_per_s", models)
    return max(rates, key=lambda name: rates[name]) if rates else None


def _ranked(look: _Look, case: Case, rates: dict[str, float]) -> str:
    """From the fastest down, those that cannot be told from the first of their group beside it."""
    texts = []
    for group in _groups(look, case, "messages_per_s", rates, most_first=True):
        high, low = _about(rates[group[0]]), _about(rates[group[-1]])
        if len(group) == 1:
            texts.append(f"{group[0]} {high} a second")
        elif high == low:
            texts.append(f"{_listed(group)} about the same, {high} a second")
        else:
            texts.append(f"{_listed(group)} about the same, {low} to {high} a second")
    limited = [model for model in rates if look.results.load_was_limit(case.title, model)]
    may = f" (the load was the limit for {_listed(limited)}: more may be possible)" if limited else ""
    return "; then ".join(texts) + may


def _grouped(
    look: _Look, case: Case | None, figure: str, values: dict[str, float], show: Callable[[float], str]
) -> str:
    """From the cheapest up, those that cannot be told from the first of their group under its figure."""
    texts = []
    for group in _groups(look, case, figure, values, most_first=False):
        middle = statistics.median(values[model] for model in group)
        texts.append(f"{show(middle)} under {_listed(group)}")
    return "; ".join(texts)


def _groups(
    look: _Look, case: Case | None, figure: str, values: dict[str, float], *, most_first: bool
) -> list[list[str]]:
    groups: list[list[str]] = []
    for model in sorted(values, key=lambda name: values[name], reverse=most_first):
        if groups and case is not None and look.alike(case, groups[-1][0], model, figure):
            groups[-1].append(model)
        else:
            groups.append([model])
    return groups


def _place(case: Case) -> str:
    what = "An echo" if case.load == "echo" else "The handler"
    where = f"over {case.values['transport']} on {_cores(int(case.values['cores']))}"
    return f"{what} {where} with {_clients(case)}"


def _clients(case: Case) -> str:
    count = int(case.values["clients"])
    return f"{count:,} client{'s' * (count != 1)}"


def _cores(count: int) -> str:
    return "one core" if count == 1 else f"{count} cores"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _about(value: float) -> str:
    """Three digits that count: more would say what the figures do not."""
    digits = 3 - len(str(int(value)))
    return f"{round(value, digits):,.0f}" if digits < 0 else number(value)


def _times(ratio: float) -> str:
    return f"{ratio:.1f}"


def _time(microseconds: float) -> str:
    if microseconds < 1000:
        return f"{number(microseconds)} µs"
    return f"{number(microseconds / 1000)} ms" if microseconds < 1e6 else f"{number(microseconds / 1e6)} s"


def _memory(kib: float) -> str:
    if kib < 1024:
        return f"{number(kib)} KiB"
    return f"{number(kib / 1024)} MiB" if kib < 1024 * 1024 else f"{number(kib / 1024 / 1024)} GiB"
