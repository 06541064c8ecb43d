"""Install, upgrade and check the tables: Alembic, called from code.

Every change runs under a lock in one transaction, so several servers may start at once. On SQLite and in
`make serve` it happens by itself; on PostgreSQL an operator says when, because it may need other privileges.
"""

import asyncio
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema

from holdfast.sessions.errors import HoldfastError, InvalidArgument, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.failures import Kind, kind_of, to_raise
from holdfast.sql.tables import VERSION_TABLE, Tables, checked_schema

Address = str | os.PathLike[str] | SqliteAddress | PostgresqlAddress

_LOCK_KEY: Final = 7_163_402_916
_SQLITE_LOCK_SECONDS: Final = 30.0
_OWN_TABLES: Final = ("sessions", "holdfast_tickets", "holdfast_control", VERSION_TABLE)


async def upgrade(address: Address, options: StoreOptions | None = None, revision: str = "head") -> None:
    """Bring the tables to a revision. Safe to repeat, and to run from several servers at once.

    Raises `StoreRefused`, changing nothing, when a `sessions` table is there that is not Holdfast's, and
    `StoreUnavailable` when the database cannot be reached.
    """
    await _migrate(address, options or StoreOptions(), lambda config: command.upgrade(config, revision))


async def downgrade(address: Address, options: StoreOptions | None = None, revision: str = "base") -> None:
    """Take the tables back to an earlier revision. `base` removes them, and every session with them."""
    await _migrate(address, options or StoreOptions(), lambda config: command.downgrade(config, revision))


async def check(address: Address, options: StoreOptions | None = None) -> str | None:
    """What is wrong with the tables at an address, in a sentence that says what to do; `None` when nothing is.

    Raises `StoreUnavailable` when the database cannot be reached.
    """
    from holdfast.sql.tables import tables

    options = options or StoreOptions()
    parsed = _parsed(address)
    own = tables(None if isinstance(parsed, SqliteAddress) else options.schema)
    if isinstance(parsed, SqliteAddress) and not parsed.path.exists():
        return f"there is no file {parsed.path} yet; the first start makes it, or run `holdfast db upgrade`"
    try:
        await _run(parsed, options, lambda connection: refuse_unfit(connection, own))
    except StoreRefused as error:
        return str(error)
    return None


def sql_script(address: Address, options: StoreOptions | None = None, revision: str = "head") -> str:
    """The statements that an upgrade from nothing to a revision would run, as plain SQL. Connects to nothing."""
    options = options or StoreOptions()
    parsed = _parsed(address)
    output = io.StringIO()
    sqlite = isinstance(parsed, SqliteAddress)
    config = _config(None if sqlite else checked_schema(options.schema), output)
    config.attributes["dialect"] = "sqlite" if sqlite else "postgresql"
    command.upgrade(config, revision, sql=True)
    return output.getvalue()


def refuse_unfit(connection: Connection, tables: Tables) -> None:
    """Raise `StoreRefused` unless the tables are there, are Holdfast's, and are of this version. Changes nothing."""
    schema = tables.metadata.schema
    names = set(inspect(connection).get_table_names(schema=schema))
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "version_table_schema": schema}
    )
    present = context.get_current_revision() if VERSION_TABLE in names else None
    script = ScriptDirectory.from_config(_config(schema))
    head = script.get_current_head()
    if present == head:
        return
    if present is None:
        refuse_foreign(connection, schema)
        raise StoreRefused("Holdfast's tables are not there yet; run `holdfast db upgrade`")
    if present in {each.revision for each in script.walk_revisions()}:
        raise StoreRefused(
            f"the tables are at revision {present}, this version needs {head}; run `holdfast db upgrade`"
        )
    raise StoreRefused(
        f"the tables are at revision {present}, which a newer version of Holdfast made; install that version, "
        "or take the tables back with it first"
    )


def refuse_foreign(connection: Connection, schema: str | None) -> None:
    """Raise `StoreRefused` when a table of one of our names is there without our version table. Changes nothing."""
    names = set(inspect(connection).get_table_names(schema=schema))
    if VERSION_TABLE in names or not (taken := sorted(names & set(_OWN_TABLES))):
        return
    place = "the file" if schema is None else f"schema {schema!r}"
    raise StoreRefused(
        f"{place} has a table {taken[0]!r} that is not Holdfast's; it was not touched. To adopt the sessions of an "
        "application run `holdfast db import`; to keep them apart "
        + ("use another file" if schema is None else "set HOLDFAST_SCHEMA to another schema")
    )


def include_object(item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """For `context.configure(include_object=…)` in an application's own Alembic environment.

    Keeps Holdfast's tables, which live beside the application's, out of its autogenerate: without it Alembic would
    propose to drop them.
    """
    table = item if type_ == "table" else getattr(item, "table", None)
    named = name if type_ == "table" else getattr(table, "name", None)
    return named not in _OWN_TABLES


async def _migrate(address: Address, options: StoreOptions, run: Callable[[Config], None]) -> None:
    parsed = _parsed(address)
    schema = None if isinstance(parsed, SqliteAddress) else checked_schema(options.schema)

    def migrate(connection: Connection) -> None:
        if schema is not None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            if not inspect(connection).has_schema(schema):
                connection.execute(CreateSchema(schema))
        refuse_foreign(connection, schema)
        config = _config(schema)
        config.attributes["connection"] = connection
        try:
            run(config)
        except CommandError as error:
            raise InvalidArgument(f"{error}") from error

    await _run(parsed, options, migrate)


async def _run(
    address: SqliteAddress | PostgresqlAddress, options: StoreOptions, work: Callable[[Connection], None]
) -> None:
    """Do something in one transaction, and say in our own words what went wrong."""
    try:
        if isinstance(address, SqliteAddress):
            await asyncio.get_running_loop().run_in_executor(None, _on_sqlite, address.path, work)
        else:
            await _on_postgresql(address, options, work)
    except HoldfastError:
        raise
    except Exception as error:
        if kind_of(error) is Kind.BUG:
            raise
        where = f"{'SQLite file' if isinstance(address, SqliteAddress) else 'PostgreSQL at'} {address}"
        raise to_raise(error, where) from error


def _on_sqlite(path: Path, work: Callable[[Connection], None]) -> None:
    from holdfast.sql.writer import engine, prepare_file

    prepare_file(path)
    made = engine(path)
    limit = time.monotonic() + _SQLITE_LOCK_SECONDS
    try:
        while True:
            try:
                with made.connect() as connection:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    try:
                        work(connection)
                    except BaseException:
                        connection.exec_driver_sql("ROLLBACK")
                        raise
                    connection.exec_driver_sql("COMMIT")
                    return
            except Exception as error:
                # Another server is at it: wait for its turn to end, then find nothing left to do.
                if kind_of(error) is not Kind.RETRY or time.monotonic() > limit:
                    raise
                time.sleep(0.02)
    finally:
        made.dispose()


async def _on_postgresql(address: PostgresqlAddress, options: StoreOptions, work: Callable[[Connection], None]) -> None:
    from holdfast.sql.postgresql import connect_arguments

    made = create_async_engine(
        "postgresql+asyncpg://",
        connect_args=connect_arguments(address, pooled=options.pooled or address.pooled),
        poolclass=NullPool,
    )
    try:
        async with made.begin() as connection:
            await connection.run_sync(work)
    finally:
        await made.dispose()


def _parsed(address: Address) -> SqliteAddress | PostgresqlAddress:
    return address if isinstance(address, SqliteAddress | PostgresqlAddress) else parse_address(address)


def _config(schema: str | None, output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["schema"] = schema
    return config
