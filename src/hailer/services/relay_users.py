"""The users of a relay, for the finger service."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import threading
import time
from typing import TYPE_CHECKING

from hailer.connection import sleep
from hailer.endpoint import Endpoint
from hailer.errors import HailerError
from hailer.relay.client.client import RelayClient
from hailer.runtime.aio import loop_factory
from hailer.services.finger import SourceError
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RelayUsers"]

log = logging.getLogger("hailer.services")

_NOT_NOW = "The relay cannot be asked now, try again later."
_LONGEST_PAUSE = 0.05
_OURS = re.compile(r"finger-[0-9a-f]{12}")  # the names under which services like this one look


class _Look:
    """One look at who is there, in a thread of its own.

    Args:
        relay: where.
        timeout: seconds for connecting and for the relay's word.
    """

    def __init__(self, relay: Endpoint, timeout: float) -> None:
        self._relay = relay
        self._timeout = timeout
        self._names: list[str] | None = None
        self.ended: float | None = None
        threading.Thread(target=self._look, name="hailer-finger", daemon=True).start()

    async def names(self) -> list[str]:
        """Wait for the end of it; raises SourceError if it failed."""
        # The client needs an event loop, which a handler of most models has not, and a loop that others are
        # served by must not be blocked. `sleep` is the one thing that can be awaited everywhere.
        pause, waited = 0.001, 0.0
        while self.ended is None and waited < 2 * self._timeout:
            await sleep(pause)
            waited += pause
            pause = min(2 * pause, _LONGEST_PAUSE)
        if self._names is None:
            raise SourceError(_NOT_NOW)
        return self._names

    def _look(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory("stock")) as runner:
                self._names = runner.run(self._ask())
        except (HailerError, OSError) as error:
            log.warning("finger cannot ask %s who is there: %s", self._relay, printable(str(error)))
        finally:
            self.ended = time.monotonic()

    async def _ask(self) -> list[str]:
        own = f"finger-{secrets.token_hex(6)}"
        async with RelayClient(own, self._relay, timeout=self._timeout, reconnect=False) as client:
            names = await client.who()
        return sorted((name for name in names if not _OURS.fullmatch(name)), key=str.lower)


class RelayUsers:
    """Knows who is logged in to a relay: it logs in under a name of its own for each look.

    What one look brought holds for a second, so that many queries are few log-ins. Works under every
    model; each process that serves looks for itself.

    Args:
        relay: where the relay is.
        timeout: seconds for connecting and for the relay's word.
        fresh: seconds for which a look holds.

    Raises:
        EndpointError: the relay's text is no endpoint.
    """

    def __init__(self, relay: Endpoint | str, *, timeout: float = 5.0, fresh: float = 1.0) -> None:
        self._relay = Endpoint.parse(relay) if isinstance(relay, str) else relay
        self._timeout = timeout
        self._fresh = fresh
        self._lock = threading.Lock()
        self._last: _Look | None = None

    async def names(self) -> Sequence[str]:
        """See `FingerSource.names`."""
        with self._lock:
            look = self._last
            if look is None or (look.ended is not None and time.monotonic() - look.ended >= self._fresh):
                try:
                    look = self._last = _Look(self._relay, self._timeout)
                except RuntimeError as error:  # the system gives no more threads
                    raise SourceError(_NOT_NOW) from error
        return await look.names()

    async def about(self, name: str, *, wide: bool) -> Sequence[str] | None:
        """See `FingerSource.about`: whether they are there, by the relay's own rule on names."""
        for there in await self.names():
            if there.lower() == name.lower():
                where = f" at {self._relay}" if wide else ""
                return [f"Login: {there}", f"Logged in to the relay{where}."]
        return None
