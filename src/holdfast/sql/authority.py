"""What is said of a store that is named alone while another one holds the authority."""

import os
from typing import Final

from sqlalchemy import Connection, inspect, select

from holdfast.sessions.errors import AuthorityMoved, HoldfastError, StoreRefused
from holdfast.sessions.store import StoreOptions
from holdfast.sql.address import PostgresqlAddress, SqliteAddress
from holdfast.sql.tables import Tables, tables
from holdfast.sql.transactions import run

_BOTH: Final = "the SQLite file with HOLDFAST_SQLITE_PATH and PostgreSQL with DATABASE_URL"


def left(*, moving: bool) -> HoldfastError:
    """What to raise. While a move is under way the store may be entered yet; without one nobody will."""
    if moving:
        return AuthorityMoved(
            "another store holds the authority, and a move between the two is under way; open this one when the move "
            f"has come to it, or name both stores to follow the move: {_BOTH}"
        )
    return StoreRefused(
        f"the sessions were moved to another store, which holds the authority; name both stores, {_BOTH}, or only the "
        "one that holds it"
    )


def is_moved(connection: Connection, own: Tables) -> bool:
    """Whether a move is under way, which has a table of its own in both stores."""
    return inspect(connection).has_table("holdfast_move", schema=own.metadata.schema)


async def refuse_left(address: SqliteAddress | PostgresqlAddress, options: StoreOptions) -> None:
    """Raise what opening this store alone would raise where another one holds the authority. Changes nothing.

    A file that is not there and a store without a control row of this version have never been left.
    """
    if isinstance(address, SqliteAddress) and not os.path.lexists(address.path):  # noqa: ASYNC240 - one look
        return
    own = tables(None if isinstance(address, SqliteAddress) else options.schema)
    if (refusal := await run(address, options, lambda connection: _looked(connection, own))) is not None:
        raise refusal


def _looked(connection: Connection, own: Tables) -> HoldfastError | None:
    """Whether the control row says so. An application's own file may have none, or one of before there were moves."""
    inspector, control = inspect(connection), own.control
    if not inspector.has_table(control.name, schema=control.schema):
        return None
    if "authority" not in {each["name"] for each in inspector.get_columns(control.name, schema=control.schema)}:
        return None
    if connection.scalar(select(control.c.authority).where(control.c.id == 1)) != "there":
        return None
    return left(moving=is_moved(connection, own))
