"""The SQLite half of a move whose file has the legacy form, with the old application perhaps still writing.

What differs from a native file: `sessions` is the old application's table, so a session is put together from its row
and from what Holdfast keeps beside it, and taken apart again; and a row that was written is known to the log only after
its note was gathered, which gives new rows their ids and keeps the originals of odd ones (`holdfast_imported`).
"""

import sqlite3
from contextlib import closing, suppress
from datetime import timedelta
from uuid import UUID

from holdfast.legacy import statements
from holdfast.move.clocks import WritersClock
from holdfast.move.legacy_capture import LegacyCapture
from holdfast.move.legacy_images import LegacyImages
from holdfast.move.legacy_return import LegacyReturn
from holdfast.move.legacy_sqlite_objects import DROPPED, last_seal, own_triggers
from holdfast.move.state import SqliteState
from holdfast.sql.failures import NotDone
from holdfast.sql.tables import instant


class LegacySide(LegacyImages, LegacyCapture, LegacyReturn):
    """The file. One task of a mover uses it, one call at a time."""

    def look(self) -> SqliteState:
        """See `SqliteSide`. What was written counts from when it was gathered."""
        if not statements.is_controlled(self._driver):
            return SqliteState("here", UUID(int=0), None, None, 0, 0, 0, whole=False)
        moving = statements.is_moving(self._driver)
        here = statements.held(self._driver).authority == "here"
        if moving and not (self.reads_anew and here):
            self._read_as_the_move_does()
        if moving and here and self._has_news():
            # Not done means that the old application did not let go of the lock: then the next look gathers more.
            with suppress(NotDone), self._stepping("gather", None):
                self._gather()
        return super().look()

    def clocks(self) -> list[WritersClock]:
        """See `SqliteSide`."""
        with self._reading():
            found = self._all("SELECT lead, writes, seen_at FROM holdfast_move_clocks ORDER BY lead")
        return [WritersClock(lead, writes, instant(seen_at)) for lead, writes, seen_at in found]

    def quarantined_live(self) -> int:
        """See `SqliteSide`."""
        with self._reading():
            count: int = self._all("SELECT count(*) FROM holdfast_imported WHERE session_id IS NULL AND live")[0][0]
            return count

    def written_by_others(self) -> timedelta | None:
        """See `SqliteSide`."""
        with self._reading():
            retired, wrote_at = self._all("SELECT retired, wrote_at FROM holdfast_move_legacy")[0]
            ago = self._now() - wrote_at if wrote_at is not None and not retired else None
        return None if ago is None else timedelta(microseconds=max(0, ago))

    def retire(self, token: int) -> None:
        """See `SqliteSide`."""
        with self._stepping("retire", token):
            self._run("UPDATE holdfast_move_legacy SET retired = 1 WHERE id = 1")

    # The end

    def _admit(self) -> None:
        """See `SqliteSide`. The old application may write again too."""
        self._run("UPDATE holdfast_move_legacy SET retired = 0 WHERE id = 1")

    def _leave(self) -> None:
        if statements.held(self._driver).authority == "there":
            self._erase()
        for table in DROPPED:
            self._run(f"DROP TABLE IF EXISTS {table}")

    def remove(self, token: int, *, serving: bool = False) -> None:
        """See `SqliteSide`. After a move that is completed no token is left in the file, nor in what it has freed."""
        self._driver.execute("PRAGMA secure_delete = ON").fetchall()
        erasing = statements.held(self._driver).authority == "there"
        super().remove(token, serving=serving)
        if erasing:
            # Best effort: somebody may have the file open. What was deleted above was overwritten in any case.
            with suppress(sqlite3.Error), closing(self._driver.cursor()) as cursor:
                cursor.execute("VACUUM")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _erase(self) -> None:
        """Delete what holds tokens in clear, and refuse the old application for good."""
        for name in own_triggers():
            self._run(f"DROP TRIGGER IF EXISTS {name}")
        for table in (
            "sessions",
            "holdfast_ids",
            "holdfast_owners",
            "holdfast_unread",
            "holdfast_ended",
            "holdfast_tickets",
            "holdfast_new",
            "holdfast_gone",
        ):
            self._run(f"DELETE FROM {table}")
        for name, text in last_seal().items():
            self._run(f"DROP TRIGGER IF EXISTS {name}")
            self._run(text)
