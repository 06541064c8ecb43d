"""The one transaction in which Holdfast's tables take the place of an application's: all of it happens, or nothing.

Whoever uses the table meanwhile waits, and then sees either all of the time before or all of the time after.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import Connection, text

from holdfast.imports.beside import Beside
from holdfast.imports.in_place import put_aside
from holdfast.imports.run import refuse
from holdfast.sessions.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.failures import is_locked_out
from holdfast.sql.tables import VERSION_TABLE, qualified
from holdfast.sql.transactions import driver_transaction, within_transaction

_KEY: Final = "hashtextextended('holdfast import of ' || $1, 0)"
# Everybody else waits behind us for as long as we wait for the lock. But it is longer than PostgreSQL's own
# `deadlock_timeout`, a second, after which an autovacuum makes way for whoever waits for it.
_LOCK: Final = "SET LOCAL lock_timeout = '2s'"
_ATTEMPTS: Final = 10
_PAUSE_SECONDS: Final = 2.0


@asynccontextmanager
async def alone(address: PostgresqlAddress, options: StoreOptions) -> AsyncIterator[None]:
    """Keep other imports of the schema out meanwhile. Raises `StoreUnavailable` while there is one."""
    async with driver_transaction(address, options) as connection:
        if not await connection.fetchval(f"SELECT pg_try_advisory_xact_lock({_KEY})", options.schema):
            raise StoreUnavailable(f"another import into schema {options.schema!r} is at work; try again after it")
        yield


async def refuse_unprivileged(address: PostgresqlAddress, options: StoreOptions) -> None:
    """Raise `StoreRefused`, saying what is missing, unless the role may do all that an import does."""
    async with driver_transaction(address, options, reading=True) as connection:
        row = await connection.fetchrow(
            "SELECT current_user AS role, current_database() AS database, pg_has_role(relowner, 'USAGE') AS owns, "
            "has_schema_privilege(relnamespace, 'CREATE') AS may_make, "
            "has_database_privilege(current_database(), 'CREATE') AS may_make_schemas "
            "FROM pg_class WHERE oid = to_regclass($1)",
            qualified(options.schema, "sessions"),
        )
    missing = []
    if not row["owns"]:
        missing.append("it has to own the table `sessions`")
    if not row["may_make"]:
        missing.append(f'GRANT CREATE ON SCHEMA {options.schema} TO "{row["role"]}"')
    if not row["may_make_schemas"]:
        missing.append(f'GRANT CREATE ON DATABASE "{row["database"]}" TO "{row["role"]}"')
    if missing:
        raise StoreRefused(
            f"role {row['role']!r} may not do all that an import does; nothing was changed. Missing: "
            + "; ".join(missing)
        )


async def swap(beside: Beside) -> None:
    """Catch up with the last changes and change places.

    Raises `StoreUnavailable` when others do not let go of the table in time, and `StoreRefused` when rows came
    meanwhile that would be left behind unasked. Then nothing is different.
    """
    counted = beside.report.copy()
    for attempt in range(_ATTEMPTS):
        try:
            await within_transaction(beside.address, beside.options, lambda connection: _swap(connection, beside))
            break
        except StoreUnavailable as error:
            # What was counted in vain goes with what was done.
            beside.report = counted.copy()
            if attempt == _ATTEMPTS - 1 or error.__cause__ is None or not is_locked_out(error.__cause__):
                raise
            beside.tell("waiting for the table", 0)
            await asyncio.sleep(_PAUSE_SECONDS)
    beside.tell("committed", beside.report.rows)


def _swap(connection: Connection, beside: Beside) -> None:
    connection.execute(text(_LOCK))
    connection.execute(text(f"LOCK TABLE {beside.table} IN ACCESS EXCLUSIVE MODE"))
    beside.tell("locked", 0)
    beside.catch_up(connection)
    beside.tell("caught up", beside.report.rows)
    refuse(beside.report, beside.wishes)
    put_aside(connection, beside.options.schema)
    beside.tell("put aside", 0)
    _move(connection, beside)
    beside.tell("moved", 0)


def _move(connection: Connection, beside: Beside) -> None:
    """Move all that is in the schema beside to the application's, and remove what is left of it."""
    target = beside.options.schema
    version = qualified(target, VERSION_TABLE)
    if connection.execute(text("SELECT to_regclass(:place)"), {"place": version}).scalar_one() is not None:
        # A downgrade to nothing leaves it, empty.
        if connection.execute(text(f"SELECT count(*) FROM {version}")).scalar_one():  # noqa: S608 - checked names
            raise StoreRefused(f"schema {target!r} has tables of Holdfast already, without its `sessions`; remove them")
        connection.execute(text(f"DROP TABLE {version}"))
    connection.execute(text(f"DROP TABLE {beside.seen}"))
    tables = connection.execute(
        text(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(:schema) AND relkind IN ('r', 'v') "
            "ORDER BY relname"
        ),
        {"schema": f'"{beside.schema}"'},
    ).scalars()
    names = list(tables)
    for name in names:
        connection.execute(text(f'ALTER TABLE {qualified(beside.schema, name)} SET SCHEMA "{target}"'))
    functions = connection.execute(
        text("SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace(:schema)"),
        {"schema": f'"{beside.schema}"'},
    ).scalars()
    for function in list(functions):
        connection.execute(text(f'ALTER FUNCTION {function} SET SCHEMA "{target}"'))
    connection.execute(text(f'DROP SCHEMA "{beside.schema}"'))
    _grant(connection, target, names)


def _grant(connection: Connection, target: str, names: list[str]) -> None:
    """Give the tables the default privileges of the schema that they have come into."""
    granted = connection.execute(
        text(
            "SELECT privilege_type, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END, "
            "is_grantable FROM pg_default_acl, aclexplode(defaclacl) WHERE defaclobjtype = 'r' "
            "AND defaclnamespace = to_regnamespace(:schema) "
            "AND defaclrole = (SELECT oid FROM pg_roles WHERE rolname = current_user)"
        ),
        {"schema": f'"{target}"'},
    ).all()
    tables = ", ".join(qualified(target, name) for name in names)
    for privilege, grantee, grantable in granted:
        option = " WITH GRANT OPTION" if grantable else ""
        connection.execute(text(f"GRANT {privilege} ON {tables} TO {grantee}{option}"))
