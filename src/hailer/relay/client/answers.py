"""Questions of others, answered by the application's handler: at once several, but not without bound."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hailer.relay.client import commands
from hailer.relay.client.events import Asked

if TYPE_CHECKING:
    from hailer.relay.client.link import Link

__all__ = ["Answerer", "AskHandler"]

AskHandler = Callable[[Asked], str | bytes | Awaitable[str | bytes]]
"""What answers a question: a plain or an async function."""

log = logging.getLogger("hailer.relay.client")

AT_ONCE = 64
"""Questions that are being answered at the same time."""

WAITING = 1000
"""Questions that wait for their turn; as many as a relay lets one asker have open by default."""


class Answerer:
    """Runs the handler for each question and sends its answer.

    What goes wrong in a handler is logged here and told to the asker in one sentence that starts with
    ``error:``, without the exception's own text, which may hold what is nobody's business.

    Args:
        handler: called with the question; gives the answer or an awaitable of it. None answers every
            question that there is nobody to answer.
        max_payload: the most bytes of an answer.
    """

    def __init__(self, handler: AskHandler | None, max_payload: int) -> None:
        self.handler = handler
        self._max_payload = max_payload
        self._waiting: deque[tuple[Asked, Link]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, question: Asked, link: Link) -> None:
        """Answer a question when its turn has come."""
        if self.handler is None:
            link.say_if_room(_line(question, b"error: nobody answers questions here"))
        elif len(self._tasks) < AT_ONCE:
            task = asyncio.get_running_loop().create_task(
                self._work(question, link), name="hailer-relay-answer"
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif len(self._waiting) < WAITING:
            self._waiting.append((question, link))
        else:
            link.say_if_room(_line(question, b"error: too many questions wait here; ask again later"))

    async def close(self) -> None:
        """Stop answering."""
        self._waiting.clear()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _work(self, question: Asked, link: Link) -> None:
        while True:
            if not link.ended.done():  # else the relay has told the asker that we are gone
                line = _line(question, await self._answer(question))
                await link.room()
                link.say(line)
            if not self._waiting:
                return
            question, link = self._waiting.popleft()

    async def _answer(self, question: Asked) -> bytes:
        assert self.handler is not None
        try:
            answer = self.handler(question)
            if inspect.isawaitable(answer):
                answer = await answer
            return commands.as_bytes(answer, self._max_payload)
        except Exception as error:
            log.exception("the handler of questions failed at one of %s", question.sender)
            return b"error: the handler of this question failed (%s)" % type(error).__name__.encode()


def _line(question: Asked, answer: bytes) -> bytes:
    return commands.answer(question.id, question.sender, answer)
