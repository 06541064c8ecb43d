"""Which store an address means."""

import os
from importlib.util import find_spec

from holdfast.sessions.errors import InvalidArgument
from holdfast.sessions.store import MovableStore, StoreOptions
from holdfast.sql.address import SqliteAddress, parse_address


def store_at(address: str | os.PathLike[str], options: StoreOptions) -> MovableStore:
    """The store at an address; connects to nothing yet.

    Raises `InvalidArgument` for an address that is not one, and when the driver for its database is not installed.
    """
    parsed = parse_address(address)
    if isinstance(parsed, SqliteAddress):
        from holdfast.sql.sqlite import SqliteStore

        return SqliteStore(parsed, options)
    if find_spec("asyncpg") is None:
        raise InvalidArgument("PostgreSQL needs its driver; install Holdfast with the extra `postgres`")
    from holdfast.sql.postgresql import PostgresqlStore

    return PostgresqlStore(parsed, options)
