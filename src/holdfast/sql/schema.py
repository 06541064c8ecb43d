"""Install, upgrade and check the tables: Alembic, called from code.

Every change runs under a lock in one transaction, so several servers may start at once. On SQLite and in
`make serve` it happens by itself; on PostgreSQL an operator says when, because it may need other privileges.
What is up to date, or not ours, is found out by looking, before anything is locked or changed.
"""

import asyncio
import io
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Connection, Engine, column, inspect, select, table, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateSchema

from holdfast.sessions.errors import HoldfastError, InvalidArgument, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.connections import connect_arguments, for_this_transaction, promised
from holdfast.sql.failures import Kind, kind_of, to_raise
from holdfast.sql.sqlite_file import engine, prepare_file, reading_engine, refuse_strange
from holdfast.sql.tables import VERSION_TABLE, Tables, tables
from holdfast.sql.views import VIEWS

if TYPE_CHECKING:
    from alembic.config import Config

Answer = TypeVar("Answer")

Address = str | os.PathLike[str] | SqliteAddress | PostgresqlAddress

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_LOCK_KEY: Final = 7_163_402_916
_SQLITE_LOCK_SECONDS: Final = 30.0
_OWN_TABLES: Final = (
    "sessions",
    "holdfast_tickets",
    "holdfast_control",
    "holdfast_imported",
    "holdfast_processes",
    "holdfast_legacy_sessions",
    VERSION_TABLE,
    "holdfast_move",
    "holdfast_move_log",
)
# Tells our `sessions` from an application's table of that name in another schema.
_OWN_COLUMNS: Final = {"digest", "previous_digest", "metadata_version"}
# Alembic keeps what it is at in global variables: one at a time in a process, whichever the database and the loop.
_alembic: Final = threading.Lock()


async def upgrade(address: Address, options: StoreOptions | None = None, revision: str = "head") -> None:
    """Bring the tables to a revision. Safe to repeat, and to run from several servers at once.

    Raises `StoreRefused`, changing nothing, when a `sessions` table is there that is not Holdfast's, or when a newer
    version made the tables, and `StoreUnavailable` when the database cannot be reached.
    """
    options = options or StoreOptions()
    parsed = _parsed(address)
    own = _tables(parsed, options)
    if isinstance(parsed, SqliteAddress):
        prepare_file(parsed.path)
    # Without a lock, and on SQLite without a change to the file's journal mode: it may be another program's.
    present = await _run(parsed, options, lambda connection: _refuse_strangers(connection, own))
    if revision != "head" or present != _head():
        # Imported on demand, here and below: every command and every start looks, and hardly one migrates.
        from alembic import command

        await _migrate(parsed, options, lambda config: command.upgrade(config, revision))


async def downgrade(
    address: Address,
    options: StoreOptions | None = None,
    revision: str = "base",
    *,
    before: Callable[[Connection], None] = lambda _: None,
    after: Callable[[Connection], None] = lambda _: None,
) -> None:
    """Take the tables back to an earlier revision. `base` removes them, and every session with them.

    What is to be done `before` and `after` is done in the same transaction.
    """
    options = options or StoreOptions()
    parsed = _parsed(address)
    own = _tables(parsed, options)
    if isinstance(parsed, SqliteAddress):
        refuse_strange(parsed.path)
    await _run(parsed, options, lambda connection: _refuse_strangers(connection, own))

    from alembic import command

    def change(config: "Config") -> None:
        connection: Connection = config.attributes["connection"]
        before(connection)
        command.downgrade(config, revision)
        after(connection)

    await _migrate(parsed, options, change)


async def within_transaction(
    address: PostgresqlAddress, options: StoreOptions, work: Callable[[Connection], Answer], *, snapshot: bool = False
) -> Answer:
    """Do something beside the tables, in one transaction with no time limit; a failure is said in our own words.

    With a `snapshot` all that it reads is of one instant.
    """

    def working(connection: Connection) -> Answer:
        if snapshot:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        # A pooler in transaction mode keeps no settings of a connection.
        connection.execute(text(for_this_transaction(promised(None))))
        return work(connection)

    return await _run(address, options, working)


async def check(address: Address, options: StoreOptions | None = None) -> str | None:
    """What is wrong with the tables at an address, in a sentence that says what to do; `None` when nothing is.

    Changes nothing. Raises `StoreUnavailable` when the database cannot be reached.
    """
    parsed = _parsed(address)
    if isinstance(parsed, SqliteAddress) and _missing(parsed.path):
        return f"there is no file {parsed.path} yet; the first start makes it, or run `holdfast db upgrade`"
    try:
        await require(parsed, options)
    except StoreRefused as error:
        return str(error)
    return None


async def require(address: Address, options: StoreOptions | None = None) -> None:
    """Raise `StoreRefused` unless the tables at an address are fit to be used. Changes nothing.

    Raises `StoreUnavailable` when the database cannot be reached.
    """
    options = options or StoreOptions()
    parsed = _parsed(address)
    own = _tables(parsed, options)
    if isinstance(parsed, SqliteAddress):
        refuse_strange(parsed.path)
    await _run(parsed, options, lambda connection: refuse_unfit(connection, own))


async def revision_at(address: Address, options: StoreOptions | None = None) -> str | None:
    """The revision of the tables at an address, `None` where there are none. Changes nothing.

    Raises as `require`, but not for an older revision.
    """
    parsed = _parsed(address)
    own = _tables(parsed, options or StoreOptions())
    if isinstance(parsed, SqliteAddress):
        refuse_strange(parsed.path)
    return await _run(parsed, options or StoreOptions(), lambda connection: _refuse_strangers(connection, own))


def sql_script(address: Address, options: StoreOptions | None = None, revision: str = "head") -> str:
    """The statements that an upgrade from nothing to a revision would run, as plain SQL. Connects to nothing."""
    from alembic import command

    options = options or StoreOptions()
    parsed = _parsed(address)
    schema = _tables(parsed, options).metadata.schema
    output = io.StringIO()
    if schema not in (None, "public"):
        # Not CREATE SCHEMA IF NOT EXISTS: that asks for the privilege even when there is nothing to make.
        output.write(
            f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{schema}') THEN "
            f'CREATE SCHEMA "{schema}"; END IF; END $$;\n\n'
        )
    config = _config(schema, output)
    config.attributes["dialect"] = "sqlite" if isinstance(parsed, SqliteAddress) else "postgresql"
    with _alembic:
        _command(lambda: command.upgrade(config, revision, sql=True))
    return output.getvalue()


def refuse_unfit(connection: Connection, tables: Tables) -> None:
    """Raise `StoreRefused` unless the tables are there, are Holdfast's, and are of this version. Changes nothing."""
    present = _refuse_strangers(connection, tables)
    if present is None:
        raise StoreRefused("Holdfast's tables are not there yet; run `holdfast db upgrade`")
    if present != _head():
        raise StoreRefused(
            f"the tables are at revision {present}, this version needs {_head()}; run `holdfast db upgrade`"
        )


def is_known(revision: str) -> bool:
    """Whether there is such a revision, by its full name, in this version."""
    return revision in _revisions()


def is_newest(revision: str | None) -> bool:
    """Whether a revision is the one that this version needs."""
    return revision == _head()


def refuse_newer(revision: str | None) -> None:
    """Raise `StoreRefused` for a revision that this version does not know: a newer one made it."""
    if revision not in _revisions():
        raise StoreRefused(f"revision {revision} is of a newer version of Holdfast; install that version")


def _refuse_strangers(connection: Connection, tables: Tables) -> str | None:
    """The revision of the tables, `None` before the first. Raises `StoreRefused` for ones that others made."""
    # In this order: if another server makes the tables in between, they are seen with their revision or not at all.
    taken = _taken(connection, tables)
    present = _revision(connection, tables.metadata.schema)
    if present is None and taken is not None:
        raise StoreRefused(taken)
    if present is not None and present not in _revisions():
        raise StoreRefused(
            f"the tables are at revision {present}, which a newer version of Holdfast made; install that version, "
            "or take the tables back with it first"
        )
    return present


def _taken(connection: Connection, tables: Tables) -> str | None:
    """What to say about a name of ours that is taken, if our tables are not there."""
    schema = tables.metadata.schema
    own = {table.name for table in tables.metadata.tables.values()}
    own |= {str(index.name) for table in tables.metadata.tables.values() for index in table.indexes}
    own |= set(VIEWS)
    taken = [
        (kind != "table", name, kind)
        for name, kind in _relations(connection, schema)
        # SQLite takes names that differ in case for the same.
        if (name if schema is not None else name.lower()) in own
    ]
    if not taken:
        return None
    _, name, kind = min(taken)
    place = "the file" if schema is None else f"schema {schema!r}"
    return (
        f"{place} has {'an' if kind == 'index' else 'a'} {kind} {name!r} that is not Holdfast's; it was not touched. "
        f"To adopt the sessions of an application run `holdfast db import{'' if schema is None else ' --in-place'}`; "
        "to keep them apart " + ("use another file" if schema is None else "set HOLDFAST_SCHEMA to another schema")
    )


def include_object(item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """For `context.configure(include_object=…)` in an application's own Alembic environment.

    Keeps Holdfast's tables, which live beside the application's, out of its autogenerate: without it Alembic would
    propose to drop them. A `sessions` table of the application's own, in another schema, stays in.
    """
    whose = item if type_ == "table" else getattr(item, "table", None)
    if whose is None or whose.name not in _OWN_TABLES:
        return True
    return whose.name == "sessions" and not set(whose.columns.keys()) >= _OWN_COLUMNS


def _relations(connection: Connection, schema: str | None) -> list[tuple[str, str]]:
    """Name and kind of all that shares its names with tables."""
    if schema is None:
        statement = text("SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view', 'index')")
        return [(name, kind) for name, kind in connection.execute(statement)]
    statement = text(
        "SELECT relname, CASE WHEN relkind IN ('r', 'p', 'f') THEN 'table' WHEN relkind IN ('v', 'm') THEN 'view' "
        "WHEN relkind IN ('i', 'I') THEN 'index' ELSE 'relation' END "
        "FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = :schema"
    )
    return [(name, kind) for name, kind in connection.execute(statement, {"schema": schema})]


def _revision(connection: Connection, schema: str | None) -> str | None:
    """Read without Alembic, which would tell every start of every server to the log."""
    if not inspect(connection).has_table(VERSION_TABLE, schema=schema):
        return None
    revision: str | None = connection.scalar(
        select(column("version_num")).select_from(table(VERSION_TABLE, schema=schema))
    )
    return revision


def _head() -> str:
    return _revisions()[-1]


@cache
def _revisions() -> tuple[str, ...]:
    """All there are, the newest last. By the names of their files: Alembic would load every one of them, and itself."""
    return tuple(sorted(each.name.partition("_")[0] for each in (_MIGRATIONS / "versions").glob("[0-9]*_*.py")))


async def _migrate(
    address: SqliteAddress | PostgresqlAddress, options: StoreOptions, run: Callable[["Config"], None]
) -> None:
    own = _tables(address, options)
    schema = own.metadata.schema

    def migrate(connection: Connection) -> None:
        if schema is not None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            if not inspect(connection).has_schema(schema):
                connection.execute(CreateSchema(schema))
        # Again, now that nobody else can make tables: another server, or the application, may have been faster.
        _refuse_strangers(connection, own)
        config = _config(schema)
        config.attributes["connection"] = connection
        _command(lambda: run(config))

    await _run(address, options, migrate, changing=True)


def _command(run: Callable[[], None]) -> None:
    from alembic.util import CommandError

    try:
        run()
    except CommandError as error:
        raise InvalidArgument(f"{error}") from error


async def _run(
    address: SqliteAddress | PostgresqlAddress,
    options: StoreOptions,
    work: Callable[[Connection], Answer],
    *,
    changing: bool = False,
) -> Answer:
    """Do something in one transaction, and say in our own words what went wrong."""
    try:
        if isinstance(address, SqliteAddress):
            return await asyncio.to_thread(_change_sqlite if changing else _look_into_sqlite, address.path, work)
        if not changing:
            return await _on_postgresql(address, options, work)
        # In a thread, with a loop of its own: it has to wait for other threads' turn at Alembic.
        return await asyncio.to_thread(_change_postgresql, address, options, work)
    except HoldfastError:
        raise
    except Exception as error:
        if kind_of(error) is Kind.BUG:
            raise
        where = f"{'SQLite file' if isinstance(address, SqliteAddress) else 'PostgreSQL at'} {address}"
        raise to_raise(error, where) from error


def _look_into_sqlite(path: Path, work: Callable[[Connection], Answer]) -> Answer:
    return _in_turn(lambda: _looked_into(path, work))


def _looked_into(path: Path, work: Callable[[Connection], Answer]) -> Answer:
    made = reading_engine(path)
    try:
        with made.connect() as connection:
            return work(connection)
    finally:
        made.dispose()


def _change_sqlite(path: Path, work: Callable[[Connection], Answer]) -> Answer:
    made = engine(path)
    try:
        return _in_turn(lambda: _changed(made, work))
    finally:
        made.dispose()


def _changed(made: Engine, work: Callable[[Connection], Answer]) -> Answer:
    with made.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            with _alembic:
                answer = work(connection)
        except BaseException:
            connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")
        return answer


def _in_turn(work: Callable[[], Answer]) -> Answer:
    """Do it when no other server is at it: wait for its turn to end, then there may be nothing left to do."""
    limit = time.monotonic() + _SQLITE_LOCK_SECONDS
    while True:
        try:
            return work()
        except Exception as error:
            if kind_of(error) is not Kind.RETRY or time.monotonic() > limit:
                raise
        time.sleep(0.02)


def _change_postgresql(
    address: PostgresqlAddress, options: StoreOptions, work: Callable[[Connection], Answer]
) -> Answer:
    with _alembic:
        return asyncio.run(_on_postgresql(address, options, work))


async def _on_postgresql(
    address: PostgresqlAddress, options: StoreOptions, work: Callable[[Connection], Answer]
) -> Answer:
    made = create_async_engine(
        "postgresql+asyncpg://",
        connect_args=connect_arguments(address, pooled=options.pooled or address.pooled),
        poolclass=NullPool,
        hide_parameters=True,
    )
    try:
        async with made.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await made.dispose()


def _tables(address: SqliteAddress | PostgresqlAddress, options: StoreOptions) -> Tables:
    return tables(None if isinstance(address, SqliteAddress) else options.schema)


def _missing(path: Path) -> bool:
    return not os.path.lexists(path)


def _parsed(address: Address) -> SqliteAddress | PostgresqlAddress:
    return address if isinstance(address, SqliteAddress | PostgresqlAddress) else parse_address(address)


def _config(schema: str | None, output: io.StringIO | None = None) -> "Config":
    from alembic.config import Config

    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["schema"] = schema
    return config
