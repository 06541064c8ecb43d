"""How a process hears of ends in a SQLite file that others have made: it looks, several times a second.

SQLite tells nobody anything.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import Hint

# A socket closes within a second of an end (promise 6).
_SECONDS: Final = 0.25
# What was noted before the last look may have been committed after it.
_MARGIN_SECONDS: Final = 2.0
_LONGEST_SILENCE_SECONDS: Final = 30.0
_LIMIT: Final = 1000

log = logging.getLogger("holdfast.sql")

JustEnded = Callable[[timedelta, int], Awaitable[Collection[UUID]]]
"""The ids of sessions that ended within a time before now, at most so many."""


async def poll(hint: Hint, just_ended: JustEnded) -> None:
    """Hint at what has ended since the last look, for as long as nobody cancels it.

    After a long silence, and at the start, nobody knows how far back to look: the hint is of everything then. Errors of
    the store only mean to look again, and further back.
    """
    time = asyncio.get_running_loop().time
    looked_until: float | None = None
    while True:
        now = time()
        silence = 0.0 if looked_until is None else now - looked_until
        if looked_until is None or silence > _LONGEST_SILENCE_SECONDS:
            hint(None)
            silence = 0.0
        try:
            found = await just_ended(timedelta(seconds=silence + _MARGIN_SECONDS), _LIMIT)
            hint(None if len(found) == _LIMIT else found)
            looked_until = now
        except HoldfastError as error:
            # Told of by whoever asks the store for something.
            log.debug("could not look for other processes' ends: %s", error)
        await asyncio.sleep(_SECONDS)
