"""The sessions of a legacy file as a move reads them: rows of the native form, put together from what is there."""

from collections.abc import Sequence
from typing import Any, Final

from holdfast.legacy.rows import LegacyRow
from holdfast.move.legacy_file import LegacyFile
from holdfast.move.legacy_rows import Beside, of_ended, says_the_same, to_native, usual_to_native
from holdfast.move.legacy_sqlite_objects import COUNT_SESSIONS
from holdfast.move.rows import SESSIONS, Images, Key, Row, Shape

_OF_IDS: Final = (
    "SELECT i.session_id, i.id, i.digest, i.previous_digest, i.replaced_at, "
    + ", ".join(f"s.{name}" for name in LegacyRow._fields)
    + ", o.read_at FROM holdfast_ids i JOIN sessions s ON s.session_id = i.session_id "
    "LEFT JOIN holdfast_imported o ON o.session_key = i.session_id"
)
_OF_ENDED: Final = "SELECT id, digest, previous_digest, user_id, ended_at, end_reason, notified_at FROM holdfast_ended"


class LegacyImages(LegacyFile):
    """The part that reads sessions."""

    def seen(self, theirs: Images, ours: Images) -> Images:
        """See `SqliteSide`."""
        here = ours.rows[SESSIONS.table]
        rows = {key: self.seen_row(SESSIONS, row, here.get(key)) for key, row in theirs.rows[SESSIONS.table].items()}
        return Images(theirs.rows | {SESSIONS.table: rows}, theirs.gone)

    def seen_row(self, shape: Shape, theirs: Row, ours: Row | None) -> Row:
        """See `SqliteSide`."""
        if shape is not SESSIONS or ours is None:
            return theirs
        return ours if says_the_same(ours, theirs, self._zone) else theirs

    def _native(self, values: Sequence[Any]) -> Row | None:
        *row, read_at = values
        if read_at is None and (usual := usual_to_native(row, self._usual)) is not None:
            return usual
        return to_native(Beside(*row[:5]), LegacyRow(*row[5:]), self._zone, read_at, self._on_bad_expiry)

    def _chunk(self, shape: Shape, after: Key | None, limit: int) -> list[Row]:
        if shape is not SESSIONS:
            return super()._chunk(shape, after, limit)
        place, rows = after or "", list[Row]()
        while len(rows) < limit:
            ids = self._all(f"{_OF_IDS} WHERE i.id > ? ORDER BY i.id LIMIT ?", place, limit)
            ended = self._all(f"{_OF_ENDED} WHERE id > ? ORDER BY id LIMIT ?", place, limit)
            if not ids and not ended:
                break
            # Up to where both are known.
            ends = [found[-1][at] for found, at in ((ids, 1), (ended, 0)) if len(found) == limit]
            bound = min(ends) if ends else None
            native = [self._native(each) for each in ids if bound is None or each[1] <= bound]
            found = [row for row in native if row is not None]
            found += [of_ended(*each) for each in ended if bound is None or each[0] <= bound]
            rows += sorted(found, key=lambda row: str(row[0]))
            if bound is None:
                break
            place = bound
        return rows[:limit]

    def _rows_of(self, shape: Shape, keys: Sequence[Key]) -> list[Row]:
        if shape is not SESSIONS:
            return super()._rows_of(shape, keys)
        marks = ", ".join("?" * len(keys))
        native = [self._native(each) for each in self._all(f"{_OF_IDS} WHERE i.id IN ({marks})", *keys)]
        ended = [of_ended(*each) for each in self._all(f"{_OF_ENDED} WHERE id IN ({marks})", *keys)]
        return [row for row in native if row is not None] + ended

    def _count(self, shape: Shape, to: Key | None = None) -> int:
        if shape is not SESSIONS:
            return super()._count(shape, to)
        count: int = self._all(COUNT_SESSIONS, to)[0][0]
        return count
