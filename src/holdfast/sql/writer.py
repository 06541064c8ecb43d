"""SQLite's single writer: one thread with one connection, which does a whole batch of writes in one transaction.

Every process on a file has one. A batch is BEGIN IMMEDIATE, a statement or a few per item, COMMIT, and only then the
answers. SQLite's write lock is what keeps the processes apart.
"""

import fcntl
import logging
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID
from weakref import WeakSet

from sqlalchemy import Connection, Engine

from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import AuthorityMoved, StoreRefused, StoreUnavailable
from holdfast.sessions.store import Key
from holdfast.sql.failures import Kind, NotDone, Unknown, is_kept, kind_of, to_raise
from holdfast.sql.joiner import Batch
from holdfast.sql.sqlite_file import BUSY_MILLISECONDS, engine, identity
from holdfast.sql.statements import Statements
from holdfast.sql.touches import Touched, Touches
from holdfast.sql.turns import open_lock, take_turn

Write = Key | Callable[[Connection, bool], Any]
"""One write: a key is a touch; anything else is done with the connection."""

# A write that fails for one of these takes no other with it.
_ALONE: Final = (Kind.INPUT, Kind.DEFECT, Kind.BUG)
_CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
_CHECKPOINT_SECONDS: Final = 1.0
# So many rows since the last checkpoint, and the log keeps its length to be written over; fewer, and it is emptied.
_BUSY_ROWS: Final = 1000
# A touch writes a page of 4 KiB; so many leave the log below `journal_size_limit`, beyond which it would be cut.
_MANY_ROWS: Final = 12_000

log = logging.getLogger("holdfast.sql")


class FileWriter(ABC):
    """What the writers of all SQLite files have in common, whatever tables they hold: batches, and turns at the file.

    Everything but `__init__` runs in its one thread.
    """

    def __init__(self, path: Path) -> None:
        """Prepare it; `open` connects."""
        # Absolute, because the process may change its directory.
        self._path = path.absolute()
        self._where = f"SQLite file {path}"
        self._connection: Connection | None = None
        self._driver: sqlite3.Connection
        self._lock = -1
        self.failing = True
        """Whether no write has reached the disk since one failed, or since the start: then a ping has to write to be
        believed. On a read-only file SQLite begins a transaction all the same.
        """

    @abstractmethod
    def _answers(self, writes: Sequence[Write]) -> list[Any]:
        """Do the writes within the transaction that has begun; the answers in order."""

    @abstractmethod
    def refuse_replaced(self) -> None:
        """Raise `StoreRefused` when the file is not the one that was opened. May be called from any thread."""

    def _committed(self) -> None:  # noqa: B027 - not abstract: most writers have nothing to do then
        """What is to be done after a commit, while it is still this process's turn."""

    def _open_lock(self) -> None:
        self._lock = open_lock(self._path)
        _writers.add(self)

    def let_go_of_lock(self) -> None:
        """Close the lock's file, in a forked child too: a lock is held until the last who inherited it closed it."""
        if self._lock != -1:
            os.close(self._lock)
            self._lock = -1

    def write(self, batch: Batch[Write, Any]) -> list[Any]:
        """Do one batch: answers in order, an error in place of an answer for a write that failed alone.

        Raises `NotDone` when nothing of it was done, `Unknown` when the commit's outcome is not known.
        """
        try:
            self.refuse_replaced()
        except StoreRefused as error:
            raise NotDone(Kind.REFUSED, error) from error
        with self._turn():
            if not self._roll_back():
                self.failing = True
                raise NotDone(Kind.FULL, StoreUnavailable(f"{self._where} does not let go of an earlier transaction"))
            self._statement("BEGIN IMMEDIATE")
            changes = self._driver.total_changes
            try:
                answers = self._answers(batch.begin())
            except BaseException as error:
                self._roll_back()
                self.failing |= kind_of(error) in (Kind.FULL, Kind.LOST, Kind.REFUSED)
                raise NotDone(_definite(kind_of(error)), error) from error
            try:
                self._driver.execute("COMMIT")
            except sqlite3.Error as error:
                self.failing = True
                kind = kind_of(error)
                # Still in the transaction means that it can be, and is, undone.
                undone = self._driver.in_transaction and self._roll_back()
                if undone or kind is Kind.FULL:
                    raise NotDone(_definite(kind), error) from error
                raise Unknown(error) from error
            # A batch that changed nothing has not reached the disk.
            self.failing &= self._driver.total_changes == changes
            self._committed()
        return answers

    def _alone(self, write: Callable[[Connection, bool], Any]) -> Any:
        """The answer of one write, or its error if it fails without taking the batch with it.

        No write is done again here after an unknown outcome, hence the False.
        """
        self._driver.execute("SAVEPOINT one")
        try:
            answer = write(cast("Connection", self._connection), False)
        except Exception as error:
            if not self._driver.in_transaction or not (kind_of(error) in _ALONE or is_kept(error)):
                raise
            self._driver.execute("ROLLBACK TO one")
            self._driver.execute("RELEASE one")
            return to_raise(error, self._where)
        self._driver.execute("RELEASE one")
        return answer

    def _statement(self, text: str) -> None:
        try:
            self._driver.execute(text)
        except sqlite3.Error as error:
            self._roll_back()
            self.failing = kind_of(error) is not Kind.RETRY
            raise NotDone(_definite(kind_of(error)), error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction that is no batch, to be had in turn: all of it is done, or nothing. Raises `NotDone`."""
        self._statement("BEGIN IMMEDIATE")
        try:
            yield
            self._driver.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> bool:
        """Leave the transaction, if there is one; whether that worked."""
        with suppress(sqlite3.Error):
            if self._driver.in_transaction:
                self._driver.execute("ROLLBACK")
            return True
        return False

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep the other processes of ours off the file: one writes, or makes a checkpoint, at a time.

        SQLite libraries with the WAL-reset race need it, and no process could ever make a checkpoint while others
        write without a break; the rest lose two system calls per batch.
        """
        try:
            take_turn(self._lock, BUSY_MILLISECONDS / 1000)
        except OSError as error:
            raise NotDone(Kind.RETRY, error) from error
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)


class Writer(FileWriter):
    """The writing half of the native SQLite store."""

    def __init__(self, path: Path, statements: Statements, clock: Clock) -> None:
        """Prepare it; `open` connects."""
        super().__init__(path)
        self._log = self._path.with_name(f"{path.name}-wal")
        self._touches = Touches(statements, clock, self._where)
        self._engine: Engine | None = None
        self._files: list[tuple[int, int] | None] = []
        self._next_checkpoint = 0.0
        self._checkpoint_at_rows = 0

    def open(self) -> None:
        """Connect. The file is there already."""
        self._open_lock()
        self._engine = engine(self._path)
        self._connection = self._engine.connect()
        self._driver = _driver(self._connection)
        # Makes the log: it stays the same file for as long as this connection is open.
        self._driver.execute("SELECT 1 FROM sqlite_master").fetchall()
        self._files = [identity(self._path), identity(self._log)]

    def close(self) -> None:
        """Let go of the file. Safe to repeat."""
        if self._engine is not None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._engine.dispose()
            self._engine = None
        self.let_go_of_lock()

    def note(self, noting: Callable[[Connection], None]) -> None:
        """Do something that is no write of a client's, in one transaction, whoever holds the authority.

        Raises `NotDone`, or what it raised, when it was not done.
        """
        self.refuse_replaced()
        with self._turn(), self._transaction():
            noting(cast("Connection", self._connection))

    def probe(self, _: Connection, __: bool) -> None:
        """A write that changes nothing but must reach the disk."""
        # There and back: SQLite writes no page for a value that is the same already.
        self._driver.execute("UPDATE holdfast_control SET epoch = epoch + 1 WHERE id = 1")
        self._driver.execute("UPDATE holdfast_control SET epoch = epoch - 1 WHERE id = 1")

    def _answers(self, writes: Sequence[Write]) -> list[Any]:
        row = self._driver.execute("SELECT authority FROM holdfast_control WHERE id = 1").fetchone()
        if row is None:
            raise StoreRefused(f"{self._where} cannot be used: its control row is missing; restore a backup")
        if row[0] != "here":
            raise AuthorityMoved(f"{self._where} does not accept writes any more")
        activities = Counter(write for write in writes if isinstance(write, bytes | UUID))
        # All of them where the first one is: what is sent together may be done in any order.
        touched: dict[Key, Touched] = {}
        answers: list[Any] = []
        for write in writes:
            if not isinstance(write, bytes | UUID):
                answers.append(self._alone(write))
                continue
            touched = touched or self._touches(self._driver, activities)
            answers.append(touched[write])
        return answers

    def refuse_replaced(self) -> None:
        """Raise `StoreRefused` when the file is not the one that was opened. May be called from any thread.

        One that was renamed or deleted still takes writes, in WAL mode even silently, and nobody would find them;
        and what is read from it, another process may have changed in the file that is there now.
        """
        if [identity(self._path), identity(self._log)] != self._files:
            raise StoreRefused(
                f"{self._where} or its -wal was replaced or deleted while it was open; stop all processes that use "
                "it, put the right files in place and start again"
            )

    def _committed(self) -> None:
        """Move the log into the file once it has grown.

        While much is written the log is left as long as it is, and the next writes go over what was moved: a log that
        grows costs the disk a note of its new length at every commit. Afterwards it is emptied.
        """
        now, rows = time.monotonic(), self._driver.total_changes
        written = rows - self._checkpoint_at_rows
        with suppress(OSError, sqlite3.Error):
            if now < self._next_checkpoint and written < _MANY_ROWS:
                return
            if self._log.stat().st_size < _CHECKPOINT_BYTES:
                return
            self._next_checkpoint = now + _CHECKPOINT_SECONDS
            self._checkpoint_at_rows = rows
            mode = "TRUNCATE" if written < _BUSY_ROWS else "PASSIVE"
            try:
                # A reader may be in the way: then what can be moved is moved, and nobody waits for the rest.
                self._driver.execute("PRAGMA busy_timeout = 0").fetchall()
                self._driver.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()
            finally:
                self._driver.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}").fetchall()


_writers: WeakSet[FileWriter] = WeakSet()


def _let_go_in_child() -> None:
    for writer in list(_writers):
        writer.let_go_of_lock()


os.register_at_fork(after_in_child=_let_go_in_child)


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.driver_connection)


def _definite(kind: Kind) -> Kind:
    """A failure before the commit: whatever its kind, it was rolled back."""
    return Kind.FULL if kind is Kind.LOST else kind
