"""The one thread and connection by which a process reads and writes a legacy file.

Reads too: whatever is asked, the rows that the old application has written meanwhile get their ids first. While a move
to another store decides, and after it, nothing is written here: what is read then is what was there at the end.
"""

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import StaticPool

from holdfast.legacy import statements
from holdfast.legacy.adoption import CHUNK
from holdfast.legacy.beside import BesideOthers
from holdfast.legacy.reading import Reader
from holdfast.legacy.sessions import LegacySessions
from holdfast.legacy.tables import install
from holdfast.legacy.whole_table import WholeTable
from holdfast.sessions.clock import Clock
from holdfast.sessions.errors import AuthorityMoved
from holdfast.sessions.policy import Policy
from holdfast.sessions.session import Record
from holdfast.sessions.store import Held, Key
from holdfast.sql.failures import Kind, NotDone, kind_of
from holdfast.sql.joiner import Batch
from holdfast.sql.presence import Noting
from holdfast.sql.writer import Write

Answer = TypeVar("Answer")

_OPENING_SECONDS: Final = 30.0

log = logging.getLogger("holdfast.legacy")


@dataclass(frozen=True, slots=True)
class Reading:
    """A call that writes nothing: answered also while the file accepts no writes."""

    read: Callable[[], Any]

    def __call__(self, _: Connection, __: bool) -> Any:
        """The answer."""
        return self.read()


class LegacyWriter(BesideOthers):
    """The writer of a legacy store."""

    def __init__(self, path: Path, reader: Reader, policy: Policy, clock: Clock) -> None:
        """Prepare it; `open` connects."""
        super().__init__(path)
        self._reader = reader
        self._policy = policy
        self._clock = clock
        self._schema_version = -1
        self._moving = False
        self._noting: Connection | None = None
        self.sessions: LegacySessions

    def connect(self) -> str:
        """Connect, changing nothing; the file's journal mode, which stays what it is."""
        mode = self._connect(_OPENING_SECONDS)
        self.sessions = LegacySessions(self._driver, self._reader, self._policy, self._clock)
        return mode

    def adopt(self) -> None:
        """Make Holdfast's own tables if they are missing, and give the rows that are there their ids.

        Nothing of that in a file that was moved.
        """
        if self._insistently(self.held).authority != "here":
            return
        if not self._patiently(self._installed):
            for work in WholeTable(self._driver, self.sessions.adoption).steps():
                self._patiently(work)

    def write(self, batch: Batch[Write, Any]) -> list[Any]:
        """See `FileWriter`. A heap of notes is taken up first, in transactions of its own."""
        try:
            while self.sessions.adoption.backlog() > CHUNK and self.held().authority == "here":
                with self._turn(), self._transaction():
                    self.sessions.take_up()
        except sqlite3.Error as error:
            raise NotDone(kind_of(error), error) from error
        return super().write(batch)

    def version(self) -> int:
        """A number that is another one when another connection has committed meanwhile. Takes no lock."""
        version: int = self._driver.execute("PRAGMA data_version").fetchone()[0]
        return version

    def probe(self) -> None:
        """A write that must reach the disk, within the transaction that has begun."""
        self._driver.execute(statements.PROBE)

    def note(self, noting: Noting) -> None:
        """Do something in one transaction, whoever holds the authority."""
        if self._noting is None:
            # Over the one connection that there is, whose transactions are none of its business.
            made = create_engine(
                "sqlite+pysqlite://",
                creator=lambda: self._driver,
                poolclass=StaticPool,
                pool_reset_on_return=None,
                isolation_level="AUTOCOMMIT",
            )
            self._noting = made.connect()
        connection = self._noting
        with self._turn(), self._transaction():
            noting(connection)

    def held(self) -> Held:
        """The file's authority. Takes no lock."""
        return statements.held(self._driver)

    def _answers(self, writes: Sequence[Write]) -> list[Any]:
        if statements.held(self._driver).authority != "here":
            return self._last_answers(writes)
        self._mend()
        marked = self._moving and not all(isinstance(write, Reading) for write in writes)
        if marked:
            self._driver.execute(statements.SET_OURS, (1,))
        answers = self._all_answers(writes)
        if marked:
            self._driver.execute(statements.SET_OURS, (0,))
        return answers

    def _last_answers(self, writes: Sequence[Write]) -> list[Any]:
        """In a file that accepts no writes at the moment, or no more: it was put in order before it stopped."""
        refused = AuthorityMoved(f"{self._where} does not accept writes any more")
        self.sessions.read_clock()
        return [self._alone(write) if isinstance(write, Reading) else refused for write in writes]

    def _all_answers(self, writes: Sequence[Write]) -> list[Any]:
        self.sessions.begin()
        activities = Counter(write for write in writes if isinstance(write, bytes | UUID))
        touched: dict[Key, Record | Exception | None] = {}
        answers: list[Any] = []
        for write in writes:
            if not isinstance(write, bytes | UUID):
                answers.append(self._alone(write))
                continue
            if write not in touched:
                touched[write] = self._alone(self._touching(write, activities[write]))
            answers.append(touched[write])
        return answers

    def _touching(self, key: Key, activities: int) -> Callable[[Connection, bool], Record | None]:
        return lambda _, __: self.sessions.touch(key, activities)

    def _mend(self) -> None:
        """Put the triggers back if somebody has made the table anew, and look at all its rows then."""
        (version,) = self._driver.execute("PRAGMA schema_version").fetchone()
        if version == self._schema_version:
            return
        if install(self._driver):
            log.warning("%s had its triggers taken away; they are back, and all its rows are looked at", self._where)
            self._driver.execute(statements.EVERY_ROW)
            self._driver.execute(statements.ORPHANS)
        self._remember()

    def _installed(self) -> bool:
        """Make Holdfast's own tables; whether every row that is there has been looked at."""
        self._install()
        self._remember()
        (adopted,) = self._driver.execute(statements.IS_ADOPTED).fetchone()
        return bool(adopted)

    def _remember(self) -> None:
        # A transaction that is rolled back takes the change with it: then the number differs again, and this is redone.
        (self._schema_version,) = self._driver.execute("PRAGMA schema_version").fetchone()
        self._moving = statements.is_moving(self._driver)

    def _patiently(self, work: Callable[[], Answer]) -> Answer:
        """Do it in a transaction, however often others are in the way."""

        def transaction() -> Answer:
            with self._turn(), self._transaction():
                return work()

        return self._insistently(transaction)

    def _insistently(self, work: Callable[[], Answer]) -> Answer:
        """Do it, however often others are in the way."""
        limit = time.monotonic() + _OPENING_SECONDS
        while True:
            try:
                return work()
            except (sqlite3.Error, NotDone) as error:
                if kind_of(error) is not Kind.RETRY or time.monotonic() > limit:
                    raise
