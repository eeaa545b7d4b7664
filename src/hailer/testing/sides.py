"""How the conformance suites run their checks: each is what either side of a fresh pair does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hailer.connection import sleep
from hailer.errors import UsageError
from hailer.runtime.blocking import run_to_end

if TYPE_CHECKING:
    from hailer.errors import HailerError

__all__ = ["SHORT", "Sides", "expect", "let_others_run", "run_blocking_checks", "run_checks", "soon"]

Sides = tuple[Coroutine[Any, Any, None], Coroutine[Any, Any, None]]
"""What the two sides of a pair do, at the same time."""

PATIENCE = 20.0
"""Seconds for anything that has to come."""

SHORT = 0.05
"""Seconds for anything that is not to come."""


class _End(Protocol):
    async def close(self) -> None: ...


End = TypeVar("End", bound=_End)


def soon(seconds: float = PATIENCE) -> float:
    """The instant so many seconds from now."""
    return time.monotonic() + seconds


async def expect(
    error: type[HailerError] | tuple[type[HailerError], ...], work: Awaitable[object], what: str
) -> None:
    """Assert that awaiting `work` raises the error."""
    try:
        result = await work
    except error:
        return
    raise AssertionError(f"{what} gave {result!r}; expected {error}")


async def let_others_run() -> None:
    """Wait for a moment, under whatever runs the sides."""
    try:
        await sleep(0.001)
    except UsageError:  # each side has a thread
        time.sleep(0.001)  # noqa: ASYNC251


async def run_checks(
    checks: Iterable[Callable[[End, End], Sides]], make_pair: Callable[[], Awaitable[tuple[End, End]]]
) -> None:
    """Run each check with a fresh pair, both sides as tasks; a note on an error names the check."""
    for check in checks:
        one, other = await make_pair()
        try:
            await _play_together(check(one, other))
        except BaseException as error:
            error.add_note(_note(check))
            raise
        finally:
            await asyncio.gather(one.close(), other.close())


def run_blocking_checks(
    checks: Iterable[Callable[[End, End], Sides]], make_pair: Callable[[], tuple[End, End]]
) -> None:
    """Run each check with a fresh pair, each side in a thread; a note on an error names the check."""
    for check in checks:
        one, other = make_pair()
        try:
            _play_in_threads(check(one, other))
        except BaseException as error:
            error.add_note(_note(check))
            raise
        finally:
            _play_in_threads((one.close(), other.close()))


def _note(check: Callable[..., Sides]) -> str:
    return f"in the check {check.__name__}: {check.__doc__}"


async def _play_together(sides: Sides) -> None:
    tasks = [asyncio.ensure_future(side) for side in sides]
    done, left = await asyncio.wait(tasks, timeout=2 * PATIENCE, return_when=asyncio.FIRST_EXCEPTION)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for task in done:
        task.result()
    if left:
        raise AssertionError("a side did not come to an end")


def _play_in_threads(sides: Sides) -> None:
    errors: list[BaseException] = []

    def play(side: Coroutine[Any, Any, None]) -> None:
        try:
            run_to_end(side)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=play, args=(side,), daemon=True) for side in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    if any(thread.is_alive() for thread in threads):
        errors.append(AssertionError("a side did not come to an end"))
    if errors:
        raise errors[0]
