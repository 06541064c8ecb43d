"""A legacy table in PostgreSQL that gives its name to Holdfast's: put aside, put back, or dropped.

Every step is found by looking at what is there, so that a run which was killed is finished by running it again.
"""

from typing import Any, Final, Literal

from holdfast.backups import postgresql_copy
from holdfast.imports.sources import column_types, is_legacy
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.tables import VERSION_TABLE

ASIDE: Final = "holdfast_legacy_sessions"
_LOCK: Final = "SET LOCAL lock_timeout = '5s'"

State = Literal["legacy", "aside", "none"]
"""`legacy`: the application's table has the name; `aside`: it was renamed, and is not dropped yet."""


async def state_of(address: PostgresqlAddress, options: StoreOptions) -> State:
    """Where the application's table is."""
    async with postgresql_copy.transaction(address, options, reading=True) as connection:
        return await _state(connection, options)


async def put_aside(address: PostgresqlAddress, options: StoreOptions) -> None:
    """Rename the application's table and its indexes, so that the names are free. Safe to repeat."""
    async with postgresql_copy.transaction(address, options) as connection:
        await connection.execute(_LOCK)
        if await _state(connection, options) != "legacy":
            return
        place = postgresql_copy.qualified(options.schema, "sessions")
        indexes = await connection.fetch(
            "SELECT relname FROM pg_class JOIN pg_index ON pg_class.oid = indexrelid WHERE indrelid = to_regclass($1)",
            place,
        )
        for (name,) in indexes:
            old = postgresql_copy.qualified(options.schema, name.replace('"', '""'))
            await connection.execute(f'ALTER INDEX {old} RENAME TO "{_aside(name)}"')
        await connection.execute(f"ALTER TABLE {place} RENAME TO {ASIDE}")


async def undo(address: PostgresqlAddress, options: StoreOptions) -> int:
    """Give the application its table back, and remove Holdfast's; how many rows of it are over since.

    What ended in Holdfast stays ended: its row goes. What began or was changed in Holdfast is not carried back.
    Raises `StoreRefused` when there is no table to give back.
    """
    aside = postgresql_copy.qualified(options.schema, ASIDE)
    gone = 0
    async with postgresql_copy.transaction(address, options) as connection:
        await connection.execute(_LOCK)
        if await _state(connection, options) != "aside":
            raise StoreRefused("there is no table to put back: none was put aside, or the import was confirmed")
        place = postgresql_copy.qualified(options.schema, "sessions")
        imported = postgresql_copy.qualified(options.schema, "holdfast_imported")
        if await column_types(connection, place):
            done = await connection.execute(
                f"DELETE FROM {aside} AS old USING {imported} AS i "  # noqa: S608 - checked names
                "WHERE i.digest = sha256(convert_to(old.session_id, 'UTF8')) AND i.session_id IS NOT NULL AND i.live "
                f"AND NOT EXISTS (SELECT FROM {place} AS s WHERE s.id = i.session_id AND s.ended_at IS NULL)"
            )
            gone = int(done.rpartition(" ")[2])
    await schema.downgrade(address, options)
    async with postgresql_copy.transaction(address, options) as connection:
        await connection.execute(_LOCK)
        indexes = await connection.fetch(
            "SELECT relname FROM pg_class JOIN pg_index ON pg_class.oid = indexrelid WHERE indrelid = to_regclass($1)",
            aside,
        )
        # Empty since the downgrade, and Alembic leaves it.
        version = postgresql_copy.qualified(options.schema, VERSION_TABLE)
        await connection.execute(f"DROP TABLE IF EXISTS {version}")
        await connection.execute(f"ALTER TABLE {aside} RENAME TO sessions")
        for (name,) in indexes:
            if name.startswith(_aside("")):
                old = postgresql_copy.qualified(options.schema, name.replace('"', '""'))
                back = name.removeprefix(_aside("")).replace('"', '""')
                await connection.execute(f'ALTER INDEX {old} RENAME TO "{back}"')
    return gone


async def confirm(address: PostgresqlAddress, options: StoreOptions) -> bool:
    """Drop the application's table, which holds tokens in clear; whether there was one. There is no undo after it.

    Raises `StoreRefused` while Holdfast's own tables are not there, or not all of its rows were taken in.
    """
    aside = postgresql_copy.qualified(options.schema, ASIDE)
    await schema.require(address, options)
    async with postgresql_copy.transaction(address, options) as connection:
        await connection.execute(_LOCK)
        if await _state(connection, options) != "aside":
            return False
        left = await connection.fetchval(
            f"SELECT count(*) FROM {aside} AS old WHERE NOT EXISTS (SELECT FROM "  # noqa: S608 - checked names
            f"{postgresql_copy.qualified(options.schema, 'holdfast_imported')} AS i "
            "WHERE i.digest = sha256(convert_to(old.session_id, 'UTF8')))"
        )
        if left:
            raise StoreRefused(f"{left} rows were not taken in yet; run the import again, then confirm it")
        await connection.execute(f"DROP TABLE {aside}")
        return True


async def _state(connection: Any, options: StoreOptions) -> State:
    if await column_types(connection, postgresql_copy.qualified(options.schema, ASIDE)):
        return "aside"
    types = await column_types(connection, postgresql_copy.qualified(options.schema, "sessions"))
    return "legacy" if is_legacy(types) else "none"


def _aside(name: str) -> str:
    """The name of an index meanwhile; PostgreSQL's names have 63 bytes."""
    return f"hf_old_{name}"[:63].replace('"', '""')
