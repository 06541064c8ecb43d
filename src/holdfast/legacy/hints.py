"""How a process hears of ends in a legacy file that others have made: it looks, several times a second."""

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from holdfast.legacy.caller import LegacyCaller
from holdfast.sessions.errors import HoldfastError
from holdfast.sessions.store import Channel, Hint
from holdfast.sql.failures import NotDone

_ENDS_SECONDS: Final = 0.25
_ENDS_MARGIN_SECONDS: Final = 2.0
_LONGEST_SILENCE_SECONDS: Final = 30.0
_ENDS_LIMIT: Final = 1000

log = logging.getLogger("holdfast.legacy")


class LegacyHints(LegacyCaller):
    """The part that listens."""

    @property
    def channel(self) -> Channel:
        """See `Store`. SQLite tells nobody anything."""
        return "polling"

    async def listen(self, hint: Hint) -> None:
        """See `Store`. The old application's ends are found among the notes, looked for several times a second."""
        time = asyncio.get_running_loop().time
        looked_until: float | None = None
        while True:
            now = time()
            lost = looked_until is None or now - looked_until > _LONGEST_SILENCE_SECONDS
            if lost:
                hint(None)
            silence = 0.0 if lost or looked_until is None else now - looked_until
            window = timedelta(seconds=silence + _ENDS_MARGIN_SECONDS)
            try:
                # Other processes of ours, and the old application, are other connections; this one's ends are told.
                if lost or await self._in_thread(self._writer.has_news):
                    found = await self._just_ended(window)
                    hint(None if len(found) == _ENDS_LIMIT else found)
                looked_until = now
            except (HoldfastError, NotDone, sqlite3.Error) as error:
                looked_until = None
                log.debug("could not look for other processes' ends: %s", type(error).__name__)
            await asyncio.sleep(_ENDS_SECONDS)

    async def _just_ended(self, window: timedelta) -> Sequence[UUID]:
        return await self._look(lambda sessions: sessions.just_ended(window, _ENDS_LIMIT))
