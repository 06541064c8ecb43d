"""Sessions on their way back into a legacy file: written column by column, so that what nobody changed stays."""

import secrets
from collections.abc import Sequence

from holdfast.legacy.rows import LegacyRow
from holdfast.move.legacy_file import IS_KEY, LegacyFile
from holdfast.move.legacy_rows import changed, to_legacy
from holdfast.move.rows import IMPORTED, SESSIONS, Key, Row, Shape


class LegacyReturn(LegacyFile):
    """The part that writes what PostgreSQL says."""

    def _applied(self) -> None:
        """See `SqliteSide`. The file takes no writes but these: all notes are of the rows that were just written."""
        while self._adopt():
            pass

    def _put(self, shape: Shape, rows: Sequence[Row]) -> None:
        if shape is IMPORTED:
            for row in rows:
                self._forget_erased(row)
        if shape is not SESSIONS:
            super()._put(shape, rows)
            return
        now = self._now()
        for row in rows:
            if row[list(SESSIONS.forms).index("ended_at")] is None:
                self._put_live(row, now)
            else:
                self._put_ended(row)

    def _delete(self, shape: Shape, keys: Sequence[Key]) -> None:
        if shape is not SESSIONS:
            super()._delete(shape, keys)
            return
        for id in keys:
            self._take_away(id)
            # Nobody would know any more that a row which the old application wrote again is over.
            self._run(
                "DELETE FROM sessions WHERE session_id IN (SELECT o.session_key FROM holdfast_imported o "
                "JOIN holdfast_ended e ON e.digest = o.digest WHERE e.id = ? AND e.revived AND o.session_id IS NULL)",
                id,
            )
            self._run("DELETE FROM holdfast_ended WHERE id = ?", id)

    def _take_away(self, id: Key) -> None:
        self._run("DELETE FROM sessions WHERE session_id IN (SELECT session_id FROM holdfast_ids WHERE id = ?)", id)
        self._run("DELETE FROM holdfast_ids WHERE id = ?", id)

    def _put_ended(self, row: Row) -> None:
        value = dict(zip(SESSIONS.forms, row, strict=True))
        self._take_away(value["id"])
        names = ("id", "digest", "previous_digest", "user_id", "ended_at", "end_reason", "notified_at")
        self._run(
            f"INSERT OR REPLACE INTO holdfast_ended ({', '.join(names)}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(value[name] for name in names),
        )

    def _put_live(self, row: Row, now: int) -> None:
        value = dict(zip(SESSIONS.forms, row, strict=True))
        beside = (value["digest"], value["previous_digest"], value["replaced_at"])
        known = self._one(
            "SELECT session_id, digest, previous_digest, replaced_at FROM holdfast_ids WHERE id = ?", value["id"]
        )
        if known is None:
            key = self._key_for(value["digest"])
            self._run("DELETE FROM holdfast_ended WHERE id = ?", value["id"])
            columns = {"session_id": key} | to_legacy(row, self._zone)
            self._run(
                f"INSERT INTO sessions ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                *columns.values(),
            )
            self._run(
                "INSERT INTO holdfast_ids (session_id, id, digest, previous_digest, replaced_at, user_id, odd) "
                "VALUES (?, ?, ?, ?, ?, ?, 0)",
                *(key, value["id"], *beside, value["user_id"]),
            )
            return
        key = known[0]
        if known[1:] != beside:
            key = known[0] if known[1] == value["digest"] else self._key_for(value["digest"])
            self._run("UPDATE sessions SET session_id = ? WHERE session_id = ?", key, known[0])
            self._run("UPDATE holdfast_imported SET session_key = ? WHERE session_key = ?", key, known[0])
            self._run(
                "UPDATE holdfast_ids SET session_id = ?, digest = ?, previous_digest = ?, replaced_at = ? WHERE id = ?",
                *(key, *beside, value["id"]),
            )
        self._write_changes(row, key, now)

    def _write_changes(self, row: Row, key: str, now: int) -> None:
        """Write the columns that differ, until the row means what PostgreSQL's does: one may stand in for another."""
        self._run("UPDATE holdfast_imported SET read_at = ? WHERE session_key = ?", now, key)
        for _ in LegacyRow._fields:
            here = next(iter(self._rows_of(SESSIONS, [row[0]])), None)
            columns = to_legacy(row, self._zone) if here is None else changed(row, here, self._zone)
            if not columns:
                return
            names = ", ".join(f"{name} = ?" for name in columns)
            self._run(f"UPDATE sessions SET {names} WHERE session_id = ?", *columns.values(), key)

    def _key_for(self, digest: bytes) -> str:
        """The token of a digest; where nobody kept it, a key that opens nothing to anybody who has not read the file.

        Holdfast finds the session by its digest all the same. To the old application it is lost.
        """
        kept = self.kept.get(digest)
        return kept if kept is not None else f"holdfast-{secrets.token_hex(32)}"

    def _forget_erased(self, row: Row) -> None:
        """Delete the legacy row of a quarantined one whose user was erased: its original is gone over there."""
        digest, id, original = row[0], row[1], row[5]
        if id is not None or original is not None:
            return
        known = self._one(
            "SELECT session_key, user_id FROM holdfast_imported WHERE digest = ? AND user_id IS NOT NULL", digest
        )
        if known is not None:
            key, user_id = known
            self._run("DELETE FROM holdfast_ids WHERE session_id = ?", key)
            self._run(f"DELETE FROM sessions WHERE user_id = ?2 AND {IS_KEY.format('session_id')}", key, user_id)
