"""Holdfast's tables, filled from an application's table that goes on being used, in a schema beside it.

A row is known by its place and by the transaction that wrote it: what has another of either is another version. So a
pass over the table finds what changed since the last one, without a trigger or a column of ours in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, text

from holdfast.backups.archive import Tell
from holdfast.imports.carrying import carried, judge
from holdfast.imports.report import Report
from holdfast.imports.run import Wishes
from holdfast.imports.sources import CHUNK, read_column
from holdfast.legacy.rows import LegacyRow
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.policy import Policy
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.carried import Carried, take_in
from holdfast.sql.statements import Statements
from holdfast.sql.tables import qualified, tables
from holdfast.sql.transactions import within_transaction

_MARK: Final = "An import of Holdfast is under way, or was killed"
_PASSES: Final = 5
_FEW_ROWS: Final = 1000


@dataclass
class Beside:
    """The schema of one import. `make` comes first, then `fill`; the last step is `swap.swap`."""

    address: PostgresqlAddress
    options: StoreOptions
    """Of the schema that has the application's table."""
    types: dict[str, str]
    """Of that table's columns."""
    wishes: Wishes
    tell: Tell
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        """Prepare the statements; nothing runs."""
        # A name of its own for each schema, and never longer than PostgreSQL's names are.
        self.schema = f"holdfast_import_{sha256(self.options.schema.encode()).hexdigest()[:8]}"
        self.table = qualified(self.options.schema, "sessions")
        self.seen = qualified(self.schema, "seen")
        self._statements = Statements(tables(self.schema), Policy())
        self._reader = self.wishes.reader()

    async def make(self) -> None:
        """Make the tables, empty. What a killed import left is removed."""
        await within_transaction(self.address, self.options, self._begin)
        await schema.upgrade(self.address, replace(self.options, schema=self.schema))
        self.tell("prepared", 0)

    async def fill(self) -> None:
        """Take in what is there, and then what has changed meanwhile, until that is little."""
        for number in range(_PASSES):
            changed = await within_transaction(self.address, self.options, self.catch_up, snapshot=True)
            if number == 0:
                await within_transaction(self.address, self.options, self._settle)
            self.tell("filled", self.report.rows)
            if changed <= _FEW_ROWS:
                return

    async def remove(self) -> None:
        """Remove the schema. Safe to repeat."""
        await within_transaction(self.address, self.options, self._clear)

    def catch_up(self, connection: Connection) -> int:
        """Take in what is not as it was at the last pass; how many rows.

        All that it reads has to be of one instant: in a snapshot, or while the table is locked.
        """
        now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        changed = self._forget(connection)
        columns = ", ".join(read_column(name, self.types[name]) for name in LegacyRow._fields)
        connection.execute(
            text(
                f"DECLARE news NO SCROLL CURSOR FOR SELECT {columns}, ctid, xmin FROM {self.table} AS l "  # noqa: S608 - checked names
                f"WHERE NOT EXISTS (SELECT FROM {self.seen} AS s WHERE s.place = l.ctid AND s.version = l.xmin)"
            )
        )
        while rows := connection.execute(text(f"FETCH {CHUNK} FROM news")).all():
            self._take(connection, rows, now)
            changed += len(rows)
            self.tell("importing", self.report.rows)
        connection.execute(text("CLOSE news"))
        return changed

    def _forget(self, connection: Connection) -> int:
        """Remove what was taken in of rows that are there no more as they were."""
        gone = connection.execute(
            text(
                f"DELETE FROM {self.seen} AS s WHERE NOT EXISTS "  # noqa: S608 - checked names
                f"(SELECT FROM {self.table} AS l WHERE l.ctid = s.place AND l.xmin = s.version) "
                "RETURNING digest, quarantined, live, remarks"
            )
        ).all()
        for start in range(0, len(gone), CHUNK):
            some = gone[start : start + CHUNK]
            values = {"digests": [row.digest for row in some]}
            # Rows of one digest, where the table has such, are all read again.
            alike = connection.execute(
                text(f"DELETE FROM {self.seen} WHERE digest = ANY(:digests) RETURNING *"),  # noqa: S608 - checked names
                values,
            ).all()
            for table in ("sessions", "holdfast_imported"):
                place = qualified(self.schema, table)
                connection.execute(text(f"DELETE FROM {place} WHERE digest = ANY(:digests)"), values)  # noqa: S608 - checked names
            for row in (*some, *alike):
                self.report.withdraw(row.quarantined, row.live, row.remarks)
        return len(gone)

    def _take(self, connection: Connection, rows: Sequence[Any], now: datetime) -> None:
        legacy = [LegacyRow._make(row[:-2]) for row in rows]
        taken = [carried(each, now) for each in judge(legacy, self._reader, now, self.report)]
        take_in(connection, self._statements, list({each.digest: each for each in taken}.values()))
        connection.execute(
            text(f"INSERT INTO {self.seen} VALUES (:place, :version, :digest, :quarantined, :live, :remarks)"),  # noqa: S608 - checked names
            [_seen(row, each) for row, each in zip(rows, taken, strict=True)],
        )

    def _clear(self, connection: Connection) -> None:
        """Remove the schema, if it is ours."""
        found = connection.execute(
            text("SELECT coalesce(obj_description(oid, 'pg_namespace'), '') FROM pg_namespace WHERE nspname = :schema"),
            {"schema": self.schema},
        ).scalar_one_or_none()
        if found is not None and found != _MARK:
            raise StoreRefused(f"there is a schema {self.schema!r} that is not of an import; it was not touched")
        connection.execute(text(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE'))

    def _begin(self, connection: Connection) -> None:
        self._clear(connection)
        connection.execute(text(f'CREATE SCHEMA "{self.schema}"'))
        connection.execute(text(f"COMMENT ON SCHEMA \"{self.schema}\" IS '{_MARK}'"))
        connection.execute(
            text(
                f"CREATE UNLOGGED TABLE {self.seen} (place tid NOT NULL, version xid NOT NULL, digest bytea NOT NULL, "
                "quarantined boolean NOT NULL, live boolean NOT NULL, remarks text NOT NULL)"
            )
        )

    def _settle(self, connection: Connection) -> None:
        """What is quick for a table that is filled: an index, and what the planner is to know of it."""
        connection.execute(text(f"CREATE INDEX ON {self.seen} (digest)"))
        for table in ("seen", "sessions", "holdfast_imported"):
            connection.execute(text(f"ANALYZE {qualified(self.schema, table)}"))


def _seen(row: Any, each: Carried) -> dict[str, Any]:
    return {
        "place": row[-2],
        "version": row[-1],
        "digest": each.digest,
        "quarantined": each.record is None,
        "live": each.live,
        "remarks": each.remarks,
    }
