"""The three ways to write a handler, made into the one that every model runs.

    async def handle(connection)      under every model; awaits the connection and `hailer.sleep`
    def reply(message)                under every model; gives the answer, or None for no answer
    def handle(connection)            under the blocking models: iterative, fork, prefork, thread

What a plain function takes is told by the annotation of its one parameter (`bytes`, `Connection`,
`BlockingConnection`), and without one by the parameter's name: ``message`` or ``connection``.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from hailer.errors import EndOfStream, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from hailer.connection import Connection, Handler

__all__ = ["AnyHandler", "as_handler"]

AnyHandler = Any
"""What `as_handler` takes; see the module."""

_Takes = Literal["message", "connection"]

_HOW = (
    "write async def handle(connection), def reply(message), or, for the blocking models,"
    " def handle(connection)"
)


def as_handler(function: AnyHandler, *, blocking: bool, model: str) -> Handler:
    """Make the coroutine function that a model runs for each connection.

    Args:
        function: a handler in one of the three ways; a coroutine function may also be a reply.
        blocking: whether the model may be held up by one handler, because it has a thread or process for it.
        model: its name, for the error.

    Raises:
        UsageError: it is none of the three, it cannot be told which, or the model cannot run it.
    """
    if inspect.isclass(function):
        raise UsageError(f"{_name(function)} is a class: name an object made of it, or a function; {_HOW}")
    if not callable(function):
        raise UsageError(f"{_name(function)} is no function: {_HOW}")
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (an object whose __call__ is a coroutine function)
    )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UsageError(f"{_name(function)} is a generator, which nobody would run: {_HOW}")
    takes = _takes(function, is_async=is_async)
    if takes == "message":
        return _replying(function, is_async=is_async)
    if is_async:
        return cast("Handler", function)
    if not blocking:
        raise UsageError(
            f"{_name(function)} is a blocking handler, which would hold up every other connection under the"
            f" {model} model: make it async def, or choose the model iterative, fork, prefork or thread"
        )
    return _unblocked(function)


def _takes(function: Callable[..., object], *, is_async: bool) -> _Takes:
    try:
        parameters = [
            each
            for each in inspect.signature(function).parameters.values()
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
    except (ValueError, TypeError):  # written in C, without a signature
        raise UsageError(f"what {_name(function)} takes cannot be told: wrap it; {_HOW}") from None
    if len(parameters) != 1 or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise UsageError(f"{_name(function)} has to take one argument: {_HOW}")
    (parameter,) = parameters
    annotation = parameter.annotation
    # An annotation may be the text of one (from __future__ import annotations).
    said = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    said = said.rpartition(".")[2].strip("\"'")
    if said == "bytes":
        return "message"
    if said in ("Connection", "RecordConnection", "BlockingConnection"):
        return "connection"
    if parameter.name == "message":
        return "message"
    if is_async or parameter.name in ("connection", "conn"):
        return "connection"
    raise UsageError(
        f"what {_name(function)} takes cannot be told from its parameter {parameter.name!r}: call it message"
        " for a function that gives the answer, or connection for a blocking handler"
    )


def _replying(function: Callable[[bytes], Any], *, is_async: bool) -> Handler:
    async def reply_to_each(connection: Connection) -> None:
        while True:
            try:
                messages = await connection.receive_many()
            except EndOfStream:
                return
            answers: list[bytes] = []
            try:
                for message in messages:
                    answer = function(message)
                    if is_async:
                        answer = await cast("Awaitable[object]", answer)
                    if answer is not None:
                        answers.append(_checked(answer, function))
            except Exception:
                await connection.send_many(answers)  # those before the one that failed
                raise
            await connection.send_many(answers)

    return reply_to_each


def _checked(answer: object, function: Callable[..., object]) -> bytes:
    if inspect.iscoroutine(answer):
        raise _never_awaited(answer, function)
    if isinstance(answer, bytes):
        return answer
    if isinstance(answer, (bytearray, memoryview)):
        return bytes(answer)
    raise UsageError(
        f"{_name(function)} gave a {type(answer).__name__} as its answer: return bytes, or None for no answer"
    )


def _unblocked(function: Callable[[Any], object]) -> Handler:
    from hailer.runtime.blocking import BlockingConnection  # noqa: PLC0415 (only for blocking handlers)

    async def handle(connection: Connection) -> None:
        # Its transport never suspends, so that the plain methods can run its coroutines to their ends.
        result = function(BlockingConnection(connection))
        if inspect.iscoroutine(result):
            raise _never_awaited(result, function)

    return handle


def _never_awaited(coroutine: Coroutine[Any, Any, object], function: Callable[..., object]) -> UsageError:
    """The error for a plain function that only calls a coroutine function, such as a lambda round one."""
    coroutine.close()
    return UsageError(
        f"{_name(function)} gave a coroutine, which nobody awaits: make it async def and await it"
    )


def _name(function: object) -> str:
    if isinstance(function, partial):
        return f"the partial of {_name(function.func)}"
    return f"{getattr(function, '__qualname__', None) or repr(function)}"
