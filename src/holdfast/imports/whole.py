"""The whole of each import: look, refuse, back up, take in."""

import os
from pathlib import Path

from holdfast.backups import archive, postgresql_copy
from holdfast.backups.take import take
from holdfast.imports import in_place as table
from holdfast.imports.report import Report
from holdfast.imports.run import Tell, Wishes, carry_all, look, refuse, taking
from holdfast.imports.sources import PostgresqlSource, Source, SqliteSource, column_types
from holdfast.sessions.errors import InvalidArgument, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address

Address = str | os.PathLike[str]
_ROOM_PER_ROW: int = 1024


async def from_sqlite(
    source: Path, address: Address, options: StoreOptions, folder: Path, wishes: Wishes, tell: Tell, *, dry: bool
) -> tuple[Report, Path | None]:
    """From a SQLite file into a native store; the report and the path of the file's backup.

    The file stays as it is. Raises `StoreRefused`, having changed nothing, when it is not in the legacy form, when
    live rows would be left behind that are not accepted, and when the store's tables are not there.
    """
    rows = SqliteSource(source)
    report = await look(rows, wishes, tell)
    if dry:
        return report, None
    refuse(report, wishes)
    if not isinstance(parse_address(address), SqliteAddress):
        await schema.require(address, options)
    backup = await take(SqliteAddress(source), options, folder, tell)
    return await _take_in(rows, address, options, wishes, tell), backup.path


async def in_place(
    address: Address, options: StoreOptions, folder: Path, wishes: Wishes, tell: Tell, *, dry: bool
) -> tuple[Report, Path | None]:
    """From an application's table in PostgreSQL into Holdfast's in the same schema.

    A run that was killed is finished by the next. Raises `StoreRefused`, having changed nothing, when there is no such
    table or live rows would be left behind that are not accepted.
    """
    place = _postgresql(address)
    state = await table.state_of(place, options)
    if state == "none":
        raise StoreRefused(f"there is no table `sessions` in the legacy form in schema {options.schema!r} of {place}")
    name = "sessions" if state == "legacy" else table.ASIDE
    report = await look(PostgresqlSource(place, options, name), wishes, tell)
    if dry:
        return report, None
    refuse(report, wishes)
    backup = await _back_up_table(place, options, name, folder, report.rows, tell)
    await table.put_aside(place, options)
    tell("put aside", 0)
    await schema.upgrade(place, options)
    tell("upgraded", 0)
    return await _take_in(PostgresqlSource(place, options, table.ASIDE), address, options, wishes, tell), backup


async def undo_in_place(address: Address, options: StoreOptions) -> int:
    """Put the application's table back; how many of its rows are over since and went. See `in_place.undo`."""
    return await table.undo(_postgresql(address), options)


async def confirm_in_place(address: Address, options: StoreOptions) -> bool:
    """Drop the application's table; whether there was one. See `in_place.confirm`."""
    return await table.confirm(_postgresql(address), options)


async def _take_in(source: Source, address: Address, options: StoreOptions, wishes: Wishes, tell: Tell) -> Report:
    async with taking(address, options) as (store, now):
        return await carry_all(source, store, wishes, now, tell)


async def _back_up_table(
    address: PostgresqlAddress, options: StoreOptions, name: str, folder: Path, rows: int, tell: Tell
) -> Path:
    """Copy the table into a file that only its owner can read: it holds tokens in clear."""
    archive.prepare_directory(folder, rows * _ROOM_PER_ROW)
    now = await PostgresqlSource(address, options, name).now()
    target = folder / f"legacy-sessions-{now:%Y%m%dT%H%M%S%fZ}.copy"
    partial = target.with_name(f"{target.name}{archive.PARTIAL}")
    with archive.out_of_room(folder):
        try:
            async with postgresql_copy.transaction(address, options, reading=True) as connection:
                columns = list(await column_types(connection, postgresql_copy.qualified(options.schema, name)))
                await postgresql_copy.copy_out(connection, options.schema, name, columns, partial, tell)
            archive.sync(partial)
            partial.rename(target)
            archive.sync(folder)
        finally:
            partial.unlink(missing_ok=True)
    tell("backed up", 0)
    return target


def _postgresql(address: Address) -> PostgresqlAddress:
    parsed = parse_address(address)
    if not isinstance(parsed, PostgresqlAddress):
        raise InvalidArgument(
            "--in-place is for PostgreSQL; a SQLite file is imported into another, or served as it is"
        )
    return parsed
