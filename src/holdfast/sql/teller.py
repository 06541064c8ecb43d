"""Tells other servers that sessions ended: PostgreSQL's NOTIFY, beside the end and never part of it.

The ended row is the truth and is committed already. Telling is best effort, because a notification takes a lock that
all servers of a PostgreSQL share, and fails when a listener that hangs has filled the queue: neither may hold up an
end, or undo one. Ends that come while a hint is under way share the next one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from holdfast.sessions.session import End
from holdfast.sql.listener import EVERYTHING, hint_about

_MAX_WAITING: Final = 10_000

log = logging.getLogger("holdfast.sql")


class Teller:
    """What one store still has to tell."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        """`send` sends one hint, in a transaction of its own."""
        self._send = send
        self._waiting: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None

    def tell(self, ends: Iterable[End]) -> None:
        """Tell of these soon. Never raises, never waits."""
        self._waiting.update((end.id, None) for end in ends)
        if len(self._waiting) > _MAX_WAITING:
            self._waiting = {EVERYTHING: None}
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._tell_all(), name="holdfast-tell")

    async def close(self) -> None:
        """Wait until everything is told, or has failed. Safe to repeat."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _tell_all(self) -> None:
        while self._waiting:
            ids, self._waiting = self._waiting, {}
            try:
                await self._send(EVERYTHING if EVERYTHING in ids else hint_about(ids))
            except Exception as error:
                # Whatever it is, the end is made, and the others find it at their next look.
                log.warning("other servers were not told of %d ends, and find them by asking: %s", len(ids), error)
