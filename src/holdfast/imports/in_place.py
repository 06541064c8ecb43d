"""A legacy table in PostgreSQL that gives its name to Holdfast's: put aside, put back, or dropped.

Each is one transaction: whoever was killed has done all of it or nothing.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal

from sqlalchemy import Connection, text

from holdfast.backups.archive import Tell
from holdfast.imports.sources import column_types, is_legacy
from holdfast.sessions.errors import StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress
from holdfast.sql.tables import VERSION_TABLE, qualified
from holdfast.sql.transactions import driver_transaction, within_transaction

ASIDE: Final = "holdfast_legacy_sessions"
_LOCK: Final = "SET LOCAL lock_timeout = '5s'"
_THERE: Final = "SELECT to_regclass(:place) IS NOT NULL"

State = Literal["legacy", "aside", "none"]
"""`legacy`: the application's table has the name; `aside`: it was renamed, and is not dropped yet."""


async def state_of(address: PostgresqlAddress, options: StoreOptions) -> tuple[State, dict[str, str]]:
    """Where the application's table is, and the types of its columns by name."""
    async with driver_transaction(address, options, reading=True) as connection:
        types = await column_types(connection, qualified(options.schema, ASIDE))
        if types:
            return "aside", types
        types = await column_types(connection, qualified(options.schema, "sessions"))
        return ("legacy", types) if is_legacy(types) else ("none", {})


def put_aside(connection: Connection, place: str) -> None:
    """Rename the application's table and its indexes, so that the names are free; in the transaction that has begun."""
    table = qualified(place, "sessions")
    for name in _indexes(connection, table):
        connection.execute(text(f'ALTER INDEX {qualified(place, _quoted(name))} RENAME TO "{_quoted(_aside(name))}"'))
    connection.execute(text(f"ALTER TABLE {table} RENAME TO {ASIDE}"))


async def undo(address: PostgresqlAddress, options: StoreOptions, tell: Tell) -> int:
    """Give the application its table back, and remove Holdfast's; how many rows of it are over since.

    What ended in Holdfast stays ended: its row goes. What began or was changed in Holdfast is not carried back.
    Raises `StoreRefused` when there is no table to give back.
    """
    aside, ours = qualified(options.schema, ASIDE), qualified(options.schema, "sessions")
    imported = qualified(options.schema, "holdfast_imported")
    gone = 0

    def before(connection: Connection) -> None:
        nonlocal gone
        connection.execute(text(_LOCK))
        if not connection.execute(text(_THERE), {"place": aside}).scalar_one():
            raise StoreRefused("there is no table to put back: none was put aside, or the import was confirmed")
        if connection.execute(text(_THERE), {"place": imported}).scalar_one():
            # From here on nothing ends unseen.
            connection.execute(text(f"LOCK TABLE {ours}, {imported}, {aside} IN ACCESS EXCLUSIVE MODE"))
            tell("locked", 0)
            gone = connection.execute(
                text(
                    f"DELETE FROM {aside} AS old USING {imported} AS i "  # noqa: S608 - checked names
                    "WHERE i.digest = sha256(convert_to(old.session_id, 'UTF8')) AND i.session_id IS NOT NULL "
                    f"AND i.live AND NOT EXISTS (SELECT FROM {ours} AS s WHERE s.id = i.session_id "
                    "AND s.ended_at IS NULL)"
                )
            ).rowcount
        tell("ended", gone)

    def after(connection: Connection) -> None:
        tell("removed", 0)
        # Empty since the downgrade, and Alembic leaves it.
        connection.execute(text(f"DROP TABLE IF EXISTS {qualified(options.schema, VERSION_TABLE)}"))
        connection.execute(text(f"ALTER TABLE {aside} RENAME TO sessions"))
        for name in _indexes(connection, ours):
            if name.startswith(_aside("")):
                back = _quoted(name.removeprefix(_aside("")))
                place = qualified(options.schema, _quoted(name))
                connection.execute(text(f'ALTER INDEX {place} RENAME TO "{back}"'))
        tell("put back", 0)

    await schema.downgrade(address, options, before=before, after=after)
    tell("committed", gone)
    return gone


async def confirm(address: PostgresqlAddress, options: StoreOptions, tell: Tell) -> bool:
    """Drop the application's table, which holds tokens in clear; whether there was one. There is no undo after it.

    Raises `StoreRefused` while Holdfast's own tables are not there, while not all of its rows were taken in, and while
    something else depends on it.
    """
    aside, imported = qualified(options.schema, ASIDE), qualified(options.schema, "holdfast_imported")
    await schema.require(address, options)

    def work(connection: Connection) -> bool:
        connection.execute(text(_LOCK))
        if not connection.execute(text(_THERE), {"place": aside}).scalar_one():
            return False
        connection.execute(text(f"LOCK TABLE {aside} IN ACCESS EXCLUSIVE MODE"))
        left = connection.execute(
            text(
                f"SELECT count(*) FROM {aside} AS old WHERE session_id IS NOT NULL AND NOT EXISTS "  # noqa: S608 - checked names
                f"(SELECT FROM {imported} AS i WHERE i.digest = sha256(convert_to(old.session_id, 'UTF8')))"
            )
        ).scalar_one()
        if left:
            raise StoreRefused(f"{left} rows were not taken in yet; run the import again, then confirm it")
        if dependants := ", ".join(_dependants(connection, aside)):
            raise StoreRefused(f"the table was not dropped, because of what depends on it: {dependants}")
        tell("checked", 0)
        connection.execute(text(f"DROP TABLE {aside}"))
        tell("dropped", 0)
        return True

    done = await within_transaction(address, options, work)
    tell("committed", 0)
    return done


def _indexes(connection: Connection, table: str) -> list[str]:
    statement = "SELECT relname FROM pg_class JOIN pg_index ON pg_class.oid = indexrelid "
    statement += "WHERE indrelid = to_regclass(:place) ORDER BY relname"
    return list(connection.execute(text(statement), {"place": table}).scalars())


def _dependants(connection: Connection, table: str) -> Iterator[Any]:
    """The foreign keys and views of others that use a table."""
    statement = (
        "SELECT 'foreign key ' || conname || ' of ' || conrelid::regclass FROM pg_constraint "
        "WHERE contype = 'f' AND confrelid = to_regclass(:place) AND conrelid <> confrelid UNION "
        "SELECT 'view ' || ev_class::regclass FROM pg_rewrite JOIN pg_depend ON pg_depend.objid = pg_rewrite.oid "
        "WHERE refobjid = to_regclass(:place) AND ev_class <> refobjid ORDER BY 1"
    )
    yield from connection.execute(text(statement), {"place": table}).scalars()


def _aside(name: str) -> str:
    """The name of an index meanwhile; PostgreSQL's names have 63 bytes."""
    return f"hf_old_{name}"[:63]


def _quoted(name: str) -> str:
    return name.replace('"', '""')
