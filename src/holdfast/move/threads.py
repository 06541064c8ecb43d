"""SQLite's calls run in a thread, so that a mover inside a server does not hold its loop up."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


async def in_thread(
    call: Callable[Parameters, Answer], *arguments: Parameters.args, **named: Parameters.kwargs
) -> Answer:
    """The answer of a call. A cancelled caller waits for its end: nobody else may use the connection before."""
    task = asyncio.ensure_future(asyncio.to_thread(call, *arguments, **named))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            # Nobody wants to hear of its failure any more.
            task.exception()
        raise
