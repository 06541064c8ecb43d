"""The whole of each import: look, refuse, back up, take in."""

import os
from contextlib import suppress
from pathlib import Path

from holdfast.backups.archive import Tell
from holdfast.backups.take import take, take_table
from holdfast.imports import in_place as table
from holdfast.imports.beside import Beside
from holdfast.imports.report import Report
from holdfast.imports.run import Wishes, carry_all, look, refuse, taking
from holdfast.imports.sources import PostgresqlSource, Source, SqliteSource
from holdfast.imports.swap import alone, refuse_unprivileged, swap
from holdfast.sessions.errors import HoldfastError, InvalidArgument, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address

Address = str | os.PathLike[str]


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

    The application may go on meanwhile: all changes places in one transaction, which only short waits come before. A
    run that was killed has changed nothing, or all. Raises `StoreRefused`, having changed nothing, when there is no
    such table, when live rows would be left behind that are not accepted, and when the role may not do it all.
    """
    place = _postgresql(address)
    state, types = await table.state_of(place, options)
    if state == "none":
        raise StoreRefused(f"there is no table `sessions` in the legacy form in schema {options.schema!r} of {place}")
    name = "sessions" if state == "legacy" else table.ASIDE
    report = await look(PostgresqlSource(place, options, name), wishes, tell)
    if dry:
        return report, None
    refuse(report, wishes)
    if state == "legacy":
        await refuse_unprivileged(place, options)
    # It holds tokens in clear, and is of the application's table whichever name that has now.
    backup = await take_table(place, options, name, folder, tell)
    if state == "aside":
        # Done before. One that an earlier version began, in several transactions, is finished by this.
        await schema.upgrade(place, options)
        report = await _take_in(PostgresqlSource(place, options, table.ASIDE), address, options, wishes, tell)
    else:
        report = await _change_places(Beside(place, options, types, wishes, tell))
    return report, backup.path


async def undo_in_place(address: Address, options: StoreOptions, tell: Tell) -> int:
    """Put the application's table back; how many of its rows are over since and went. See `in_place.undo`."""
    return await table.undo(_postgresql(address), options, tell)


async def confirm_in_place(address: Address, options: StoreOptions, tell: Tell) -> bool:
    """Drop the application's table; whether there was one. See `in_place.confirm`."""
    return await table.confirm(_postgresql(address), options, tell)


async def _change_places(beside: Beside) -> Report:
    async with alone(beside.address, beside.options):
        try:
            await beside.make()
            await beside.fill()
            await swap(beside)
        except HoldfastError:
            # The error says more than that this failed too; the next run removes what is left.
            with suppress(HoldfastError):
                await beside.remove()
            raise
    # No earlier run can have taken any in.
    beside.report.new = beside.report.rows
    return beside.report


async def _take_in(source: Source, address: Address, options: StoreOptions, wishes: Wishes, tell: Tell) -> Report:
    async with taking(address, options) as (store, now):
        return await carry_all(source, store, wishes, now, tell)


def _postgresql(address: Address) -> PostgresqlAddress:
    parsed = parse_address(address)
    if not isinstance(parsed, PostgresqlAddress):
        raise InvalidArgument(
            "--in-place is for PostgreSQL; a SQLite file is imported into another, or served as it is"
        )
    return parsed
