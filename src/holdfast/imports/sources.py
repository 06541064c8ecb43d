"""Where legacy rows come from: a SQLite file, or a table in PostgreSQL. Read as they are, in chunks."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from holdfast.legacy import statements
from holdfast.legacy.form import COLUMNS, has_legacy_form
from holdfast.legacy.reading import as_text
from holdfast.legacy.rows import NAMES, LegacyRow
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.failures import explained
from holdfast.sql.sqlite_file import reading
from holdfast.sql.tables import qualified
from holdfast.sql.transactions import driver_transaction

CHUNK: Final = 500
_TIMES: Final = ("created_at", "expires_at", "last_activity")


class Source(Protocol):
    """A table in the legacy form."""

    async def now(self) -> datetime:
        """What the database's clock says (aware, UTC)."""

    async def over(self) -> frozenset[bytes]:
        """The digests that Holdfast, serving this table, knows to open nothing any more.

        The old application may have written the row of one again since.
        """

    def chunks(self) -> AsyncIterator[list[LegacyRow]]:
        """All rows as of one instant."""


class SqliteSource:
    """A SQLite file."""

    def __init__(self, path: Path) -> None:
        """Look whether it is one. Raises `StoreRefused`."""
        if not has_legacy_form(path):
            raise StoreRefused(f"{path} is no SQLite file with a `sessions` table in the legacy form")
        self._path = path

    async def now(self) -> datetime:
        """See `Source`."""
        with explained(f"SQLite file {self._path}"), closing(sqlite3.connect(":memory:")) as connection:
            text = connection.execute("SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')").fetchone()[0]
        return datetime.fromisoformat(text)

    async def over(self) -> frozenset[bytes]:
        """See `Source`. None where Holdfast never served the file."""
        with reading(self._path) as connection:
            if not statements.is_served(connection):
                return frozenset()
            return frozenset(digest for (digest,) in connection.execute(statements.ALL_REFUSED))

    async def chunks(self) -> AsyncIterator[list[LegacyRow]]:
        """See `Source`."""
        with reading(self._path) as connection:
            connection.text_factory = as_text
            cursor = connection.execute(f"SELECT {NAMES} FROM sessions")  # noqa: S608 - constant names
            while rows := await asyncio.to_thread(cursor.fetchmany, CHUNK):
                yield [LegacyRow._make(row) for row in rows]


class PostgresqlSource:
    """A table in PostgreSQL."""

    def __init__(self, address: PostgresqlAddress, options: StoreOptions, table: str) -> None:
        """The table is named within the schema of the options."""
        self._address, self._options = address, options
        self._table = qualified(options.schema, table)

    async def now(self) -> datetime:
        """See `Source`."""
        async with driver_transaction(self._address, self._options, reading=True) as connection:
            now: datetime = await connection.fetchval("SELECT clock_timestamp()")
            return now

    async def over(self) -> frozenset[bytes]:
        """See `Source`. Holdfast serves no such table."""
        return frozenset()

    async def chunks(self) -> AsyncIterator[list[LegacyRow]]:
        """See `Source`."""
        async with driver_transaction(self._address, self._options, reading=True) as connection:
            types = await column_types(connection, self._table)
            columns = ", ".join(read_column(name, types[name]) for name in LegacyRow._fields)
            chunk: list[LegacyRow] = []
            async for row in connection.cursor(f"SELECT {columns} FROM {self._table}", prefetch=CHUNK):  # noqa: S608 - checked names
                chunk.append(LegacyRow._make(row))
                if len(chunk) == CHUNK:
                    yield chunk
                    chunk = []
            if chunk:
                yield chunk


async def column_types(connection: Any, table: str) -> dict[str, str]:
    """The types of a table's columns by name; nothing when there is no table."""
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, NULL) AS type FROM pg_attribute "
        "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        table,
    )
    return {row["attname"]: row["type"] for row in rows}


def is_legacy(types: dict[str, str]) -> bool:
    """Whether a table's columns are those of the legacy form."""
    return types.keys() >= COLUMNS and "digest" not in types


def read_column(name: str, kind: str) -> str:
    """What to select for a column of the legacy form, so that every value it may have can be read."""
    if name in _TIMES and kind.startswith("timestamp"):
        # Infinity, and years that Python does not have, become the far ends of time.
        return f"CASE WHEN {name} IS NOT NULL THEN least(greatest({name}, '0001-01-03'), '9999-12-30') END"
    return name if name == "request_count" and kind in ("integer", "bigint", "smallint") else f"{name}::text"
