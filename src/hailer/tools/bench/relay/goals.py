"""What the relay ought to reach, beside what it did: all of it as data, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hailer.tools.bench.figures import figure, number

if TYPE_CHECKING:
    from hailer.tools.bench.results import Results

__all__ = ["GOALS", "Goal", "Verdict", "verdicts"]


@dataclass(frozen=True)
class Goal:
    """One thing to reach.

    Attributes:
        case: the title of the case.
        figure: the name of the figure.
        bound: what it has to be, at least where more is better and at most where less is.
        against: the subject whose multiple the bound is; empty where it is a value by itself.
        subject: whose figure it is.
    """

    case: str
    figure: str
    bound: float
    against: str = ""
    subject: str = "hailer"

    @property
    def at_least(self) -> bool:
        """Whether more is better."""
        return figure(self.figure).better == "more"

    def __str__(self) -> str:
        scale = figure(self.figure).scales[0].unit
        words = f"{'at least' if self.at_least else 'at most'} {self.bound:g}"
        return f"{words} × {self.against}" if self.against else f"{words} {scale}"


GOALS: Final = (
    *(
        Goal(case, "messages_per_s", 1.3, "nats")
        for case in ("pipeline, 10 pairs", "scatter over 100", "scatter over 1,000")
    ),
    *(Goal(f"fanout to {count}", "messages_per_s", 5, "nats") for count in ("100", "1,000")),
    *(Goal(f"fanout to {count}", "messages_per_s", 0.6, "floor") for count in ("100", "1,000")),
    *(Goal(f"pingpong, {count} pairs", "cpu_us", 1.4, "floor") for count in ("10", "100")),
    *(Goal(f"pingpong, {count} pairs", "cpu_us", 0.75, "nats") for count in ("100", "1,000")),
    *(Goal(f"pipeline, 10 pairs, {size} KiB", "messages_per_s", 1.0, "nats") for size in (1, 16)),
    Goal("idle, 10,000 connections", "kib_per_connection", 4),
    Goal("mixed sizes to 1,000, 10 % stored", "messages_per_s", 1.0, "nats"),
    *(
        Goal(f"scatter over {count}", "messages_per_s", 1.7, "hailer", "hailer-2")
        for count in ("100", "1,000")
    ),
    Goal("hailer --version", "start_ms", 60),
    Goal("start", "start_ms", 300),
)


@dataclass(frozen=True)
class Verdict:
    """Whether a goal was reached.

    Attributes:
        goal: which one.
        value: the median that was measured, as a multiple of `Goal.against` where it has one.
        reached: whether it is on the right side of the bound.
        load_was_limit: whether not the relay but the load was the limit, on either side.
    """

    goal: Goal
    value: float
    reached: bool
    load_was_limit: bool

    def texts(self) -> list[str]:
        """The case, the figure, the goal, what was measured, and the verdict."""
        goal = self.goal
        close = abs(self.value / goal.bound - 1) < 0.01  # then both would look the same
        measured = f"{self.value:.4g}" if close else number(self.value)
        measured += "*" if self.load_was_limit else ""
        case = goal.case if goal.subject == "hailer" else f"{goal.case} ({goal.subject})"
        return [case, figure(goal.figure).title, str(goal), measured, "reached" if self.reached else "missed"]


def verdicts(results: Results) -> list[Verdict]:
    """All goals whose figures were measured, in the order of `GOALS`."""
    found = []
    for goal in GOALS:
        own = results.median(goal.case, goal.subject, goal.figure)
        other = results.median(goal.case, goal.against, goal.figure) if goal.against else 1.0
        if own is None or not other:
            continue
        value = own / other
        limited = goal.at_least and any(
            results.load_was_limit(goal.case, name) for name in (goal.subject, goal.against)
        )
        reached = value >= goal.bound if goal.at_least else value <= goal.bound
        found.append(Verdict(goal, value, reached, limited))
    return found
