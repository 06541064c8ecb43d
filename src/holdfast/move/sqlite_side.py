"""The SQLite half of a move: its triggers and tables, and each step that is one transaction in the file.

Two sets of triggers. Capture notes the key of every row that is written; seal refuses writes, whoever sends them, once
the file has given its authority up. Both leave the mover alone while it says within its own transaction that it is at
work: no other connection ever sees it say so. They look at the move's own table only, so that a migration may rebuild
any other one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast
from uuid import UUID, uuid4

from holdfast.move.clocks import WritersClock
from holdfast.move.rows import SHAPES, Images, Key, Row, Shape
from holdfast.move.state import LeaseHeld, MoveRefused, Reached, SqliteState
from holdfast.sessions.clock import Clock
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import Authority
from holdfast.sql.statements import Statements
from holdfast.sql.tables import instant, since_epoch, tables
from holdfast.sql.writer import Writer

EVENTS: Final = ("INSERT", "UPDATE", "DELETE")
# SQLite takes so many values in one statement, in every version we support.
_MOST_VALUES: Final = 500

Keys = Mapping[str, Sequence[Key]]
"""Keys of each table."""


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


class SqliteSide(Writer):
    """The file. One task of a mover uses it, one call at a time."""

    reads_anew = False
    """Whether rows are read in the way that this mover was told, although the move under way reads them in another."""
    keeps_clear = False
    """Whether it keeps tokens in clear, and not only their digests."""
    kept: Mapping[bytes, str] = MappingProxyType({})
    """For one that does: tokens by digest, of sessions that are made in PostgreSQL, as far as they are known."""

    def __init__(self, path: Path, reached: Reached) -> None:
        """Prepare it; `open` connects."""
        super().__init__(path, Statements(tables(None), Policy()), Clock())
        self._reached = reached

    # Looking

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

    def retire(self, token: int) -> None:
        """Refuse the old application's writes from now on, and take our own."""
        raise MoveRefused(
            "this file has Holdfast's own form, which no old application writes; there is nothing to seal"
        )

    # Stepping

    def make_ready(self) -> None:
        """Give the file what a store has that can be moved, if it is missing. Changes nothing of anybody else's."""

    def pulse(self) -> None:
        """Commit a change that leaves everything as it is, to see how long that takes here."""
        with self._stepping("pulse", None):
            # There and back: SQLite writes no page for a value that is the same already.
            self._run("UPDATE holdfast_move SET flips = flips + 1 WHERE id = 1")
            self._run("UPDATE holdfast_move SET flips = flips - 1 WHERE id = 1")

    def install(self, move: UUID, token: int) -> UUID:
        """Put the tables and triggers of a move in, or in again when some are missing; the capture that begins."""
        capture = uuid4()
        self._prepare(move, token)
        with self._stepping("install", None):
            self._run(
                "CREATE TABLE IF NOT EXISTS holdfast_move (id INTEGER PRIMARY KEY CHECK (id = 1), move TEXT NOT NULL, "
                "capture TEXT NOT NULL, token INTEGER NOT NULL, flips INTEGER NOT NULL DEFAULT 0, "
                "sealed INTEGER NOT NULL DEFAULT 0, applying INTEGER NOT NULL DEFAULT 0, "
                "ours INTEGER NOT NULL DEFAULT 0)"
            )
            self._run(
                "CREATE TABLE IF NOT EXISTS holdfast_move_log "
                "(seq INTEGER PRIMARY KEY AUTOINCREMENT, shape TEXT NOT NULL, key NOT NULL)"
            )
            self._run(
                "INSERT INTO holdfast_move (id, move, capture, token) VALUES (1, ?, ?, ?) ON CONFLICT (id) "
                "DO UPDATE SET capture = excluded.capture, token = excluded.token WHERE move = excluded.move "
                "AND token <= excluded.token",
                str(move),
                str(capture),
                token,
            )
            if self._one("SELECT 1 FROM holdfast_move WHERE capture = ?", str(capture)) is None:
                raise LeaseHeld("another process took the move over")
            for name, text in self._triggers().items():
                self._run(f"DROP TRIGGER IF EXISTS {name}")
                self._run(text)
        self._installed(token)
        return capture

    def prune(self, up_to: int, token: int) -> None:
        """Forget entries of the log that nobody needs any more."""
        with self._stepping("prune", token):
            self._run("DELETE FROM holdfast_move_log WHERE seq <= ?", up_to)

    def take_again(self, keys: Keys, token: int) -> None:
        """Note rows as if they had been written, so that they are applied once more."""
        with self._stepping("take again", token):
            for table, some in keys.items():
                self._driver.executemany(
                    "INSERT INTO holdfast_move_log (shape, key) VALUES (?, ?)", [(table, key) for key in some]
                ).close()

    def flip(self, token: int) -> None:
        """Stop accepting writes: what the log names now is all that there is."""
        with self._stepping("flip", token):
            self._gather_all()
            self._authority("here", "pending")
            self._run("UPDATE holdfast_move SET sealed = 1, flips = flips + 1 WHERE id = 1")

    def withdraw(self, token: int | None) -> None:
        """Accept writes again, the decision not having been made.

        Needs no token: whoever is about to decide names the flip that it decides on, and finds it withdrawn.
        """
        with self._stepping("withdraw", token):
            self._authority("pending", "here")
            self._run("UPDATE holdfast_move SET sealed = 0 WHERE id = 1")

    def decide(self, token: int, flip: int) -> None:
        """Give the authority up, after the flip whose changes PostgreSQL has: from here on only PostgreSQL can open."""
        with self._stepping("decide", token):
            if self._one("SELECT 1 FROM holdfast_move WHERE id = 1 AND flips = ?", flip) is None:
                raise LeaseHeld("another process took the move over")
            self._authority("pending", "there")

    def reverse(self, images: Images, token: int) -> None:
        """Make the rows what PostgreSQL's images say. Safe to repeat."""
        with self._stepping("reverse", token):
            self._apply(images)

    def enter(self, token: int, hooks_expected_at: datetime | None) -> None:
        """Take the authority back, which PostgreSQL has given up, and accept writes."""
        with self._stepping("enter", token):
            self._authority("there", "here")
            at = None if hooks_expected_at is None else since_epoch(hooks_expected_at)
            self._run("UPDATE holdfast_control SET hooks_expected_at = ? WHERE id = 1", at)
            self._run("UPDATE holdfast_move SET sealed = 0 WHERE id = 1")
            self._admit()

    def remove(self, token: int) -> None:
        """Take out all that the move put in."""
        with self._stepping("remove", token):
            for name in self._triggers():
                self._run(f"DROP TRIGGER IF EXISTS {name}")
            self._leave()
            self._run("DROP TABLE holdfast_move_log")
            self._run("DROP TABLE holdfast_move")

    def _authority(self, before: Authority, after: Authority) -> None:
        self._run(
            "UPDATE holdfast_control SET authority = ?, epoch = epoch + 1 WHERE id = 1 AND authority = ?", after, before
        )
        if self._one("SELECT changes()") != (1,):
            raise LeaseHeld("another process took the move over")

    def _apply(self, images: Images) -> None:
        if self._one("SELECT 1 FROM holdfast_control WHERE id = 1 AND authority = 'there'") is None:
            raise LeaseHeld("another process took the move over")
        self._run("UPDATE holdfast_move SET applying = 1 WHERE id = 1")
        for table, shape in SHAPES.items():
            self._put(shape, list(images.rows[table].values()))
        for table, shape in reversed(SHAPES.items()):
            self._delete(shape, images.gone[table])
        self._applied()
        self._run("UPDATE holdfast_move SET applying = 0 WHERE id = 1")

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

    def _put(self, shape: Shape, rows: Sequence[Row]) -> None:
        marks = ", ".join("?" * len(shape.forms))
        changes = ", ".join(f"{name} = excluded.{name}" for name in shape.forms if name != shape.key)
        self._driver.executemany(
            f"INSERT INTO {shape.table} ({shape.columns()}) VALUES ({marks}) "
            f"ON CONFLICT ({shape.key}) DO UPDATE SET {changes}",
            rows,
        ).close()

    def _delete(self, shape: Shape, keys: Sequence[Key]) -> None:
        self._driver.executemany(f"DELETE FROM {shape.table} WHERE {shape.key} = ?", [(key,) for key in keys]).close()

    def _applied(self) -> None:
        """After rows were written, while that is allowed."""

    def _triggers(self) -> dict[str, str]:
        return _native_triggers()

    def _is_ready(self) -> bool:
        """Whether there is more to be in place than the triggers."""
        return True

    def _prepare(self, move: UUID, token: int) -> None:
        """Before the triggers are put in."""

    def _installed(self, token: int) -> None:
        """After it, outside of its transaction."""

    @contextmanager
    def _gathering(self) -> Iterator[None]:
        """The instant at which a stretch of the log is read."""
        with self._reading():
            yield

    def _has_news(self) -> bool:
        """Whether more was written than the log tells yet."""
        return False

    def _gather_all(self) -> None:
        """Let the log tell all that was written."""

    def _admit(self) -> None:
        """Let those write again whom the move has shut out."""

    def _leave(self) -> None:
        """Take out what else the move put in."""

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One instant. Short, and in WAL mode it keeps nobody waiting."""
        self._run("BEGIN")
        try:
            yield
        finally:
            self._roll_back()

    @contextmanager
    def _stepping(self, step: str, token: int | None) -> Iterator[None]:
        """One transaction in turn with all other processes, of a mover that nobody took over from."""
        self.refuse_replaced()
        with self._turn():
            with self._transaction():
                if token is not None:
                    self._run("UPDATE holdfast_move SET token = ? WHERE id = 1 AND token <= ?", token, token)
                    if self._one("SELECT changes()") != (1,):
                        raise LeaseHeld("another process took the move over")
                yield
                self._reached(step)
            self._reached(f"{step} done")
            self._committed()

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


def _native_triggers() -> dict[str, str]:
    """All triggers by name."""
    made: dict[str, str] = {}
    for table, shape in SHAPES.items():
        for event in EVENTS:
            made |= capture_trigger(table, event, shape.table, shape.key) | seal_trigger(table, event)
    return made


def capture_trigger(table: str, event: str, shape: str, key: str) -> dict[str, str]:
    """A trigger, under its name, that notes which row of a shape an event in a table changes, by the key's column."""
    # An update that changes the key concerns two rows.
    olds = ("OLD", "NEW") if event == "UPDATE" else ("OLD",) if event == "DELETE" else ("NEW",)
    rest = f" WHERE OLD.{key} IS NOT NEW.{key}" if event == "UPDATE" else ""
    notes = "".join(
        f"INSERT INTO holdfast_move_log (shape, key) SELECT '{shape}', {row}.{key}{rest if row == 'OLD' else ''}; "
        for row in olds
    )
    name = f"holdfast_move_capture_{table.removeprefix('holdfast_')}_{event.lower()}"
    return {
        name: f"CREATE TRIGGER {name} AFTER {event} ON {table} "
        f"WHEN (SELECT applying = 0 FROM holdfast_move) BEGIN {notes}END"
    }


def seal_trigger(table: str, event: str, when: str = "sealed AND NOT applying") -> dict[str, str]:
    """A trigger, under its name, that refuses an event in a table."""
    name = f"holdfast_move_seal_{table.removeprefix('holdfast_')}_{event.lower()}"
    return {
        name: f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN (SELECT {when} FROM holdfast_move) BEGIN "
        "SELECT RAISE(ROLLBACK, 'this file does not accept writes: its sessions are moved'); END"
    }
