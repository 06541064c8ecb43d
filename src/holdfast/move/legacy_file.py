"""A legacy file as a mover has it open: its connection, and the way in which its rows are read."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import tzinfo
from pathlib import Path
from typing import Final, TypeVar, cast

from holdfast.legacy import statements
from holdfast.legacy.adoption import Adoption
from holdfast.legacy.beside import BesideOthers
from holdfast.legacy.reading import Reader
from holdfast.legacy.rows import OnBadExpiry
from holdfast.legacy.usual_rows import UsualRows
from holdfast.legacy.zone import zone_named
from holdfast.move.sqlite_side import SqliteSide
from holdfast.move.state import Reached
from holdfast.sql.tables import instant

Answer = TypeVar("Answer")

IS_KEY: Final = "({0} IS ?1 OR (typeof(?1) = 'blob' AND {0} = CAST(?1 AS TEXT)))"
"""Whether a column has a key. One that the driver gave as bytes is a blob, or a text that is not UTF-8."""
_OPENING_SECONDS: Final = 10.0
# Whoever waits to read keeps nobody waiting, and beside an old application that writes without a break he may have to.
_READ_MILLISECONDS: Final = 10_000


class LegacyFile(BesideOthers, SqliteSide):
    """What all parts of the side of a legacy file use."""

    keeps_clear = True
    # Nobody waits for an answer of it: rather late than once more.
    busy_milliseconds = 2000

    def __init__(self, path: Path, reached: Reached, zone: tzinfo, on_bad_expiry: OnBadExpiry = "quarantine") -> None:
        """Prepare it; `open` connects. The zone is the one whose local times the old application writes."""
        super().__init__(path, reached)
        self._read_in(zone, on_bad_expiry)
        self._adoption: Adoption

    def open(self) -> None:
        """Connect. Changes nothing."""
        self._connect(_OPENING_SECONDS)
        self._adoption = Adoption(self._driver)
        self._wait_to_read()

    def make_ready(self) -> None:
        """See `SqliteSide`: Holdfast's own tables beside the legacy one. Whoever serves the file looks at its rows."""
        if statements.held(self._driver).authority == "here":
            self._alone_with(self._install)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """See `FileWriter`."""
        try:
            with super()._transaction():
                yield
        finally:
            self._wait_to_read()

    def _wait_to_read(self) -> None:
        """Wait for longer, until the next transaction, for whoever keeps readers out."""
        self._driver.execute(f"PRAGMA busy_timeout = {_READ_MILLISECONDS}").fetchall()

    def _committed(self) -> None:
        """Nothing: the file's log is the old application's affair too."""

    @property
    def zone(self) -> tzinfo:
        """See `SqliteSide`."""
        return self._zone

    def _read_as_the_move_does(self) -> None:
        """Whoever goes on with a move reads rows in its zone, whatever his own is: else all would mean other times."""
        row = self._one("SELECT reading FROM holdfast_move_legacy WHERE id = 1")
        if row is not None and row[0] != self._way:
            zone, _, on_bad_expiry = row[0].rpartition(" ")
            self._read_in(zone_named(zone), cast("OnBadExpiry", on_bad_expiry))

    def _read_in(self, zone: tzinfo, on_bad_expiry: OnBadExpiry) -> None:
        self._zone, self._on_bad_expiry = zone, on_bad_expiry
        self._reader, self._usual = Reader(zone, on_bad_expiry), UsualRows(zone)

    @property
    def _way(self) -> str:
        """How the rows are read."""
        return f"{self._zone} {self._on_bad_expiry}"

    def _adopt(self) -> bool:
        """Take up a chunk of what the old application made and deleted; whether there may be more."""
        now = self._now()
        return self._adoption.drain(now, self._reader.has_expired(instant(now)))

    def _now(self) -> int:
        micro: int = self._all(statements.NOW)[0][0]
        return micro

    def _alone_with(self, work: Callable[[], Answer]) -> Answer:
        """The answer of some work in a transaction of its own."""
        with self._turn(), self._transaction():
            return work()
