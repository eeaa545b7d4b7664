"""A verb's coroutine as the whole program: the loop, Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import click

from hailer.cli.exits import INTERRUPTED, TERMINATED

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["run"]


def run(work: Coroutine[Any, Any, int | None]) -> None:
    """Run a verb to its end.

    Ctrl-C and SIGTERM cancel the work, so that it can take its leave; a second Ctrl-C does not wait for
    that. The stock event loop serves: for one connection it is as quick, and it starts sooner.

    Args:
        work: the verb; what it returns is the exit code, None is 0.
    """
    try:
        code = asyncio.run(_interruptible(work))
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise click.exceptions.Exit(code or 0)


async def _interruptible(work: Coroutine[Any, Any, int | None]) -> int | None:
    task = asyncio.current_task()
    assert task is not None
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        task.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
    try:
        return await work
    except asyncio.CancelledError:
        if terminated:
            return TERMINATED
        raise
