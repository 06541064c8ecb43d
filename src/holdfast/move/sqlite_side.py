"""The SQLite half of a move: each step of a mover that is one transaction in the file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

from holdfast.move.rows import SHAPES, Images, Key, Keys, Row, Shape
from holdfast.move.sqlite_objects import TABLES
from holdfast.move.sqlite_reading import SqliteReading
from holdfast.move.state import TAKEN_OVER, LeaseHeld, MoveRefused, Reached
from holdfast.sessions.store import Authority
from holdfast.sql.tables import since_epoch


class SqliteSide(SqliteReading):
    """The file. One task of a mover uses it, one call at a time."""

    reads_anew = False
    """Whether rows are read in the way that this mover was told, although the move under way reads them in another."""
    keeps_clear = False
    """Whether it keeps tokens in clear, and not only their digests."""
    kept: Mapping[bytes, str] = MappingProxyType({})
    """For one that does: tokens by digest, of sessions that are made in PostgreSQL, as far as they are known."""

    def __init__(self, path: Path, reached: Reached) -> None:
        """Prepare it; `open` connects."""
        super().__init__(path)
        self._reached = reached

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
            for statement in TABLES:
                self._run(statement)
            self._run(
                "INSERT INTO holdfast_move (id, move, capture, token) VALUES (1, ?, ?, ?) ON CONFLICT (id) "
                "DO UPDATE SET capture = excluded.capture, token = excluded.token WHERE move = excluded.move "
                "AND token <= excluded.token",
                str(move),
                str(capture),
                token,
            )
            if self._one("SELECT 1 FROM holdfast_move WHERE capture = ?", str(capture)) is None:
                raise LeaseHeld(TAKEN_OVER)
            for name, text in self._triggers().items():
                self._run(f"DROP TRIGGER IF EXISTS {name}")
                self._run(text)
        self._installed(token)
        return capture

    def retire(self, token: int) -> None:
        """Refuse the old application's writes from now on, and take our own."""
        raise MoveRefused(
            "this file has Holdfast's own form, which no old application writes; there is nothing to seal"
        )

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
                raise LeaseHeld(TAKEN_OVER)
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

    def remove(self, token: int, *, serving: bool = False) -> None:
        """Take out all that the move put in. Nobody is left to decide a flip that came late: writes are taken again.

        With `serving` not from a file that has given its authority up by now: `LeaseHeld` is raised.
        """
        with self._stepping("remove", token):
            if serving and self._one("SELECT 1 FROM holdfast_control WHERE id = 1 AND authority = 'there'"):
                raise LeaseHeld(TAKEN_OVER)
            self._run(
                "UPDATE holdfast_control SET authority = 'here', epoch = epoch + 1 "
                "WHERE id = 1 AND authority = 'pending'"
            )
            for name in self._triggers():
                self._run(f"DROP TRIGGER IF EXISTS {name}")
            self._leave()
            self._run("DROP TABLE holdfast_move_log")
            self._run("DROP TABLE holdfast_move")

    def _authority(self, before: Authority, after: Authority) -> None:
        self._run_on_row(
            "UPDATE holdfast_control SET authority = ?, epoch = epoch + 1 WHERE id = 1 AND authority = ?", after, before
        )

    def _apply(self, images: Images) -> None:
        if self._one("SELECT 1 FROM holdfast_control WHERE id = 1 AND authority = 'there'") is None:
            raise LeaseHeld(TAKEN_OVER)
        self._run("UPDATE holdfast_move SET applying = 1 WHERE id = 1")
        for table, shape in SHAPES.items():
            self._put(shape, list(images.rows[table].values()))
        for table, shape in reversed(SHAPES.items()):
            self._delete(shape, images.gone[table])
        self._applied()
        self._run("UPDATE holdfast_move SET applying = 0 WHERE id = 1")

    # What another form of file does otherwise

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

    def _prepare(self, move: UUID, token: int) -> None:
        """Before the triggers are put in."""

    def _installed(self, token: int) -> None:
        """After it, outside of its transaction."""

    def _gather_all(self) -> None:
        """Let the log tell all that was written."""

    def _admit(self) -> None:
        """Let those write again whom the move has shut out."""

    def _leave(self) -> None:
        """Take out what else the move put in."""

    # For all of it

    @contextmanager
    def _stepping(self, step: str, token: int | None) -> Iterator[None]:
        """One transaction in turn with all other processes, of a mover that nobody took over from."""
        self.refuse_replaced()
        with self._turn():
            with self._transaction():
                if token is not None:
                    self._run_on_row("UPDATE holdfast_move SET token = ? WHERE id = 1 AND token <= ?", token, token)
                yield
                self._reached(step)
            self._reached(f"{step} done")
            self._committed()

    def _run_on_row(self, statement: str, *values: Any) -> None:
        """Change the one row there is. Raises `LeaseHeld` where another mover has changed it before."""
        self._run(statement, *values)
        if self._one("SELECT changes()") != (1,):
            raise LeaseHeld(TAKEN_OVER)
