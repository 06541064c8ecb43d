"""Noting what is written to a legacy file during a move, and which of its rows are odd.

The triggers in the old application's process note keys only. What a note means is found out here: new rows get their
ids, the originals of odd ones are kept, and the log of the move names the session.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from holdfast.legacy import statements
from holdfast.legacy.adoption import CHUNK
from holdfast.legacy.judging import Judged
from holdfast.legacy.originals import digest_of_row
from holdfast.legacy.rows import NAMES, LegacyRow
from holdfast.legacy.walking import rows_after, strange_rows
from holdfast.legacy.whole_table import WholeTable
from holdfast.move.clocks import lead_of
from holdfast.move.legacy_file import IS_KEY, LegacyFile
from holdfast.move.legacy_rows import note_of
from holdfast.move.legacy_sqlite_objects import TABLES, own_triggers, triggers
from holdfast.move.state import TAKEN_OVER, LeaseHeld
from holdfast.sql.tables import instant

_NEWS: Final = 500
# Chunks of rows that are looked at before the place is noted.
_WALKED: Final = 20


class LegacyCapture(LegacyFile):
    """The part that notes."""

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
                raise LeaseHeld(TAKEN_OVER)
        self._install()
        for statement in TABLES:
            self._run(statement)
        self._run(
            "INSERT INTO holdfast_move_legacy (id, walked, reading) VALUES (1, x'', ?) "
            "ON CONFLICT (id) DO UPDATE SET walked = x'', reading = excluded.reading",
            self._way,
        )
        self._run("DELETE FROM holdfast_imported")

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

    def _note_all(self, key: Any, now: int) -> None:
        """Keep the originals of the rows of a key that are odd, and of no other."""
        self._run(f"DELETE FROM holdfast_imported WHERE {IS_KEY.format('session_key')}", key)
        for row in self._all(f"SELECT {NAMES} FROM sessions WHERE {IS_KEY.format('session_id')}", key):
            self._note(LegacyRow._make(row), now)

    def _judged(self, row: LegacyRow, at: datetime) -> tuple[Judged, str | None]:
        """What becomes of a row, and the id of its session."""
        id, over = None, False
        if isinstance(row.session_id, str):
            known = self._one(statements.ID_OF, row.session_id)
            id = None if known is None else known[0]
            over = known is None and self._one(statements.IS_REFUSED, digest_of_row(row)) is not None
        return self._reader.judge(row, at, over=over), id

    def _note(self, row: LegacyRow, now: int) -> None:
        at = instant(now)
        judged, id = self._judged(row, at)
        if judged.remarks:
            self._run(
                "INSERT OR REPLACE INTO holdfast_imported (digest, session_id, user_id, remarks, live, original, "
                "session_key, read_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                *note_of(judged, id, at),
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
