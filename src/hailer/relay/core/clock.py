"""The time as the core knows it: told by whoever calls, with the instant at which it wants to be called."""

from __future__ import annotations


class Clock:
    """Shared by all parts of one core.

    Attributes:
        now: the instant of what is being handled, of a monotonic clock in seconds; set by `Relay`.
        wall: the wall clock less that clock, in seconds, for what people read.
        deadline: no later than the first instant at which a part has something to do.
    """

    __slots__ = ("deadline", "now", "wall")

    def __init__(self, wall: float = 0.0) -> None:
        self.now = 0.0
        self.wall = wall
        self.deadline = float("-inf")

    def wake(self, instant: float) -> None:
        """Have `Relay.tick` called at an instant, if not before.

        Each part says so when it has something new to do, which is rare; to ask all of them after each
        read would cost as much as a message.
        """
        self.deadline = min(self.deadline, instant)
