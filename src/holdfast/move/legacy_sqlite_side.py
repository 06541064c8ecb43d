"""The SQLite half of a move whose file has the legacy form, with the old application perhaps still writing.

What differs from a native file: `sessions` is the old application's table, so a session is put together from its row
and from what Holdfast keeps beside it, and taken apart again; and a row that was written is known to the log only after
its note was gathered, which gives new rows their ids and keeps the originals of odd ones (`holdfast_imported`).
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from holdfast.legacy import statements
from holdfast.legacy.adoption import CHUNK, Adoption
from holdfast.legacy.beside import BesideOthers
from holdfast.legacy.originals import digest_of_row
from holdfast.legacy.reading import Reader
from holdfast.legacy.rows import LegacyRow, OnBadExpiry
from holdfast.legacy.tables import install
from holdfast.legacy.usual_rows import UsualRows
from holdfast.legacy.walking import rows_after, strange_rows
from holdfast.legacy.whole_table import WholeTable
from holdfast.legacy.zone import zone_named
from holdfast.move.clocks import WritersClock, lead_of
from holdfast.move.legacy_rows import (
    Beside,
    Judged,
    changed,
    judge,
    of_ended,
    says_the_same,
    to_legacy,
    to_native,
    usual_to_native,
)
from holdfast.move.legacy_sqlite_objects import COUNT_SESSIONS, DROPPED, TABLES, last_seal, own_triggers, triggers
from holdfast.move.rows import IMPORTED, SESSIONS, Images, Key, Row, Shape
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.state import LeaseHeld, MoveRefused, Reached, SqliteState
from holdfast.sql.failures import NotDone
from holdfast.sql.tables import instant

Answer = TypeVar("Answer")

_OPENING_SECONDS: Final = 10.0
_NEWS: Final = 500
# Chunks of rows that are looked at before the place is noted.
_WALKED: Final = 20
_NAMES: Final = ", ".join(LegacyRow._fields)
_OF_IDS: Final = (
    "SELECT i.session_id, i.id, i.digest, i.previous_digest, i.replaced_at, "
    + ", ".join(f"s.{name}" for name in LegacyRow._fields)
    + ", o.read_at FROM holdfast_ids i JOIN sessions s ON s.session_id = i.session_id "
    "LEFT JOIN holdfast_imported o ON o.session_key = i.session_id"
)
_OF_ENDED: Final = "SELECT id, digest, previous_digest, user_id, ended_at, end_reason, notified_at FROM holdfast_ended"
# A key that the driver gave as bytes is a blob, or a text that is not UTF-8.
_IS_KEY: Final = "({0} IS ?1 OR (typeof(?1) = 'blob' AND {0} = CAST(?1 AS TEXT)))"


class LegacySide(BesideOthers, SqliteSide):
    """The file. One task of a mover uses it, one call at a time."""

    keeps_clear = True
    # Nobody waits for an answer of it: rather late than once more.
    busy_milliseconds = 2000

    def __init__(self, path: Path, reached: Reached, zone: tzinfo, on_bad_expiry: OnBadExpiry = "quarantine") -> None:
        """Prepare it; `open` connects. The zone is the one whose local times the old application writes."""
        super().__init__(path, reached)
        self._zone = zone
        self._reader = Reader(zone)
        self._usual = UsualRows(zone)
        self._on_bad_expiry = on_bad_expiry
        self._adoption: Adoption

    def open(self) -> None:
        """Connect. Changes nothing."""
        self._connect(_OPENING_SECONDS)
        self._adoption = Adoption(self._driver)

    def make_ready(self) -> None:
        """See `SqliteSide`: Holdfast's own tables beside the legacy one. Whoever serves the file looks at its rows."""
        if statements.held(self._driver).authority == "here":
            self._alone_with(self._install)

    def refuse_replaced(self) -> None:
        """See `FileWriter`."""
        if self._is_replaced():
            raise MoveRefused(
                f"{self._where} was replaced or deleted while it was open; stop all processes that use it, put the "
                "right file in place and start again"
            )

    def _committed(self) -> None:
        """Nothing: the file's log is the old application's affair too."""

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

    def _read_as_the_move_does(self) -> None:
        """Whoever goes on with a move reads rows in its zone, whatever his own is: else all would mean other times."""
        row = self._one("SELECT reading FROM holdfast_move_legacy WHERE id = 1")
        if row is not None and row[0] != self._way:
            zone, _, on_bad_expiry = row[0].rpartition(" ")
            self._zone, self._on_bad_expiry = zone_named(zone), cast("OnBadExpiry", on_bad_expiry)
            self._reader = Reader(self._zone)
            self._usual = UsualRows(self._zone)

    def clocks(self) -> list[WritersClock]:
        """See `SqliteSide`."""
        with self._reading():
            found = self._all("SELECT lead, writes, seen_at FROM holdfast_move_clocks ORDER BY lead")
        return [WritersClock(lead, writes, instant(seen_at)) for lead, writes, seen_at in found]

    @property
    def zone(self) -> tzinfo:
        """See `SqliteSide`."""
        return self._zone

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

    # What a session is here

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

    # Capture

    def _triggers(self) -> dict[str, str]:
        return triggers()

    def _is_ready(self) -> bool:
        own = self._all("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'holdfast%row'")
        # Read in another zone, every time means another instant: then all is to be copied anew.
        walked = self._one("SELECT walked IS NULL AND reading = ? FROM holdfast_move_legacy WHERE id = 1", self._way)
        return {name for (name,) in own} >= set(own_triggers()) and walked == (1,)

    def _prepare(self, move: UUID, token: int) -> None:
        """Give every row its id, and make what the triggers write into. Rows are looked at anew after this."""
        self._alone_with(lambda: self._anew(move, token))
        if self._one("SELECT adopted FROM holdfast_control") != (1,):
            for work in WholeTable(self._driver, self._adoption).steps():
                self._alone_with(work)
        while self._adoption.backlog() > CHUNK:
            self._alone_with(self._adopt)

    def _anew(self, move: UUID, token: int) -> None:
        if self._one("SELECT 1 FROM sqlite_master WHERE name = 'holdfast_move'") is not None:
            row = self._one("SELECT move, token FROM holdfast_move WHERE id = 1")
            if row is not None and (row[0] != str(move) or row[1] > token):
                raise LeaseHeld("another process took the move over")
        self._install()
        for statement in TABLES:
            self._run(statement)
        self._run(
            "INSERT INTO holdfast_move_legacy (id, walked, reading) VALUES (1, x'', ?) "
            "ON CONFLICT (id) DO UPDATE SET walked = x'', reading = excluded.reading",
            self._way,
        )
        self._run("DELETE FROM holdfast_imported")

    def _install(self) -> None:
        if install(self._driver):
            # Rows may have come and gone unnoticed.
            self._run("UPDATE holdfast_control SET adopted = 0 WHERE id = 1")

    def _installed(self, token: int) -> None:
        """Look at every row for odd ones, with the lock for those alone: what is written meanwhile has its note."""
        (place,) = self._one("SELECT walked FROM holdfast_move_legacy WHERE id = 1") or (None,)
        while place is not None:
            odd, place = self._look_for_odd(place)
            with self._stepping("walk", token):
                while self._adopt():
                    pass
                now = self._now()
                for key in odd:
                    self._note_all(key, now)
                self._run("UPDATE holdfast_move_legacy SET walked = ? WHERE id = 1", place)

    def _look_for_odd(self, place: bytes) -> tuple[list[Any], bytes | None]:
        """The keys of the odd ones among some rows after a place, and the place to go on after, `None` at the end."""
        after: bytes | None = place
        odd: list[Any] = []
        if place == b"":
            odd = list(
                {(type(row.session_id), row.session_id): row.session_id for row in strange_rows(self._driver)}.values()
            )
        for _ in range(_WALKED):
            if after is None:
                break
            # Each in a read of its own: a longer one would keep the old application from committing.
            rows, after = rows_after(self._driver, after, served=True)
            now = self._now()
            at = instant(now)
            for *row, _, id in rows:
                # A row without an id may be one that is over.
                if id is None or self._usual.read(row, now) is None:
                    odd += [row[0]] if self._judged(LegacyRow._make(row), at)[0].remarks else []
        return odd, after

    @contextmanager
    def _gathering(self) -> Iterator[None]:
        """See `SqliteSide`. What is read belongs to the log as it is once all notes are gathered: hence the lock."""
        if self._one("SELECT 1 FROM holdfast_control WHERE authority = 'here'") is None:
            with self._reading():
                yield
            return
        with self._stepping("gather", None):
            self._gather()
            yield

    def _has_news(self) -> bool:
        return self._one("SELECT 1 FROM holdfast_move_news LIMIT 1") is not None or self._adoption.backlog() > 0

    def _gather_all(self) -> None:
        while self._has_news():
            self._gather()

    def _gather(self) -> None:
        """Take up some of what was noted: ids for new rows, traces of those that went, originals, the log."""
        while self._adopt():
            pass
        now = self._now()
        news = self._all(
            "SELECT seq, session_id, at, activity, ours FROM holdfast_move_news ORDER BY seq LIMIT ?", _NEWS
        )
        for key in {(type(each[1]), each[1]): each[1] for each in news}.values():
            self._note_all(key, now)
            if isinstance(key, str):
                self._run(
                    "INSERT INTO holdfast_move_log (shape, key) SELECT 'sessions', id FROM holdfast_ids "
                    "WHERE session_id = ?",
                    key,
                )
        self._measure(news)
        if news:
            self._run("DELETE FROM holdfast_move_news WHERE seq <= ?", news[-1][0])

    def _adopt(self) -> bool:
        """Take up a chunk of what the old application made and deleted; whether there may be more."""
        now = self._now()
        return self._adoption.drain(now, self._reader.has_expired(instant(now)))

    def _note_all(self, key: Any, now: int) -> None:
        """Keep the originals of the rows of a key that are odd, and of no other."""
        self._run(f"DELETE FROM holdfast_imported WHERE {_IS_KEY.format('session_key')}", key)
        for row in self._all(f"SELECT {_NAMES} FROM sessions WHERE {_IS_KEY.format('session_id')}", key):
            self._note(LegacyRow._make(row), now)

    def _judged(self, row: LegacyRow, at: datetime) -> tuple[Judged, str | None]:
        """What becomes of a row, and the id of its session."""
        id, over = None, False
        if isinstance(row.session_id, str):
            known = self._one(statements.ID_OF, row.session_id)
            id = None if known is None else known[0]
            over = known is None and self._one(statements.IS_REFUSED, digest_of_row(row)) is not None
        return judge(row, self._zone, at, over=over, on_bad_expiry=self._on_bad_expiry), id

    def _note(self, row: LegacyRow, now: int) -> None:
        at = instant(now)
        judged, id = self._judged(row, at)
        if judged.remarks:
            self._run(
                "INSERT OR REPLACE INTO holdfast_imported (digest, session_id, user_id, remarks, live, original, "
                "session_key, read_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *judged.note(id, at),
                row.session_id,
                now,
            )

    def _measure(self, news: Sequence[Any]) -> None:
        """Note what the old application's writes say of its clock, and when it wrote."""
        for _, _, at, activity, ours in news:
            if ours:
                continue
            self._run(
                "UPDATE holdfast_move_legacy SET wrote_at = max(coalesce(wrote_at, 0), ?) WHERE id = 1", int(at * 1e6)
            )
            measured = lead_of(activity, at)
            if measured is not None:
                self._run(
                    "INSERT INTO holdfast_move_clocks VALUES (?, 1, ?) ON CONFLICT (lead) DO UPDATE SET "
                    "writes = writes + 1, seen_at = excluded.seen_at",
                    measured,
                    int(at * 1e6),
                )

    # Back

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
            self._run(f"DELETE FROM sessions WHERE user_id = ?2 AND {_IS_KEY.format('session_id')}", key, user_id)

    # The end

    def _admit(self) -> None:
        """See `SqliteSide`. The old application may write again too."""
        self._run("UPDATE holdfast_move_legacy SET retired = 0 WHERE id = 1")

    def _leave(self) -> None:
        if statements.held(self._driver).authority == "there":
            self._erase()
        for table in DROPPED:
            self._run(f"DROP TABLE IF EXISTS {table}")

    def remove(self, token: int) -> None:
        """See `SqliteSide`. After a move that is completed no token is left in the file, nor in what it has freed."""
        self._driver.execute("PRAGMA secure_delete = ON").fetchall()
        erasing = statements.held(self._driver).authority == "there"
        super().remove(token)
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

    # Helpers

    def _now(self) -> int:
        micro: int = self._all(statements.NOW)[0][0]
        return micro

    @property
    def _way(self) -> str:
        """How the rows are read."""
        return f"{self._zone} {self._on_bad_expiry}"

    def _alone_with(self, work: Callable[[], Answer]) -> Answer:
        """The answer of some work in a transaction of its own."""
        with self._turn():
            self._statement("BEGIN IMMEDIATE")
            try:
                answer = work()
                self._run("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            return answer
