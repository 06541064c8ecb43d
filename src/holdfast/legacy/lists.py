"""Many sessions of a legacy file: listed in short steps, and counted."""

from uuid import UUID

from holdfast.legacy import statements
from holdfast.legacy.lookup import Lookup
from holdfast.sessions.session import Record


class Lists(Lookup):
    """The part that lists and counts."""

    def page(self, user_id: str | None, limit: int, after: UUID | None) -> tuple[list[Record], UUID | None]:
        """Look at some sessions in order of id: the live ones, and the id to go on after, `None` at the end."""
        start = "" if after is None else after.hex
        if user_id is None:
            rows = self._driver.execute(statements.PAGE, (start, limit)).fetchall()
        else:
            rows = self._driver.execute(statements.PAGE_OF_USER, (user_id, start, limit)).fetchall()
        records = [found.record for row in rows if (found := self._found(row)) is not None]
        live = [record for record in records if self._is_live(record) and user_id in (None, record.user_id)]
        return live, UUID(hex=rows[-1][1]) if len(rows) == limit else None

    def kept(self, limit: int, after: UUID | None) -> tuple[list[tuple[Record, bool]], UUID | None]:
        """Some rows in order of id, each with whether it is live; and the id to go on after, `None` at the end."""
        rows = self._driver.execute(statements.PAGE, ("" if after is None else after.hex, limit)).fetchall()
        records = [found.record for row in rows if (found := self._found(row)) is not None]
        place = UUID(hex=rows[-1][1]) if len(rows) == limit else None
        return [(record, self._is_live(record)) for record in records], place

    def count_live(self) -> int | None:
        """See `Store`. Rows in the usual form are counted by SQLite, the others one by one.

        `None` when it would take long: in hours in which texts of local times do not compare as their instants do, and
        with an idle timeout.
        """
        text = self._reader.steady(self.now)
        if text is None or self._policy.idle_timeout is not None:
            return None
        count: int = self._driver.execute(statements.COUNT, {"text": text}).fetchone()[0]
        return count + self._count(statements.ODD)

    def _count(self, statement: str) -> int:
        return sum(1 for row in self._driver.execute(statement) if (f := self._found(row)) and self._is_live(f.record))
