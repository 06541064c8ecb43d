"""What a mover reads of the SQLite file: how it stands, its log, its rows. Each answer is of one instant."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

from holdfast.move.clocks import WritersClock
from holdfast.move.rows import SHAPES, Images, Key, Keys, Row, Shape
from holdfast.move.sqlite_objects import native_triggers
from holdfast.move.state import MoveRefused, SqliteState
from holdfast.sessions.clock import Clock
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import Authority
from holdfast.sql.statements import Statements
from holdfast.sql.tables import instant, tables
from holdfast.sql.writer import Writer

# SQLite takes so many values in one statement, in every version we support.
_MOST_VALUES: Final = 500


@dataclass(frozen=True, slots=True)
class Changes:
    """A stretch of the log: the rows it names as they are now, all read at one instant."""

    images: Images
    cursor: int
    """The number of its last entry."""
    complete: bool
    """Whether the log ended there."""
    others: Images
    """What else was asked for, read at that same instant."""
    hooks_expected_at: datetime | None
    counts: dict[str, int] | None
    """How many rows each table had at that instant; `None` unless that was asked for too."""


class SqliteReading(Writer):
    """The part of a file's half that reads."""

    def __init__(self, path: Path) -> None:
        """Prepare it; `open` connects."""
        super().__init__(path, Statements(tables(None), Policy()), Clock())

    def look(self) -> SqliteState:
        """What the file says of itself and of the move."""
        self.refuse_replaced()
        with self._reading():
            control = self._one("SELECT authority, store_id FROM holdfast_control WHERE id = 1")
            if control is None:
                raise MoveRefused(f"{self._where} has lost its control row; restore a backup")
            authority, store = cast("Authority", control[0]), UUID(hex=control[1])
            if self._one("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'holdfast_move'") is None:
                return SqliteState(authority, store, None, None, 0, 0, 0, whole=False)
            row = self._one("SELECT move, capture, token, flips FROM holdfast_move WHERE id = 1")
            if row is None:
                raise MoveRefused(f"{self._where} has lost the row of its move; restore a backup")
            move, capture, token, flips = row
            found = self._all(
                "SELECT name FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 14) = 'holdfast_move_'"
            )
            whole = {name for (name,) in found} == set(self._triggers()) and self._is_ready()
            return SqliteState(authority, store, UUID(move), UUID(capture), token, flips, self._head(), whole=whole)

    def changes(self, cursor: int, limit: int, others: Keys, *, count: bool = False) -> Changes:
        """Up to so many entries of the log after a number, as the rows are now; and the rows of some other keys."""
        self.refuse_replaced()
        with self._gathering():
            entries = self._all(
                "SELECT seq, shape, key FROM holdfast_move_log WHERE seq > ? ORDER BY seq LIMIT ?", cursor, limit
            )
            keys: dict[str, list[Key]] = {table: [] for table in SHAPES}
            for table, key in dict.fromkeys((table, key) for _, table, key in entries):
                keys[table].append(key)
            control = self._one("SELECT hooks_expected_at FROM holdfast_control WHERE id = 1")
            complete = len(entries) < limit and not self._has_news()
            return Changes(
                self._images(keys),
                # Not that of the last entry when there are no more: those at the end may be forgotten already.
                self._head() if len(entries) < limit else entries[-1][0],
                complete,
                self._images(others),
                None if control is None or control[0] is None else instant(control[0]),
                {table: self._count(shape) for table, shape in SHAPES.items()} if count else None,
            )

    def chunk(self, shape: Shape, after: Key | None, limit: int) -> list[Row]:
        """Up to so many rows in the order of their keys, after one of them."""
        with self._reading():
            return self._chunk(shape, after, limit)

    def images(self, keys: Keys) -> Images:
        """The rows of some keys, all at one instant."""
        with self._reading():
            return self._images(keys)

    def touched(self, after: int) -> dict[str, list[Key]]:
        """The keys that the log names after a number."""
        with self._reading():
            found: dict[str, list[Key]] = {table: [] for table in SHAPES}
            for table, key in self._all("SELECT DISTINCT shape, key FROM holdfast_move_log WHERE seq > ?", after):
                found[table].append(key)
            return found

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        with self._reading():
            return {table: self._count(shape) for table, shape in SHAPES.items()}

    def count_to(self, shape: Shape, key: Key) -> int:
        """How many rows a table has up to a key."""
        with self._reading():
            return self._count(shape, key)

    def seen(self, theirs: Images, ours: Images) -> Images:
        """Images of PostgreSQL for a comparison with those of here: what a form has no place for is no difference."""
        return theirs

    def seen_row(self, shape: Shape, theirs: Row, ours: Row | None) -> Row:
        """One of them."""
        return theirs

    def clocks(self) -> Sequence[WritersClock]:
        """What the writes of an old application say of its clock. There is none beside a native file."""
        return ()

    @property
    def zone(self) -> tzinfo:
        """The zone that naive times are of. There are none in a native file."""
        return UTC

    def quarantined_live(self) -> int:
        """How many rows by which somebody may be logged in are no sessions, and stay behind."""
        return 0

    def written_by_others(self) -> timedelta | None:
        """How long ago an old application last wrote during this move; `None` when it has not, or cannot any more."""
        return None

    # What another form of file does otherwise

    def _chunk(self, shape: Shape, after: Key | None, limit: int) -> list[Row]:
        where, values = ("", []) if after is None else (f" WHERE {shape.key} > ?", [after])
        return self._all(
            f"SELECT {shape.columns()} FROM {shape.table}{where} ORDER BY {shape.key} LIMIT ?", *values, limit
        )

    def _rows_of(self, shape: Shape, keys: Sequence[Key]) -> list[Row]:
        marks = ", ".join("?" * len(keys))
        return self._all(f"SELECT {shape.columns()} FROM {shape.table} WHERE {shape.key} IN ({marks})", *keys)

    def _count(self, shape: Shape, to: Key | None = None) -> int:
        where, values = ("", []) if to is None else (f" WHERE {shape.key} <= ?", [to])
        count: int = self._all(f"SELECT count(*) FROM {shape.table}{where}", *values)[0][0]
        return count

    def _triggers(self) -> dict[str, str]:
        return native_triggers()

    def _is_ready(self) -> bool:
        """Whether there is more to be in place than the triggers."""
        return True

    @contextmanager
    def _gathering(self) -> Iterator[None]:
        """The instant at which a stretch of the log is read."""
        with self._reading():
            yield

    def _has_news(self) -> bool:
        """Whether more was written than the log tells yet."""
        return False

    # For all of it

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One instant. Short, and in WAL mode it keeps nobody waiting."""
        self._run("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    def _images(self, keys: Keys) -> Images:
        images = Images.none()
        for table, shape in SHAPES.items():
            asked = list(keys.get(table, ()))
            rows = images.rows[table]
            for start in range(0, len(asked), _MOST_VALUES):
                some = asked[start : start + _MOST_VALUES]
                rows.update((row[0], row) for row in self._rows_of(shape, some))
            images.gone[table].extend(key for key in asked if key not in rows)
        return images

    def _head(self) -> int:
        row = self._one("SELECT seq FROM sqlite_sequence WHERE name = 'holdfast_move_log'")
        return 0 if row is None else row[0]

    def _run(self, statement: str, *values: Any) -> None:
        self._driver.execute(statement, values).close()

    def _one(self, statement: str, *values: Any) -> Row | None:
        row: Row | None = self._driver.execute(statement, values).fetchone()
        return row

    def _all(self, statement: str, *values: Any) -> list[Any]:
        return self._driver.execute(statement, values).fetchall()
