"""The demonstration's own schema in a PostgreSQL database: made, read past Holdfast, and dropped.

Nothing else in that database is touched, and its public schema least of all: it may be somebody's own.
"""

import json

from sqlalchemy import Connection, text

from holdfast.demo.checking import Row
from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.store import StoreOptions
from holdfast.sql import schema
from holdfast.sql.address import PostgresqlAddress, parse_address
from holdfast.sql.tables import checked_schema
from holdfast.sql.transactions import within_transaction


def postgresql_at(address: str) -> PostgresqlAddress:
    """The address of a PostgreSQL database. Raises `InvalidArgument` for any other."""
    parsed = parse_address(address)
    if not isinstance(parsed, PostgresqlAddress):
        raise InvalidArgument("the demonstration moves to PostgreSQL; give the address of a database of it")
    return parsed


async def make(address: str, name: str) -> None:
    """Make the schema, with Holdfast's tables in it. Raises `StoreUnavailable` when the database cannot be reached."""

    def create(connection: Connection) -> None:
        """The schema of this run; its name is new."""
        connection.execute(text(f'CREATE SCHEMA "{checked_schema(name)}"'))

    options = StoreOptions(schema=name)
    await within_transaction(postgresql_at(address), options, create)
    await schema.upgrade(address, options)


async def drop(address: str, name: str) -> None:
    """Take the schema away with all that is in it. Safe to repeat."""

    def remove(connection: Connection) -> None:
        """The schema of this run, and everything in it."""
        connection.execute(text(f'DROP SCHEMA IF EXISTS "{checked_schema(name)}" CASCADE'))

    await within_transaction(postgresql_at(address), StoreOptions(schema=name), remove)


async def rows(address: str, name: str) -> list[Row]:
    """Every session that the store there holds, by a statement of our own that shares nothing with Holdfast's."""

    def read(connection: Connection) -> list[Row]:
        """All rows; live is said by the database's clock."""
        found = connection.execute(
            text(
                f"""SELECT id, encode(digest, 'hex'), request_count, metadata::text,
                ended_at IS NULL AND expires_at > now() FROM "{checked_schema(name)}".sessions"""  # noqa: S608 - our own
            )
        )
        return [
            Row(str(id), count, int(json.loads(metadata).get("n", 0)), live, digest)
            for id, digest, count, metadata, live in found
        ]

    return await within_transaction(postgresql_at(address), StoreOptions(schema=name), read)
