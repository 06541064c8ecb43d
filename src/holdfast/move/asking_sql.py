"""What each of the two stores says of itself and of a move, read in one instant of it. Nothing is changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from holdfast.move.legacy_sqlite_objects import COUNT_SESSIONS
from holdfast.move.postgresql_side import PostgresqlSide
from holdfast.move.rows import SESSIONS, SHAPES
from holdfast.move.state import MoveRefused
from holdfast.sessions.store import FIRST_EPOCH, Authority, StoreOptions
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.sqlite_file import reading_engine

MOST_COUNTED: Final = 100_000
"""A log is counted up to here: one that nobody applies may be longer than anybody wants to count every second."""


@dataclass(frozen=True, slots=True)
class SqliteSaid:
    """What the file says."""

    authority: Authority
    epoch: int
    store: UUID | None
    """The identity of the file; `None` while Holdfast has no control row in it."""
    move: UUID | None
    flips: int
    """How often it has stopped accepting writes in this move."""
    head: int
    """The last number of its log."""
    rows: int | None
    quarantined: tuple[int, int] | None
    """How many rows became no session, and how many of those somebody may have been logged in by."""


@dataclass(frozen=True, slots=True)
class PostgresqlSaid:
    """What the database says."""

    authority: Authority
    epoch: int
    move: Mapping[str, Any] | None
    """The row of the move; `None` without one."""
    changed: int
    """How many entries its log has, up to `MOST_COUNTED`."""
    rows: int | None
    quarantined: tuple[int, int] | None
    """How many rows became no session, and how many of those somebody may have been logged in by."""


def ask_sqlite(path: Path, count: bool) -> SqliteSaid:
    """Ask the file, on a connection that only reads. Raises the driver's errors."""
    made = reading_engine(path)
    try:
        with made.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                return _ask_file(connection, count)
            finally:
                connection.exec_driver_sql("ROLLBACK")
    finally:
        made.dispose()


def _ask_file(connection: Connection, count: bool) -> SqliteSaid:
    """What the file says, in one instant. One that Holdfast has no control row in yet accepts writes: it is served."""

    def all_of(statement: str) -> list[Any]:
        return list(connection.exec_driver_sql(statement).all())

    present = {name for (name,) in all_of("SELECT name FROM sqlite_master WHERE type = 'table'")}
    authority: Authority = "here"
    epoch, store, move, flips, head = FIRST_EPOCH, None, None, 0, 0
    # A legacy file that was last served before such files could be moved has no such column.
    if all_of("SELECT 1 FROM pragma_table_info('holdfast_control') WHERE name = 'authority'"):
        for row in all_of("SELECT authority, epoch, store_id FROM holdfast_control WHERE id = 1"):
            authority, epoch, store = row[0], row[1], UUID(hex=row[2])
    if "holdfast_move" in present:
        for row in all_of("SELECT move, flips FROM holdfast_move WHERE id = 1"):
            move, flips = UUID(row[0]), row[1]
        for row in all_of("SELECT seq FROM sqlite_sequence WHERE name = 'holdfast_move_log'"):
            head = row[0]
    rows, quarantined = None, None
    if count:
        counted = [table for table in SHAPES if table in present]
        statements = {table: f"SELECT count(*) FROM {table}" for table in counted}
        if {"holdfast_ids", "holdfast_imported"} <= present:
            statements[SESSIONS.table] = COUNT_SESSIONS.replace("?1", "NULL")
        rows = sum(all_of(statement)[0][0] for statement in statements.values())
        if "holdfast_imported" in present:
            quarantined = tuple(
                all_of("SELECT count(*), coalesce(sum(live), 0) FROM holdfast_imported WHERE session_id IS NULL")[0]
            )
    return SqliteSaid(authority, epoch, store, move, flips, head, rows, quarantined)


class PostgresqlAsked(PostgresqlSide):
    """The database, which is only read."""

    def __init__(self, address: PostgresqlAddress, options: StoreOptions) -> None:
        """Prepare it."""
        super().__init__(address, options, lambda _: None, timedelta(0))

    async def ask(self, count: bool) -> PostgresqlSaid:
        """What the database says, in one instant."""
        async with self._reading() as connection:
            control = await connection.fetchrow(f"SELECT authority, epoch FROM {self._s}.holdfast_control WHERE id = 1")
            if control is None:
                raise MoveRefused("PostgreSQL has lost its control row; restore a backup")
            move, changed = None, 0
            if await self._is_prepared(connection):
                row = await connection.fetchrow(f"SELECT * FROM {self._s}.holdfast_move WHERE id = 1")
                move = None if row is None else dict(row)
                changed = await connection.fetchval(
                    f"SELECT count(*) FROM (SELECT FROM {self._s}.holdfast_move_log LIMIT $1) AS noted", MOST_COUNTED
                )
            rows, quarantined = None, None
            if count:
                # One at a time: they share the connection.
                rows = sum([await connection.fetchval(f"SELECT count(*) FROM {self._s}.{table}") for table in SHAPES])
                found = await connection.fetchrow(
                    f"SELECT count(*), count(*) FILTER (WHERE live) FROM {self._s}.holdfast_imported "
                    "WHERE session_id IS NULL"
                )
                quarantined = (found[0], found[1]) if found is not None else None
            return PostgresqlSaid(control["authority"], control["epoch"], move, changed, rows, quarantined)
