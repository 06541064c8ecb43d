"""What may be asked of a mover: a failure of it is told in our words, and it may be asked again."""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from holdfast.move.failures import in_our_words
from holdfast.move.running import Running
from holdfast.move.state import LeaseHeld

Answer = TypeVar("Answer")
Parameters = ParamSpec("Parameters")
AMover = TypeVar("AMover", bound=Running)


def goal(
    call: Callable[Concatenate[AMover, Parameters], Awaitable[Answer]],
) -> Callable[Concatenate[AMover, Parameters], Coroutine[Any, Any, Answer]]:
    """Something that may be asked of a mover."""

    @wraps(call)
    async def pursued(mover: AMover, /, *arguments: Parameters.args, **named: Parameters.kwargs) -> Answer:
        try:
            return await call(mover, *arguments, **named)
        except Exception as error:
            told = in_our_words(error)
            if isinstance(told, LeaseHeld):
                # Asked once more, it may take the lease again.
                mover.forget_lease()
            if told is error:
                raise
            raise told from error

    return pursued
