"""The SQLite half of a move: its triggers and tables, and each step that is one transaction in the file.

Two sets of triggers. Capture notes the key of every row that is written; seal refuses writes, whoever sends them, once
the file has given its authority up. Both leave the mover alone while it says within its own transaction that it is at
work: no other connection ever sees it say so. They look at the move's own table only, so that a migration may rebuild
any other one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID, uuid4

from holdfast.move.rows import SHAPES, Images, Key, Row, Shape
from holdfast.move.state import LeaseHeld, MoveRefused, Reached, SqliteState
from holdfast.sessions.clock import Clock
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import Authority
from holdfast.sql.statements import Statements
from holdfast.sql.tables import EPOCH, instant, microseconds, tables
from holdfast.sql.writer import Writer

_EVENTS: Final = ("INSERT", "UPDATE", "DELETE")
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


class SqliteSide(Writer):
    """The file. One task of a mover uses it, one call at a time."""

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
            found = self._all("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'holdfast_move_%'")
            whole = {name for (name,) in found} == set(_triggers())
            return SqliteState(authority, store, UUID(move), UUID(capture), token, flips, self._head(), whole=whole)

    def changes(self, cursor: int, limit: int, others: Keys) -> Changes:
        """Up to so many entries of the log after a number, as the rows are now; and the rows of some other keys."""
        self.refuse_replaced()
        with self._reading():
            entries = self._all(
                "SELECT seq, shape, key FROM holdfast_move_log WHERE seq > ? ORDER BY seq LIMIT ?", cursor, limit
            )
            keys: dict[str, list[Key]] = {table: [] for table in SHAPES}
            for table, key in dict.fromkeys((table, key) for _, table, key in entries):
                keys[table].append(key)
            control = self._one("SELECT hooks_expected_at FROM holdfast_control WHERE id = 1")
            complete = len(entries) < limit
            return Changes(
                self._images(keys),
                # Not that of the last entry when there are no more: those at the end may be forgotten already.
                self._head() if complete else entries[-1][0],
                complete,
                self._images(others),
                None if control is None or control[0] is None else instant(control[0]),
            )

    def chunk(self, shape: Shape, after: Key | None, limit: int) -> list[Row]:
        """Up to so many rows in the order of their keys, after one of them."""
        with self._reading():
            where, values = ("", []) if after is None else (f" WHERE {shape.key} > ?", [after])
            return self._all(
                f"SELECT {shape.columns()} FROM {shape.table}{where} ORDER BY {shape.key} LIMIT ?",
                *values,
                limit,
            )

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
            return {table: self._all(f"SELECT count(*) FROM {table}")[0][0] for table in SHAPES}

    # Stepping

    def install(self, move: UUID, token: int) -> UUID:
        """Put the tables and triggers of a move in, or in again when some are missing; the capture that begins."""
        capture = uuid4()
        with self._stepping("install", None):
            self._run(
                "CREATE TABLE IF NOT EXISTS holdfast_move (id INTEGER PRIMARY KEY CHECK (id = 1), move TEXT NOT NULL, "
                "capture TEXT NOT NULL, token INTEGER NOT NULL, flips INTEGER NOT NULL DEFAULT 0, "
                "sealed INTEGER NOT NULL DEFAULT 0, applying INTEGER NOT NULL DEFAULT 0)"
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
            for name, text in _triggers().items():
                self._run(f"DROP TRIGGER IF EXISTS {name}")
                self._run(text)
        return capture

    def prune(self, up_to: int, token: int) -> None:
        """Forget entries of the log that nobody needs any more."""
        with self._stepping("prune", token):
            self._run("DELETE FROM holdfast_move_log WHERE seq <= ?", up_to)

    def flip(self, token: int) -> None:
        """Stop accepting writes: what the log names now is all that there is."""
        with self._stepping("flip", token):
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
            at = None if hooks_expected_at is None else microseconds(hooks_expected_at - EPOCH)
            self._run("UPDATE holdfast_control SET hooks_expected_at = ? WHERE id = 1", at)
            self._run("UPDATE holdfast_move SET sealed = 0 WHERE id = 1")

    def remove(self, token: int) -> None:
        """Take out all that the move put in."""
        with self._stepping("remove", token):
            for name in _triggers():
                self._run(f"DROP TRIGGER IF EXISTS {name}")
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
            marks = ", ".join("?" * len(shape.forms))
            changes = ", ".join(f"{name} = excluded.{name}" for name in shape.forms if name != shape.key)
            self._driver.executemany(
                f"INSERT INTO {table} ({shape.columns()}) VALUES ({marks}) "
                f"ON CONFLICT ({shape.key}) DO UPDATE SET {changes}",
                images.rows[table].values(),
            ).close()
        for table, shape in reversed(SHAPES.items()):
            self._driver.executemany(
                f"DELETE FROM {table} WHERE {shape.key} = ?", [(key,) for key in images.gone[table]]
            ).close()
        self._run("UPDATE holdfast_move SET applying = 0 WHERE id = 1")

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
            self._statement("BEGIN IMMEDIATE")
            try:
                if token is not None:
                    self._run("UPDATE holdfast_move SET token = ? WHERE id = 1 AND token <= ?", token, token)
                    if self._one("SELECT changes()") != (1,):
                        raise LeaseHeld("another process took the move over")
                yield
                self._reached(step)
                self._run("COMMIT")
            except BaseException:
                self._roll_back()
                raise
            self._reached(f"{step} done")
            self._committed()

    def _images(self, keys: Keys) -> Images:
        images = Images.none()
        for table, shape in SHAPES.items():
            asked = list(keys.get(table, ()))
            rows = images.rows[table]
            for start in range(0, len(asked), _MOST_VALUES):
                some = asked[start : start + _MOST_VALUES]
                marks = ", ".join("?" * len(some))
                statement = f"SELECT {shape.columns()} FROM {table} WHERE {shape.key} IN ({marks})"
                rows.update((row[0], row) for row in self._all(statement, *some))
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


def _triggers() -> dict[str, str]:
    """All triggers by name."""
    made = {}
    for table, shape in SHAPES.items():
        short = table.removeprefix("holdfast_")
        for event in _EVENTS:
            # An update that changes the key concerns two rows.
            olds = ("OLD", "NEW") if event == "UPDATE" else ("OLD",) if event == "DELETE" else ("NEW",)
            rest = f" WHERE OLD.{shape.key} IS NOT NEW.{shape.key}" if event == "UPDATE" else ""
            notes = "".join(
                f"INSERT INTO holdfast_move_log (shape, key) SELECT '{table}', {row}.{shape.key}"
                f"{rest if row == 'OLD' else ''}; "
                for row in olds
            )
            name = f"holdfast_move_capture_{short}_{event.lower()}"
            made[name] = (
                f"CREATE TRIGGER {name} AFTER {event} ON {table} "
                f"WHEN (SELECT applying = 0 FROM holdfast_move) BEGIN {notes}END"
            )
            name = f"holdfast_move_seal_{short}_{event.lower()}"
            made[name] = (
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} "
                "WHEN (SELECT sealed AND NOT applying FROM holdfast_move) BEGIN "
                "SELECT RAISE(ROLLBACK, 'this file does not accept writes: its sessions are moved'); END"
            )
    return made
