"""All the looks, in order: the settings, the machine, the store."""

import os
from dataclasses import replace
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from holdfast.doctor import machine, postgresql
from holdfast.doctor.authority import alone, authority
from holdfast.doctor.credentials import credentials, exposure
from holdfast.doctor.finding import Diagnosis, Finding
from holdfast.legacy.form import has_legacy_form
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.store import StoreOptions, TwoStores
from holdfast.settings import Settings
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.connections import connect_arguments
from holdfast.sql.failures import explained
from holdfast.sql.sqlite_file import refuse_strange

_SECONDS = 10.0


async def examine(settings: Settings) -> Diagnosis:
    """Look at everything that the settings name, at both stores where there are two, and change nothing.

    Raises `InvalidArgument` for an address that is none; a store that cannot be reached is a finding.
    """
    stores = settings.stores()
    findings = [*machine.versions(), *credentials(settings), exposure(settings)]
    if not isinstance(stores, TwoStores):
        address = parse_address(stores)
        reachable = await _store(address, settings, findings)
        if reachable and _is_there(address):
            # As behind a pooler: see `_postgresql`.
            findings.append(await alone(address, replace(settings.store_options(), pooled=True)))
        return Diagnosis(findings, reachable)
    reachable = True
    for name, address in (
        ("SQLite", parse_address(stores.sqlite)),
        ("PostgreSQL", parse_address(stores.postgresql)),
    ):
        found: list[Finding] = []
        reachable &= await _store(address, settings, found)
        findings += [replace(each, name=f"{each.name} ({name})") for each in found]
    if reachable:
        findings.append(await authority(stores, settings.store_options()))
    return Diagnosis(findings, reachable)


def _is_there(address: SqliteAddress | PostgresqlAddress) -> bool:
    return not isinstance(address, SqliteAddress) or os.path.lexists(address.path)


async def _store(address: SqliteAddress | PostgresqlAddress, settings: Settings, findings: list[Finding]) -> bool:
    """Add what is to be said of a store; whether it could be asked."""
    try:
        if isinstance(address, SqliteAddress):
            await _sqlite(address.path, settings, findings)
        else:
            await _postgresql(address, settings, findings)
    except StoreUnavailable as error:
        remedy = "look whether it runs, and at address, network and permissions"
        findings.append(Finding("store", "problem", str(error), remedy))
        return False
    except StoreRefused as error:
        remedy = "correct the address, the name or the password, or the role's rights"
        findings.append(Finding("store", "problem", str(error), remedy))
        return False
    return True


async def _sqlite(path: Path, settings: Settings, findings: list[Finding]) -> None:
    findings += [machine.sqlite_library(), machine.file_system(path)]
    legacy = has_legacy_form(path)
    try:
        rights = list(machine.permissions(path))
        findings += [*rights, machine.space(path)]
        if not os.path.lexists(path):  # noqa: ASYNC240 - nothing else runs in this process
            if any(each.level == "problem" for each in rights):
                raise StoreUnavailable(f"SQLite file {path} cannot be looked at, nor made")
            findings.append(Finding("store", "notice", f"there is no file {path} yet", "the first start makes it"))
            return
        refuse_strange(path)
        findings.append(machine.journal(path, legacy=legacy))
    except OSError as error:
        raise StoreUnavailable(f"SQLite file {path} cannot be looked at: {error.strerror}") from error
    if not legacy:
        findings.append(await _schema(SqliteAddress(path), settings.store_options()))
        return
    what = "an application's own sessions table, served as it is"
    remedy = f"`holdfast db import --from-sqlite {path}` into another store keeps digests instead of tokens"
    findings.append(Finding("schema", "notice", what, remedy))
    if settings.legacy_tz is None:
        remedy = "set HOLDFAST_LEGACY_TZ to the zone in which the application wrote"
        findings.append(Finding("time zone", "warning", "its local times are read in this machine's zone", remedy))


async def _postgresql(address: PostgresqlAddress, settings: Settings, findings: list[Finding]) -> None:
    options = settings.store_options()
    configured = options.pooled or address.pooled
    # As behind a pooler, whatever is configured: it holds everywhere, and leaves the server's defaults to be seen.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args=connect_arguments(address, pooled=True, seconds=_SECONDS),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )
    try:
        with explained(f"PostgreSQL at {address}"):
            found = await _asked(engine, options, findings)
    finally:
        await engine.dispose()
    findings.append(postgresql.pooler(found=found, configured=configured))
    findings.append(await _schema(address, replace(options, pooled=True)))


async def _asked(engine: AsyncEngine, options: StoreOptions, findings: list[Finding]) -> bool:
    """Add what the server says; whether a transaction pooler is in front."""
    async with engine.connect() as first, engine.connect() as second:
        found = await postgresql.shared(first, second)
        findings.append(await postgresql.clock(first))
        facts = (await first.execute(postgresql.SERVER, {"schema": options.schema})).mappings().one()
        findings += postgresql.server(dict(facts), options.connections, options.schema)
        for row in (await first.execute(postgresql.TABLES, {"schema": options.schema})).mappings().all():
            findings += postgresql.table(dict(row), f'"{options.schema}".{row["name"]}')
    return found


async def _schema(address: SqliteAddress | PostgresqlAddress, options: StoreOptions) -> Finding:
    problem = await schema.check(address, options)
    if problem is None:
        return Finding("schema", "ok", "it is up to date")
    return Finding("schema", "problem", problem, "see `holdfast db upgrade --help`, `holdfast db import --help`")
