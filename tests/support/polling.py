"""Waiting for an event with a deadline, so that no test waits for a fixed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

#: Seconds between two looks at a condition.
INTERVAL = 0.01

#: Seconds a condition may take unless the caller says otherwise.  Generous on purpose: a
#: passing test never waits this long, and a loaded machine must not make one fail.
DEADLINE = 30.0


def until(condition: Callable[[], bool], *, what: str, deadline: float = DEADLINE) -> None:
    """Return as soon as `condition` is true; block the calling thread meanwhile.

    `what` names the awaited event for the error.  Raises `TimeoutError` after `deadline` seconds.
    """
    give_up_at = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"not within {deadline:g} s: {what}")
        time.sleep(INTERVAL)


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, what: str, deadline: float = DEADLINE) -> None:
    """The same without blocking the event loop; `condition` may be a coroutine function."""
    async with asyncio.timeout(deadline) as limit:
        try:
            while True:
                outcome = condition()
                if not isinstance(outcome, bool):
                    outcome = await outcome
                if outcome:
                    return
                await asyncio.sleep(INTERVAL)
        except asyncio.CancelledError:
            if limit.expired():
                raise TimeoutError(f"not within {deadline:g} s: {what}") from None
            raise
