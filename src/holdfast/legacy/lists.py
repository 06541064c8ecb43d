"""Many sessions of a legacy file: listed in short steps, and counted."""

from typing import Any
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
            kept, place = self._page(statements.PAGE, start, limit)
        else:
            kept, place = self._page(statements.PAGE_OF_USER, user_id, start, limit)
        return [record for record, live in kept if live and user_id in (None, record.user_id)], place

    def kept(self, limit: int, after: UUID | None) -> tuple[list[tuple[Record, bool]], UUID | None]:
        """Some sessions in order of id, each with whether it is live; and the id to go on after, `None` at the end."""
        return self._page(statements.PAGE, "" if after is None else after.hex, limit)

    def _page(self, statement: str, *values: Any) -> tuple[list[tuple[Record, bool]], UUID | None]:
        rows = self._driver.execute(statement, values).fetchall()
        place = UUID(hex=rows[-1][1]) if len(rows) == values[-1] else None
        return [(found.record, self._is_live(found.record)) for found in self._all(rows)], place

    def count_live(self) -> int | None:
        """See `Store`. Rows in the usual form are counted by SQLite, the others one by one.

        `None` when it would take long: in hours in which texts of local times do not compare as their instants do, and
        with an idle timeout.
        """
        text = self._reader.steady(self.now)
        if text is None or self._policy.idle_timeout is not None:
            return None
        count: int = self._driver.execute(statements.COUNT, {"text": text}).fetchone()[0]
        return count + sum(self._is_live(found.record) for found in self._all(self._driver.execute(statements.ODD)))
