"""Commands that were said and not answered yet, and how answers are matched to them: by fences.

The relay answers the commands of one client in the order in which they were sent, and says nothing of a
SEND that it took. So each command whose outcome somebody awaits is followed by a PING of its own, the
fence: a FAIL that comes between the PONG before it and its own PONG belongs to it, and no FAIL until
then means that it was done. The fences travel with the commands; none waits for another. Commands that
nobody waits for share one fence, which is added when the next awaited command comes.

One fence for several awaited SENDs would tell whether all were taken, but not which one was refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hailer.errors import ConnectionLost, HailerError, Refused
from hailer.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from hailer.relay.client.events import Fail, Here

__all__ = ["Exchanges", "unknown"]

log = logging.getLogger("hailer.relay.client")


@dataclass(slots=True, eq=False)
class _Exchange:
    """A command and what the relay says to it, up to the PONG that ends it."""

    verb: str
    token: str = ""  # "" as long as its PING has not been sent
    answer: asyncio.Future[list[str]] | None = None
    on_pong: Callable[[], object] | None = None
    names: list[str] = field(default_factory=list)
    refusal: Refused | None = None

    @property
    def awaited(self) -> bool:
        return self.answer is not None and not self.answer.done()


class Exchanges:
    """The commands of one connection that are not answered yet, in order.

    Args:
        say: has a line written.
        on_refused: called with the refusals of what nobody waits for.
    """

    def __init__(self, say: Callable[[bytes], None], on_refused: Callable[[Refused], None]) -> None:
        self._say = say
        self._on_refused = on_refused
        self._open: deque[_Exchange] = deque()
        self._count = 0

    @property
    def unconfirmed(self) -> bool:
        """Whether something was sent without waiting of which it is not known that the relay took it."""
        return any(exchange.answer is None and exchange.verb == "SEND" for exchange in self._open)

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for an answer."""
        return any(exchange.awaited for exchange in self._open)

    def call(self, line: bytes, verb: str) -> asyncio.Future[list[str]]:
        """Send a command with a fence behind it; the future gets the names that it listed, or its Refused."""
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._add(_Exchange(verb, answer=answer), line)
        return answer

    def fence(self, on_pong: Callable[[], object]) -> None:
        """Have a function called once the relay has dealt with all that was sent before."""
        self._add(_Exchange("PING", on_pong=on_pong), b"")

    def beat(self) -> None:
        """Ask for a sign of life."""
        self._add(_Exchange("PING"), b"")

    def unawaited(self, line: bytes) -> None:
        """Send a SEND for whose outcome nobody waits."""
        if not self._open or self._open[-1].token:
            self._open.append(_Exchange("SEND"))
        self._say(line)

    def pong(self, token: str) -> None:
        """Take the end of an exchange."""
        if not token or not self._open or self._open[0].token != token:
            return
        exchange = self._open.popleft()
        if exchange.on_pong is not None:
            exchange.on_pong()
        answer = exchange.answer
        if answer is None or answer.done():
            return
        if exchange.refusal is not None:
            answer.set_exception(exchange.refusal)
        else:
            answer.set_result(exchange.names)

    def listed(self, here: Here) -> None:
        """Take a part of a listing."""
        if self._open and self._open[0].verb == "WHO":
            self._open[0].names.extend(here.names)

    def refused(self, event: Fail) -> None:
        """Take a refusal: it is of the oldest exchange, if its verb fits."""
        refusal = Refused(event.code, event.command, printable(event.explanation))
        exchange = self._open[0] if self._open else None
        # A line or payload that was too long for the relay is refused under these names, before the BYE.
        if exchange is None or event.command not in (exchange.verb, "LINE", "PAYLOAD"):
            log.debug("the relay refused %s: %s", event.command, refusal)
        elif exchange.answer is not None:
            exchange.refusal = refusal
        elif exchange.verb == "SEND":
            self._on_refused(refusal)

    def disappoint(self, error: HailerError) -> None:
        """Give an error to those who wait for an answer; what they said goes on."""
        for exchange in self._open:
            if exchange.answer is not None and not exchange.answer.done():
                exchange.answer.set_exception(error)

    def end(self, error: HailerError) -> None:
        """Tell those who wait that the connection is over."""
        for exchange in self._open:
            if exchange.answer is not None and not exchange.answer.done():
                exchange.answer.set_exception(unknown(exchange.verb, error))

    def _add(self, exchange: _Exchange, line: bytes) -> None:
        if self._open and not self._open[-1].token:
            self._say(self._ping(self._open[-1]))
        self._open.append(exchange)
        self._say(line + self._ping(exchange))

    def _ping(self, exchange: _Exchange) -> bytes:
        self._count += 1
        exchange.token = str(self._count)
        return b"PING %d\n" % self._count


def unknown(verb: str, error: HailerError) -> HailerError:
    """What somebody gets who waits for an answer when the connection ends."""
    if verb == "PING":
        return ConnectionLost(f"the connection to the relay is over ({error}): try again")
    lost = ConnectionLost(
        f"the connection to the relay is over ({error}) and it is unknown whether {verb} was done: ask the"
        " receiver or send it again"
    )
    lost.__cause__ = error
    return lost
