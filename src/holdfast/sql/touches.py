"""SQLite: how a batch's activities are counted, on the driver's own connection. It is most of what a writer does.

Each session is looked up by itself, then all are written at once. One statement that did both, with RETURNING, would
keep every row aside until it had written it, which takes longer than both together.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ClauseElement
from sqlalchemy.dialects import sqlite as sqlite_dialect

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.session import Record
from holdfast.sessions.store import Key
from holdfast.sql.statements import Statements
from holdfast.sql.tables import instant, microseconds, uuid_of

Touched = Record | StoreRefused | None
"""What a key opens after a touch: nothing that is live, or a row that is not counted because it is damaged."""


class Touches:
    """Counts activities within the transaction that has begun, in which nobody else can write."""

    def __init__(self, statements: Statements, clock: Clock, where: str) -> None:
        """Compile the statements; `where` is the store's name for messages."""
        self._clock = clock
        self._where = where
        self._by_digest = _Compiled(statements.touch(by_id=False))
        self._by_id = _Compiled(statements.touch(by_id=True))
        self._touched = _Compiled(statements.touched)

    def __call__(self, driver: sqlite3.Connection, activities: Mapping[Key, int]) -> dict[Key, Touched]:
        """Count so many activities for each key; what each one opens now.

        Several keys may open one session, its id and its digests: then all of them get the sum.
        """
        cursor = driver.cursor()
        offset = microseconds(self._clock.offset)
        rows: dict[int, tuple[Any, ...]] = {}
        sums: dict[int, int] = {}
        opened: dict[Key, int] = {}
        for key, number in activities.items():
            row = (
                self._by_id.row(cursor, key.hex, offset)
                if isinstance(key, UUID)
                else self._by_digest.row(cursor, key, offset)
            )
            if row is not None:
                place = opened[key] = row[0]
                rows[place] = row
                sums[place] = sums.get(place, 0) + number
        touched = {place: self._record(row, sums[place]) for place, row in rows.items()}
        counted = [place for place, record in touched.items() if isinstance(record, Record)]
        self._touched.run(
            cursor,
            len(counted),
            place=counted,
            activities=(sums[place] for place in counted),
            moved_to=(rows[place][-2] for place in counted),
        )
        return {key: touched[opened[key]] if key in opened else None for key in activities}

    def _record(self, row: tuple[Any, ...], activities: int) -> Record | StoreRefused:
        """The session of a row. One that another program has spoilt fails alone: SQLite takes anything as a value."""
        _, id, user_id, metadata, version, created_at, expires_at, last_activity, count = row
        try:
            if not isinstance(metadata, str):
                raise TypeError("metadata is no text")
            times = instant(created_at), instant(expires_at), instant(last_activity)
            return Record._make((uuid_of(id), user_id, metadata, version, *times, count + activities))
        except (TypeError, ValueError, AttributeError, StoreRefused):
            return StoreRefused(f"{self._where} has a damaged row for this session; end it, or restore a backup")


class _Compiled:
    """A statement's text, and where in its arguments those stand that change."""

    def __init__(self, statement: ClauseElement) -> None:
        compiled: Any = statement.compile(dialect=sqlite_dialect.dialect())
        self._text: str = compiled.string
        self._order: tuple[str, ...] = tuple(compiled.positiontup)
        spans = {name: microseconds(value) for name, value in compiled.params.items() if value is not None}
        self._arguments: list[Any] = [spans.get(name) for name in self._order]
        self._asked = [place for place, name in enumerate(self._order) if name == "asked"]
        self._offset = [place for place, name in enumerate(self._order) if name == "offset"]

    def row(self, cursor: sqlite3.Cursor, asked: bytes | str, offset: int) -> tuple[Any, ...] | None:
        """The row for one key, if there is one."""
        arguments = self._arguments
        for place in self._asked:
            arguments[place] = asked
        for place in self._offset:
            arguments[place] = offset
        row: tuple[Any, ...] | None = cursor.execute(self._text, arguments).fetchone()
        return row

    def run(self, cursor: sqlite3.Cursor, number: int, **columns: Iterable[Any]) -> None:
        """Change one row for each of so many sets of arguments, which are given by their columns."""
        cursor.executemany(self._text, zip(*(columns[name] for name in self._order), strict=True))
        if cursor.rowcount != number:
            raise RuntimeError("a row that was found could not be written; does a trigger keep it from that?")
