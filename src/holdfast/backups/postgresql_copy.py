"""PostgreSQL's tables as files, by COPY in its text format: one file for each table, all of one snapshot.

Everything happens in one transaction, so that it works behind a transaction pooler too.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from holdfast.backups.archive import COUNTED, Tell, described, owner_only
from holdfast.backups.inside import Inside
from holdfast.backups.manifest import DataFile
from holdfast.sessions.errors import StoreRefused
from holdfast.sql.tables import VERSION_TABLE, qualified


@dataclass(frozen=True, slots=True)
class InsideSchema(Inside):
    """What a schema of PostgreSQL holds."""

    size: int
    """Bytes of Holdfast's tables."""
    columns: dict[str, list[str]]
    """Of each of them."""


async def look_inside(connection: Any, schema: str) -> InsideSchema:
    """What Holdfast has in a schema."""
    found = await connection.fetch(
        "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = $1 AND relkind = 'r' "
        "AND (relname = 'sessions' OR relname LIKE 'holdfast\\_%') AND attnum > 0 AND NOT attisdropped "
        # Who uses the store now is no part of it.
        "AND relname <> 'holdfast_processes' "
        "ORDER BY relname, attnum",
        schema,
    )
    columns: dict[str, list[str]] = {}
    for table, column in found:
        columns.setdefault(table, []).append(column)
    revision = store_id = authority = None
    size = 0
    if VERSION_TABLE in columns and "holdfast_control" in columns:
        revision = await connection.fetchval(f"SELECT version_num FROM {qualified(schema, VERSION_TABLE)}")  # noqa: S608 - checked names
    if revision is not None:
        identity = "store_id" if "store_id" in columns["holdfast_control"] else "NULL::uuid"
        row = await connection.fetchrow(
            f"SELECT authority, {identity} FROM {qualified(schema, 'holdfast_control')}"  # noqa: S608 - checked names
        )
        authority, store_id = (None, None) if row is None else tuple(row)
        for table in columns:
            size += await connection.fetchval("SELECT pg_table_size($1::text::regclass)", qualified(schema, table))
    now = await connection.fetchval("SELECT clock_timestamp()")
    store_id = None if store_id is None else UUID(str(store_id))
    return InsideSchema(revision, store_id, authority, now, size, columns)


async def copy_out(connection: Any, schema: str, table: str, columns: list[str], target: Path, tell: Tell) -> DataFile:
    """Copy a table into a new file, and read that again.

    How many rows it will have is told as PostgreSQL's last look at the table found it. Raises `StoreRefused` when the
    file does not hold the rows that the server said it sent.
    """
    done = 0
    about = await connection.fetchval(
        "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)", qualified(schema, table)
    )
    tell(COUNTED, max(about or 0, 0))
    # Opening is a matter of microseconds; what takes long, the writing, is done in a thread.
    with owner_only(target).open("wb") as file:

        async def write(data: bytes) -> None:
            nonlocal done
            await asyncio.to_thread(file.write, data)
            done += data.count(b"\n")
            tell(f"copying {table}", done)

        status = await connection.copy_from_table(table, schema_name=schema, columns=columns, output=write)
    rows = int(status.rpartition(" ")[2])
    # In this format a line is a row: a line feed in a value is written as \n.
    if (found := await asyncio.to_thread(count_lines, target)) != rows:
        raise StoreRefused(f"the file of {table} has {found} rows, PostgreSQL sent {rows}; the disk may be damaged")
    return described(target, {table: rows}, columns)


async def copy_in(connection: Any, table: str, columns: list[str], source: Path, tell: Tell) -> int:
    """Copy a file into a temporary table; how many rows it had."""
    done = 0

    async def lines() -> AsyncIterator[bytes]:
        nonlocal done
        with source.open("rb") as file:
            while data := await asyncio.to_thread(file.read, 1024 * 1024):
                done += data.count(b"\n")
                tell("reading", done)
                yield data

    status = await connection.copy_to_table(table, columns=columns, source=lines())
    return int(status.rpartition(" ")[2])


def count_lines(path: Path) -> int:
    """Lines of a file."""
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1024 * 1024), b""))
