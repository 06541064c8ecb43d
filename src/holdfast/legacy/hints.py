"""How a process hears of ends in a legacy file, which the old application makes too."""

import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from holdfast.legacy.caller import LegacyCaller
from holdfast.sessions.store import Channel, Hint
from holdfast.sql.failures import NotDone, to_raise
from holdfast.sql.polling import poll


class LegacyHints(LegacyCaller):
    """The part that listens."""

    @property
    def channel(self) -> Channel:
        """See `Store`. SQLite tells nobody anything."""
        return "polling"

    async def listen(self, hint: Hint) -> None:
        """See `Store`. The old application's ends are found among the notes, see `polling.py`.

        A look takes the write lock: there is one only when somebody has written.
        """
        seen: int | None = None

        async def just_ended(window: timedelta, limit: int) -> Sequence[UUID]:
            nonlocal seen
            version = await self._version()
            if version == seen:
                return ()
            found = await self._look(lambda sessions: sessions.just_ended(window, limit))
            seen = version
            return found

        await poll(hint, just_ended)

    async def _version(self) -> int:
        try:
            return await self._in_thread(self._writer.version)
        except (NotDone, sqlite3.Error) as error:
            raise to_raise(error, self._where) from error
