"""Take a backup of a store that is being written to."""

import asyncio
from pathlib import Path

from holdfast.backups import postgresql_copy, sqlite_copy
from holdfast.backups.archive import Backup, Tell, described, new_archive, publish, tell_nobody
from holdfast.backups.inside import Inside
from holdfast.backups.manifest import DataFile, Kind, Manifest
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from holdfast.sql.sqlite_file import reading, refuse_strange, size_of
from holdfast.sql.tables import qualified
from holdfast.sql.transactions import driver_transaction
from holdfast.version import package_version


async def take(
    address: SqliteAddress | PostgresqlAddress, options: StoreOptions, directory: Path, tell: Tell = tell_nobody
) -> Backup:
    """Take a backup into a directory, which is made if need be. Writers go on meanwhile.

    It holds every write that was acknowledged before the call. It is there when this returns, verified and on the
    disk; after any error, or when the process is killed, there is none, and safe to repeat. Raises `StoreRefused` for
    a damaged store or one that is not there, `StoreUnavailable` when the database or the disk does not let us.
    """
    if isinstance(address, SqliteAddress):
        return await asyncio.to_thread(_take_sqlite, address.path, directory, tell)
    return await _take_postgresql(address, options, directory, tell)


def _take_sqlite(path: Path, directory: Path, tell: Tell) -> Backup:
    refuse_strange(path)
    with reading(path, f"the backup of SQLite file {path} into {directory}") as source:
        inside = sqlite_copy.look_inside(source)
        if not inside.tables:
            raise StoreRefused(f"SQLite file {path} has no tables: there is nothing to back up")
        kind: Kind = "legacy" if inside.revision is None else "sqlite"
        with new_archive(directory, kind, inside.now, size_of(path)) as folder:
            tell("begun", 0)
            target = folder / "sessions.db"
            rows = sqlite_copy.copy(source, inside, target, tell)
            which = None if inside.store_id is not None else str(path.absolute())
            return publish(folder, _manifest(kind, inside, {target.name: described(target, rows)}, which), tell)


async def _take_postgresql(address: PostgresqlAddress, options: StoreOptions, directory: Path, tell: Tell) -> Backup:
    async with driver_transaction(address, options, reading=True) as connection:
        inside = await postgresql_copy.look_inside(connection, options.schema)
        if inside.revision is None:
            raise StoreRefused(
                f"Holdfast's tables are not in schema {options.schema!r} of {address}: there is nothing to back up; "
                "check the address and HOLDFAST_SCHEMA"
            )
        with new_archive(directory, "postgresql", inside.now, inside.size) as folder:
            tell("begun", 0)
            files = {
                f"{table}.copy": await postgresql_copy.copy_out(
                    connection, options.schema, table, columns, folder / f"{table}.copy", tell
                )
                for table, columns in inside.columns.items()
            }
            tell("verified", sum(rows for file in files.values() for rows in file.rows.values()))
            return publish(folder, _manifest("postgresql", inside, files), tell)


async def take_table(
    address: PostgresqlAddress, options: StoreOptions, table: str, directory: Path, tell: Tell = tell_nobody
) -> Backup:
    """Take a backup of an application's own table, which is in the schema of the options.

    No restore puts it back: it is for the application's own tools, and holds tokens in clear. Otherwise as `take`.
    """
    async with driver_transaction(address, options, reading=True) as connection:
        place = qualified(options.schema, table)
        columns = [
            name
            for (name,) in await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 "
                "AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
                place,
            )
        ]
        if not columns:
            raise StoreRefused(f"there is no table {place} in {address}: there is nothing to back up")
        now, size = await connection.fetchrow("SELECT clock_timestamp(), pg_table_size(to_regclass($1))", place)
        with new_archive(directory, "table", now, size) as folder:
            tell("begun", 0)
            target = folder / f"{table}.copy"
            file = await postgresql_copy.copy_out(connection, options.schema, table, columns, target, tell)
            tell("verified", file.rows[table])
            inside = Inside(None, None, None, now)
            return publish(folder, _manifest("table", inside, {target.name: file}, f"{place} of {address}"), tell)


def _manifest(kind: Kind, inside: Inside, files: dict[str, DataFile], source: str | None = None) -> Manifest:
    return Manifest(
        holdfast=package_version(),
        kind=kind,
        revision=inside.revision,
        store_id=inside.store_id,
        authority=inside.authority,
        taken_at=inside.now,
        files=files,
        source=source,
    )
