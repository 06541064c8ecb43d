"""Noticing that somebody presents a token which rotation has replaced.

Its owner has the successor, and has used it: so the old one was kept, or copied. OWASP's session management guidance
calls that a sign of theft. It is looked into beside the refusal, never before it: a refusal takes as long for a
replaced token as for any other, and a flood of them costs one look-up at a time.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Literal
from uuid import UUID

from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import Store
from holdfast.sessions.tokens import TokenDigest

OnReplay = Literal["report", "end"]
"""What follows the use of a replaced token: a line in the log and a count, or also the end of its session."""

_MAX_WAITING: Final = 1000

log = logging.getLogger("holdfast.sessions")


class Replays:
    """The refused tokens of one manager that are still to be looked into."""

    def __init__(self, rule: OnReplay, end: Callable[[UUID], Awaitable[object]]) -> None:
        """`end` ends a session by its id, as `revoked`."""
        self.count = 0
        """How many uses of replaced tokens were noticed."""
        self._rule = rule
        self._end = end
        self._waiting: dict[TokenDigest, None] = {}
        self._task: asyncio.Task[None] | None = None

    def suspect(self, store: Store, digest: TokenDigest) -> None:
        """Look into a token that was refused, soon. Beyond a thousand that wait, it is let go unseen."""
        if len(self._waiting) < _MAX_WAITING:
            self._waiting[digest] = None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_into_all(store), name="holdfast-replays")

    async def finish(self) -> None:
        """Wait until what was suspected is looked into."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def close(self) -> None:
        """Finish with the one that is looked into now, and let the others go. Safe to repeat."""
        self._waiting.clear()
        await self.finish()

    async def _look_into_all(self, store: Store) -> None:
        while self._waiting:
            digest = next(iter(self._waiting))
            del self._waiting[digest]
            try:
                id = await store.replayed(digest)
                if id is not None:
                    self.count += 1
                    log.warning("a token that rotation has replaced was used again", extra={"session_id": str(id)})
                    if self._rule == "end":
                        await self._end(id)
            except HoldfastError as error:
                log.warning("a refused token could not be looked into: %s", error)
