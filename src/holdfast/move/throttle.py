"""A mover stands back when the store that serves slows down.

What clients wait for is the commit of their store, so that is what is measured: a commit of the mover's own there, a
few times a second. Nothing else says it as well: a queue may be short because nobody gets in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

SLOW_SECONDS: Final = 0.05
"""A commit is slow when it takes longer than this, and longer than four of the quickest seen."""
_TIMES_THE_BEST: Final = 4
_EVERY_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 0.5
# A store that is slow for reasons of its own must not keep the move from its end.
_MOST_SECONDS: Final = 2.0


class Throttle:
    """Measures commits now and then, and pauses while they are slow."""

    def __init__(self, slow: float = SLOW_SECONDS, every: float = _EVERY_SECONDS) -> None:
        """Nothing is measured yet.

        Args:
            slow: seconds, see `SLOW_SECONDS`.
            every: seconds between two measurements; each costs a commit.
        """
        self._slow = slow
        self._every = every
        self._best: float | None = None
        self._next = 0.0
        self.commit: float | None = None
        """Seconds that the commit measured last took; `None` before the first."""
        self.held_back = 0.0
        """Seconds of all pauses."""

    @property
    def due(self) -> bool:
        """Whether it is time to measure again."""
        return asyncio.get_running_loop().time() >= self._next

    async def give_way(self, commit: Callable[[], Awaitable[object]]) -> None:
        """Commit once if it is time to, and pause as long as that is slow, but at most two seconds."""
        if not self.due:
            return
        time = asyncio.get_running_loop().time
        limit = time() + _MOST_SECONDS
        while True:
            began = time()
            await commit()
            self.commit = took = time() - began
            self._best = took if self._best is None else min(self._best, took)
            if took <= max(self._slow, _TIMES_THE_BEST * self._best) or time() > limit:
                break
            # Longer the slower it is: the store gets most of the time for itself.
            pause = min(_TIMES_THE_BEST * took, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)
            self.held_back += pause
        self._next = time() + self._every
