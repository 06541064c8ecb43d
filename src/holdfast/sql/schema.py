"""Install, upgrade and check the tables: Alembic, called from code.

Every change runs under a lock in one transaction, so several servers may start at once. On SQLite and in
`make serve` it happens by itself; on PostgreSQL an operator says when, because it may need other privileges.
What is up to date, or not ours, is found out by looking, before anything is locked or changed.
"""

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Connection, Text, func, inspect, select, text
from sqlalchemy.schema import CreateSchema

from holdfast.sessions.errors import InvalidArgument, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress, SqliteAddress, parse_address
from holdfast.sql.revisions import MIGRATIONS, newest
from holdfast.sql.sqlite_file import prepare_file, refuse_strange
from holdfast.sql.strangers import refuse_strangers
from holdfast.sql.tables import VERSION_TABLE, Tables, tables
from holdfast.sql.transactions import run

if TYPE_CHECKING:
    from alembic.config import Config

Address = str | os.PathLike[str] | SqliteAddress | PostgresqlAddress

_LOCK_KEY: Final = 7_163_402_916
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
    present = await run(parsed, options, lambda connection: refuse_strangers(connection, own))
    if revision != "head" or present != newest():
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
    await run(parsed, options, lambda connection: refuse_strangers(connection, own))

    from alembic import command

    def change(config: "Config") -> None:
        connection: Connection = config.attributes["connection"]
        before(connection)
        command.downgrade(config, revision)
        after(connection)

    await _migrate(parsed, options, change)


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
    await run(parsed, options, lambda connection: refuse_unfit(connection, own))


async def revision_at(address: Address, options: StoreOptions | None = None) -> str | None:
    """The revision of the tables at an address, `None` where there are none. Changes nothing.

    Raises as `require`, but not for an older revision.
    """
    parsed = _parsed(address)
    own = _tables(parsed, options or StoreOptions())
    if isinstance(parsed, SqliteAddress):
        refuse_strange(parsed.path)
    return await run(parsed, options or StoreOptions(), lambda connection: refuse_strangers(connection, own))


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
    """Raise `StoreRefused` unless the tables are there, are Holdfast's, of this version, and keep their foreign keys.

    Changes nothing.
    """
    refuse_other_tables(connection, tables)
    if tables.metadata.schema is not None:
        refuse_replica(connection.scalars(select(replication_role())).one())


def refuse_other_tables(connection: Connection, tables: Tables) -> None:
    """Raise `StoreRefused` unless the tables are there, are Holdfast's, and of this version. Changes nothing."""
    present = refuse_strangers(connection, tables)
    if present is None:
        raise StoreRefused("Holdfast's tables are not there yet; run `holdfast db upgrade`")
    if present != newest():
        raise StoreRefused(
            f"the tables are at revision {present}, this version needs {newest()}; run `holdfast db upgrade`"
        )


def replication_role() -> ColumnElement[str]:
    """What to ask PostgreSQL for `refuse_replica`, alone or with other things."""
    return func.current_setting("session_replication_role", type_=Text())


def refuse_replica(role: str) -> None:
    """Raise `StoreRefused` where a connection's role in a replication turns its foreign keys off."""
    # Only a superuser may set it, also back: a connection cannot undo what its role or database was given.
    if role == "replica":
        raise StoreRefused(
            "PostgreSQL keeps no foreign keys for this role: a session would be deleted without its tickets and "
            "without what the application ties to it; take session_replication_role = replica back (ALTER ROLE or "
            "ALTER DATABASE … RESET session_replication_role)"
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


async def _migrate(
    address: SqliteAddress | PostgresqlAddress, options: StoreOptions, work: Callable[["Config"], None]
) -> None:
    own = _tables(address, options)
    schema = own.metadata.schema

    def migrate(connection: Connection) -> None:
        if schema is not None:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            if not inspect(connection).has_schema(schema):
                connection.execute(CreateSchema(schema))
        # Again, now that nobody else can make tables: another server, or the application, may have been faster.
        refuse_strangers(connection, own)
        config = _config(schema)
        config.attributes["connection"] = connection
        with _alembic:
            _command(lambda: work(config))

    await run(address, options, migrate, changing=True)


def _command(run: Callable[[], None]) -> None:
    from alembic.util import CommandError

    try:
        run()
    except CommandError as error:
        raise InvalidArgument(f"{error}") from error


def _tables(address: SqliteAddress | PostgresqlAddress, options: StoreOptions) -> Tables:
    return tables(None if isinstance(address, SqliteAddress) else options.schema)


def _missing(path: Path) -> bool:
    return not os.path.lexists(path)


def _parsed(address: Address) -> SqliteAddress | PostgresqlAddress:
    return address if isinstance(address, SqliteAddress | PostgresqlAddress) else parse_address(address)


def _config(schema: str | None, output: io.StringIO | None = None) -> "Config":
    from alembic.config import Config

    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["schema"] = schema
    return config
