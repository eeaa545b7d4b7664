"""An event loop in a daemon thread, for the faces of asyncio code that programs without a loop use."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from hailer.errors import ConnectionClosed, UsageError
from hailer.runtime.aio import loop_factory

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Background"]

_T = TypeVar("_T")

_AT_EXIT = 2.0
"""Seconds that clients which were not closed get to say QUIT when the program ends."""


class Background:
    """An event loop in a daemon thread.

    Args:
        last: a coroutine function that is run before the thread ends.
    """

    def __init__(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._last = last
        self._lock = threading.Lock()
        self._stopping = False
        self._stop = asyncio.Event()
        self._ready: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._serve, name="hailer-relay-client", daemon=True)
        self._thread.start()
        self._loop = self._ready.result()
        _running.add(self)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine there and wait for it; an interrupt here cancels it there."""
        if threading.current_thread() is self._thread:
            work.close()
            raise UsageError("a callback of a client cannot use it: hand the work to a thread of yours")
        # The lock sees to it that nothing is handed to a loop that has stopped, to wait there for ever.
        with self._lock:
            if self._stopping or not self._thread.is_alive():  # not alive: this is a fork of its process
                work.close()
                raise ConnectionClosed("this client was closed: make another RelayClient")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ConnectionClosed("this client was closed meanwhile: make another RelayClient") from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Have the thread end; does not wait. May be called twice, and from any thread."""
        with self._lock:
            if not self._stopping and self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._stop.set)
            self._stopping = True

    def join(self, seconds: float | None) -> None:
        """Wait for the end of the thread."""
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _serve(self) -> None:
        # Not uvloop: the loop may be frozen in mid-step when the program ends.
        with asyncio.Runner(loop_factory=loop_factory("stock")) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        await self._last()


_running: weakref.WeakSet[Background] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Let the clients that were not closed say QUIT; the program ends whether they manage or not."""
    backgrounds = list(_running)
    for background in backgrounds:
        background.stop()
    deadline = time.monotonic() + _AT_EXIT
    for background in backgrounds:
        background.join(max(0.0, deadline - time.monotonic()))
