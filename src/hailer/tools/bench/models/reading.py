"""What the figures say about the reader's machine, in sentences, and no more than they say.

Pure: from `Results` alone, so that it is the same for a file of older ones. Where two models differ by less
than rounds differ among themselves, a tenth at least, the sentence calls them alike (`Look.margin`).
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.figures import number
from hailer.tools.bench.models.look import LEAST_OF_ONE, Look
from hailer.tools.bench.models.services import WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hailer.tools.bench.results import Case, Results

__all__ = ["read"]

_MUCH: Final = 0.10
"""The share of all cores from which on other programs' work makes rates doubtful."""

_TOO_MUCH: Final = 0.40
"""The share from which on nothing is said of rates at all."""

_PROCESSES: Final = ("prefork", "fork")
_LOOPS: Final = ("epoll", "uvloop", "asyncio", "select")


def read(results: Results) -> list[str]:
    """Say what was found, a paragraph for each question; only of what was measured."""
    look = Look(results)
    others = look.others()
    rates = [_verdict, _some_clients, _many_clients, _computing, _waiting, _own] if others < _TOO_MUCH else []
    said = [text for each in (*rates, _connections, _transports) if (text := each(look))]
    if results.rows and others > _MUCH:
        advice = "trust no rate or latency here, and measure again without them."
        warning = f"Other programs used {others:.0%} of all cores meanwhile: {advice}"
        said[:1] = [" ".join([warning, *said[:1]])]
    if said and results.rounds() < 2:
        said.append(
            f"This was one round: take no difference of less than {LEAST_OF_ONE:.0%} for one, and measure"
            " again without --short before much depends on it."
        )
    return said


def _some_clients(look: Look) -> str:
    case = look.some("echo")
    rates = look.all(case, "messages_per_s")
    if case is None or len(rates) < 2:
        return ""
    return f"{_place(case)}, each waiting for its answer before it sends again: {_ranked(look, case, rates)}."


def _many_clients(look: Look) -> str:
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


def _connections(look: Look) -> str:
    """What it costs to begin one, and to keep it."""
    connect = look.first("connect")
    parts = []
    costs = look.all(connect, "cpu_us")
    if costs:
        each = _grouped(look, connect, "cpu_us", costs, _time)
        parts.append(
            f"To accept a connection, answer once and end it takes, of the server's processor time, {each}."
        )
    memory = look.of_most("kib_per_connection")
    if memory:
        shown = _grouped(look, None, "kib_per_connection", memory, _memory)
        parts.append(f"The memory of an open connection: {shown}.")
    return " ".join(parts)


def _computing(look: Look) -> str:
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


def _gains(look: Look, first: Case | None, last: Case | None) -> dict[str, float]:
    """How many times as many messages each model answers on more cores."""
    before, after = look.all(first, "messages_per_s"), look.all(last, "messages_per_s")
    return {model: after[model] / before[model] for model in before if model in after}


def _waiting(look: Look) -> str:
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


def _own(look: Look) -> str:
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


def _transports(look: Look) -> str:
    """What each transport costs, by the processor time that the cheapest model takes."""
    costs: dict[str, tuple[float, str]] = {}
    some = look.some("echo")
    for case in look.over_transports():
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


def _verdict(look: Look) -> str:
    """Threads or processes?"""
    parts = [_verdict_computing(look), _verdict_waiting(look), _verdict_many(look)]
    said = " ".join(part for part in parts if part)
    return f"Threads or processes, on this machine? {said}" if said else ""


def _verdict_computing(look: Look) -> str:
    for service, what in (("compute", "For handlers that compute"), ("own", "For this handler")):
        counts = look.cores(service)
        case = look.some(service, counts[-1]) if counts else None
        best = _best(look, case, _PROCESSES)
        thread = look.get(case, "thread", "messages_per_s")
        if case is None or best is None or not thread:
            continue
        rate = look.get(case, best, "messages_per_s")
        assert rate is not None
        where = f"on {_cores(counts[-1])}"
        if look.alike(case, best, "thread"):
            return f"{what} {where} this run sees no difference between them ({best}, thread)."
        if rate > thread:
            return (
                f"{what}, processes: {best} answers {_times(rate / thread)} times as many as thread {where}."
            )
        return f"{what}, threads: thread answers {_times(thread / rate)} times as many as {best} {where}."
    return ""


def _verdict_waiting(look: Look) -> str:
    case = look.some("wait")
    best = _best(look, case, _PROCESSES)
    thread = look.get(case, "thread", "messages_per_s")
    if case is None or best is None or not thread:
        return ""
    rate = look.get(case, best, "messages_per_s")
    assert rate is not None
    memories = look.of_most("kib_per_connection")
    each = {name: memories[name] for name in ("thread", "fork") if name in memories}
    costs = _listed([f"{_memory(memory)} under {name}" for name, memory in each.items()])
    if look.alike(case, best, "thread"):
        said = f"threads do as well as processes (thread {_about(thread)}, {best} {_about(rate)} a second)"
    elif thread > rate:
        said = f"threads: thread answers {_times(thread / rate)} times as many as {best}"
    else:
        said = f"processes: {best} answers {_times(rate / thread)} times as many as thread"
    return f"For handlers that wait, {said}{f'; a connection takes {costs}' if each else ''}."


def _verdict_many(look: Look) -> str:
    """Neither, where one thread serves more: of as many clients as there were with each."""
    case = look.most("echo")
    loop = _best(look, case, _LOOPS)
    other = _best(look, case, ("thread", *_PROCESSES))
    if case is None or loop is None or other is None:
        return ""
    rate, theirs = look.get(case, loop, "messages_per_s"), look.get(case, other, "messages_per_s")
    assert rate is not None
    assert theirs is not None
    who = f"For {_clients(case)} and short handlers"
    if look.alike(case, loop, other):
        return f"{who} one thread for all does as well ({loop}, {other})."
    if rate > theirs:
        times = _times(rate / theirs)
        return f"{who}, neither: {loop}, one thread for all, answers {times} times as many as {other}."
    return f"{who}, {other}: it answers {_times(theirs / rate)} times as many as {loop}, one thread for all."


def _best(look: Look, case: Case | None, models: Sequence[str]) -> str | None:
    rates = look.all(case, "messages_per_s", models)
    return max(rates, key=lambda name: rates[name]) if rates else None


def _ranked(look: Look, case: Case, rates: dict[str, float]) -> str:
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
    look: Look, case: Case | None, figure: str, values: dict[str, float], show: Callable[[float], str]
) -> str:
    """From the cheapest up, those that cannot be told from the first of their group under its figure."""
    texts = []
    for group in _groups(look, case, figure, values, most_first=False):
        middle = statistics.median(values[model] for model in group)
        texts.append(f"{show(middle)} under {_listed(group)}")
    return "; ".join(texts)


def _groups(
    look: Look, case: Case | None, figure: str, values: dict[str, float], *, most_first: bool
) -> list[list[str]]:
    groups: list[list[str]] = []
    for model in sorted(values, key=lambda name: values[name], reverse=most_first):
        if groups and _belongs(look, case, figure, values, (groups[-1][0], model)):
            groups[-1].append(model)
        else:
            groups.append([model])
    return groups


def _belongs(
    look: Look, case: Case | None, figure: str, values: dict[str, float], pair: tuple[str, str]
) -> bool:
    """Whether two are told as one; without a case of both by their values alone."""
    if case is not None:
        return look.alike(case, *pair, figure)
    low, high = sorted(values[model] for model in pair)
    return high <= low * (1 + LEAST_OF_ONE)


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
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


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
